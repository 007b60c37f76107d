"""Series of compositions tell which element gave way, and how far."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.plausibility.doping import doping_counts, known_vacancies, largest_share, site_odds

from .conftest import MakeLiterature

LA, SR, OX, F, CU = (INDEX[symbol] for symbol in ("La", "Sr", "O", "F", "Cu"))
SERIES = ("La2CuO4", "La1.9Sr0.1CuO4", "La1.85Sr0.15CuO4", "LaFeAsO", "LaFeAsO0.9F0.1")


def test_strontium_gave_way_for_lanthanum_and_fluorine_for_oxygen(make_literature: MakeLiterature) -> None:
    counts = doping_counts(make_literature(SERIES))
    assert counts[LA, SR] == counts[OX, F] == 1
    assert counts.sum() == 2


def test_odds_of_sites_heed_likeness(make_literature: MakeLiterature) -> None:
    odds = site_odds(make_literature(SERIES))
    assert odds[LA, SR] > 0
    assert odds[OX, F] > 0
    assert odds[LA, F] == odds[CU, SR] == 0
    assert not odds.diagonal().any()
    assert 0 <= odds.min() <= odds.max() <= 1


def test_vacancies_are_oxygens_where_three_compositions_show_them(make_literature: MakeLiterature) -> None:
    base = parse_fractions(["YBa2Cu3O7"])[0]
    series = ["YBa2Cu3O7", "YBa2Cu3O6.9", "YBa2Cu3O6.8", "YBa2Cu3O6.7"]
    assert np.flatnonzero(known_vacancies(make_literature(series), base)).tolist() == [OX]
    assert not known_vacancies(make_literature(series[:3]), base).any()
    others = ["YBa2Cu3O7", "YBa1.9Cu3O6.9", "YBa1.8Cu3O6.8", "YBa1.7Cu3O6.7"]  # barium differs as well
    assert not known_vacancies(make_literature(others), base).any()


def test_largest_share_of_a_site(make_literature: MakeLiterature) -> None:
    known = make_literature(SERIES)
    assert largest_share(known, LA, SR) == pytest.approx(0.15 / 2)
    assert largest_share(known, CU, SR) == pytest.approx(0.15 / 1.15)
    assert largest_share(known, SR, F) == 0
