""""""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch.autograd import gradcheck

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import fractions, parse, parse_fractions
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.predictors.base import Predictors
from kiago_ray.search.losses import (
    UNCHARGED,
    ChargeTable,
    Objective,
    charge_loss,
    charge_table,
    charge_term,
    integer_distance,
    integer_loss,
    plausibility_term,
    row_losses,
)

TOTALS = torch.arange(1, 26)


def row(formula: str) -> torch.Tensor:
    return torch.as_tensor(fractions(parse(formula)))[None]


def brute_force(x: np.ndarray, total: int, norm: str) -> float:
    """Equation 10 as it is written: for each element the least over n."""
    gaps = [min(abs(value - n / total) for n in range(total + 1)) for value in x]
    return float(sum(gap if norm == "l1" else gap**2 for gap in gaps))


def random_rows(seed: int, rows: int = 6, present: int = 6) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    x = np.zeros((rows, N_ELEMENTS))
    for each in x:
        each[rng.choice(N_ELEMENTS, present, replace=False)] = rng.random(present)
    return torch.as_tensor(x / x.sum(axis=1, keepdims=True))


def test_the_papers_example_of_figure_2() -> None:
    x = row("Ca0.23Sr0.27O0.50")
    assert integer_distance(x, torch.tensor([4.0]), "l1").item() == pytest.approx(0.04)
    assert integer_loss(x, torch.tensor([4]), "l1").item() == pytest.approx(0.04)


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("width", [None, 6, 9])
def test_the_integer_loss_is_equations_10_and_11(norm: str, width: int | None) -> None:
    x = random_rows(1)
    found = integer_loss(x, TOTALS, norm, width)  # type: ignore[arg-type]
    for each, value in zip(x.numpy(), found, strict=True):
        assert value.item() == pytest.approx(min(brute_force(each, n, norm) for n in range(1, 26)), abs=1e-12)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_integer_formulas_cost_nothing(norm: str) -> None:
    assert integer_loss(row("YBa2Cu3O7"), TOTALS, norm).item() == pytest.approx(0, abs=1e-12)  # type: ignore[arg-type]
    assert integer_loss(row("YBa2Cu3O7"), torch.tensor([12]), norm).item() > 1e-3  # type: ignore[arg-type]


def in_row(present: torch.Tensor) -> torch.Tensor:
    """Amounts (rows, 6) as (rows, 118): |x − c| has no slope at x = 0, so only what is present is varied."""
    columns = torch.tensor([0, 7, 25, 56, 81, 90]).expand(len(present), 6)
    return torch.zeros(len(present), N_ELEMENTS, dtype=present.dtype).scatter(1, columns, present)


def amounts(seed: int) -> torch.Tensor:
    present = torch.rand(3, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (present / present.sum(dim=1, keepdim=True)).requires_grad_()


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("width", [None, 8])
def test_the_integer_loss_has_the_right_gradient(norm: str, width: int | None) -> None:
    assert gradcheck(lambda y: integer_loss(in_row(y), TOTALS, norm, width), amounts(2), atol=1e-6)  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), most=st.integers(1, 40))
def test_more_totals_never_cost_more(seed: int, most: int) -> None:
    x = random_rows(seed)
    assert (
        integer_loss(x, torch.arange(1, most + 2), "l1") <= integer_loss(x, torch.arange(1, most + 1), "l1")
    ).all()


def test_tc_before_and_after_its_relu() -> None:
    raw = torch.tensor([-5.0, 0.0, 7.0], requires_grad=True)
    given = Predictors(tc=lambda x: x, ef=lambda x: x)  # type: ignore[arg-type]
    for gradient, values, slopes in (
        ("before_relu", [5.0, 0.0, -7.0], [-1.0, -1.0, -1.0]),
        ("after_relu", [0.0, 0.0, -7.0], [0.0, 0.0, -1.0]),
    ):
        loss, _ = row_losses(raw, given, Objective(0, gradient))  # type: ignore[arg-type]
        assert loss.tolist() == values
        assert torch.autograd.grad(loss.sum(), raw)[0].tolist() == slopes


def test_the_loss_is_the_weighted_sum_of_its_terms(predictors: Predictors) -> None:
    x = torch.cat([row("LaFeAsO"), row("NaCl"), row("LaFeAsO0.913F0.09")])
    objective = Objective(alpha=4, tc_gradient="before_relu", beta=7)
    off_grid = partial(integer_loss, x, TOTALS, "l1")
    loss, terms = row_losses(x, predictors, objective, off_grid)
    expected = -predictors.tc(x) + 4 * predictors.ef(x) + 7 * integer_loss(x, TOTALS, "l1")
    assert torch.allclose(loss, expected)
    table = charge_table(OxidationSet.ICSD24)
    charged, _ = row_losses(
        x, predictors, replace(objective, further=(partial(charge_term, table=table, weight=3),)), off_grid
    )
    assert torch.allclose(charged, expected + 3 * charge_loss(x, table))
    assert terms.tc_k[0].item() == pytest.approx(100)
    assert terms.tc_k[1].item() == 0
    _, first_stage = row_losses(x, predictors, Objective(alpha=4, tc_gradient="after_relu"))
    assert first_stage.integer_loss.isnan().all()


