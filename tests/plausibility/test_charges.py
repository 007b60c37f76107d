"""Charges with a slope: the same nats as the exact balance, and their gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kiago_ray.chemistry.balance import likeliest_balance
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.plausibility.charges import CHARGE_NAMES, MOST_NATS, Charges

IONIC = (
    "LaFeAsO",
    "La1.85Sr0.15CuO4",
    "NaCl",
    "BaFe2As2",
    "YBa2Cu3O7",
    "NbSe2",
    "FeSe",
    "SrTiO3",
    "Tl2Ba2CuO6",
)


def columns(*formulas: str) -> dict[str, list[float]]:
    values = Charges()(torch.tensor(parse_fractions(formulas), dtype=torch.float32)).T.tolist()
    return dict(zip(CHARGE_NAMES, values, strict=True))


def test_nats_are_those_of_the_exact_balance() -> None:
    # The grid of prices gives a little less than the best price would.
    exact = likeliest_balance(parse_fractions(IONIC)).nats_per_atom
    found = np.array(columns(*IONIC)["charge_nats"])
    assert (found <= exact + 1e-5).all()
    np.testing.assert_allclose(found, exact, atol=0.02)


def test_what_does_not_balance_costs_most() -> None:
    found = columns("Na2Cl", "NaCl")["charge_nats"]
    assert found[0] == pytest.approx(MOST_NATS, rel=0.2)
    assert found[1] < 0.1


def test_metals_are_no_salts() -> None:
    found = columns("CeCoIn5", "LaFeAsO")
    assert found["charge_nats_ionic"][0] == 0
    assert found["strong_anions"] == [0, pytest.approx(0.5)]
    assert found["charge_nats_ionic"][1] == found["charge_nats"][1]


def test_the_slope_is_that_of_finite_differences() -> None:
    charges = Charges().double()
    row = torch.tensor(parse_fractions(["La1.83Sr0.17CuO4"]), dtype=torch.float64, requires_grad=True)
    charges(row)[0, 0].backward()
    assert row.grad is not None
    for z in (56, 37, 28, 7):
        step = torch.zeros_like(row)
        step[0, z] = 1e-7
        with torch.no_grad():
            slope = (charges(row + step)[0, 0] - charges(row - step)[0, 0]) / 2e-7
        assert float(row.grad[0, z]) == pytest.approx(float(slope), rel=1e-5, abs=1e-6)
