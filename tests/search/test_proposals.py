from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.search.problem import Problem, resolve
from kiago_ray.search.proposals import exact_fractions, propose
from kiago_ray.search.spec import SearchSpec
from kiago_ray.search.status import RowStatus


def problem(**values: Any) -> Problem:
    spec = SearchSpec.model_validate({"base": "LaFeAsO", **values})
    return resolve(spec, np.ones(N_ELEMENTS, dtype=bool))


def score(fractions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """T_c = 100 K · x(La), E_f = x(O) eV/atom; gold has none."""
    tc = np.where(fractions[:, INDEX["Au"]] > 0, np.nan, 100 * fractions[:, INDEX["La"]])
    return tc.astype(np.float32), fractions[:, INDEX["O"]].astype(np.float32)


def rows(*formulas: str) -> np.ndarray:
    return parse_fractions(formulas).astype(np.float32)


def test_the_nearest_formula_is_scored_as_that_formula() -> None:
    near = rows("La0.99FeAsO1.01")
    found = propose(problem(projection={"kind": "nearest"}), near, np.array([0]), score)
    assert found.counts[0, [INDEX[s] for s in ("La", "Fe", "As", "O")]].tolist() == [1, 1, 1, 1]
    assert found.tc_k[0] == pytest.approx(25)
    assert found.ef_ev_per_atom[0] == pytest.approx(0.25)
    assert found.distance[0] == pytest.approx(0.005, abs=1e-6)


def test_best_prefers_the_better_of_near_formulas() -> None:
    between = rows("La1.02FeAsO")
    nearest = propose(problem(projection={"kind": "nearest"}), between, np.array([0]), score)
    best = propose(
        problem(projection={"kind": "best", "max_distance": 0.1}, alpha=1), between, np.array([0]), score
    )
    assert nearest.tc_k[0] == pytest.approx(25)
    assert best.tc_k[0] > 26
    assert best.distance[0] <= 0.1
    strict = propose(problem(projection={"kind": "best", "max_distance": 0.0}), between, np.array([0]), score)
    assert np.array_equal(strict.counts, nearest.counts)


def test_only_rows_that_are_ok_get_a_formula() -> None:
    x = rows("LaFeAsO", "LaFeAsO", "LaAuO")
    status = np.array([RowStatus.OK, RowStatus.NOT_FINITE, RowStatus.OK])
    for kind in ("nearest", "best", "none"):
        found = propose(problem(projection={"kind": kind}), x, status, score)
        assert found.status.tolist() == [RowStatus.OK, RowStatus.NOT_FINITE, RowStatus.NOT_FINITE]
        assert found.amounts.any(axis=1).tolist() == [True, False, False]
        assert np.isfinite(found.tc_k).tolist() == [True, False, False]


def test_fractions_can_be_kept() -> None:
    found = propose(problem(projection={"kind": "none"}), rows("La0.98765FeAsO1.01235"), np.array([0]), score)
    assert not found.counts.any()
    assert found.amounts.sum() == pytest.approx(4)
    assert found.amounts[0, INDEX["La"]] == pytest.approx(0.9876, abs=2e-4)


def test_float32_rounding_is_taken_out() -> None:
    fixed = problem(fixed={"O": "1/3"})
    x = rows("LaFeO")
    assert exact_fractions(x.astype(np.float64), fixed)[0, INDEX["O"]] == 1 / 3
    assert exact_fractions(x.astype(np.float64), fixed).sum() == pytest.approx(1, abs=1e-15)