@pytest.mark.parametrize("gradient", ["before_relu", "after_relu"])
def test_the_whole_loss_has_the_right_gradient(predictors: Predictors, gradient: str) -> None:
    objective = Objective(alpha=4, tc_gradient=gradient, beta=100)  # type: ignore[arg-type]
    objective = replace(
        objective, further=(partial(charge_term, table=charge_table(OxidationSet.ICSD24), weight=30),)
    )

    def loss(present: torch.Tensor) -> torch.Tensor:
        x = in_row(present)
        return row_losses(x, predictors, objective, partial(integer_loss, x, TOTALS, "l1", 8))[0]

    assert gradcheck(loss, amounts(5), atol=1e-4)


def test_rows_do_not_see_each_other(predictors: Predictors) -> None:
    x = random_rows(6).requires_grad_()
    objective = Objective(alpha=4, tc_gradient="before_relu", beta=10)
    loss, _ = row_losses(x, predictors, objective, partial(integer_loss, x, TOTALS, "l1"))
    (gradient,) = torch.autograd.grad(loss[2], x)
    assert gradient[2].abs().sum() > 0
    assert gradient[[0, 1, 3, 4, 5]].abs().sum() == 0


@dataclass(frozen=True)
class LikesOxygen:
    """ln P = −3·(1 − x(O))² nats."""

    supported: torch.Tensor = field(default_factory=lambda: torch.ones(N_ELEMENTS, dtype=torch.bool))

    def __call__(self, fractions: torch.Tensor, /) -> torch.Tensor:
        return -3 * (1 - fractions[:, 7]).square()


def test_the_plausibility_is_a_term_where_it_has_a_weight(predictors: Predictors) -> None:
    x = torch.cat([row("LaFeAsO"), row("NaCl")])
    plausible = replace(predictors, plausibility=LikesOxygen())
    objective = Objective(alpha=4, tc_gradient="before_relu")
    without, _ = row_losses(x, plausible, objective)
    loss, _ = row_losses(x, plausible, replace(objective, further=(partial(plausibility_term, weight=5),)))
    assert torch.allclose(loss, without + 5 * torch.tensor([3 * 0.75**2, 3]))


def test_energies_without_a_weight_are_not_asked_for(predictors: Predictors) -> None:
    x = random_rows(7).requires_grad_()
    loss, terms = row_losses(x, predictors, Objective(alpha=0, tc_gradient="before_relu"))
    assert terms.ef_ev_per_atom.isnan().all()
    expected = torch.autograd.grad(-predictors.tc(x).sum(), x)[0]
    assert torch.equal(torch.autograd.grad(loss.sum(), x)[0], expected)


def test_what_is_free_of_the_charge_costs_nothing(predictors: Predictors) -> None:
    x = torch.cat([row("LaFeAsO"), row("La2CuO4"), row("LaFeAs2O")])
    table = charge_table(OxidationSet.ICSD24)
    charge = charge_loss(x, table)
    assert charge[1] < charge[0] < charge[2]
    plain = Objective(alpha=4, tc_gradient="before_relu")
    free = replace(plain, further=(partial(charge_term, table=table, weight=3, free=float(charge[0])),))
    loss, _ = row_losses(x, predictors, free)
    expected = torch.stack([charge[0] * 0, charge[0] * 0, 3 * (charge[2] - charge[0])])
    assert torch.allclose(loss - row_losses(x, predictors, plain)[0], expected)


GRID = 0.1  # nats: what the steps of λ may cost, at most


@pytest.fixture(scope="module")
def table() -> ChargeTable:
    return charge_table(OxidationSet.ICSD24)


def rows(*formulas: str) -> torch.Tensor:
    return torch.as_tensor(parse_fractions(formulas))


def loss(table: ChargeTable, *formulas: str) -> list[float]:
    return charge_loss(rows(*formulas), table).tolist()  # type: ignore[no-any-return]


def by_definition(x: np.ndarray, cut: float) -> float:
    """The least Σ x·KL(q‖p) over neutral q for one cut, by a constrained optimiser over the states of each atom."""
    electronegativity = oxidation.electronegativities()
    amounts, states, shares, place = [], [], [], []
    for at, z in enumerate(np.flatnonzero(x)):
        known = oxidation.state_shares()[z].items()
        e = electronegativity[z]
        sided = [(s, p) for s, p in known if e is not None and (s > 0) == (e < cut)]
        for state, share in [*sided, (0, np.exp(-UNCHARGED))]:
            amounts.append(x[z])
            states.append(state)
            shares.append(share)
            place.append(at)
    x_of, s_of, p_of, at_of = (np.array(each) for each in (amounts, states, shares, place))

    def kl(q: np.ndarray) -> float:
        return float((x_of * q * np.log(np.maximum(q, 1e-300) / p_of)).sum())

    neutral = {"type": "eq", "fun": lambda q: (x_of * q * s_of).sum()}
    sums = {"type": "eq", "fun": lambda q: np.bincount(at_of, weights=q) - 1}
    start = np.array([1 / (at_of == at).sum() for at in at_of])
    found = minimize(
        kl,
        start,
        bounds=[(1e-12, 1)] * len(start),
        constraints=[neutral, sums],
        method="SLSQP",
        options={"maxiter": 300, "ftol": 1e-9},
    )
    assert abs((x_of * found.x * s_of).sum()) < 1e-5
    return float(found.fun)


