"""What a search is worth: worked out by hand from made-up rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kiago_ray.api import JudgedRows
from kiago_ray.screening.candidates import collect
from kiago_ray.screening.known import BaseMaterial, KnownMaterials
from kiago_ray.screening.screens import apply_screens
from kiago_ray.search.spec import SearchSpec
from kiago_ray.storage.table import candidates_table
from kiago_ray.sweep.metrics import METRICS, Score, mean_over, measured

from ..conftest import known_of

BASE = BaseMaterial("LaNiAsO", 10.0, -1.0, tc_oracle_k=8.0)


def judged(
    make_result: Callable[..., Any],
    rows: list[tuple[str, float, float]],
    known: KnownMaterials | None = None,
    plausibility: list[float] | None = None,
    **opinions: list[float],
) -> JudgedRows:
    spec = SearchSpec(screens={"names": ["ef_negative"]})
    said = {name: np.array(values) for name, values in opinions.items()}
    said |= {} if plausibility is None else {"log_plausibility": np.log(plausibility)}
    result = make_result(rows)
    table = apply_screens(collect(result, spec, known=known, opinions=lambda _: said), spec.screens)
    return JudgedRows(result, None, candidates_table(table))


def test_metrics_of_three_rows(make_result: Callable[..., Any]) -> None:
    rows = judged(
        make_result,
        [("MgB2", 40.0, -1.0), ("LaNiAsO", 30.0, -1.0), ("MgB2", 40.0, -1.0), ("NbN", 50.0, 1.0)],
        tc_std_k=[5.0, 5.0, 0.0],
        tc_oracle_k=[20.0, 30.0, 50.0],
        extrapolation=[0.1, 0.1, 0.1],
    )
    values = measured(rows, BASE, 2)
    # Trusted: LaNiAsO 30 − 5 = 25, MgB2 20 − 5 = 15; NbN doesn't pass; the second MgB2 is no other formula.
    assert values["trusted_delta_tc_k"] == pytest.approx((25 + 15) / 2 - 8)
    assert values["raw_delta_tc_k"] == pytest.approx((40 + 30) / 2 - 10)
    assert values["pass_rate"] == pytest.approx(2 / 3)
    assert values["gap_k"] == pytest.approx((40 + 30 - 30 - 20) / 2)
    assert values["diversity"] == 1.0


def test_improvement_is_plausibility_times_the_gain_that_the_judge_expects(
    make_result: Callable[..., Any],
) -> None:
    known = known_of(["MgB2", "LaNiAsO0.9F0.1"], [39.0, 4.0])
    opinions = {"tc_std_k": [0.0] * 4, "tc_oracle_k": [60.0, 14.0, 8.0, 99.0], "extrapolation": [0.1] * 4}
    rows = [("Mg0.9Ca0.1B2", 90.0, -1.0), ("LaNiAsO", 90.0, -1.0), ("NbN", 90.0, -1.0), ("NaCl", 90.0, 1.0)]
    one = judged(make_result, rows, known, [0.5, 0.9, 0.25, 0.9], **opinions)
    # 0.5 · (60 − 39), 0.9 · (14 − 4), 0.25 · (8 − 0); NaCl doesn't pass.
    assert measured(one, BASE, 2)["improvement"] == pytest.approx((10.5 + 9) / 2)
    assert measured(one, BASE, 10)["improvement"] == pytest.approx((10.5 + 9 + 2) / 10)
    unknown = judged(make_result, rows, known, **opinions)
    assert measured(unknown, BASE, 1)["improvement"] == pytest.approx(21)
    assert (
        measured(judged(make_result, rows, **opinions), BASE, 1)["improvement"] == 0.0
    )  # nothing to compare with


def test_places_that_nothing_fills_count_nothing(make_result: Callable[..., Any]) -> None:
    rows = judged(
        make_result, [("MgB2", 40.0, -1.0)], tc_std_k=[10.0], tc_oracle_k=[40.0], extrapolation=[0.1]
    )
    values = measured(rows, BASE, 10)
    assert values["trusted_delta_tc_k"] == pytest.approx(30 / 10 - 8)
    assert values["diversity"] == pytest.approx(0.1)


def test_where_nothing_passes_the_gap_cannot_be_told(make_result: Callable[..., Any]) -> None:
    rows = judged(
        make_result, [("MgB2", 40.0, 1.0)], tc_std_k=[10.0], tc_oracle_k=[40.0], extrapolation=[0.1]
    )
    values = measured(rows, None, 10)
    assert math.isnan(values["gap_k"])
    assert (values["trusted_delta_tc_k"], values["pass_rate"]) == (0.0, 0.0)


def test_what_lies_beyond_the_known_is_worth_nothing(make_result: Callable[..., Any]) -> None:
    rows = judged(
        make_result, [("MgB2", 40.0, -1.0)], tc_std_k=[1.0], tc_oracle_k=[40.0], extrapolation=[1.5]
    )
    assert measured(rows, None, 1)["trusted_delta_tc_k"] == 0.0


def score(base: str, seed: int, value: float) -> Score:
    return Score(base, seed, dict.fromkeys(METRICS, value), 100, 1.0)


def test_means_are_over_bases_of_means_over_seeds() -> None:
    scores = [score("A", 0, 1.0), score("A", 1, 3.0), score("B", 0, 10.0), score("B", 1, 20.0)]
    mean = mean_over(scores, "gap_k")
    assert mean.value == pytest.approx((2 + 15) / 2)
    # Variances 2 and 50 over two seeds each; the mean of two bases.
    assert mean.error == pytest.approx(math.sqrt(2 / 2 + 50 / 2) / 2)
    assert mean_over(scores[::2], "gap_k").error is None


def test_what_cannot_be_told_is_left_out_of_means() -> None:
    scores = [score("A", 0, 1.0), score("A", 1, math.nan)]
    assert mean_over(scores, "gap_k").value == 1.0
    assert math.isnan(mean_over(scores[1:], "gap_k").value)
