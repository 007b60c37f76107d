from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.predictors.base import Predictors
from kiago_ray.search.family import Substitutions
from kiago_ray.search.presets import load_preset
from kiago_ray.search.result import SearchResult
from kiago_ray.search.run import run_search

Frequencies = Mapping[str, np.ndarray]


@pytest.fixture
def search(predictors: Predictors, frequencies: Frequencies, substitutions: Substitutions) -> Any:
    """`search(base, **values)` → 40 rows of a family search."""

    def run(base: str, **values: Any) -> SearchResult:
        given = {"base": base, "plausibility_weight": 0, "candidates": 40, "steps": (10, 10), **values}
        return run_search(load_preset("default", given), predictors, frequencies, substitutions=substitutions)

    return run


@pytest.mark.parametrize(
    ("base", "values"),
    [
        ("LaFeAsO", {}),
        ("LaFeAsO", {"family": {"max_foreign": 1, "whole_swaps": 0}}),
        ("La1.85Sr0.15CuO4", {"family": {"grid": 10}}),
        ("LaFeAsO0.9F0.1", {"revive": "start"}),
        ("BaFe2As2", {"family": {"grid": 1}, "revive": "none"}),
        ("YBa2Cu3O6.95", {"integer_norm": "l2"}),
    ],
)
def test_every_row_is_a_doping_of_its_base(base: str, values: dict[str, Any], search: Any) -> None:
    result = search(base, **values)
    family = {"max_foreign": 2, "grid": 20, **values.get("family", {})}
    own = parse(base)
    total = sum(own.values())
    for row, text in enumerate(result.formulas()):
        amounts = parse(text)
        assert len(set(amounts) - set(own)) <= family["max_foreign"]
        assert sum(amounts.values()) == pytest.approx(total, abs=1.3)  # at most an atom of vacancies
        assert result.amounts[row] == pytest.approx(
            [amounts.get(s, 0.0) for s in np.array(list(INDEX))], abs=1e-9
        )
        x = torch.as_tensor(fractions(amounts), dtype=torch.float32)[None]
        assert x.sum() == pytest.approx(1, abs=1e-6)
        for symbol, amount in amounts.items():
            if symbol not in own and result.source[row] == "family":
                assert amount * family["grid"] == pytest.approx(round(amount * family["grid"]), abs=1e-6)
    whole = (result.amounts == np.rint(result.amounts)).all(axis=1)
    assert np.array_equal(result.counts, np.where(whole[:, None], result.amounts, 0))
    if family["grid"] == 1:
        assert whole.all()


def test_formulas_keep_the_order_of_the_base(search: Any) -> None:
    texts = search("LaFeAsO").formulas()
    assert "SmFeAsO" in texts
    assert any(text.startswith(("La0.5Sm0.5FeAsO", "La0.75Sm0.25FeAsO")) for text in texts)
    assert all(text[:2] in ("La", "Sm", "Nd", "Sr", "Ba", "Th", "Ce") for text in texts)


def test_kept_sites_dopants_and_range_are_obeyed(search: Any) -> None:
    values = {"keep": ["Fe", "As"]}
    for text in search("LaFeAsO", family=values).formulas():
        amounts = parse(text)
        assert (amounts["Fe"], amounts["As"]) == (1, 1)
    values = {"dope": {"La": ["Sr", "Ba"]}, "range": [0.1, 0.3]}
    for text in search("La2CuO4", family=values).formulas():
        amounts = parse(text)
        assert set(amounts) <= {"La", "Sr", "Ba", "Cu", "O"}
        assert (amounts["Cu"], amounts["O"]) == (1, 4)
        foreign = amounts.get("Sr", 0) + amounts.get("Ba", 0)
        assert foreign == 0 or 0.2 - 1e-9 <= foreign <= 0.6 + 1e-9


def test_a_forbidden_element_of_the_base_is_in_no_row(search: Any) -> None:
    result = search("LaFeAsO", elements={"forbid": ["As", "Sm"]})
    assert (result.amounts[:, [INDEX["As"], INDEX["Sm"]]] == 0).all()
    assert (result.amounts.sum(axis=1) > 3.6).all()


def test_amounts_may_stay_as_they_came_or_go_to_the_nearest(search: Any) -> None:
    free = search("LaFeAsO", projection={"kind": "none"})
    assert free.distance.max() < 1e-3
    assert any(round(amount, 2) != amount for text in free.formulas() for amount in parse(text).values())
    nearest, best = (search("LaFeAsO", projection={"kind": kind}) for kind in ("nearest", "best"))
    assert np.array_equal(nearest.x_final, best.x_final)
    assert (nearest.distance <= best.distance + 1e-9).all()
    assert best.tc_k.mean() >= nearest.tc_k.mean()


def test_elements_that_may_not_occur_do_not(search: Any) -> None:
    allow = ["La", "Fe", "As", "O", "F", "Nd", "P"]
    result = search("LaFeAsO", elements={"allow": allow})
    others = np.ones(N_ELEMENTS, dtype=np.bool_)
    others[[INDEX[symbol] for symbol in allow]] = False
    assert (result.amounts[:, others] == 0).all()
