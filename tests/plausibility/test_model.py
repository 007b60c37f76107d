"""Plausibility as a function, as searches have it, and its fit to a literature."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import FormulaError, fractions, parse, parse_fractions
from kiago_ray.plausibility.features import TRACE, PlausibilityFeatures
from kiago_ray.plausibility.literature import Literature, elements_at_hand, site_odds
from kiago_ray.plausibility.model import (
    MOST_DEVIATIONS,
    Logistic,
    Prospects,
    altered,
    amounts_altered,
    around,
    fit_plausibility,
    fitted,
    informed,
    load_prospects,
    proposed,
    read,
    save_plausibility,
    swapped_at_random,
)
from kiago_ray.predictors.base import Predictors, check_contract
from kiago_ray.predictors.weights import PLAUSIBILITY, WeightsError, load_card, load_predictors
from kiago_ray.search import load_preset

from .conftest import MakeLiterature, mask

FORMULAS = ("LaFeAsO0.9F0.1", "La1.85Sr0.15CuO4", "MgB2", "CsV3Sb5")


def test_a_logistic_regression_worked_by_hand() -> None:
    model = Logistic(np.array([1.0, 0.0]), np.array([2.0, 1.0]), np.array([0.5, -1.0]), 0.25)
    features = torch.tensor([[3.0, 2.0], [1.0, 100.0]])
    odds = np.array([0.5 - 2 + 0.25, -MOST_DEVIATIONS + 0.25])
    np.testing.assert_allclose(model.log_probability(features), -np.log1p(np.exp(-odds)), rtol=1e-6)


def test_the_parts_multiply(prospects: Prospects) -> None:
    log_p, log_exists = prospects.plausibility.log_probabilities(parse_fractions(FORMULAS))
    assert (log_p < log_exists).all()
    assert (log_exists < 0).all()
    x = torch.tensor(parse_fractions(FORMULAS), dtype=torch.float32)
    np.testing.assert_allclose(prospects.plausibility(x), log_p, atol=1e-4)


def test_it_is_a_predictor_that_a_search_can_follow(prospects: Prospects) -> None:
    check_contract(prospects.plausibility)


def test_of_nothing_there_is_nothing(prospects: Prospects) -> None:
    assert [each.shape for each in prospects.plausibility.log_probabilities(np.zeros((0, 118)))] == [
        (0,),
        (0,),
    ]


@pytest.mark.parametrize("formula", FORMULAS)
@pytest.mark.parametrize("coming", [None, "Ni"])
def test_the_slope_is_that_of_finite_differences(
    prospects: Prospects, formula: str, coming: str | None
) -> None:
    """Along a direction in which the sum stays 1; also where an element comes in and counts in part. A little beside
    the formula: there is a kink at what is known.
    """
    model = copy.deepcopy(prospects.plausibility).double()
    x = torch.tensor(parse_fractions([formula]), dtype=torch.float64)
    x *= 1 + 0.01 * torch.sin(torch.arange(118, dtype=torch.float64))
    x /= x.sum()
    if coming is not None:
        x *= 1 - 0.4 * TRACE
        x[0, INDEX[coming]] = 0.4 * TRACE
    direction = torch.zeros_like(x)
    held = x[0].nonzero()[:, 0]
    direction[0, held] = torch.linspace(-1, 1, len(held), dtype=torch.float64)
    step = 1e-7
    x.requires_grad_()
    (slope,) = torch.autograd.grad(model(x).sum(), x)
    with torch.no_grad():
        ahead, behind = model(x + step * direction), model(x - step * direction)
    found, expected = float((slope * direction).sum()), float((ahead - behind)[0] / (2 * step))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_near_is_the_same_but_for_what_lies_far_outside(prospects: Prospects) -> None:
    formulas = ("LaFeAsO", "LaFeAsO0.9F0.1", "LaFe0.9Co0.1AsO", "CeFeAsO", "LaFeSbO")
    near = prospects.plausibility.near(mask("La Fe As O F Co Ce Sb P"))
    x = torch.tensor(parse_fractions(formulas), dtype=torch.float32)
    whole, part = prospects.plausibility(x), near(x)
    np.testing.assert_allclose(part, whole, atol=0.05)  # nats
    assert part.argsort().tolist() == whole.argsort().tolist()
    names = ["larger"]
    alike = [at for at, name in enumerate(near.features.names) if name not in names]
    few, all_of_them = near.features(x)[0], prospects.plausibility.features(x)[0]
    torch.testing.assert_close(few[:, alike], all_of_them[:, alike])


def test_a_swap_keeps_the_amounts_and_gives_no_known_system(make_literature: MakeLiterature) -> None:
    known = make_literature(["LaFeAsO"] * 50 + ["MgB2"] * 50)
    sets = known.known
    swapped = swapped_at_random(known.fractions, sets, np.random.default_rng(0))
    assert len(swapped) == 100
    for row, other in zip(known.fractions, swapped, strict=True):
        assert (other > 0).tobytes() not in sets
        np.testing.assert_allclose(np.sort(row), np.sort(other))
        assert 1 <= ((row > 0) & (other == 0)).sum() <= 2
        assert (elements_at_hand() | (other == 0)).all()


def test_of_one_element_one_is_swapped(make_literature: MakeLiterature) -> None:
    row = make_literature(["Nb"]).fractions
    assert (swapped_at_random(row, set(), np.random.default_rng(0), two=1.0) > 0).sum() == 1


def test_altered_amounts_are_of_the_same_elements(make_literature: MakeLiterature) -> None:
    known = make_literature(["YBa2Cu3O7", "MgB2"] * 20)
    altered = amounts_altered(known.fractions, np.random.default_rng(1))
    assert ((altered > 0) == (known.fractions > 0)).all()
    np.testing.assert_allclose(altered.sum(axis=1), 1)
    assert (np.abs(altered - known.fractions).sum(axis=1) > 0.05).mean() > 0.8


@pytest.fixture(scope="module")
def series(make_literature: MakeLiterature) -> Literature:
    """Pnictides of four lanthanides, three metals and two anions, most known before 2003, the others since."""
    formulas = [
        f"{a}{b}{c}O"
        for a, b, c in itertools.product(("La", "Ce", "Pr", "Nd"), ("Fe", "Ni", "Co"), ("As", "P"))
    ]
    years = [1995 + (5 * number) % 15 for number in range(len(formulas))]
    known: Literature = make_literature(formulas, years=years)
    return known


def test_the_same_seed_gives_the_same_fit(series: Literature) -> None:
    rows = parse_fractions(["SmFeAsO", "LaFeAsF", "NaMgB"])
    one, same, other = (fit_plausibility(series, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.log_probabilities(rows), same.log_probabilities(rows))
    assert (one.log_probabilities(rows)[0] != other.log_probabilities(rows)[0]).any()


def test_what_fits_the_series_is_more_plausible_than_what_does_not(series: Literature) -> None:
    held = series.fractions[:, parse_fractions(["CeFePO"])[0] > 0] > 0
    hidden = series.only(np.asarray(~held.all(axis=1)))
    fitted = fit_plausibility(hidden)
    inside, outside = fitted.log_probabilities(parse_fractions(["CeFePO", "CeFeXeO"]))[1]
    assert inside > outside


def test_proposals_are_real_where_they_were_reported_later(series: Literature) -> None:
    then = series.before(2005)
    ((fractions, real, weight),) = proposed(then, series, np.random.default_rng(0))
    new = {row.tobytes() for row in series.systems} - {row.tobytes() for row in then.systems}
    assert {(row > 0).tobytes() for row in fractions[real]} <= new
    assert real.any()
    assert set(weight[real]) == {1.0}
    assert set(weight[~real]) == {1 / 0.4}
    features = PlausibilityFeatures(then)
    ((values, _, _),) = read(features, features.of_systems, [(fractions, real, weight)])
    assert values.shape == (len(real), len(features.names))


def test_altered_compositions_are_not_real(series: Literature) -> None:
    then = series.before(2005)
    found = altered(then, series, np.random.default_rng(0))
    late = int((series.first_year >= 2005).sum())
    assert sum(len(rows) for rows, real, _ in found if real) == late + len(then.systems)
    assert sum(len(rows) for rows, real, _ in found if not real) > late + len(then.systems)


def test_without_anything_new_there_is_nothing_to_learn(make_literature: MakeLiterature) -> None:
    with pytest.raises(ValueError, match="nothing was first reported in the 7 years before 2010"):
        fit_plausibility(make_literature(["LaFeAsO", "MgB2"], years=[1990, 2001]))


def test_examples_are_joined_and_fitted() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    real = x[:, 0] > 0
    logistic = fitted([(x[part], real[part], 1.0) for part in (slice(200), slice(200, None))])
    np.testing.assert_allclose(logistic.mean, x.mean(axis=0))
    assert logistic.weight[0] > 5 * abs(logistic.weight[1])


def test_what_goes_to_a_device_is_a_copy(prospects: Prospects) -> None:
    rows = parse_fractions(FORMULAS)
    before = prospects.plausibility.log_probabilities(rows)
    near = prospects.plausibility.near(mask("La Fe As O F"))
    assert {buffer.device.type for buffer in near.to(torch.device("meta")).buffers()} == {"meta"}
    assert {buffer.device.type for buffer in prospects.plausibility.buffers()} == {"cpu"}
    np.testing.assert_array_equal(prospects.plausibility.log_probabilities(rows), before)


def test_lanthanum_is_replaced_by_lanthanides_and_oxygen_by_fluorine(prospects: Prospects) -> None:
    around = prospects.around("LaFeAsO")
    odds = around.odds
    best = {symbol: np.argsort(-odds[INDEX[symbol]])[:8].tolist() for symbol in ("La", "As", "O")}
    assert {INDEX["Ce"], INDEX["Nd"], INDEX["Sm"]} <= set(best["La"])
    assert INDEX["P"] in best["As"]
    assert INDEX["F"] in best["O"]
    assert odds[INDEX["O"], INDEX["La"]] == 0
    held = [INDEX[symbol] for symbol in parse("LaFeAsO")]
    assert odds[held].max() == pytest.approx(1)


def test_oxygen_is_missing_from_ybco_and_not_from_mgb2(prospects: Prospects) -> None:
    assert prospects.around("YBa2Cu3O7").vacancies.nonzero()[0].tolist() == [INDEX["O"]]
    assert not prospects.around("MgB2").vacancies.any()


def test_compounds_that_exist_near_the_base_and_were_never_tested(prospects: Prospects) -> None:
    base = fractions(parse("LaFeAsO"))
    made = prospects.around("LaFeAsO").made
    known = {row.tobytes() for row in prospects.literature.systems}
    assert len(made) > 0
    for row in made:
        assert ((row > 0) & (base > 0)).sum() >= 3
        assert (row > 0.005).sum() <= 5  # a trace makes no other composition (data.compositions.TRACE)
        assert (row > 0).tobytes() not in known


def test_what_is_no_formula_is_refused(prospects: Prospects) -> None:
    with pytest.raises(FormulaError):
        prospects.around("LaFeXx")


OTHERS = ("LaFeAsO0.9F0.1", "LaFeAsO0.9Xe0.1", "Sr2Ca3Fe3Cu3SbSe4O7", "MgB2", "NdFeAsO0.9F0.1")


def test_known_orderings(prospects: Prospects) -> None:
    plausible = np.exp(prospects.log_probabilities(parse_fractions(OTHERS))[0])
    fluorine, xenon, hotchpotch, _, neodymium = plausible
    assert fluorine > 100 * xenon
    assert neodymium > xenon
    assert hotchpotch < 1e-5
    assert (plausible < 1).all()


def test_what_exists_is_no_guess_but_its_plausibility_is(prospects: Prospects) -> None:
    rows = parse_fractions(["PrFeAsO", "LaFeAsO", "LaFeAsO0.9Xe0.1"])  # the first two stand in the COD
    looked_up, guessed = prospects.log_probabilities(rows), prospects.plausibility.log_probabilities(rows)
    np.testing.assert_array_equal(looked_up[0], guessed[0])
    assert looked_up[1].tolist() == [0, 0, guessed[1][2]]
    assert (guessed[1] < 0).all()


def test_the_card_counts_what_ships(prospects: Prospects) -> None:
    card = load_card(PLAUSIBILITY)
    assert card["compositions"] == len(prospects.literature.fractions)
    assert card["systems"] == len(prospects.literature.systems)
    assert card["year"] == prospects.literature.year


def test_a_fit_to_what_ships_is_kept_without_it(prospects: Prospects, tmp_path: Path) -> None:
    save_plausibility(prospects, {"kind": PLAUSIBILITY}, tmp_path)
    again = load_prospects(tmp_path)
    rows = parse_fractions(OTHERS)
    np.testing.assert_array_equal(again.log_probabilities(rows), prospects.log_probabilities(rows))
    np.testing.assert_array_equal(again.odds, prospects.odds)
    assert load_card(PLAUSIBILITY, tmp_path)["sha256"] == load_card(PLAUSIBILITY)["sha256"]


def test_a_literature_of_ones_own_goes_along(
    prospects: Prospects, make_literature: MakeLiterature, tmp_path: Path
) -> None:
    known = make_literature(["LaFeAsO", "CeFeAsO", "MgB2"], tc_k=[5, 6, 39], years=[2008, np.nan, 2001])
    own = type(prospects.plausibility)(
        type(prospects.plausibility.features)(known),
        prospects.plausibility.exists,
        prospects.plausibility.reported,
    )
    fitted = Prospects(known, own, site_odds(known), prospects.made)
    save_plausibility(fitted, {}, tmp_path, with_literature=True)
    again = load_prospects(tmp_path)
    for each in fields(known):
        np.testing.assert_array_equal(getattr(again.literature, each.name), getattr(known, each.name))
    rows = parse_fractions(["NdFeAsO", "LaFeAsO"])
    np.testing.assert_array_equal(again.plausibility.log_probabilities(rows), own.log_probabilities(rows))


def test_damaged_weights_are_refused(prospects: Prospects, tmp_path: Path) -> None:
    path = save_plausibility(prospects, {}, tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WeightsError, match=r"plausibility\.safetensors has SHA-256"):
        load_prospects(tmp_path)
    path.unlink()
    with pytest.raises(WeightsError, match="no weights at"):
        load_prospects(tmp_path)


def test_weights_of_another_version_are_refused(prospects: Prospects, tmp_path: Path) -> None:
    path = save_plausibility(prospects, {}, tmp_path)
    tensors = load(path.read_bytes())
    tensors["reported.weight"] = tensors["reported.weight"][1:].clone()
    path.write_bytes(save(tensors))
    card = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (tmp_path / "plausibility.json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match="features of systems, this version has"):
        load_prospects(tmp_path)


def test_a_base_that_nobody_reported_counts_as_known(prospects: Prospects) -> None:
    base, rows = "HoFeBiO", parse_fractions(["HoFeBiO0.9F0.1", "ErFeBiO", "MgB2"])
    knowing = prospects.knowing(base)
    assert prospects.knowing("MgB2") is prospects.knowing(None) is prospects
    assert len(knowing.literature.systems) == len(prospects.literature.systems) + 1
    without, with_it = prospects.log_probabilities(rows)[0], knowing.log_probabilities(rows)[0]
    assert (with_it[:2] > without[:2]).all()
    assert with_it[2] == pytest.approx(without[2], abs=0.01)


@pytest.fixture(scope="module")
def predictors() -> Predictors:
    return load_predictors()


def test_only_a_family_search_is_told_of_substitutions(prospects: Prospects) -> None:
    family, other = (load_preset(name, {"base": "MgB2"}) for name in ("default", "open"))
    assert around(family, prospects) is not None
    assert around(family, None) is None
    assert around(other, prospects) is None


def test_a_loss_without_plausibility_leaves_the_predictors(
    prospects: Prospects, predictors: Predictors
) -> None:
    spec = load_preset("open", {"base": "MgB2"})
    assert informed(spec, predictors, prospects, None) is predictors
    family = load_preset("default", {"base": "MgB2"})
    assert informed(family, predictors, None, None) is predictors


def test_a_family_steers_by_the_elements_that_it_reaches(
    prospects: Prospects, predictors: Predictors
) -> None:
    spec = load_preset("default", {"base": "MgB2"})
    steered = informed(spec, predictors, prospects, around(spec, prospects))
    assert steered.plausibility is not None
    assert steered.tc is predictors.tc
    features = steered.plausibility.features  # type: ignore[attr-defined]
    assert len(features.relatives.systems) < len(prospects.plausibility.features.relatives.systems)


def test_an_open_search_steers_by_all_of_it(prospects: Prospects, predictors: Predictors) -> None:
    spec = load_preset("open", {"base": "MgB2", "plausibility_weight": 2.0})
    steered = informed(spec, predictors, prospects, None).plausibility
    rows = torch.tensor(parse_fractions(OTHERS), dtype=torch.float32)
    assert steered is not None
    torch.testing.assert_close(steered(rows), prospects.plausibility(rows), rtol=0, atol=0)
