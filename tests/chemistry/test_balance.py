""""""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from kiago_ray.chemistry.balance import (
    cheapest_states,
    cuprates,
    hardly_doped,
    likeliest_balance,
    surroundings,
    write_shares,
)
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import parse_amounts
from kiago_ray.chemistry.oxidation import SURROUNDINGS, OxidationSet, state_costs


def amounts(*formulas: str) -> np.ndarray:
    return np.stack([parse_amounts(formula) for formula in formulas])


CERTIFICATES = {
    "La2CuO4": "La+3 Cu+2 O-2",
    "La1.85Sr0.15CuO4": "Sr+2 La+3 Cu+2*0.85 Cu+3*0.15 O-2",
    "Nd1.85Ce0.15CuO4": "Ce+4 Nd+3 Cu+2*0.85 Cu+1*0.15 O-2",
    "YBa2Cu3O7": "Ba+2 Y+3 Cu+2*2 Cu+3*1 O-2",
    "YBa2Cu3O6": "Ba+2 Y+3 Cu+2*2 Cu+1*1 O-2",
    "Tl2Ba2Ca2Cu3O10": "Ba+2 Ca+2 Tl+3 Cu+2 O-2",
    "Bi2Sr2CaCu2O8": "Sr+2 Ca+2 Cu+2 Bi+3 O-2",
    "RuSr2GdCu2O8": "Sr+2 Gd+3 Cu+2 Ru+5 O-2",
    "LaFeAsO": "La+3 Fe+2 As-3 O-2",
    "LaFeAsO0.9F0.1": "La+3 Fe+2*0.9 Fe+1*0.1 As-3 O-2 F-1",
    "CeFeAsO0.84F0.16": "Ce+3 Fe+2*0.84 Fe+1*0.16 As-3 O-2 F-1",
    "LaFeAsO0.8H0.2": "La+3 Fe+2*0.8 Fe+1*0.2 As-3 H-1 O-2",
    "BaFe2As2": "Ba+2 Fe+2 As-3",
    "Ba0.6K0.4Fe2As2": "K+1 Ba+2 Fe+2*1.6 Fe+3*0.4 As-3",
    "EuFe2As2": "Eu+2 Fe+2 As-3",
    "LaRu4P12": "La+3 P-1 Ru+2*3 Ru+3*1",
    "LiFeAs": "Li+1 Fe+2 As-3",
    "FeSe": "Fe+2 Se-2",
    "NbSe2": "Nb+4 Se-2",
    "Cu0.08TiSe2": "Ti+4*0.92 Ti+3*0.08 Cu+1 Se-2",
    "LaO0.5F0.5BiS2": "La+3 Bi+3*0.5 Bi+2*0.5 S-2 O-2 F-1",
    "PbMo6S8": "Mo+3*2 Mo+2*4 Pb+2 S-2",
    "Ba0.6K0.4BiO3": "K+1 Ba+2 Bi+3*0.3 Bi+5*0.7 O-2",
    "LiTi2O4": "Li+1 Ti+4*1 Ti+3*1 O-2",
    "Na0.35CoO2": "Na+1 Co+3*0.35 Co+4*0.65 O-2",
    "Sr2RuO4": "Sr+2 Ru+4 O-2",
    "KOs2O6": "K+1 Os+5*1 Os+6*1 O-2",
    "La3Ni2O7": "La+3 Ni+2*1 Ni+3*1 O-2",
    "Nd0.8Sr0.2NiO2": "Sr+2 Nd+3 Ni+2*0.2 Ni+1*0.8 O-2",
    "SrPt2As2": "Sr+2 As-3 Pt+2",
    "IrTe2": "Te-2 Ir+4",
    "Li0.16ZrNCl": "Li+1 Zr+4*0.84 Zr+3*0.16 N-3 Cl-1",
    "NbN": "Nb+3 N-3",
    "Fe3O4": "Fe+3*2 Fe+2*1 O-2",
    "Pb3O4": "Pb+2*2 Pb+4*1 O-2",
    "MgB2": "Mg+2 B-1",
    "Nb3Sn": "metallic",
    "CeCoIn5": "metallic",
    "NaF2": "",
}


@pytest.mark.parametrize(("formula", "expected"), CERTIFICATES.items())
def test_known_materials_have_a_chemists_states(formula: str, expected: str) -> None:
    assert likeliest_balance(amounts(formula)).certificates == (expected,)


def test_mean_valences_are_those_of_transition_metals() -> None:
    found = likeliest_balance(amounts("La1.85Sr0.15CuO4", "BaFe1.8Co0.2As2", "Nb3Sn", "Bi2Se3"))
    assert found.mean_valences == ["Cu+2.15", "Fe+2 Co+2", "", ""]


