from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import FormulaError, fractions, parse, parse_fractions
from kiago_ray.plausibility.literature import site_odds
from kiago_ray.plausibility.prospects import (
    Prospects,
    around,
    informed,
    load_prospects,
    save_plausibility,
)
from kiago_ray.predictors.base import Predictors
from kiago_ray.predictors.weights import PLAUSIBILITY, WeightsError, load_card, load_predictors
from kiago_ray.search import load_preset

from .conftest import MakeLiterature


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
        assert (row > 0).sum() <= 5
        assert (row > 0).tobytes() not in known


def test_what_is_no_formula_is_refused(prospects: Prospects) -> None:
    with pytest.raises(FormulaError):
        prospects.around("LaFeXx")


FORMULAS = ("LaFeAsO0.9F0.1", "LaFeAsO0.9Xe0.1", "Sr2Ca3Fe3Cu3SbSe4O7", "MgB2", "NdFeAsO0.9F0.1")


def test_known_orderings(prospects: Prospects) -> None:
    plausible = np.exp(prospects.log_probabilities(parse_fractions(FORMULAS))[0])
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
    rows = parse_fractions(FORMULAS)
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
    import hashlib

    from safetensors.torch import load, save

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
    rows = torch.tensor(parse_fractions(FORMULAS), dtype=torch.float32)
    assert steered is not None
    torch.testing.assert_close(steered(rows), prospects.plausibility(rows), rtol=0, atol=0)
