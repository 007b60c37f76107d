from __future__ import annotations

import numpy as np
import pytest
import torch

from kiago_ray.chemistry.balance import likeliest_balance
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.plausibility.features import (
    CHARGE_NAMES,
    COMPANY_NAMES,
    MAKE_UP_WIDTHS,
    MOST_NATS,
    TRACE,
    Charges,
    Company,
    MakeUp,
    PlausibilityFeatures,
    positive_factor,
)
from kiago_ray.plausibility.prospects import Prospects

from .conftest import MakeLiterature, presence

FORMULAS = ("LaFeAsO0.9F0.1", "YBa2Cu3O7", "MgB2", "NaCl")


def rows(*formulas: str) -> torch.Tensor:
    return torch.tensor(parse_fractions(formulas), dtype=torch.float32)


def test_own_says_whose_system_is_known(make_literature: MakeLiterature) -> None:
    features = PlausibilityFeatures(make_literature(["LaFeAsO", "MgB2"]))
    assert features.own(rows("La0.5Fe1.5AsO", "LaFeAsOF", "LaFeAs", "B2Mg")).tolist() == [1, 0, 0, 1]


def test_features_of_systems_come_first_and_heed_no_amounts(prospects: Prospects) -> None:
    features = prospects.plausibility.features
    one, other = features(rows("LaFeAsO0.9F0.1", "La2FeAsO2F"))[0]
    names = len(features.names)
    torch.testing.assert_close(one[:names], other[:names])
    assert (one[names:] != other[names:]).float().mean() > 0.8
    torch.testing.assert_close(
        features.of_systems(rows(*FORMULAS))[0], features(rows(*FORMULAS))[0][:, :names]
    )


def test_many_rows_are_as_one_by_one(prospects: Prospects) -> None:
    features = prospects.plausibility.features
    (many,) = (features(chunk) for chunk in features.chunks(parse_fractions(FORMULAS)))
    single = [torch.cat(each) for each in zip(*(features(rows(f)) for f in FORMULAS), strict=True)]
    torch.testing.assert_close(many, tuple(single), rtol=1e-4, atol=1e-4)


def test_a_trace_is_wholly_present(prospects: Prospects) -> None:
    features = prospects.plausibility.features
    little, more = rows("LaFeAsO"), rows("LaFeAsO")
    zinc = 29
    for row, share in ((little, 1.01 * TRACE), (more, 2 * TRACE)):
        row *= 1 - share
        row[0, zinc] = share
    torch.testing.assert_close(features.of_systems(little)[0], features.of_systems(more)[0])


def test_make_up_leaves_the_own_system_out(make_literature: MakeLiterature) -> None:
    known = make_literature(["LaFeAsO", "LaFeAsF", "MgB2"])
    more = make_literature(["LaFeAsO", "LaFeAsO0.9", "La2FeAs2O3", "LaFeAsF", "MgB2"])
    few, many = MakeUp(known)(rows("LaFeAsO")), MakeUp(more)(rows("LaFeAsO"))
    assert few.shape == (1, len(MAKE_UP_WIDTHS))
    torch.testing.assert_close(few, many)
    assert MakeUp(known)(rows("LaFeAsH"))[0, 0] > MakeUp(known)(rows("NaCl"))[0, 0]


def test_nothing_known_is_far_from_all(make_literature: MakeLiterature) -> None:
    known = make_literature(["LaFeAsO"])
    empty = known.only(known.tc_k < 0)
    assert MakeUp(empty)(rows("MgB2")).tolist() == [[pytest.approx(np.log(1e-3))] * 2]


def test_distances_are_of_a_positive_matrix(make_literature: MakeLiterature) -> None:
    factor = positive_factor(make_literature(["LaO", "YO", "LaF", "YF", "CeO"]).swap_odds)
    np.testing.assert_allclose((factor**2).sum(axis=1), 1)


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


def charges_of(*formulas: str) -> dict[str, list[float]]:
    values = Charges()(torch.tensor(parse_fractions(formulas), dtype=torch.float32)).T.tolist()
    return dict(zip(CHARGE_NAMES, values, strict=True))


def test_nats_are_those_of_the_exact_balance() -> None:
    # The grid of prices gives a little less than the best price would.
    exact = likeliest_balance(parse_fractions(IONIC)).nats_per_atom
    found = np.array(charges_of(*IONIC)["charge_nats"])
    assert (found <= exact + 1e-5).all()
    np.testing.assert_allclose(found, exact, atol=0.02)


def test_what_does_not_balance_costs_most() -> None:
    found = charges_of("Na2Cl", "NaCl")["charge_nats"]
    assert found[0] == pytest.approx(MOST_NATS, rel=0.2)
    assert found[1] < 0.1


def test_metals_are_no_salts() -> None:
    found = charges_of("CeCoIn5", "LaFeAsO")
    assert found["charge_nats_ionic"][0] == 0
    assert found["strong_anions"] == [0, pytest.approx(0.5)]
    assert found["charge_nats_ionic"][1] == found["charge_nats"][1]


def test_the_slope_of_the_charges_is_that_of_finite_differences() -> None:
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
