from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console, RenderableType

from kiago_ray.report.tables import (
    best_table,
    cell,
    extrapolation,
    failed_screens,
    kelvin,
    no_gain,
    percent,
    reasons_table,
    summary_rows,
    summary_table,
    top_rows,
    top_table,
    with_spread,
)
from kiago_ray.report.terminal import UNKNOWN
from kiago_ray.screening.screens import Summary

REQUIRED = ("neutral", "pauling", "ef_negative", "few_elements")


def text_of(renderable: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_best_rows_on_a_wide_terminal(rows: list[dict[str, Any]]) -> None:
    lines = text_of(best_table(rows, REQUIRED, title="LaNiAsO"), 160).splitlines()
    first, alloy, failed = (next(line for line in lines if row["formula"] in line) for row in rows)
    for part in ("81.3", "+77.0", "-1.235", "La1.85Sr0.15CuO4 (36.0 K)", "0.42", "Ba+2 La+3 Cu+2", "✓"):
        assert part in first
    assert "✓" in alloy
    assert "metals only" in alloy
    assert "✗" in failed
    assert "neutral, pauling" in failed


def test_formulas_and_numbers_stay_whole_on_80_columns(rows: list[dict[str, Any]]) -> None:
    text = text_of(best_table(rows, REQUIRED), 80)
    assert max(len(line) for line in text.splitlines()) <= 80
    for part in ("La2Ba3Cu4HgO11", "MgCoNi3", "81.3", "+77.0", "-1.235", "0.42"):
        assert part in text
    assert "\n    charges Ba+2 La+3 Cu+2 Hg+2 O-2\n" in text


def test_without_known_materials_there_are_no_columns_for_them(rows: list[dict[str, Any]]) -> None:
    text = text_of(best_table(rows[2:], REQUIRED), 140)
    assert "nearest known" not in text
    assert "nearest known" in text_of(best_table(rows, REQUIRED), 140)


def test_with_second_opinions(trusted_rows: list[dict[str, Any]]) -> None:
    lines = text_of(best_table(trusted_rows, REQUIRED), 118).splitlines()
    first, alloy, failed = (next(line for line in lines if row["formula"] in line) for row in trusted_rows)
    for part in ("60.1", "81.3 ± 9", "-1.235", "0.62", "La1.85Sr0.15CuO4", "✓"):
        assert part in first
    assert "0.62!" not in first
    assert "+77.0" not in first  # ΔT_c gives way
    assert "8.0 ± 2" in alloy
    assert "1.37!" in failed
    assert max(map(len, lines)) <= 118


def test_second_opinions_stay_whole_on_80_columns(trusted_rows: list[dict[str, Any]]) -> None:
    text = text_of(best_table(trusted_rows, REQUIRED), 80)
    assert max(len(line) for line in text.splitlines()) <= 80
    for part in ("La2Ba3Cu4HgO11", "60.1", "81.3 ± 9", "-1.235", "0.62", "1.37!", "0.42"):
        assert part in text


@pytest.mark.parametrize("width", [80, 110, 119, 150])
def test_the_hull_has_its_column_where_it_is_known(trusted_rows: list[dict[str, Any]], width: int) -> None:
    assert "ΔE_hull" not in text_of(best_table(trusted_rows, REQUIRED), width)
    rows = [{**row, "e_hull_ev_per_atom": 0.0456} for row in trusted_rows]
    text = text_of(best_table(rows, REQUIRED), width)
    assert max(len(line) for line in text.splitlines()) <= width
    for part in ("ΔE_hull", "0.046", "La2Ba3Cu4HgO11", "60.1", "0.62", "1.37!", "0.42", "-1.235"):
        assert part in text


def test_a_pressure_is_told(trusted_rows: list[dict[str, Any]]) -> None:
    row = {**trusted_rows[0], "nearest_known": "H3S", "nearest_tc_k": 203.0, "nearest_pressure_gpa": 155.0}
    assert "H3S (203.0 K at 155 GPa)" in text_of(best_table([row], REQUIRED), 140)


def test_reasons_in_a_few_words(trusted_rows: list[dict[str, Any]]) -> None:
    many = [*trusted_rows, {**trusted_rows[0], "rank": 4, "formula": "FeSe"}]
    lines = text_of(reasons_table(many, None), 160).splitlines()
    assert lines[0] == "1 La2Ba3Cu4HgO11"
    assert lines[1].startswith(" + T_c ± 9.4 K")
    assert lines[2].startswith(" − oracle says 60 K; far from all known (L1 0.42)")
    assert any("extrapolated (1.37)" in line for line in lines)
    assert not any("FeSe" in line for line in lines)  # the best three alone


def test_the_best_by_the_oracle(trusted_summary: Summary, summary: Summary) -> None:
    lines = [line.rstrip() for line in text_of(top_table(trusted_summary.top), 80).splitlines()]
    assert lines[0].split() == ["of", "the", "best", "that", "passed", "10", "30", "50"]
    (gap,) = (line for line in lines if line.startswith("exploitation gap"))
    assert gap.split()[-3:] == ["19.0", "17.0", "–"]
    assert "none passed" in text_of(top_table(summary.top[2:]), 80)


def test_brackets_are_text_not_markup() -> None:
    text = text_of(best_table([{"formula": "[red]FeSe[/red]"}], REQUIRED, title=None), 140)
    assert "[red]FeSe[/red]" in text


def test_no_rows(summary: Summary) -> None:
    assert text_of(best_table([], REQUIRED), 80) == "No formulas.\n"


def test_summary_as_text(summary: Summary) -> None:
    lines = [line.rstrip() for line in text_of(summary_table(summary), 100).splitlines()]
    assert lines[0].split(maxsplit=2) == ["candidates", "512", "510 ok, 2 not finite"]
    assert any(line.startswith("T_c of LaNiAsO") and "4.3 K" in line for line in lines)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_plausibility_and_gain_have_their_columns_and_formulas_stay_whole(
    trusted_rows: list[dict[str, Any]], width: int
) -> None:
    judged = [{**row, "plausibility": 0.000312, "expected_improvement_k": 3.14} for row in trusted_rows]
    text = text_of(best_table(judged, REQUIRED), width)
    assert max(len(line) for line in text.splitlines()) <= width
    for part in ("La2Ba3Cu4HgO11", "0.00031", "3.1", "plau-", "trusted", "60.1"):
        assert part in text
    assert "plau-" not in text_of(best_table(trusted_rows, REQUIRED), width)


def test_values_as_a_person_reads_them(rows: list[dict[str, Any]]) -> None:
    first, alloy, failed = rows
    names = ("rank", "formula", "tc_k", "delta_tc_k", "ef_ev_per_atom", "nearest_distance", "neutral")
    assert [cell(first, name) for name in names] == [
        "1",
        "La2Ba3Cu4HgO11",
        "81.3",
        "+77.0",
        "-1.235",
        "0.42",
        "yes",
    ]
    assert cell(alloy, "delta_tc_k") == "+0.0"
    assert cell(alloy, "oxidation_states") == cell(failed, "nearest_tc_k") == cell({}, "rank") == UNKNOWN


def test_a_spread_and_a_flag_where_there_are_any(trusted_rows: list[dict[str, Any]]) -> None:
    assert [with_spread(row) for row in trusted_rows] == ["81.3 ± 9", "8.0 ± 2", "81.3 ± 31"]
    assert [extrapolation(row) for row in trusted_rows] == ["0.62", "0.31", "1.37!"]
    assert (with_spread({"tc_k": 8.0}), extrapolation({})) == ("8.0", UNKNOWN)


def test_quantities() -> None:
    assert (percent(0.2138), percent(None)) == ("21.4 %", UNKNOWN)
    assert (kelvin(39.74), kelvin(-0.04), kelvin(None)) == ("39.7 K", "0.0 K", UNKNOWN)


def test_failed_screens_are_the_required_ones(rows: list[dict[str, Any]]) -> None:
    assert failed_screens(rows[2], ("ef_negative", "pauling", "neutral")) == ("pauling", "neutral")
    assert failed_screens(rows[2], ("ef_negative",)) == ()
    assert failed_screens({"near_hull": None}, ("near_hull",)) == ()


def test_rows_say_what_fractions_are_of(summary: Summary) -> None:
    rows = {label: (value, remark) for label, value, remark in summary_rows(summary)}
    assert rows["candidates"] == ("512", "510 ok, 2 not finite")
    assert rows["unique formulas"] == ("480", "93.8 % of all")
    assert rows["charge neutral"] == ("240", "50.0 % of unique")
    assert "known compositions" not in rows
    assert rows["passed every required screen"] == ("12", "2.5 % of unique")
    assert rows["T_c of LaNiAsO"] == ("4.3 K", "predicted; measured 2.7 K")


def test_what_is_known_is_told(summary: Summary) -> None:
    rows = {label: (value, remark) for label, value, remark in summary_rows(replace(summary, known=12))}
    assert rows["known compositions"] == ("12", "2.5 % of unique; listed after new ones")


def test_the_base_by_the_oracle(trusted_summary: Summary) -> None:
    rows = {label: (value, remark) for label, value, remark in summary_rows(trusted_summary)}
    assert rows["T_c of LaNiAsO"] == ("4.3 K", "predicted; measured 2.7 K, oracle 3.0 K")


def test_what_is_told_of_the_best(trusted_summary: Summary) -> None:
    header, *body = top_rows(trusted_summary.top)
    rows = {label: tuple(values) for label, *values in body}
    assert header == ("of the best that passed", "10", "30", "50")
    assert rows["of which there are"] == ("10", "12", "0")
    assert rows["mean T_c by the search's model (K)"] == ("44.0", "41.0", "–")
    assert rows["mean T_c by the oracle (K)"] == ("25.0", "24.0", "–")
    assert rows["exploitation gap: the first less the second (K)"] == ("19.0", "17.0", "–")
    assert rows["ΔT_c to the base, by the search's model (K)"] == ("+39.7", "+36.7", "–")
    assert rows["ΔT_c to the base, by the oracle (K)"] == ("+22.0", "+21.0", "–")
    assert rows["mean trusted T_c (K)"][0] == "20.5"
    assert rows["extrapolated (%)"][0] == "10"
    assert rows["different sets of elements"][0] == "9"
    assert rows["median L1 distance to the nearest known"][0] == "0.252"
    assert rows["known compositions among them"][0] == "1"
    assert len(rows) == 11


def test_of_the_best_only_what_is_known(summary: Summary) -> None:
    labels = [label for label, *_ in top_rows(summary.top)]
    assert len(labels) == 4
    assert not any("oracle" in label or "gap" in label for label in labels)
    assert top_rows(summary.top[2:]) == top_rows(()) == []


def test_a_search_without_a_base(summary: Summary) -> None:
    labels = [label for label, _, _ in summary_rows(replace(summary, base=None))]
    assert not any(label.startswith("T_c of") for label in labels)


def test_gains_are_told_and_where_nothing_is_one_that_is_said(summary: Summary) -> None:
    labels = {label for label, _, _ in summary_rows(summary)}
    assert not {"gains", "passed, but known or tried", "sources of the first"} & labels
    told = replace(summary, gains=7, left_out=2, sources={"family": 20, "swap": 10})
    rows = {label: (number, remark) for label, number, remark in summary_rows(told)}
    assert rows["gains"][0] == "7"
    assert rows["passed, but known or tried"][0] == "2"
    assert rows["sources of the first"] == ("30", "20 family, 10 swap")
    nothing = {label: remark for label, _, remark in summary_rows(replace(summary, gains=0))}
    assert nothing["gains"] == no_gain(0, 12) != ""
    assert no_gain(None, 12) == no_gain(3, 12) == no_gain(0, 0) == ""
