"""The company of elements, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kiago_ray.plausibility.company import COMPANY_NAMES, Company

from .conftest import MakeLiterature, presence


def columns(values: torch.Tensor) -> dict[str, float]:
    return dict(zip(COMPANY_NAMES, values[0].tolist(), strict=True))


def test_pairs_and_elements(make_literature: MakeLiterature) -> None:
    company = Company(make_literature(["LaO", "YO", "LaF", "LaFO"]))
    found = columns(company(presence("La O"), torch.zeros(1)))
    assert found["elements"] == 2
    assert found["elements_squared"] == pytest.approx(0.5)
    assert found["many_elements"] == 0
    assert found["together_mean"] == pytest.approx(np.log(3))  # La-O and F-La-O
    assert found["company_mean"] == pytest.approx(10 * 2 / (3 + 5))
    assert found["element_reported_mean"] == pytest.approx(np.log(4))
    assert found["together_lately_mean"] == 0  # all is of 2000


def test_the_least_is_the_pair_that_nobody_saw(make_literature: MakeLiterature) -> None:
    company = Company(make_literature(["LaO", "LaF", "LaO2", "NaF"]))
    seen, unseen = (
        columns(company(presence(symbols), torch.zeros(1)))["together_least"]
        for symbols in ("La O", "La O Na")
    )
    assert unseen < seen


def test_the_own_system_is_taken_off(make_literature: MakeLiterature) -> None:
    known = make_literature(["LaO", "YO", "LaF", "LaFO"])
    without = known.only(known.system != known.system[3])
    row = presence("La F O")
    own = columns(Company(known)(row, torch.ones(1)))
    new = columns(Company(without)(row, torch.zeros(1)))
    for name in ("together_mean", "company_mean", "company_least", "element_reported_least"):
        assert own[name] == pytest.approx(new[name], rel=1e-5), name


def test_more_than_five_elements_are_many(make_literature: MakeLiterature) -> None:
    found = columns(Company(make_literature(["LaO"]))(presence("La O Na F Mg B Y"), torch.zeros(1)))
    assert found["many_elements"] == 2