@pytest.mark.parametrize("formula", ["NaCl", "YBa2Cu3O7", "BaO2", "Fe3O4", "LaPt2B2C", "CaH6", "BaFe2As2"])
def test_it_is_the_least_divergence_of_a_neutral_assignment_over_all_cuts(
    formula: str, table: ChargeTable
) -> None:
    x = parse_fractions([formula])[0]
    scale = [oxidation.electronegativities()[z] for z in np.flatnonzero(x)]
    cuts = [e for e in scale if e is not None] + [np.inf]
    expected = min(by_definition(x, cut) for cut in cuts)
    (found,) = loss(table, formula)
    assert expected - GRID < found < expected + 1e-3


def test_neutral_formulas_of_likely_states_cost_least(table: ChargeTable) -> None:
    salt, oxide, excess, lack = loss(table, "NaCl", "La2CuO4", "La2CuO6", "La2CuO2")
    assert max(salt, oxide) < 0.05
    assert min(excess, lack) > 0.5
    likely, unlikely = loss(table, "Fe2O3", "FeO3")  # Fe(VI) is rare
    assert likely < 0.5 < unlikely


def test_the_pauling_rule_is_kept(table: ChargeTable) -> None:
    """N(+5) and F(−1) balance, F(+) doesn't exist; in NaN3 nitrogen is the negative one, as in BN."""
    (nitride, reversed_) = loss(table, "BN", "PtB2")  # boron may not be negative beside platinum
    assert nitride < 0.5
    assert reversed_ > 3


def test_it_is_bounded_and_atoms_without_states_pay_the_bound(table: ChargeTable) -> None:
    assert loss(table, "He")[0] == pytest.approx(UNCHARGED, abs=1e-5)
    assert loss(table, "O")[0] == pytest.approx(UNCHARGED, abs=0.05)
    x = torch.rand(200, N_ELEMENTS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x * (x > 0.93) + 1e-9
    found = charge_loss(x / x.sum(dim=1, keepdim=True), table)
    assert (found <= UNCHARGED + 1e-5).all()
    assert (found > -1e-5).all()


def test_metals_alone_are_alloys_and_cost_nothing(table: ChargeTable) -> None:
    assert loss(table, "Nb3Sn", "NbTi", "Ba") == [0, 0, 0]
    x = rows("Nb3Sn").requires_grad_()
    (gradient,) = torch.autograd.grad(charge_loss(x, table).sum(), x)
    assert not gradient.any()


def test_traces_of_non_metals_make_no_salt_of_an_alloy(table: ChargeTable) -> None:
    """At 5 % oxygen the loss is a fifth of what the states say, with no slope for having less of a non-metal."""
    x = rows("Nb75Sn20O5").requires_grad_()
    found = charge_loss(x, table)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    unscaled = (x[0] * table[0].to(x.dtype)).sum(dim=2)  # (cuts, prices)
    assert found.item() == pytest.approx(unscaled.max(dim=1).values.min().item() / 5)
    assert (gradient[0] * x[0]).sum().item() == pytest.approx(
        found.item()
    )  # linear: no term of the share's own


def oxyfluorides(present: torch.Tensor) -> torch.Tensor:
    columns = torch.tensor([INDEX[s] for s in ("Ba", "Cu", "O", "F")]).expand(len(present), 4)
    return torch.zeros(len(present), N_ELEMENTS, dtype=present.dtype).scatter(1, columns, present)


def test_the_gradient_is_that_of_finite_differences(table: ChargeTable) -> None:
    amounts = torch.rand(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.3
    amounts = (amounts / amounts.sum(dim=1, keepdim=True)).requires_grad_()
    assert gradcheck(lambda y: charge_loss(oxyfluorides(y), table), amounts, atol=1e-6)


def test_more_oxygen_is_asked_for_where_oxygen_is_missing(table: ChargeTable) -> None:
    for formula, sign in (("La2CuO2", -1), ("La2CuO8", 1)):
        x = rows(formula).requires_grad_()
        (gradient,) = torch.autograd.grad(charge_loss(x, table).sum(), x)
        towards = gradient[0, INDEX["O"]] - (gradient[0] * x[0]).sum().item()  # at a constant total
        assert np.sign(towards.item()) == sign


def test_the_charges_of_rows_do_not_see_each_other(table: ChargeTable) -> None:
    x = rows("NaCl", "BaO2", "LaPt2B2C").requires_grad_()
    (gradient,) = torch.autograd.grad(charge_loss(x, table)[1], x)
    assert gradient[1].any()
    assert not gradient[[0, 2]].any()
