"""A made-up summary and made-up rows, as a search of LaNiAsO might give them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kiago_ray.screening.known import BaseMaterial
from kiago_ray.screening.screens import Summary, TopMean

REQUIRED = ("neutral", "pauling", "ef_negative", "few_elements")


@pytest.fixture
def summary() -> Summary:
    return Summary(
        rows=512,
        statuses={"ok": 510, "nothing_allowed": 0, "not_finite": 2, "no_integer_formula": 0},
        unique=480,
        screens={"neutral": 240, "pauling": 120, "ef_negative": 470, "few_elements": 480},
        required=REQUIRED,
        passed=12,
        top=(TopMean(10, 10, 44.04, 39.74), TopMean(30, 12, 41.0, 36.7), TopMean(50, 0, None, None)),
        base=BaseMaterial("LaNiAsO", tc_predicted_k=4.3, ef_predicted_ev_per_atom=-2.0, tc_measured_k=2.7),
    )


@pytest.fixture
def trusted_summary(summary: Summary) -> Summary:
    """The same where the oracle was asked."""
    assert summary.base is not None
    told = {"mean_trusted_tc_k": 20.5, "flagged_fraction": 0.1, "chemical_systems": 9}
    near = {"median_nearest_distance": 0.2515, "known": 1}
    top = (
        TopMean(10, 10, 44.04, 39.74, 25.04, 22.0, 19.0, **told, **near),
        TopMean(30, 12, 41.0, 36.7, 24.0, 21.0, 17.0, **told, **near),
        TopMean(50, 0, None, None),
    )
    return replace(summary, top=top, base=replace(summary.base, tc_oracle_k=3.04))


@pytest.fixture
def trusted_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with second opinions; the third is extrapolated."""
    opinions = [(60.1, 9.4, 60.1, 0.62), (5.5, 2.5, 7.1, 0.31), (0.0, 30.6, 20.2, 1.37)]
    names = ("trusted_tc_k", "tc_std_k", "tc_oracle_k", "extrapolation")
    return [
        {
            **row,
            **dict(zip(names, values, strict=True)),
            "extrapolated": values[3] > 1,
            "pareto": values[3] < 0.5,
        }
        for row, values in zip(rows, opinions, strict=True)
    ]


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    first = {
        "rank": 1,
        "formula": "La2Ba3Cu4HgO11",
        "tc_k": 81.26171875,
        "delta_tc_k": 76.96,
        "ef_ev_per_atom": -1.23456,
        "nearest_known": "La1.85Sr0.15CuO4",
        "nearest_distance": 0.417,
        "nearest_tc_k": 36.0,
        "oxidation_states": "Ba+2 La+3 Cu+2 Hg+2 O-2",
        "neutral": True,
        "pauling": True,
        "ef_negative": True,
        "few_elements": True,
        "known": None,
        "alloy": False,
        "passed": True,
    }
    alloy = {
        **first,
        "rank": 2,
        "formula": "MgCoNi3",
        "tc_k": 8.0,
        "delta_tc_k": -0.04,
        "oxidation_states": None,
        "alloy": True,
    }
    failed = {
        **first,
        "rank": 3,
        "formula": "NaCl2",
        "neutral": False,
        "pauling": False,
        "passed": False,
        "nearest_known": None,
        "nearest_distance": None,
        "nearest_tc_k": None,
    }
    return [first, alloy, failed]