def test_what_cannot_balance_does_not() -> None:
    found = likeliest_balance(amounts("NaF2", "Ba3Cu5O2", "KO5"))
    assert not found.metallic.any()
    assert np.isinf(found.nats_per_atom).all()
    assert found.assignments == ({}, {}, {})


def test_what_the_screen_compares_is_0_of_metals() -> None:
    found = likeliest_balance(amounts("La2CuO4", "Nb3Sn", "NaF2", "BaCuO4"))
    assert np.isfinite(found.nats_per_atom).tolist() == [True, True, False, True]
    # The last one balances by O-1 alone, and oxygen at −1 is no oxide.
    nats = found.nats_per_atom[0]
    assert found.screened_nats.tolist() == [nats, 0.0, np.inf, np.inf]
    assert 0.2 < likeliest_balance(amounts("KFe2As2")).screened_nats[0] < 10


def test_written_shares_are_short_decimals() -> None:
    cu, o = INDEX["Cu"], INDEX["O"]
    assert write_shares({o: ((-2, 4.0),), cu: ((2, 2 / 3), (3, 1 / 3))}) == "Cu+2*0.6667 Cu+3*0.3333 O-2"
    assert write_shares({cu: ((2, 0.99998), (3, 0.00002))}) == "Cu+2*1 Cu+3*2e-05"
    assert write_shares({}) == ""


def test_another_set_of_states_is_heeded() -> None:
    row = amounts("CdS")
    assert likeliest_balance(row, OxidationSet.SMACT14).certificates == ("Cd+2 S-2",)
    assert (
        likeliest_balance(row, OxidationSet.SMACT14).nats_per_atom[0]
        > likeliest_balance(row).nats_per_atom[0]
    )


