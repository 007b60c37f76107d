from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from kiago_ray.chemistry import oxidation
from kiago_ray.chemistry.balance import write_shares
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import parse
from kiago_ray.chemistry.neutrality import MAX_VALENCE_ATOMS, LikeliestValences, check, likeliest_valences
from kiago_ray.chemistry.oxidation import OxidationSet


def mixed(rows: np.ndarray) -> LikeliestValences:
    return likeliest_valences(rows, mixed=True)


def counts(*formulas: str) -> np.ndarray:
    rows = np.zeros((len(formulas), N_ELEMENTS), dtype=np.int64)
    for row, formula in zip(rows, formulas, strict=True):
        for symbol, amount in parse(formula).items():
            row[INDEX[symbol]] = amount
    return rows


def cheapest_by_trying(row: np.ndarray) -> float:
    """Every choice of one or two states for each element, and every way to share its atoms between them: the least
    nats an atom of those that balance, inf without any.
    """
    scale, table = oxidation.electronegativities(), oxidation.states_by_frequency()
    nats = {
        (z, s): -np.log(p)
        for z in range(N_ELEMENTS)
        for s, p in zip(table[z], oxidation.state_shares()[z], strict=True)
    }
    best = np.inf
    present = np.flatnonzero(row)
    options = []
    for z in present:
        n = int(row[z])
        ways = [((s, n),) for s in table[z]]
        ways += [((s, a), (t, n - a)) for s, t in combinations(table[z], 2) for a in range(1, n)]
        options.append(ways)
    for chosen in product(*options):
        if sum(s * a for way in chosen for s, a in way):
            continue
        cations = [scale[z] for z, way in zip(present, chosen, strict=True) for s, _ in way if s > 0]
        anions = [scale[z] for z, way in zip(present, chosen, strict=True) for s, _ in way if s < 0]
        one_side = all(len({np.sign(s) for s, _ in way}) == 1 for way in chosen)
        if one_side and (not cations or not anions or max(cations) < min(anions)):
            cost = sum(a * nats[z, s] for z, way in zip(present, chosen, strict=True) for s, a in way)
            best = min(best, cost / row.sum())
    return best


def test_known_mixed_valences() -> None:
    found = mixed(counts("YBa2Cu3O7", "Fe3O4", "LaNiAsO", "Pb3O4"))
    assert found.neutral.tolist() == [True] * 4
    assert [write_shares(each) for each in found.assignments] == [
        "Ba+2 Y+3 Cu+2*2 Cu+3*1 O-2",
        "Fe+3*2 Fe+2*1 O-2",
        "La+3 Ni+2 As-3 O-2",
        "Pb+2*2 Pb+4*1 O-2",
    ]


def test_the_states_are_the_likeliest_of_all() -> None:
    """SMACT's screens find YBa2Cu3O7 neutral by yttrium(+4), of which the ICSD holds 39."""
    (row,) = counts("YBa2Cu3O7")
    assert check(row[None]).states[0, INDEX["Y"]] == 4
    found = mixed(row[None])
    states, shares = oxidation.states_by_frequency(), oxidation.state_shares()
    cost = {z: dict(zip(states[z], -np.log(shares[z]), strict=True)) for z in np.flatnonzero(row)}
    assert found.nats[0] * 13 == pytest.approx(
        sum(atoms * cost[z][s] for z, pairs in found.assignments[0].items() for s, atoms in pairs)
    )
    tried = [nats for rows in random_formulas(4, 30, 4) for nats in [cheapest_by_trying(rows)]]
    assert mixed(random_formulas(4, 30, 4)).nats == pytest.approx(np.array(tried))


def test_what_nothing_balances_has_no_assignment() -> None:
    found = mixed(counts("NaF2", "LaPt2B2C", "HeO", "NbTi"))
    assert not found.neutral.any()
    assert found.assignments == ({}, {}, {}, {})
    assert not mixed(counts(f"Na{MAX_VALENCE_ATOMS}Cl{MAX_VALENCE_ATOMS - 1}")).neutral.any()


def random_formulas(seed: int, number: int, most: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pool = [INDEX[s] for s in ("Ba", "La", "Ce", "Fe", "Cu", "Sn", "B", "C", "S", "O", "F")]
    rows = np.zeros((number, N_ELEMENTS), dtype=np.int64)
    for row in rows:
        row[rng.choice(pool, rng.integers(2, 4), replace=False)] = 1
        row *= rng.integers(1, most, N_ELEMENTS)
        row //= np.gcd.reduce(row)
    return rows


def test_verdicts_are_those_of_trying_everything() -> None:
    rows = random_formulas(1, 60, 5)
    expected = [bool(np.isfinite(cheapest_by_trying(row))) for row in rows]
    assert mixed(rows).neutral.tolist() == expected
    assert 10 < sum(expected) < 50


def test_assignments_add_up_keep_the_rule_and_use_two_states_at_most() -> None:
    rows = random_formulas(2, 200, 9)
    scale, table = oxidation.electronegativities(), oxidation.states_by_frequency()
    found = mixed(rows)
    for row, neutral, assignment in zip(rows, found.neutral, found.assignments, strict=True):
        assert neutral == bool(assignment)
        if not assignment:
            continue
        assert set(assignment) == set(np.flatnonzero(row))
        assert sum(s * atoms for pairs in assignment.values() for s, atoms in pairs) == 0
        for z, pairs in assignment.items():
            assert sum(atoms for _, atoms in pairs) == row[z]
            assert {s for s, _ in pairs} <= set(table[z])
            assert len(pairs) <= 2
        positive = [scale[z] for z, pairs in assignment.items() if pairs[0][0] > 0]
        negative = [scale[z] for z, pairs in assignment.items() if pairs[0][0] < 0]
        assert max(positive) < min(negative)


def test_it_accepts_all_that_smacts_pauling_screen_assigns() -> None:
    rows = random_formulas(3, 200, 7)
    verdicts = check(rows)
    strict = verdicts.pauling & ~verdicts.alloy & ~verdicts.elemental
    assert mixed(rows).neutral[strict].all()
    assert 20 < strict.sum() < mixed(rows).neutral.sum()


def test_one_state_before_two() -> None:
    (assignment,) = mixed(counts("La2CuO4")).assignments
    assert all(len(pairs) == 1 for pairs in assignment.values())


@pytest.mark.parametrize("oxidation_set", [OxidationSet.ICSD24, OxidationSet.SMACT14])
def test_without_mixed_valence_verdicts_are_those_of_smacts_pauling_screen(
    oxidation_set: OxidationSet,
) -> None:
    rows = random_formulas(5, 300, 9)
    verdicts = check(rows, oxidation_set, include_alloys=False)
    found = likeliest_valences(rows, oxidation_set, mixed=False)
    assert found.neutral.tolist() == (verdicts.pauling & ~verdicts.elemental).tolist()
    assert 40 < found.neutral.sum() < 260
    known, shares = oxidation.states_by_frequency(oxidation_set), oxidation.state_shares(oxidation_set)
    nats = [dict(zip(s, -np.log(p), strict=True)) if s else {} for s, p in zip(known, shares, strict=True)]
    for row in np.flatnonzero(found.neutral):
        assert all(len(pairs) == 1 for pairs in found.assignments[row].values())
        given = sum(n * nats[z][int(verdicts.states[row, z])] for z, n in enumerate(rows[row]) if n)
        assert found.nats[row] <= given / rows[row].sum() + 1e-12
