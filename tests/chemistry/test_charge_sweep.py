from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from kiago_ray.chemistry.balance import cheapest_states
from kiago_ray.chemistry.compound_kinds import oxides, pnictogen_rich
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.chemistry.state_costs import state_costs

POOL = [
    "Na",
    "Ba",
    "La",
    "Ce",
    "Eu",
    "Ti",
    "Nb",
    "Mo",
    "Fe",
    "Ni",
    "Cu",
    "Tl",
    "Pb",
    "Bi",
    "Sn",
    "B",
    "C",
    "N",
    "P",
    "As",
    "S",
    "Se",
    "Te",
    "O",
    "F",
    "H",
    "He",
]


def random_amounts(seed: int, number: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = np.zeros((number, N_ELEMENTS))
    for row in rows:
        chosen = rng.choice([INDEX[s] for s in POOL], rng.integers(1, 6), replace=False)
        row[chosen] = np.round(rng.uniform(0.05, 4, len(chosen)), 2)
    return rows


def cheapest_by_linear_programs(row: np.ndarray) -> float:
    """The least nats an atom by scipy's linear programs, one for each cut between cations and anions."""
    costs = state_costs()
    kind = 0 if oxides(row[None])[0] else 2 if pnictogen_rich(row[None])[0] else 1
    present = sorted(np.flatnonzero(row).tolist(), key=lambda z: costs.scale[z])
    if np.isnan(costs.scale[present]).any():
        return np.inf
    best = np.inf
    for cut in range(len(present) + 1):
        if 0 < cut < len(present) and costs.scale[present[cut - 1]] == costs.scale[present[cut]]:
            continue
        species = [
            (at, s, c)
            for at, z in enumerate(present)
            for s, c in costs.nats[kind][z].items()
            if (s >= 0) == (at < cut)
        ]
        if {at for at, _, _ in species} != set(range(len(present))):
            continue
        atoms = [[float(at == j) for at, _, _ in species] for j in range(len(present))]
        charge = [[float(s) for _, s, _ in species]]
        found = linprog(
            [c for _, _, c in species], A_eq=atoms + charge, b_eq=[*(row[present] / row.sum()), 0.0]
        )
        best = min(best, found.fun if found.status == 0 else np.inf)
    return best


def test_it_finds_what_linear_programs_find() -> None:
    rows = random_amounts(0, 250)
    expected = np.array([cheapest_by_linear_programs(row) for row in rows])
    nats, _ = cheapest_states(rows, OxidationSet.ICSD24)
    assert 60 < np.isfinite(expected).sum() < 220
    assert nats == pytest.approx(expected, abs=1e-6)


def test_charges_add_up_atoms_are_kept_and_one_element_is_mixed_at_most() -> None:
    rows = random_amounts(1, 400)
    nats, assignments = cheapest_states(rows, OxidationSet.ICSD24)
    costs = state_costs()
    for row, cost, found in zip(rows, nats, assignments, strict=True):
        assert bool(found) == np.isfinite(cost)
        if not found:
            continue
        assert set(found) == set(np.flatnonzero(row))
        assert sum(s * n for pairs in found.values() for s, n in pairs) == pytest.approx(0, abs=1e-5)
        assert sum(len(pairs) > 1 for pairs in found.values()) <= 1
        for z, pairs in found.items():
            assert sum(n for _, n in pairs) == pytest.approx(row[z])
        cations = [costs.scale[z] for z, pairs in found.items() if pairs[0][0] > 0]
        anions = [costs.scale[z] for z, pairs in found.items() if pairs[0][0] < 0]
        assert max(cations) < min(anions)


def test_the_states_are_those_of_the_proportions_alone() -> None:
    rows = random_amounts(2, 100)
    nats, assignments = cheapest_states(rows, OxidationSet.ICSD24)
    larger, same = cheapest_states(rows * 7.3, OxidationSet.ICSD24)
    alone = [cheapest_states(row[None], OxidationSet.ICSD24)[0][0] for row in rows]
    assert larger == pytest.approx(nats)
    assert alone == pytest.approx(nats)
    for one, other in zip(assignments, same, strict=True):
        assert {z: [s for s, _ in pairs] for z, pairs in one.items()} == {
            z: [s for s, _ in pairs] for z, pairs in other.items()
        }


def test_a_noble_gas_has_no_states() -> None:
    row = np.zeros((1, N_ELEMENTS))
    row[0, [INDEX["He"], INDEX["O"]]] = 1
    assert cheapest_states(row, OxidationSet.ICSD24)[0][0] == np.inf