def test_many_formulas_are_judged_each_as_alone() -> None:
    rng = np.random.default_rng(0)
    rows = np.zeros((5_000, N_ELEMENTS))  # more than are worked out at once
    for row in rows:
        row[rng.choice(94, 7, replace=False)] = rng.uniform(0.1, 4, 7)
    found = likeliest_balance(rows)
    assert len(found.nats_per_atom) == 5_000
    for at in (0, 4_095, 4_096, 4_999):
        alone = likeliest_balance(rows[at : at + 1])
        assert found.nats_per_atom[at] == pytest.approx(alone.nats_per_atom[0], abs=1e-12)
        assert found.certificates[at] == alone.certificates[0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones((2, 3)), r"shape \(2, 3\); give \(formulas, 118\)"),
        (-np.ones((1, N_ELEMENTS)), "finite and not negative; there is .* in row 0"),
        (np.full((1, N_ELEMENTS), np.nan), "finite and not negative; there is .* in row 0"),
        (np.zeros((1, N_ELEMENTS)), "row 0 of the amounts holds no atoms"),
    ],
)
def test_other_amounts_are_refused(rows: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        likeliest_balance(rows)


def test_no_formulas_have_no_rows() -> None:
    assert likeliest_balance(np.zeros((0, N_ELEMENTS))).certificates == ()


POOL = [
    *("Na", "Ba", "La", "Ce", "Eu", "Ti", "Nb", "Mo", "Fe", "Ni", "Cu", "Tl", "Pb", "Bi", "Sn"),
    *("B", "C", "N", "P", "As", "S", "Se", "Te", "O", "F", "H", "He"),
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
    (kind,) = surroundings(row[None])
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


@pytest.mark.parametrize(
    "formula",
    [
        *("Nb", "MgB2", "Nb3Sn", "LuNi2B2C", "CeCoIn5", "LaPt3Si", "MgCNi3", "CaC6"),
        *("V3Ga", "NbTi", "Ba8Si46", "K3C60", "LaH10", "H3S", "Mo3Sb7", "YNi2B2C"),
        *("LaRu3Si2", "CeCu2Si2", "UPt3", "NbC", "Nb5Ir3O", "LaS", "Mo3P", "ZrRuP"),
    ],
)
def test_metals_need_no_balance(formula: str) -> None:
    assert likeliest_balance(amounts(formula)).metallic[0]


@pytest.mark.parametrize(
    "formula",
    [
        *(
            "BaFe2As2",
            "FeSe",
            "NbSe2",
            "LaFeAsO",
            "YBa2Cu3O7",
            "LaRu4As12",
            "BaPb0.75Bi0.25O3",
            "Li0.16ZrNCl",
        ),
        *("PbMo6S8", "NaF2", "Ba3Cu5O2"),
    ],
)
def test_compounds_of_strong_anions_are_ionic(formula: str) -> None:
    assert not likeliest_balance(amounts(formula)).metallic[0]


def test_a_tie_of_hard_and_soft_anions_is_no_oxide() -> None:
    rows = amounts("LaFeAsO", "La2O2S", "LaOBiS2", "CuCl", "MgB2")
    assert (surroundings(rows) == SURROUNDINGS.index("oxide")).tolist() == [False, True, False, True, False]


def test_much_arsenic_bonds_to_itself() -> None:
    rows = amounts("CaFeAs2", "LaRu4P12", "BaFe2As2", "LaFeAsO", "NbSe2")
    rich = surroundings(rows) == SURROUNDINGS.index("pnictogen_rich")
    assert rich.tolist() == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("formula", "holes"),
    [
        ("La1.85Sr0.15CuO4", 0.15),
        ("Nd1.85Ce0.15CuO4", -0.15),
        ("Sr0.9La0.1CuO2", -0.1),
        ("YBa2Cu3O7", 1 / 3),
        ("YBa2Cu3O6.93", 0.86 / 3),
        ("YBa2Cu4O8", 0.25),
        ("PrBa2Cu3O7", 1 / 3),
        ("Bi2Sr2CaCu2O8.2", 0.2),
        ("Bi1.6Pb0.4Sr2Ca2Cu3O10", 0.4 / 3),
        ("HgBa2CuO4.1", 0.2),
        ("TlBa2CaCu2O7", 0.5),
        ("Ca1.82Na0.18CuO2Cl2", 0.18),
        ("RuSr2Gd1.4Ce0.6Cu2O10", 0.2),
        ("La1.85Sr0.15Cu0.99Zn0.01O4", 0.15 / 0.99),
    ],
)
def test_doped_cuprates(formula: str, holes: float) -> None:
    found = likeliest_balance(amounts(formula))
    assert found.holes_per_cu[0] == pytest.approx(holes)
    assert not found.undoped_parent[0]
    assert f"Cu{2 + holes:+.3f}".rstrip("0") in found.mean_valences[0].split()


@pytest.mark.parametrize(
    "formula",
    [
        *(
            "La2CuO4",
            "Nd2CuO4",
            "YBa2Cu3O6",
            "YBa2Cu3O6.3",
            "HgBa2Ca2Cu3O8",
            "Bi2Sr2CaCu2O8",
            "Tl2Ba2Ca2Cu3O10",
        ),
        *("CaCuO2", "Sr2CuO2Cl2", "Sr2CuO2CO3", "La1.99Sr0.01CuO4", "Sr2CaCu2Bi2O8", "RuSr2GdCu2O8"),
    ],
)
def test_cuprates_that_are_undoped_as_written(formula: str) -> None:
    found = likeliest_balance(amounts(formula))
    assert found.undoped_parent[0]
    assert np.isfinite(found.nats_per_atom[0])


def test_a_mean_of_two_is_no_parent_where_chains_have_their_share() -> None:
    found = likeliest_balance(amounts("YBa2Cu3O6.5", "YBa2Cu3O6.35", "YBa2Cu3O6.4"))
    assert found.holes_per_cu[0] == pytest.approx(0)
    assert found.undoped_parent.tolist() == [False, True, False]  # it superconducts at 53 K, the last at 34 K


def test_hardly_doped_is_below_five_holes_in_a_hundred() -> None:
    rows = amounts("La1.98Ba0.02CuO4", "La1.95Ba0.05CuO4", "La2CuO4", "YBa2Cu3O6.55", "LaFeAsO")
    holes = likeliest_balance(rows).holes_per_cu
    assert hardly_doped(rows, holes).tolist() == [True, False, False, False, False]


def test_what_is_no_cuprate_has_no_holes() -> None:
    formulas = [
        "LaFeAsO",
        "Cu",
        "CuO0.5",
        "Cu2O",
        "La3Ni2O7",
        "NaCo0.98Cu0.02O2",
        "LaCuSO",
        "CuCl2O",
        "LaNi0.9Cu0.1O3",
    ]
    rows = amounts(*formulas)
    assert not cuprates(rows).any()
    found = likeliest_balance(rows)
    assert np.isnan(found.holes_per_cu).all()
    assert not found.undoped_parent.any()


def test_the_tolerance_is_a_fiftieth_of_a_hole() -> None:
    rows = amounts("La1.981Sr0.019CuO4", "La1.98Sr0.02CuO4", "La1.981Ce0.019CuO4")
    assert likeliest_balance(rows).undoped_parent.tolist() == [True, False, True]
