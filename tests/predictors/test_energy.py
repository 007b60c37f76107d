"""The E_f ensemble keeps the contract, has slopes towards absent elements, and tells its two scales apart."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.predictors.base import Predictors, check_contract, in_precision
from kiago_ray.predictors.energy import (
    LEAST_DISAGREEMENT_EV,
    LEAST_STD_EV,
    MEMBERS,
    SCALES,
    EnergyEnsemble,
)

FORMULAS = ("MgB2", "La1.85Sr0.15CuO4", "YBa2Cu3O7", "Nb", "LaFeAsO0.9F0.1")


@pytest.fixture(scope="module")
def made() -> EnergyEnsemble:
    torch.manual_seed(0)
    ensemble = EnergyEnsemble()
    ensemble.corrections[INDEX["O"]] = -0.3
    return ensemble.eval().requires_grad_(False)


@pytest.fixture
def rows() -> Tensor:
    return torch.from_numpy(parse_fractions(FORMULAS).astype(np.float32))


def test_it_keeps_the_contract(made: EnergyEnsemble) -> None:
    check_contract(made)
    check_contract(made.on_scale("materials_project"))


def test_slopes_agree_with_finite_differences_also_towards_absent_elements(
    made: EnergyEnsemble, rows: Tensor
) -> None:
    member, step = copy.deepcopy(made.members[0]).double(), 1e-7
    source, everywhere = torch.zeros(len(rows), dtype=torch.long), torch.ones(rows.shape, dtype=torch.bool)
    x = rows.double().requires_grad_()
    values = member(x, source, everywhere)
    (slopes,) = torch.autograd.grad(values.sum(), x)
    with torch.no_grad():
        for symbol in ("O", "F", "La", "Cu", "Xe"):
            moved = x.detach().clone()
            moved[:, INDEX[symbol]] += step
            found = (member(moved, source, everywhere) - values) / step
            assert torch.allclose(found, slopes[:, INDEX[symbol]], rtol=1e-4, atol=1e-4), symbol


def test_a_row_says_the_same_with_and_without_slopes_and_beside_any_other(
    made: EnergyEnsemble, rows: Tensor
) -> None:
    alone = torch.cat([made(row[None]) for row in rows])
    assert torch.allclose(made(rows), alone, atol=1e-5)
    followed = made(rows.clone().requires_grad_())
    assert torch.allclose(followed, alone, atol=1e-5)
    (slopes,) = torch.autograd.grad(made(x := rows.clone().requires_grad_()).sum(), x)
    assert (slopes != 0).all()


def test_the_scales_differ_by_corrections_and_by_what_the_flag_tells(
    made: EnergyEnsemble, rows: Tensor
) -> None:
    theirs = made.on_scale("materials_project")
    flag = torch.full((len(rows),), SCALES.index("materials_project"))
    flagged = torch.stack([member(rows, flag) for member in made.members]).mean(dim=0)
    assert torch.allclose(theirs(rows), flagged + rows @ made.corrections, atol=1e-6)
    assert made.scale == "oqmd"
    assert not torch.allclose(theirs(rows), made(rows), atol=1e-3)


def test_sigma_grows_with_disagreement(made: EnergyEnsemble, rows: Tensor) -> None:
    ef, std = made.estimates(rows.numpy())
    assert ef == pytest.approx(made(rows).numpy(), abs=1e-5)
    members = made.of_members(rows).double()
    assert members.shape == (len(rows), MEMBERS)
    # With the first coefficients ln σ is the logarithm of the disagreement.
    by_hand = np.hypot(members.std(dim=1).numpy(), LEAST_DISAGREEMENT_EV) + LEAST_STD_EV
    assert std == pytest.approx(by_hand, rel=1e-4)


def test_a_step_may_follow_it_in_bfloat16(made: EnergyEnsemble, rows: Tensor) -> None:
    quick = in_precision(Predictors(tc=made, ef=made), "bfloat16").ef
    x, exact = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    values, true = quick(x), made(exact)
    assert torch.allclose(values, true, atol=0.05)
    (slopes,), (expected,) = torch.autograd.grad(values.sum(), x), torch.autograd.grad(true.sum(), exact)
    assert float(torch.nn.functional.cosine_similarity(slopes, expected).min()) > 0.99


def test_what_is_no_number_has_no_energy(made: EnergyEnsemble, rows: Tensor) -> None:
    broken = rows.clone()
    broken[1, 5] = torch.nan
    assert made(broken).isnan().tolist() == [False, True, False, False, False]


def test_an_empty_batch_has_no_energies(made: EnergyEnsemble) -> None:
    ef, std = made.estimates(np.zeros((0, N_ELEMENTS)))
    assert ef.shape == std.shape == (0,)


def test_skew_adds_a_share_of_the_disagreement_on_its_scale(made: EnergyEnsemble, rows: Tensor) -> None:
    skewed = copy.deepcopy(made)
    skewed.skew[SCALES.index("materials_project")] = 0.5
    assert torch.equal(skewed(rows), made(rows))
    theirs, plain = skewed.on_scale("materials_project"), made.on_scale("materials_project")
    apart = np.hypot(plain.of_members(rows).std(dim=1).numpy(), LEAST_DISAGREEMENT_EV)
    assert (theirs(rows) - plain(rows)).numpy() == pytest.approx(0.5 * apart, abs=1e-5)
