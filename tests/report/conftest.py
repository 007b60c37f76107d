"""A made-up summary and made-up rows, as a search of LaNiAsO might give them."""

from __future__ import annotations

from typing import Any

import pytest

from kiago_ray.screening.summary import BaseMaterial, Summary, TopMean

REQUIRED = ("neutral", "pauling", "ef_negative", "few_elements")


@pytest.fixture
def summary() -> Summary:
    return Summary(
        rows=512,
        statuses={"ok": 510, "nothing_allowed": 0, "not_finite": 2, "no_integer_formula": 0},
        unique=480,
        screens={"neutral": 240, "pauling": 120, "ef_negative": 470, "few_elements": 480, "novel": 479},
        required=REQUIRED,
        passed=12,
        top=(TopMean(10, 10, 44.04, 39.74), TopMean(30, 12, 41.0, 36.7), TopMean(50, 0, None, None)),
        base=BaseMaterial("LaNiAsO", tc_predicted_k=4.3, ef_predicted_ev_per_atom=-2.0, tc_measured_k=2.7),
    )


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
        "novel": True,
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
