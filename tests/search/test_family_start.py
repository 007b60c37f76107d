from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.search.family import VACANCY, Substitutions
from kiago_ray.search.family_proposals import Sources
from kiago_ray.search.family_rows import FamilyStarts, Slots, family_starts
from kiago_ray.search.presets import load_preset
from kiago_ray.search.problem import FamilyProblem, resolve
from kiago_ray.search.sections import SourcesSpec

ALONE = {"sources": {"family": 1, "swap": 0, "made": 0, "plus_one": 0}}


def family_problem(base: str, substitutions: Substitutions, **values: Any) -> FamilyProblem:
    spec = load_preset("default", {"base": base, **values})
    found = resolve(spec, np.ones(N_ELEMENTS, dtype=np.bool_), substitutions).family
    assert found is not None
    return found


def starts_of(
    base: str, substitutions: Substitutions, rows: range, shares: SourcesSpec, seed: int = 0, **values: Any
) -> FamilyStarts:
    found = family_problem(base, substitutions, **values)
    return family_starts(found.family, found.lists, Sources(shares), seed, base, rows)


DRAWN = SourcesSpec(family=1, swap=0, made=0, plus_one=0)


def test_a_start_holds_one_or_two_substitutes(substitutions: Substitutions) -> None:
    found = starts_of("LaFeAsO", substitutions, range(2000), DRAWN)
    assert found.moves.all()
    assert set(found.source) == {"family"}
    assert found.share.sum(axis=2) == pytest.approx(np.ones((2000, 4)))
    foreign = found.share[..., 1:]
    number = (foreign > 0).sum(axis=(1, 2))
    assert set(number.tolist()) == {1, 2}
    assert np.mean(number == 2) == pytest.approx(0.5, abs=0.1)  # the same may be drawn twice
    one = number == 1
    by_site = (foreign[one] > 0).any(axis=2).mean(axis=0)
    assert by_site == pytest.approx([0.25] * 4, abs=0.08)  # sites are about equally likely
    shares = foreign[one].sum(axis=(1, 2))
    assert np.mean(shares == 1) == pytest.approx(0.3, abs=0.07)
    assert shares.min() >= 0.05


def test_likelier_substitutes_are_drawn_more_often(substitutions: Substitutions) -> None:
    found = starts_of("LaFeAsO", substitutions, range(2000), DRAWN)
    iron = found.share[:, 1, 1:] > 0
    counts = iron.sum(axis=0)[:3]  # Co 0.5, Ni 0.35, Mn 0.2
    assert counts[0] > counts[1] > counts[2] > 0


def test_starts_obey_the_range_and_what_may_stay_empty(substitutions: Substitutions) -> None:
    for base in ("LaFeAsO", "YBa2Cu3O6.93"):
        found = starts_of(base, substitutions, range(300), DRAWN, family={"range": [0.1, 0.3]})
        vacancy = (found.element == VACANCY) & found.exists
        assert (found.share[vacancy] <= 0.3 + 1e-9).all()
        if base == "LaFeAsO":
            left = found.share[..., 1:].max(axis=2)
            assert (left[left > 0] >= 0.1 * 0.7 - 1e-9).all()  # a second one takes of all that is there
            assert left.max() <= 0.3 + 1e-9


def test_a_row_draws_from_its_seed_base_and_number_alone(substitutions: Substitutions) -> None:
    shares = SourcesSpec()
    whole = starts_of("LaFeAsO", substitutions, range(60), shares)
    part = starts_of("LaFeAsO", substitutions, range(37, 45), shares)
    for name in ("element", "share", "exists", "atoms", "moves", "source"):
        assert np.array_equal(getattr(part, name), getattr(whole, name)[37:45]), name
    other = starts_of("LaFeAsO", substitutions, range(60), shares, seed=1)
    assert not np.array_equal(other.share[whole.moves], whole.share[whole.moves])
    assert np.array_equal(other.share[~whole.moves], whole.share[~whole.moves])


def test_rows_hold_their_source_s_proposals_until_the_list_ends(substitutions: Substitutions) -> None:
    found = family_problem("LaFeAsO", substitutions)
    rows = starts_of("LaFeAsO", substitutions, range(400), SourcesSpec())
    labels = Counter(rows.source.tolist())
    assert labels["made"] == len(found.lists["made"]) == 2
    assert labels["swap"] == len(found.lists["swap"])
    assert labels["family"] > 280
    assert np.array_equal(rows.moves, rows.source == "family")
    assert rows.atoms[~rows.moves].sum(axis=2) == pytest.approx(np.ones((int((~rows.moves).sum()), 4)))


def test_slots_have_room_for_every_site_s_substitutes(substitutions: Substitutions) -> None:
    slots = Slots.of(family_problem("La1.85Sr0.15CuO4", substitutions).family)
    assert (slots.width, slots.free, slots.number) == (2, 4, 6)  # La, Sr; Sm, Nd, Ba, Th
