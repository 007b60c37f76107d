from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.plausibility.model import load_prospects
from kiago_ray.runs.plan import Check, Plan, make_plan
from kiago_ray.runs.spec import CampaignSpec
from kiago_ray.search.problem import Substitutions
from kiago_ray.search.sections import SpecError, validated

from ..conftest import models_of

EVERY = np.ones(N_ELEMENTS, dtype=np.bool_)
FAMILIES = ("La1.85Sr0.15CuO4", "MgB2", "AmO", "NbSe2", "FeSe")


@cache
def anywhere() -> Substitutions:
    return load_prospects().anywhere


def check(supported: NDArray[np.bool_] = EVERY) -> Check:
    """What `Models.check` does, with predictors that know these elements."""
    return partial(models_of(supported).check, substitutions=anywhere())


def plan(*, search: Mapping[str, Any] | None = None, **values: Any) -> Plan:
    searched = {"preset": "open", **(search or {})}
    return make_plan(
        validated(CampaignSpec, {"name": "x", "bases": ["LaNiAsO"], "search": searched, **values}), check()
    )


def around_literature(
    *, families: Sequence[str] = FAMILIES, supported: NDArray[np.bool_] = EVERY, **values: Any
) -> Plan:
    campaign = validated(
        CampaignSpec, {"name": "x", "bases": "literature", "candidates": 24, "shard_size": 48, **values}
    )
    return make_plan(campaign, check(supported), families)


def test_every_base_variant_and_seed_is_a_search() -> None:
    made = plan(bases=["LaNiAsO", "MgB2"], grid={"alpha": [4, 20], "max_elements": [5, 6, 7]}, seeds=[0, 7])
    assert len(made.searches) == 2 * 6 * 2
    assert len({search.name for search in made.searches}) == 24
    assert made.searches[0].name == "LaNiAsO-alpha=4_max_elements=5-s0"
    last = made.searches[-1]
    assert (last.base, last.seed, last.spec.alpha, last.spec.max_elements) == ("MgB2", 7, 20.0, 7)
    assert all(search.spec.base == search.base for search in made.searches)


def test_variants_go_over_the_shared_search_section_by_section() -> None:
    made = plan(
        search={"preset": "paper", "start": {"add_number": 1}, "alpha": 5},
        variants={"a": {"start.substitute_probability": 0.5}, "b": {"preset": "default", "alpha": 6}},
    )
    a, b = (search.spec for search in made.searches)
    assert (a.start.add_number, a.start.substitute_probability, a.alpha, a.revive) == (1, 0.5, 5.0, "none")
    assert (b.start.add_number, b.alpha, b.revive) == (1, 6.0, "allowed")


@settings(deadline=None)
@given(candidates=st.integers(1, 5000), size=st.integers(1, 700))
def test_shards_hold_every_row_once_in_order(candidates: int, size: int) -> None:
    (search,) = plan(candidates=candidates, shard_size=size).searches
    rows = [row for shard in search.shards for row in shard.rows]
    assert rows == list(range(candidates))
    assert search.shard_count == len(search.shards)
    assert all(shard.rows.start == shard.number * search.shard_rows for shard in search.shards)
    assert all(len(shard.rows) <= size for shard in search.shards) or search.shard_rows <= size + 7


def test_names_can_name_files_and_never_meet() -> None:
    made = plan(
        bases=["Ba(FeAs)2", "Ba[FeP]2"],
        grid={"start.kind": ["perturb", "random"], "steps": [[1, 1], [2, 2]]},
    )
    names = [search.name for search in made.searches]
    assert len(set(names)) == 8
    assert all(len(name) <= 62 for name in names)
    assert all(re.fullmatch(r"[A-Za-z0-9._+=-]+", name) for name in names)


def test_long_names_are_cut_and_stay_apart() -> None:
    made = plan(grid={"elements.allow": [["La", "Ni", "As", "O", *["Fe"] * n] for n in range(20, 23)]})
    names = [search.name for search in made.searches]
    assert len(set(names)) == 3
    assert all(len(name) <= 62 and name.endswith("-s0") for name in names)


def test_what_cant_run_is_refused_whole_each_with_its_reason() -> None:
    with pytest.raises(SpecError) as caught:
        plan(
            bases=["LaNiAsO"],
            variants={
                "fine": {},
                "state": {"oxidation_state": 9},
                "mask": {"fixed": {"O": 0.5}, "elements": {"forbid": ["O"]}},
                "small": {"n_unit": {"min": 1, "max": 3}},
                "atoms": {"fixed": {"O": 0.3333}, "n_unit": {"min": 1, "max": 12}},
                "key": {"alfa": 3},
                "none": {"elements": {"allow": ["O"]}, "fixed": {"O": 0.5}},
            },
        )
    begun, *reasons = re.split(r"LaNiAsO-(\w+)-s0: ", str(caught.value))
    assert begun == "6 of 7 searches can't run: "
    assert reasons[::2] == ["state", "mask", "small", "atoms", "key", "none"]
    for reason, why in zip(
        reasons[1::2],
        (
            "no element has the state +9 in icsd24; its states are -5 to +8",
            "O is both fixed and forbidden",
            "formulas of up to 3 atoms can't hold 7 elements",
            "no number of atoms from 1 to 12",
            "did you mean 'alpha'",
            "leaves no element",
        ),
        strict=True,
    ):
        assert why in reason


