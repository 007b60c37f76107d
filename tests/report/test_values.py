from __future__ import annotations

from dataclasses import replace
from typing import Any

from kiago_ray.report.values import (
    UNKNOWN,
    cell,
    extrapolation,
    failed_screens,
    kelvin,
    no_gain,
    percent,
    summary_rows,
    top_rows,
    unseen,
    with_spread,
)
from kiago_ray.screening.summary import Summary


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
    assert (kelvin(39.74), kelvin(39.74, sign=True), kelvin(-0.04, sign=True)) == (
        "39.7 K",
        "+39.7 K",
        "+0.0 K",
    )
    assert kelvin(None) == UNKNOWN


def test_failed_screens_are_the_required_ones(rows: list[dict[str, Any]]) -> None:
    assert failed_screens(rows[2], ("ef_negative", "pauling", "neutral")) == ("pauling", "neutral")
    assert failed_screens(rows[2], ("ef_negative",)) == ()
    assert failed_screens({"near_hull": None}, ("near_hull",)) == ()


def test_what_neutrality_accepts_unseen_is_named() -> None:
    assert unseen({"alloy": True, "n_elements": 2}) == "metals only"
    assert unseen({"alloy": True, "n_elements": 1}) == "one element"
    assert unseen({"alloy": False, "n_elements": 3}) == ""
    assert unseen({"alloy": None}) == ""


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
