from __future__ import annotations

import numpy as np
import pytest
import torch

from kiago_ray.chemistry.balance import likeliest_balance
from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.plausibility.features import (
    CHARGE_NAMES,
    COMPANY_NAMES,
    LEAST,
    MAKE_UP_WIDTHS,
    MOST_NATS,
    RELATIVE_NAMES,
    TRACE,
    TYPICAL,
    UNKNOWN,
    Agreement,
    Charges,
    Company,
    MakeUp,
    Pairs,
    PlausibilityFeatures,
    Relatives,
    positive_factor,
    typical,
)
from kiago_ray.plausibility.model import Prospects

from .conftest import MakeLiterature, mask, presence

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


NOT_OWN, OWN = torch.zeros(1), torch.ones(1)
SQUARE = ("LaO", "YO", "LaF")


def relatives_of(found: tuple[torch.Tensor, Pairs, Pairs]) -> dict[str, float]:
    return dict(zip(RELATIVE_NAMES, found[0][0].tolist(), strict=True))


def test_the_missing_corner_of_a_square_has_two_relatives_by_a_swap(make_literature: MakeLiterature) -> None:
    known = make_literature(SQUARE)
    found = relatives_of(Relatives(known)(presence("Y F"), NOT_OWN))
    odds = 1 / np.sqrt((2 + 5) * (1 + 5))  # of La and Y beside O, and of O and F beside La
    weight = 0.2 * np.log(2)
    assert found["swap_count"] == pytest.approx(np.log(3))
    assert found["swap_odds"] == pytest.approx(odds)
    assert found["swap_sum"] == pytest.approx(np.log(2 * weight * odds + LEAST))
    assert found["added_count"] == 0
    assert found["swap_beside_most"] == 0  # La and Y were never seen to change beside F
    assert found["swap_hot"] == pytest.approx(np.log(LEAST))


def test_an_element_more_is_one_that_shares_a_site(make_literature: MakeLiterature) -> None:
    found = relatives_of(Relatives(make_literature(SQUARE, tc_k=[5, 30, 5]))(presence("La Y O"), NOT_OWN))
    assert found["added_count"] == pytest.approx(np.log(3))  # Y to La-O, La to O-Y
    assert found["added_odds"] == pytest.approx(1 / np.sqrt((2 + 5) * (1 + 5)))
    assert found["added_hot"] > np.log(LEAST) + 0.1
    assert found["parts"] == pytest.approx(np.log(3))
    assert found["swap_count"] == 0


def test_nothing_known_is_told_as_least(make_literature: MakeLiterature) -> None:
    found = relatives_of(Relatives(make_literature(SQUARE))(presence("Mg B"), NOT_OWN))
    assert found["swap_sum"] == found["added_sum"] == found["larger"] == pytest.approx(np.log(LEAST))
    assert found["swap_most"] == pytest.approx(np.log(LEAST))
    assert found["swap_count"] == found["swap_odds"] == 0


def test_the_own_system_leaves_the_features_as_they_are(prospects: Prospects) -> None:
    known = prospects.literature
    for at in np.random.default_rng(0).integers(len(known.systems), size=3).tolist():
        row = torch.tensor(known.systems[at : at + 1], dtype=torch.float32)
        without = known.only(known.system != at)
        torch.testing.assert_close(Relatives(known)(row, OWN)[0], Relatives(without)(row, NOT_OWN)[0])


def test_linear_in_how_far_an_element_is_present(make_literature: MakeLiterature) -> None:
    relatives = Relatives(make_literature(SQUARE))
    sums = [
        np.exp(relatives_of(relatives(presence("Y F", [1.0, share]), NOT_OWN))["swap_sum"]) - LEAST
        for share in (1.0, 0.75, 0.5)
    ]
    assert sums[0] > sums[1] > sums[2] >= 0
    row = presence("Y F", [1.0, 0.5]).requires_grad_()
    relatives(row, NOT_OWN)[0][0, 0].backward()
    assert row.grad is not None
    assert row.grad[0, INDEX["F"]] > 0