def test_equal_searches_whose_fields_are_written_differently_are_refused() -> None:
    with pytest.raises(
        SpecError, match="LaNiAsO-b-s0 is the same search as LaNiAsO-a-s0, all its fields are equal"
    ):
        plan(bases=["LaNiAsO"], variants={"a": {"learning_rate": 0.1}, "b": {"learning_rate": [0.1, 0.1]}})


def test_a_base_of_elements_that_the_predictors_dont_know_is_refused() -> None:
    supported = EVERY.copy()
    supported[INDEX["Ni"]] = False
    with pytest.raises(SpecError, match="base: the predictors don't know Ni"):
        make_plan(validated(CampaignSpec, {"name": "x", "bases": ["LaNiAsO"]}), check(supported))


def test_a_family_search_is_checked_as_any_other() -> None:
    campaign = validated(
        CampaignSpec, {"name": "x", "bases": ["LaFeAsO"], "search": {"family.keep": ["La", "Fe", "As", "O"]}}
    )
    with pytest.raises(SpecError, match="LaFeAsO-s0: family: nothing is known to take the place"):
        make_plan(campaign, check())
    with pytest.raises(SpecError, match="has to be given which elements replace one another"):
        make_plan(campaign, models_of(EVERY).check)


def test_the_literature_is_one_search_around_all_families_that_can_be_searched() -> None:
    supported = EVERY.copy()
    supported[INDEX["Am"]] = False
    made = around_literature(supported=supported, seeds=[0, 1])
    assert [search.name for search in made.searches] == ["literature-s0", "literature-s1"]
    assert made.families == ("La1.85Sr0.15CuO4", "MgB2", "NbSe2", "FeSe")
    assert made.left_out == (("AmO", "base: the predictors don't know Am; choose another base"),)
    assert made.candidates == 2 * 4 * 24
    first = made.searches[0]
    assert [(shard.rows.start, shard.rows.stop) for shard in first.shards] == [(0, 48), (48, 96)]
    parts = [(at, spec.base, spec.row_count) for shard in first.shards for at, spec in first.parts(shard)]
    assert parts == [(0, "La1.85Sr0.15CuO4", 24), (24, "MgB2", 24), (48, "NbSe2", 24), (72, "FeSe", 24)]


def test_a_recorded_literature_is_planned_again_without_models() -> None:
    made = around_literature()
    again = make_plan(made.campaign, None, families=made.families)
    assert again.searches == made.searches


def test_a_literature_whose_families_dont_fit_a_shard_or_cant_be_searched_is_refused() -> None:
    with pytest.raises(SpecError, match="shard_size: 16 rows hold no family's 24"):
        around_literature(shard_size=16)
    with pytest.raises(SpecError, match="literature-s0: base: the predictors don't know"):
        around_literature(supported=np.arange(N_ELEMENTS) < 1)


def test_a_campaign_without_bases_starts_at_random_or_not_at_all() -> None:
    (search,) = plan(bases=[], search={"start": {"kind": "random"}}).searches
    assert (search.base, search.name) == (None, "random-s0")
    with pytest.raises(SpecError, match="starts from a base material"):
        plan(bases=[])


def test_a_reason_that_many_searches_share_is_told_once() -> None:
    with pytest.raises(SpecError) as caught:
        plan(search={"oxidation_state": 9}, seeds=list(range(12)))
    assert str(caught.value).startswith(
        "12 of 12 searches can't run: LaNiAsO-s0, LaNiAsO-s1, LaNiAsO-s2, and 9 more: "
    )
    assert str(caught.value).count("+9") == 1


def test_sizes_are_bounded() -> None:
    with pytest.raises(SpecError, match="these are 100,000,000 searches"):
        plan(grid={f"field{n}": list(range(10)) for n in range(8)})
    with pytest.raises(SpecError, match="these are 20,000 searches"):
        plan(seeds=list(range(10_000)), grid={"alpha": [1, 2]})
    with pytest.raises(SpecError, match=r"shard_size: 1 makes 2,500,000 shards"):
        plan(candidates=2_500_000, shard_size=1)


def test_memory_grows_with_the_rows_of_a_shard_and_not_of_a_search() -> None:
    small, large = plan(candidates=10_000, shard_size=512), plan(candidates=10_000, shard_size=4096)
    assert small.memory_mb < large.memory_mb
    assert small.memory_mb == plan(candidates=1_000_000, shard_size=512).memory_mb


def test_the_screen_that_needs_phases_is_refused() -> None:
    with pytest.raises(SpecError, match="near_hull needs competing phases"):
        plan(bases=["LaNiAsO"], search={"screens.names": ["near_hull"]})
