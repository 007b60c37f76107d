from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest

from kiago_ray.api import judged_rows
from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.data.tables import known_table
from kiago_ray.models import Models
from kiago_ray.plausibility.model import Prospects, load_prospects
from kiago_ray.runs.plan import Plan, around, make_plan
from kiago_ray.runs.results import finish_campaign, finish_search
from kiago_ray.runs.shards import TABLE, compute_shard, shard_file
from kiago_ray.runs.spec import (
    CampaignSpec,
    LiteratureSpec,
    chosen_families,
    family_system,
    known_families,
)
from kiago_ray.runs.state import state_of
from kiago_ray.screening.known import KnownMaterials
from kiago_ray.search.sections import SpecError, validated
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import CANDIDATES, SPEC, CampaignResults
from kiago_ray.storage.table import read_table

from ..conftest import known_of

BASES = ("LaFeAsO0.9F0.1", "MgB2", "NbSe2")


@pytest.fixture(scope="module")
def prospects() -> Prospects:
    return load_prospects()


@pytest.fixture(scope="module")
def materials() -> KnownMaterials:
    found = known_table()
    assert found is not None
    return KnownMaterials.from_table(found.table, found.source)


@pytest.fixture(scope="module")
def families(materials: KnownMaterials, prospects: Prospects) -> pd.DataFrame:
    return known_families(materials, prospects.anywhere)


@pytest.mark.parametrize(
    ("formula", "elements"),
    [
        ("La1.85Sr0.15CuO4", "La Cu O"),
        ("La2CuO4", "La Cu O"),
        ("La1.9Ba0.1CuO3.98", "La Cu O"),
        ("LaFeAsO", "La Fe As O"),
        ("LaFeAsO0.9F0.1", "La Fe As O"),
        ("SmFeAsO0.85F0.15", "Sm Fe As O"),
        ("Ba0.6K0.4Fe2As2", "Ba Fe As"),
        ("BaFe1.8Co0.2As2", "Ba Fe As"),
        ("MgB2", "Mg B"),
        ("Mg0.9Al0.1B2", "Mg B"),
        ("NbSe2", "Nb Se"),
        ("Nb3Sn", "Nb Sn"),
        ("Nb0.755Sn0.245", "Nb Sn"),
        ("La0.99Gd0.01", "La"),
    ],
)
def test_which_family_a_known_superconductor_is_of(prospects: Prospects, formula: str, elements: str) -> None:
    assert family_system(formula, prospects.anywhere) == frozenset(elements.split())


def test_the_known_families(families: pd.DataFrame) -> None:
    assert 1000 <= len(families) <= 2500
    assert families["compositions"].is_monotonic_decreasing
    assert families["system"].is_unique
    by_system = families.set_index("system")
    lanthanum = by_system.loc[[frozenset({"La", "Cu", "O"})]].iloc[0]
    # Its optimum, which is reported most, and not the La-Ca-Cu-O film with two reports of 49 K.
    assert parse(lanthanum.base) == parse("La1.85Sr0.15CuO4")
    assert (lanthanum.year, lanthanum.compositions > 500) == (1987, True)
    assert 35 < lanthanum.tc_k < 38
    assert by_system.loc[[frozenset({"Mg", "B"})], "base"].tolist() == ["MgB2"]
    (yttrium,) = by_system.loc[[frozenset({"Y", "Ba", "Cu", "O"})], "base"]
    assert parse(yttrium) == parse("YBa2Cu3O7")


def test_nothing_that_superconducts_under_pressure_alone_stands_for_a_family(prospects: Prospects) -> None:
    materials = known_of(
        ["LaH10", "MgB2", "MgB1.5C0.5", "NaCl"], [250.0, 39.0, 30.0, 0.0], pressure_gpa=[170.0, 0, 0, 0]
    )
    (only,) = known_families(materials, prospects.anywhere).itertuples()
    assert (only.base, only.compositions, np.isnan(only.year)) == ("MgB2", 2, True)


def test_filters(families: pd.DataFrame) -> None:
    hot = chosen_families(LiteratureSpec(min_tc_k=77), families)
    assert 0 < len(hot) < len(families)
    assert hot["tc_k"].min() >= 77
    cuprates = chosen_families(LiteratureSpec(elements=("Cu", "O"), without=("Hg", "Tl")), families)
    for base in cuprates["base"]:
        assert {"Cu", "O"} <= set(parse(base))
        assert not {"Hg", "Tl"} & set(parse(base))
    late = chosen_families(LiteratureSpec(since=2008, until=2010), families)
    assert set(late["year"]) == {2008, 2009, 2010}
    assert frozenset({"La", "Fe", "As", "O"}) in set(late["system"])
    assert chosen_families(LiteratureSpec(most=7), families).equals(families[:7])
    with pytest.raises(SpecError, match=r"none of .* known families is what literature asks for"):
        chosen_families(LiteratureSpec(min_tc_k=900), families)


