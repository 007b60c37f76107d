from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.search.family import Substitutions
from kiago_ray.search.presets import load_preset
from kiago_ray.search.problem import resolve
from kiago_ray.search.run import begin
from kiago_ray.search.space import OpenSpace
from kiago_ray.search.start import Begun, open_space

CPU = torch.device("cpu")


def begun(preset: str, substitutions: Substitutions, rows: range, size: int, **values: Any) -> Begun:
    spec = load_preset(preset, {"base": "LaFeAsO", "start.frequencies": "uniform", **values})
    problem = resolve(spec, np.ones(N_ELEMENTS, dtype=np.bool_), substitutions)
    numbers = np.array(rows)
    return begin(problem, {}, numbers, numbers % size, size, CPU)


def test_padding_of_a_family_holds_the_base_and_stays(substitutions: Substitutions) -> None:
    found = begun("default", substitutions, range(5, 8), 8)
    x = found.space.compose(found.state.x_base, found.state.mask).numpy()
    assert x[:5] == pytest.approx(np.tile(fractions(parse("LaFeAsO")), (5, 1)), abs=1e-6)
    assert found.state.rate[:5].tolist() == [0] * 5
    assert found.family is not None
    assert found.family.source[:5].tolist() == [""] * 5
    assert all(found.family.source[5:])


def test_a_place_begins_alike_whichever_other_rows_there_are(substitutions: Substitutions) -> None:
    for preset in ("open", "default"):
        few, many = (begun(preset, substitutions, rows, 8) for rows in (range(11, 13), range(8, 16)))
        assert torch.equal(few.state.x_base[3:5], many.state.x_base[3:5])
        assert torch.equal(few.state.mask[3:5], many.state.mask[3:5])


def test_an_open_search_begins_in_the_open_space(substitutions: Substitutions) -> None:
    found = begun("open", substitutions, range(8), 8, fixed={"O": 0.25})
    assert isinstance(found.space, OpenSpace)
    assert found.family is None
    assert found.space.const[7] == 0.25
    assert (found.space.limit, found.space.width) == (6, 7)
    assert not found.space.always.any()
    spec = load_preset("hydride", {"base": "LaH10"})
    grown = open_space(resolve(spec, np.ones(N_ELEMENTS, dtype=np.bool_)), CPU)
    assert grown.always.nonzero().flatten().tolist() == [0]
    assert grown.totals.tolist() == list(range(1, 16))


def test_rows_that_hold_a_proposal_have_no_rate_and_no_limits(substitutions: Substitutions) -> None:
    found = begun("default", substitutions, range(40), 40, family={"range": [0.1, 0.4]})
    held = found.state.rate == 0
    assert held.any()
    assert not held.all()
    assert (found.space.low[held] == 0).all()  # type: ignore[attr-defined]
    assert (found.space.high[held] == 1).all()  # type: ignore[attr-defined]
    assert (found.space.high[~held] == 0.4).all()  # type: ignore[attr-defined]
