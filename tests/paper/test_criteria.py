"""The criteria of tables 5 and 10 on formulas that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.chemistry.formula import parse_amounts
from kiago_ray.paper.experiments import hydride_form, rightly_substituted


@pytest.mark.parametrize(
    ("formula", "right"),
    [
        ("YFeAsO", True),
        ("Y0.5Nd0.5FeAsO", True),
        ("La0.5Nd0.5FeAsO", True),
        ("Y2Fe2As2O2", True),  # ratios, whatever the total
        ("Y1.005FeAsO", True),
        ("LaFeAsO", False),  # the base itself
        ("La1.005FeAsO", False),
        ("Y1.02FeAsO", False),  # the site 1.5 % too much
        ("YFe1.02AsO", False),
        ("YFeAs", False),
        ("YCoAsO", False),
    ],
)
def test_substitution_within_one_per_cent(formula: str, right: bool) -> None:
    assert rightly_substituted(parse_amounts(formula)[None], "LaFeAsO", "La").tolist() == [right]


def test_nothing_is_no_substitution() -> None:
    assert not rightly_substituted(np.zeros((1, N_ELEMENTS)), "LaFeAsO", "La").any()


@pytest.mark.parametrize(
    ("formula", "formed"),
    [
        ("LaH10", True),
        ("H2S", True),
        ("Li2MgH14", False),  # 17 atoms
        ("Li2MgH12", True),
        ("La6H4", True),
        ("La7H4", False),  # 36 % hydrogen
        ("LiNaKH10", False),
        ("H3.02S0.98", True),
        ("La1.5H13.6", False),
    ],
)
def test_hydrides(formula: str, formed: bool) -> None:
    assert hydride_form(parse_amounts(formula)[None]).tolist() == [formed]
