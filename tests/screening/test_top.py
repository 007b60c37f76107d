from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kiago_ray.screening.summary import BaseMaterial, BestRows, TopMean, summarise_ranked, top_mean

BASE = BaseMaterial("LaNiAsO", tc_predicted_k=5.0, ef_predicted_ev_per_atom=-2.0, tc_oracle_k=3.0)


def best(**changed: list[Any]) -> BestRows:
    """Four rows of three chemical systems."""
    columns = {
        "tc_k": [100.0, 80.0, 60.0, 40.0],
        "tc_oracle_k": [50.0, 70.0, 60.0, 20.0],
        "trusted_tc_k": [50.0, 60.0, 0.0, 20.0],
        "extrapolation": [0.5, 0.9, 1.5, 1.0],
        "nearest_distance": [0.3, 0.0, 0.1, 0.02],
        "known": [False, True, False, True],
    }
    arrays = {name: np.array(values) for name, values in (columns | changed).items()}
    return BestRows(("YBa2Cu3O7", "Y2Ba4Cu8O16", "MgB2", "NbN"), **arrays)


def test_worked_by_hand() -> None:
    assert top_mean(best(), 4, BASE) == TopMean(
        k=4,
        used=4,
        mean_tc_k=70.0,
        delta_tc_k=65.0,
        mean_tc_oracle_k=50.0,
        delta_tc_oracle_k=47.0,
        gap_k=20.0,
        mean_trusted_tc_k=32.5,
        flagged_fraction=0.25,
        chemical_systems=3,
        median_nearest_distance=pytest.approx(0.06),
        known=2,
    )


def test_the_first_k_count_or_all_there_are() -> None:
    first, all_ = top_mean(best(), 2, BASE), top_mean(best(), 10, BASE)
    assert (first.used, first.gap_k, first.chemical_systems, first.known) == (2, 30.0, 1, 1)
    assert (all_.used, all_.gap_k) == (4, 20.0)


def test_what_one_of_the_rows_lacks_is_unknown_of_all() -> None:
    lacking = best(tc_oracle_k=[50.0, np.nan, 60.0, 20.0], extrapolation=[np.nan] * 4)
    told = top_mean(lacking, 4, BASE)
    assert (told.mean_tc_oracle_k, told.delta_tc_oracle_k, told.gap_k, told.flagged_fraction) == (None,) * 4
    assert (told.mean_tc_k, told.mean_trusted_tc_k) == (70.0, 32.5)
    assert top_mean(lacking, 1, BASE).gap_k == 50.0


def test_differences_need_a_base_and_its_values() -> None:
    assert top_mean(best(), 4, None).delta_tc_k is None
    plain = BaseMaterial("LaNiAsO", 5.0, -2.0)
    told = top_mean(best(), 4, plain)
    assert (told.delta_tc_k, told.delta_tc_oracle_k, told.gap_k) == (65.0, None, 20.0)


def test_too_few_best_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="the best 5 are asked for, and 4 are given"):
        summarise_ranked(
            rows=9,
            statuses={},
            passed=np.ones(9, dtype=np.bool_),
            tc_k=np.ones(9),
            best=best(),
            screens={},
            required=(),
            top=(5,),
        )
