""""""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.search.family import Family, Substitutions, family_of
from kiago_ray.search.family_proposals import (
    CYCLE,
    Occupation,
    Sources,
    atoms_of,
    made,
    plus_one,
    proposed,
    swaps,
)
from kiago_ray.search.sections import SourcesSpec
from kiago_ray.search.spec import load_preset


def family(base: str, substitutions: Substitutions, **values: Any) -> Family:
    spec = load_preset("default", {"base": base, **values})
    allowed = ~np.isin(np.arange(N_ELEMENTS), [INDEX[symbol] for symbol in spec.elements.forbid])
    return family_of(spec, allowed, substitutions)


def written(occupations: list[Occupation]) -> list[str]:
    """Such as "Sm FeAs O" with a space between sites."""
    return [
        " ".join(
            "".join(f"{SYMBOLS[z]}{amount:g}" if amount != 1 else SYMBOLS[z] for z, amount in site.items())
            for site in occupation
        )
        for occupation in occupations
    ]


def test_whole_swaps_fall_with_the_odds(substitutions: Substitutions) -> None:
    found = written(swaps(family("LaFeAsO", substitutions), substitutions))
    assert found[:4] == ["Sm Fe As O", "La Co As O", "La Fe P O", "Nd Fe As O"]
    assert len(found) == len(set(found)) == 5 + 3 + 2 + 2


def test_of_a_shared_site_one_element_is_swapped(substitutions: Substitutions) -> None:
    found = written(swaps(family("La1.85Sr0.15CuO4", substitutions), substitutions))
    assert "Sm1.85Sr0.15 Cu O4" in found
    assert not any("La2" in each for each in found)


def test_what_exists_is_one_site_away(substitutions: Substitutions) -> None:
    found = family("LaFeAsO", substitutions)
    assert sorted(written(made(found, substitutions))) == ["Ce Fe As O", "La Fe P O"]
    lists = proposed(found, substitutions)
    assert "La Fe P O" not in written(lists["swap"])
    without = family("LaFeAsO", substitutions, elements={"forbid": ["Ce"]})
    assert written(made(without, substitutions)) == ["La Fe P O"]
    assert written(made(family("LaFeAsO", substitutions, family={"keep": ["As"]}), substitutions)) == [
        "Ce Fe As O"
    ]


def test_one_element_more_takes_a_half_or_a_quarter(substitutions: Substitutions) -> None:
    found = written(plus_one(family("LaFeAsO", substitutions), substitutions))
    assert found[:2] == ["La0.5Sm0.5 Fe As O", "La Fe0.5Co0.5 As O"]
    assert "La0.75Sm0.25 Fe As O" in found
    whole = plus_one(family("BaFe2As2", substitutions, family={"grid": 1}), substitutions)
    assert written(whole)[0] == "Ba FeCo As2"
    assert all(np.array_equal(atoms_of(each), np.rint(atoms_of(each))) for each in whole)


def test_the_most_plausible_comes_first(
    substitutions: Substitutions,
) -> None:
    partly = np.full(substitutions.odds.shape, -np.inf)
    partly[INDEX["O"], INDEX["F"]] = -1.0
    known = replace(substitutions, partly=partly)
    found = written(plus_one(family("LaFeAsO", known), known))
    by_odds = written(plus_one(family("LaFeAsO", substitutions), substitutions))
    assert by_odds.index("La Fe As O0.5F0.5") > 4
    assert found[:2] == ["La Fe As O0.5F0.5", "La Fe As O0.75F0.25"]
    assert found[2:] == [each for each in by_odds if "F0" not in each]


def test_limits_hold_for_proposals_too(substitutions: Substitutions) -> None:
    doped = family("LaFeAsO", substitutions, family={"dope": {"La": ["Sr", "Ca"]}, "range": [0, 0.3]})
    lists = proposed(doped, substitutions)
    assert lists["swap"] == lists["made"] == []
    assert written(lists["plus one"]) == ["La0.75Sr0.25 Fe As O", "La0.75Ca0.25 Fe As O"]
    half = family("LaFeAsO", substitutions, family={"whole_swaps": 0})
    assert proposed(half, substitutions)["swap"] == []
    left = proposed(family("LaFeAsO", substitutions, elements={"forbid": ["As"]}), substitutions)
    assert written(left["swap"]) == ["La Fe Sb O"]  # LaFePO exists
    assert written(left["made"]) == ["La Fe P O"]
    assert left["plus one"] == []


def test_proposals_keep_the_atoms_of_the_base(substitutions: Substitutions) -> None:
    for base, atoms in (("LaFeAsO", 4), ("La1.85Sr0.15CuO4", 7), ("YBa2Cu3O6.93", 12.93)):
        for each in proposed(family(base, substitutions), substitutions).values():
            assert [atoms_of(occupation).sum() for occupation in each] == pytest.approx([atoms] * len(each))


def sources(**shares: float) -> Sources:
    return Sources(SourcesSpec(**{"family": 0, "swap": 0, "made": 0, "plus_one": 0, **shares}))


def test_every_twenty_rows_hold_the_shares() -> None:
    found = Sources(SourcesSpec())
    for start in (0, 20, 1000):
        labels = Counter(found.of(row)[0] for row in range(start, start + CYCLE))
        assert labels == {"family": 6, "swap": 8, "made": 3, "plus one": 3}


@pytest.mark.parametrize("shares", [{"family": 1}, {"swap": 3, "made": 1}, {"family": 1, "plus_one": 1}])
def test_rows_of_a_source_are_counted_without_a_gap(shares: dict[str, float]) -> None:
    found = sources(**shares)
    seen: Counter[str] = Counter()
    for row in range(75):
        label, number = found.of(row)
        assert number == seen[label]
        seen[label] += 1
    total = sum(shares.values())
    for field, share in shares.items():
        assert seen[field.replace("_", " ")] == pytest.approx(75 * share / total, abs=2)


def test_a_source_is_spread_over_the_twenty() -> None:
    places = [row for row in range(CYCLE) if Sources(SourcesSpec()).of(row)[0] == "swap"]
    assert max(b - a for a, b in pairwise(places)) <= 6