@pytest.fixture(scope="module")
def plan(shipped: Models, prospects: Prospects) -> Plan:
    campaign = validated(
        CampaignSpec,
        {
            "name": "tiny",
            "bases": "literature",
            "search": {
                "steps": [2, 2],
                "screens": {"improvement_offset_k": 30, "most_per_system": 1},
            },
            "candidates": 20,
            "shard_size": 40,
        },
    )
    return make_plan(campaign, partial(shipped.check, substitutions=prospects.anywhere), BASES)


@pytest.fixture(scope="module")
def finished(
    plan: Plan,
    shipped: Models,
    prospects: Prospects,
    materials: KnownMaterials,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Location, CampaignResults]:
    """A campaign around three families in two shards, merged, without Ray."""
    place = Location.of(tmp_path_factory.mktemp("literature"))
    (search,) = plan.searches
    models = replace(shipped, known=materials, prospects=prospects)
    for shard in search.shards:
        compute_shard(search, shard, place, models)
    state = state_of(place, plan)
    assert not state.damaged
    assert not state.left(plan)
    found = finish_search(place, search, list(state.manifests.values()))
    (place / SPEC).write_bytes(b"campaign: {name: three}")
    results = finish_campaign(place, plan, [found], failures={}, damaged=[], model_notes=[])
    return place, results


def test_a_merged_literature_says_where_each_row_comes_from(
    finished: tuple[Location, CampaignResults],
) -> None:
    place, results = finished
    table = read_table(Path(place.path) / CANDIDATES)
    assert (results.rows, results.complete, results.ranked_by) == (60, True, "improvement")
    assert set(table["base"].to_pylist()) == set(BASES)
    assert {"family", "swap"} <= set(table["source"].to_pylist())
    assert set(table["search"].to_pylist()) == {"literature-s0"}
    keys = [tuple(fractions(parse(text)).round(6)) for text in table["formula"].to_pylist()]
    assert len(set(keys)) == len(keys) == results.unique
    for base, row in zip(table["base"].to_pylist(), table["row"].to_pylist(), strict=True):
        assert BASES[row // 20] == base
    passed = table.filter(table["passed"])
    assert not np.isnan(passed["plausibility"].to_numpy()).any()
    new = [row for row in passed.to_pylist() if row["known"] is None and not row["undoped"]]
    systems = [frozenset(parse(row["formula"])) for row in new]
    distinct = len(set(systems[:30]))
    assert len(set(systems[:distinct])) == distinct


def test_new_chemical_systems_are_counted(
    finished: tuple[Location, CampaignResults], materials: KnownMaterials
) -> None:
    place, results = finished
    table = read_table(Path(place.path) / CANDIDATES)
    known = {
        frozenset(parse(text)) for text, tc in zip(materials.formulas, materials.tc_k, strict=True) if tc > 0
    }
    free = pc.and_(pc.is_null(table["known"]), pc.is_null(table["tried"]))
    proposals = table.filter(pc.and_(table["passed"], free))
    told = proposals["new_system"].to_pylist()
    new = [frozenset(parse(text)) not in known for text in proposals["formula"].to_pylist()]
    assert all(
        said <= true for said, true in zip(told, new, strict=True)
    )  # of undetermined oxygen some more are known
    assert results.new_systems == sum(told)
    assert 0 < sum(told) < len(told)


def test_a_family_comes_to_what_its_own_search_does(
    finished: tuple[Location, CampaignResults],
    plan: Plan,
    shipped: Models,
    prospects: Prospects,
    materials: KnownMaterials,
) -> None:
    place, _ = finished
    spec = around(plan.searches[0].spec, "NbSe2")
    alone = judged_rows(spec, replace(shipped, known=materials, prospects=prospects)).table
    shard = plan.searches[0].shards[1]
    manifest = state_of(place, plan).manifests[shard.name]
    rows = read_table(shard_file(place, manifest, TABLE))
    dropped = ["row", "search"]
    assert rows.drop_columns(dropped).equals(
        alone.drop_columns(dropped).cast(rows.drop_columns(dropped).schema)
    )
    assert rows["row"].to_pylist() == [40 + row for row in alone["row"].to_pylist()]
