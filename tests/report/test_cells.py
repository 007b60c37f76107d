from __future__ import annotations

from typing import Any

from kiago_ray.report.cells import (
    UNKNOWN,
    cell,
    extrapolation,
    failed_screens,
    kelvin,
    percent,
    unseen,
    with_spread,
)


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
