"""A specification as arrays; a base's sites, what may come in on them, and the proposals that no gradient makes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from kiago_ray.chemistry.elements import ELEMNET_INDEX, INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import parse
from kiago_ray.search.problem import (
    CYCLE,
    VACANCY,
    Family,
    Occupation,
    Problem,
    Substitutions,
    atoms_of,
    family_of,
    made,
    plus_one,
    proposed,
    resolve,
    sites_of,
    sources_of,
    swaps,
)
from kiago_ray.search.sections import SourcesSpec, SpecError
from kiago_ray.search.spec import load_preset

SUPPORTED = np.isin(np.arange(N_ELEMENTS), ELEMNET_INDEX)


def problem(**values: Any) -> Problem:
    return resolve(load_preset("open", {"base": "LaFeAsO", **values}), SUPPORTED)


def allowed(found: Problem) -> set[str]:
    return {SYMBOLS[z] for z in np.flatnonzero(found.allowed)}


def test_without_constraints_everything_supported_is_allowed() -> None:
    found = problem()
    assert np.array_equal(found.allowed, SUPPORTED)
    assert not found.const.any()
    assert (found.limit, found.totals, found.atoms) == (7, tuple(range(1, 26)), 4)


def test_allow_and_forbid() -> None:
    assert allowed(problem(elements={"allow": ["La", "O", "Po"]})) == {"La", "O"}
    assert allowed(problem(elements={"allow": ["La", "O"], "forbid": ["O"]})) == {"La"}


def test_an_exactly_fixed_element_is_not_optimised_but_a_floor_is() -> None:
    exact = problem(fixed={"O": 0.25})
    assert not exact.allowed[INDEX["O"]]
    assert exact.const[INDEX["O"]] == 0.25
    assert exact.limit == 6
    assert exact.totals == tuple(range(4, 26, 4))
    floor = problem(fixed={"O": 0.25}, fixed_may_grow=True, limit_counts_fixed=False)
    assert floor.allowed[INDEX["O"]]
    assert floor.limit == 7
    assert floor.totals == tuple(range(1, 26))


def test_an_oxidation_state_is_a_mask() -> None:
    three = allowed(problem(oxidation_state=3, oxidation_set="smact14"))
    assert {"La", "Ga", "Al", "Y"} <= three
    assert not {"O", "Ba", "Na"} & three


def test_substitution_fixes_the_rest_of_the_base() -> None:
    spec = load_preset("substitution", {"base": "CeFeAsF0.2O0.8", "substitute": {"Ce": 4}})
    found = resolve(spec, SUPPORTED)
    assert found.const[INDEX["Ce"]] == 0
    assert found.const[[INDEX[s] for s in ("Fe", "As", "F", "O")]] == pytest.approx([0.25, 0.25, 0.05, 0.2])
    assert {"Ce", "Zr", "Hf", "Th"} <= allowed(found)
    assert not {"Fe", "As", "F", "O", "La"} & allowed(found)
    assert found.atoms == pytest.approx(4)


def test_several_sites_give_way_to_atoms_of_the_same_charge() -> None:
    sites = {"Ti": 4, "O": {"state": -2, "atoms": 1}}  # the paper's example: 2 Ti4+ and 1 O2- carry +6
    spec = load_preset("substitution", {"base": "Ti2O4", "substitute": sites, "substitute_by": 3})
    found = resolve(spec, SUPPORTED)
    assert found.atoms == 5  # X2O3
    assert found.const[INDEX["O"]] == pytest.approx(3 / 5)
    assert found.const.sum() == pytest.approx(3 / 5)
    assert {"La", "Al"} <= allowed(found)
    assert "O" not in allowed(found)
    both = {"base": "Bi2CaSr2Cu2O8", "substitute": {"Ca": 2, "Sr": 2}}
    assert resolve(load_preset("substitution", both), SUPPORTED).const.sum() == pytest.approx(12 / 15)


def test_what_is_preserved_may_take_part_of_the_site_where_asked_for() -> None:
    values = {"base": "RuSr2GdCu2O8", "substitute": {"Sr": 2}}
    assert "Cu" not in allowed(resolve(load_preset("substitution", values), SUPPORTED))
    grown = resolve(load_preset("substitution", {**values, "fixed_may_grow": True}), SUPPORTED)
    assert "Cu" in allowed(grown)
    assert grown.const[INDEX["Cu"]] == pytest.approx(2 / 14)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base": None}, "base: this search starts from a base material; give a formula such as 'LaNiAsO'"),
        ({"fixed": {"Po": 0.5}}, "fixed: the predictors don't know Po; fix elements that they support"),
        (
            {"elements": {"allow": ["Po", "He"]}},
            "elements: the mask leaves no element to optimise; allow more",
        ),
        (
            {"oxidation_state": -4, "elements": {"allow": ["La"]}},
            "elements: the mask leaves no element to optimise (with oxidation state -4 in icsd24)",
        ),
        (
            {"oxidation_state": 9},
            "oxidation_state: no element has the state +9 in icsd24; its states are -5 to +8",
        ),
        ({"fixed": {"La": 0.5}, "elements": {"allow": ["La"]}}, "elements: the mask leaves no element"),
        (
            {"substitute": {"La": 3}, "max_elements": 3},
            "max_elements: 3 is used up by 3 fixed element(s); allow at least 4",
        ),
        ({"fixed": {"H": 0.4}, "max_elements": 1}, "max_elements: 1 is used up by 1 fixed element(s)"),
        (
            {"base": "LaFeAsO0.913", "substitute": {"La": 3}},
            "n_unit: no number of atoms from 1 to 25 makes the fixed amounts (O 0.233325, Fe 0.255558, As 0.255558)",
        ),
        (
            {"fixed": {"H": 0.37}},
            "n_unit: no number of atoms from 1 to 25 makes the fixed amounts (H 0.37) whole atoms; N = 100 would",
        ),
    ],
)
def test_what_the_predictors_cant_do_is_refused_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        problem(**values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


EVERYTHING = np.ones(N_ELEMENTS, dtype=np.bool_)


def described(formula: str, substitutions: Substitutions) -> list[str]:
    """Each site as its own elements and its amount, such as "La,Sr:2"."""
    sites = sites_of(parse(formula), substitutions)
    return [f"{','.join(SYMBOLS[z] for z in site.own)}:{site.total:g}" for site in sites]


def family(base: str, substitutions: Substitutions, **values: Any) -> Family:
    spec = load_preset("default", {"base": base, **values})
    allowed = EVERYTHING.copy()
    allowed[[INDEX[symbol] for symbol in spec.elements.forbid]] = False
    return family_of(spec, allowed, substitutions)


def may_come_in(found: Family) -> list[set[str]]:
    names = (*SYMBOLS, "vacancy")
    return [{names[z] for z in site.substitutes} for site in found.sites]


@pytest.mark.parametrize(
    ("formula", "sites"),
    [
        ("LaFeAsO", "La:1 Fe:1 As:1 O:1"),
        ("La1.85Sr0.15CuO4", "La,Sr:2 Cu:1 O:4"),
        ("LaFeAsO0.9F0.1", "La:1 Fe:1 As:1 O,F:1"),
        ("Ba0.6K0.4Fe2As2", "Ba,K:1 Fe:2 As:2"),
        ("SrFe1.88Ni0.12As2", "Sr:1 Fe,Ni:2 As:2"),
        ("Ba0.6K0.4Fe1.8Co0.2As2", "Ba,K:1 Fe,Co:2 As:2"),
        ("Sm0.8La0.2FeAsO", "Sm,La:1 Fe:1 As:1 O:1"),
        ("FeSe0.5Te0.5", "Fe:1 Se,Te:1"),
        ("Nb0.75Zr0.25", "Nb,Zr:1"),
        ("La1.85Sr0.1CuO4", "La,Sr:1.95 Cu:1 O:4"),  # nearer to a whole number than either alone
        ("YBa2Cu3O6.93", "Y:1 Ba:2 Cu:3 O:7"),
        ("La2CuO4.09", "La:2 Cu:1 O:4.09"),  # oxygen in excess, not 0.91 vacancies
        ("K0.8Fe1.6Se2", "K:0.8 Fe:1.6 Se:2"),  # known neither to share nor to stay empty
        ("La2SrCu2O6", "La:2 Sr:1 Cu:2 O:6"),  # whole amounts never share
    ],
)
def test_the_sites_of_a_base(formula: str, sites: str, substitutions: Substitutions) -> None:
    assert described(formula, substitutions) == sites.split()


def test_vacancies_are_what_a_site_lacks(substitutions: Substitutions) -> None:
    oxygen = sites_of(parse("YBa2Cu3O6.93"), substitutions)[3]
    assert oxygen.vacant == pytest.approx(0.07)
    assert oxygen.most_vacant == pytest.approx(1 / 7)
    unknown = Substitutions(substitutions.odds, np.zeros(N_ELEMENTS, dtype=np.bool_))
    assert sites_of(parse("YBa2Cu3O6.93"), unknown)[3].total == 6.93


def test_the_likeliest_substitutes_may_come_in(substitutions: Substitutions) -> None:
    found = family("LaFeAsO", substitutions)
    assert may_come_in(found) == [
        {"Sm", "Nd", "Sr", "Ba", "Th"},
        {"Ni", "Co", "Mn"},
        {"P", "Sb"},
        {"F", "S", "vacancy"},
    ]
    two = family("LaFeAsO", substitutions, family={"substitutes": 2}, elements={"forbid": ["Sm"]})
    assert may_come_in(two) == [{"Nd", "Sr"}, {"Co", "Ni"}, {"P", "Sb"}, {"F", "S", "vacancy"}]
    assert [site.odds for site in two.sites][:2] == [(0.45, 0.4), (0.5, 0.35)]


def test_kept_sites_stay_and_dopants_are_the_only_ones(substitutions: Substitutions) -> None:
    kept = family("LaFeAsO", substitutions, family={"keep": ["Fe", "As"]})
    assert [site.held for site in kept.sites] == [False, True, True, False]
    assert may_come_in(kept)[1:3] == [set(), set()]
    doped = family("LaFeAsO", substitutions, family={"dope": {"La": ["Sr", "Ca"]}, "range": [0, 0.3]})
    assert may_come_in(doped) == [{"Sr", "Ca"}, set(), set(), set()]
    assert (doped.sites[0].low, doped.sites[0].high) == (0, 0.3)
    assert [site.held for site in doped.sites] == [False, True, True, True]


def test_what_a_site_is_doped_with_counts_as_foreign_on_it(substitutions: Substitutions) -> None:
    found = family("La1.85Sr0.15CuO4", substitutions, family={"dope": {"La": ["Sr"]}})
    lanthanum = found.sites[0]
    assert [SYMBOLS[z] for z in lanthanum.own] == ["La"]
    assert lanthanum.amounts == pytest.approx((2,))
    assert lanthanum.substitutes == (INDEX["Sr"],)


def test_a_forbidden_element_of_the_base_leaves_its_site(substitutions: Substitutions) -> None:
    found = family("LaFeAsO", substitutions, elements={"forbid": ["As"]})
    arsenic = found.sites[2]
    assert (arsenic.leaves, arsenic.low, arsenic.high) == (True, 1, 1)
    assert VACANCY not in arsenic.substitutes
    shared = family("La1.85Sr0.15CuO4", substitutions, elements={"forbid": ["Sr"]})
    assert shared.sites[0].own == (INDEX["La"],)
    assert shared.sites[0].amounts == pytest.approx((2,))


@pytest.mark.parametrize(
    ("base", "values", "message"),
    [
        (
            "LaFeAsO",
            {"elements": {"forbid": ["As", "Fe"]}},
            "elements.forbid: Fe, As of LaFeAsO would have to go",
        ),
        (
            "LaFeAsO",
            {"elements": {"forbid": ["As"]}, "family": {"keep": ["As"]}},
            "elements.forbid: As is on a site of LaFeAsO that is to stay; remove one of the two",
        ),
        (
            "LaFeAsO",
            {"elements": {"forbid": ["As"]}, "family": {"range": [0, 0.5]}},
            "elements.forbid: nothing may take the whole place of As in LaFeAsO",
        ),
        (
            "La1.85Sr0.15CuO4",
            {"family": {"keep": ["La"], "dope": {"Sr": ["Ba"]}}},
            "family.dope: Sr shares its site with La, which is to be kept; remove one of the two",
        ),
        (
            "LaFeAsO",
            {"elements": {"forbid": ["Sr"]}, "family": {"dope": {"La": ["Sr"]}}},
            "family.dope: nothing named for La may come in; name elements that are allowed",
        ),
        ("Hg", {}, "family: nothing is known to take the place of an element of Hg under these constraints"),
    ],
)
def test_a_family_that_cannot_be_is_refused_in_one_line(
    base: str, values: dict[str, Any], message: str, substitutions: Substitutions
) -> None:
    with pytest.raises(SpecError) as caught:
        family(base, substitutions, **values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


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


def sources(rows: range, **shares: float) -> list[tuple[str, int]]:
    given = {"family": 0, "swap": 0, "made": 0, "plus_one": 0, **shares} if shares else {}
    return sources_of(SourcesSpec(**given), rows)


def test_every_twenty_rows_hold_the_shares() -> None:
    for start in (0, 20, 1000):
        labels = Counter(label for label, _ in sources(range(start, start + CYCLE)))
        assert labels == {"family": 6, "swap": 8, "made": 3, "plus one": 3}


@pytest.mark.parametrize("shares", [{"family": 1}, {"swap": 3, "made": 1}, {"family": 1, "plus_one": 1}])
def test_rows_of_a_source_are_counted_without_a_gap(shares: dict[str, float]) -> None:
    seen: Counter[str] = Counter()
    for label, number in sources(range(75), **shares):
        assert number == seen[label]
        seen[label] += 1
    total = sum(shares.values())
    for field, share in shares.items():
        assert seen[field.replace("_", " ")] == pytest.approx(75 * share / total, abs=2)


def test_a_source_is_spread_over_the_twenty() -> None:
    places = [row for row, (label, _) in enumerate(sources(range(CYCLE))) if label == "swap"]
    assert max(b - a for a, b in pairwise(places)) <= 6