def test_near_keeps_every_relative_by_one_element(prospects: Prospects) -> None:
    features = prospects.plausibility.features
    relatives, near = features.relatives, features.near(mask("La Fe As O F Co Ce")).relatives
    rows = torch.cat([presence("La Fe As O"), presence("La Fe As O F"), presence("Ce Fe Co As O")])
    own = torch.tensor([1.0, 1.0, 0.0])
    same = [at for at, name in enumerate(RELATIVE_NAMES) if name != "larger"]
    torch.testing.assert_close(near(rows, own)[0][:, same], relatives(rows, own)[0][:, same])
    assert len(near.systems) < len(relatives.systems) / 5


# Y stands for La in two systems, so that its odds there are above 0.
KNOWN = ["LaNi2B2C", "YNi2B2C", "LaPt2B2C", "YPt2B2C", "LaRu2B2C", "La3RuB2C"]


def agreement(features: PlausibilityFeatures, *formulas: str) -> list[float]:
    rows = torch.tensor(parse_fractions(formulas), dtype=torch.float32)
    return [float(value) for value in features(rows)[1].exp()]


def test_the_share_of_relatives_that_are_composed_alike(make_literature: MakeLiterature) -> None:
    # YRu2B2C comes from LaRu2B2C and La3RuB2C, one system of two compositions, and from the other two with yttrium,
    # where Ru replaces nothing known. So half of what supports it agrees, less what "unknown" weighs.
    features = PlausibilityFeatures(make_literature(KNOWN))
    alike, other = agreement(features, "YRu2B2C", "Y3RuB2C")
    assert alike > other
    assert 0.5 <= alike < 1
    far = agreement(features, "YRu20B2C")[0]
    assert far < 0.1


def test_without_relatives_it_is_unknown(make_literature: MakeLiterature) -> None:
    features = PlausibilityFeatures(make_literature(KNOWN))
    assert agreement(features, "NaCl") == [pytest.approx(UNKNOWN)]


def test_of_what_is_added_only_the_whole_counts(make_literature: MakeLiterature) -> None:
    # La0.5Y0.5Ni2B2C is LaNi2B2C where yttrium shares lanthanum's site, in whatever amount.
    features = PlausibilityFeatures(make_literature([*KNOWN, "LaCo2B2C"]))
    for formula in ("La0.9Y0.1Co2B2C", "La0.5Y0.5Co2B2C"):
        assert agreement(features, formula)[0] > 0.7
    assert agreement(features, "La0.9Y2Co2B2C")[0] < 0.4


def test_typical_compositions_stand_for_those_near_them() -> None:
    rows = np.array([[0.5, 0.5], [0.52, 0.48], [0.53, 0.47], [0.9, 0.1]])
    found, counts = typical(rows)
    assert counts.tolist() == [3, 1]
    np.testing.assert_array_equal(found, rows[[0, 3]])
    many = np.stack([np.linspace(0, 1, 40), 1 - np.linspace(0, 1, 40)], axis=1)
    assert len(typical(many)[0]) == TYPICAL


def test_neodymium_takes_the_amounts_of_yttrium(prospects: Prospects) -> None:
    features = prospects.plausibility.features
    right, wrong = agreement(features, "NdBa2Cu3O7", "Nd3BaCuO7")
    assert right > 0.5
    assert right > 5 * wrong


def test_the_slope_is_that_of_finite_differences(prospects: Prospects) -> None:
    features = prospects.plausibility.features.double()
    row = torch.tensor(parse_fractions(["Nd1.2Ba1.8Cu2.7O7"]), dtype=torch.float64, requires_grad=True)
    features(row)[1].sum().backward()
    assert row.grad is not None
    for z in (55, 28, 7):
        step = torch.zeros_like(row)
        step[0, z] = 1e-6
        with torch.no_grad():
            slope = (features(row + step)[1] - features(row - step)[1]) / 2e-6
        assert float(row.grad[0, z]) == pytest.approx(float(slope[0]), rel=1e-4, abs=1e-6)
    prospects.plausibility.features.float()


def test_nothing_known_gives_nothing(make_literature: MakeLiterature) -> None:
    known = make_literature(["LaFeAsO"])
    empty = known.only(known.tc_k < 0)
    assert Agreement(empty).shares.shape == (0, TYPICAL)
