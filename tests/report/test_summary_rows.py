from __future__ import annotations

from dataclasses import replace

from kiago_ray.report.summary_rows import SCREEN_LABELS, summary_rows
from kiago_ray.screening.screens import available_screens
from kiago_ray.screening.summary import Summary


def test_rows_say_what_fractions_are_of(summary: Summary) -> None:
    rows = {label: (value, remark) for label, value, remark in summary_rows(summary)}
    assert rows["candidates"] == ("512", "510 ok, 2 not finite")
    assert rows["unique formulas"] == ("480", "93.8 % of all")
    assert rows["charge neutral"] == ("240", "50.0 % of unique")
    assert rows["not a known composition"] == ("479", "99.8 % of unique, not required")
    assert rows["passed every required screen"] == ("12", "2.5 % of unique")
    assert rows["T_c of LaNiAsO"] == ("4.3 K", "predicted; measured 2.7 K")
    assert rows["ΔT_c of the best 10"] == ("+39.7 K", "mean T_c 44.0 K")
    assert rows["ΔT_c of the best 30"] == ("+36.7 K", "mean T_c 41.0 K of the 12 that passed")
    assert rows["ΔT_c of the best 50"] == ("–", "none passed")


def test_a_search_without_a_base(summary: Summary) -> None:
    labels = [label for label, _, _ in summary_rows(replace(summary, base=None))]
    assert not any(label.startswith("T_c of") for label in labels)


def test_every_screen_has_a_label() -> None:
    assert set(SCREEN_LABELS) == set(available_screens())
