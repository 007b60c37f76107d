from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import parse_fractions, write_integers
from kiago_ray.chemistry.neutrality import check
from kiago_ray.search.presets import load_preset
from kiago_ray.search.problem import Problem, resolve
from kiago_ray.search.projection import exact_fractions, project_rows
from kiago_ray.search.result import RowStatus


def problem(**values: Any) -> Problem:
    spec = load_preset("open", {"base": "LaFeAsO", **values})
    return resolve(spec, np.ones(N_ELEMENTS, dtype=bool))


def score(fractions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """T_c = 100 K · x(La), E_f = x(O) eV/atom; gold has none."""
    tc = np.where(fractions[:, INDEX["Au"]] > 0, np.nan, 100 * fractions[:, INDEX["La"]])
    return tc.astype(np.float32), fractions[:, INDEX["O"]].astype(np.float32)


def rows(*formulas: str) -> np.ndarray:
    return parse_fractions(formulas).astype(np.float32)


def test_the_nearest_formula_is_scored_as_that_formula() -> None:
    near = rows("La0.99FeAsO1.01")
    found = project_rows(problem(projection={"kind": "nearest"}), near, np.array([0]), score)
    assert found.counts[0, [INDEX[s] for s in ("La", "Fe", "As", "O")]].tolist() == [1, 1, 1, 1]
    assert found.tc_k[0] == pytest.approx(25)
    assert found.ef_ev_per_atom[0] == pytest.approx(0.25)
    assert found.distance[0] == pytest.approx(0.005, abs=1e-6)


def test_best_prefers_the_better_of_near_formulas() -> None:
    between = rows("La1.02FeAsO")
    nearest = project_rows(problem(projection={"kind": "nearest"}), between, np.array([0]), score)
    best = project_rows(
        problem(projection={"kind": "best", "max_distance": 0.1, "neutral": False}, alpha=1),
        between,
        np.array([0]),
        score,
    )
    assert nearest.tc_k[0] == pytest.approx(25)
    assert best.tc_k[0] > 26
    assert best.distance[0] <= 0.1
    strict = project_rows(
        problem(projection={"kind": "best", "max_distance": 0.0, "neutral": False}),
        between,
        np.array([0]),
        score,
    )
    assert np.array_equal(strict.counts, nearest.counts)


def test_only_rows_that_are_ok_get_a_formula() -> None:
    x = rows("LaFeAsO", "LaFeAsO", "LaAuO")
    status = np.array([RowStatus.OK, RowStatus.NOT_FINITE, RowStatus.OK])
    for kind in ("nearest", "best", "none"):
        found = project_rows(problem(projection={"kind": kind}), x, status, score)
        assert found.status.tolist() == [RowStatus.OK, RowStatus.NOT_FINITE, RowStatus.NOT_FINITE]
        assert found.amounts.any(axis=1).tolist() == [True, False, False]
        assert np.isfinite(found.tc_k).tolist() == [True, False, False]


def test_fractions_can_be_kept() -> None:
    found = project_rows(
        problem(projection={"kind": "none"}), rows("La0.98765FeAsO1.01235"), np.array([0]), score
    )
    assert not found.counts.any()
    assert found.amounts.sum() == pytest.approx(4)
    assert found.amounts[0, INDEX["La"]] == pytest.approx(0.9876, abs=2e-4)


def test_float32_rounding_is_taken_out() -> None:
    fixed = problem(fixed={"O": "1/3"})
    x = rows("LaFeO")
    assert exact_fractions(x.astype(np.float64), fixed)[0, INDEX["O"]] == 1 / 3
    assert exact_fractions(x.astype(np.float64), fixed).sum() == pytest.approx(1, abs=1e-15)


def neutral_problem(**values: Any) -> Problem:
    return problem(projection={"kind": "best", "max_distance": 0.1, "neutral_distance": 0.4}, **values)


def test_neutral_formulas_alone_are_proposed_where_there_are_any() -> None:
    x = rows("NaF2", "La2Pt9B9C", "La1.02FeAsO")
    found = project_rows(neutral_problem(), x, np.array([0, 0, 0]), score)
    assert found.status.tolist() == [RowStatus.OK] * 3
    assert check(found.counts).pauling.tolist() == [True, False, True]
    assert found.distance[0] == pytest.approx(1 / 3, abs=1e-6)
    as_before = project_rows(
        problem(projection={"kind": "best", "neutral": False}), x, np.array([0, 0, 0]), score
    )
    assert np.array_equal(found.counts[1], as_before.counts[1])


def test_of_neutral_formulas_the_best_by_the_objective_is_taken() -> None:
    x = rows("La2.05CuO4", "Fe2O3")
    status = np.array([0, 0])
    unweighted = {"weight": 0}
    lanthanum = project_rows(neutral_problem(alpha=0, charge=unweighted), x, status, score)
    oxygen = project_rows(
        neutral_problem(alpha=1000, charge=unweighted), x, status, lambda f: (score(f)[0], -score(f)[1])
    )
    assert lanthanum.tc_k[0] > oxygen.tc_k[0]
    assert check(lanthanum.counts).pauling.all()
    assert check(oxygen.counts).pauling.all()


def test_likelier_states_weigh_as_much_as_the_specification_says() -> None:
    """Nearly FeO3, with T_c for oxygen: at no weight the most oxygen wins, at a great one likelier states do."""
    x = rows("FeO2.2")

    def oxygen_tc(fractions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        oxygen = fractions[:, INDEX["O"]].astype(np.float32)
        return oxygen, np.zeros_like(oxygen)

    projection = {"kind": "best", "max_distance": 0.4, "neutral_distance": 0.4, "max_candidates": 64}
    found = {
        weight: project_rows(
            problem(projection=projection, charge={"weight": weight}, n_unit={"max": 12}),
            x,
            np.array([0]),
            oxygen_tc,
        )
        for weight in (0, 1000)
    }
    assert found[0].tc_k[0] > found[1000].tc_k[0]
    assert write_integers(found[1000].counts[0]) == "Fe2O3"
