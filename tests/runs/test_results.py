from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kiago_ray.api import judged_rows
from kiago_ray.models import Models
from kiago_ray.report.plots import BEST_POINTS, MAX_POINTS, shown_points
from kiago_ray.runs.plan import Plan, PlannedSearch, make_plan
from kiago_ray.runs.results import (
    finish_campaign,
    finish_search,
    page_of_directory,
)
from kiago_ray.runs.shards import TABLE, Manifest, compute_shard, read_manifest, shard_file
from kiago_ray.runs.spec import CampaignSpec
from kiago_ray.screening.candidates import ranked
from kiago_ray.screening.screens import summarise
from kiago_ray.search.sections import validated
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.machines import MACHINE, machine_here
from kiago_ray.storage.run_directory import (
    CampaignResults,
    DamagedError,
    RunDirectory,
    SearchResults,
    find_run,
    read_results,
    read_run,
    whole_results,
    write_run,
)
from kiago_ray.storage.table import read_table, schema

FILES = ("candidates.parquet", "top.csv", "summary.json")
PLOTS = ("tc_against_ef.png", "pareto.png", "search_against_oracle.png")
SEARCH_OUTPUTS = (*FILES, *PLOTS, "curves.parquet", "trajectory.png")
CAMPAIGN_OUTPUTS = (*FILES, *PLOTS, "gains.png", "curves.png", "report.html")
SPEC_TEXT = "campaign: {name: four}\n"


@pytest.fixture(scope="module")
def plan(shipped: Models) -> Plan:
    """Two bases, two seeds: four searches of two shards."""
    values = {
        "name": "four",
        "bases": ["LaNiAsO", "MgB2"],
        "seeds": [0, 1],
        "search": {"preset": "open", "steps": [6, 6], "max_elements": 3},
        "candidates": 24,
        "shard_size": 16,
    }
    return make_plan(validated(CampaignSpec, values), shipped.check)


@pytest.fixture(scope="module")
def shards(plan: Plan, shipped: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("four")
    for shard in plan.shards:
        older = shard.search == plan.searches[0].name  # made before manifests said on which machine
        made = {} if older else {MACHINE: machine_here("cpu")}
        compute_shard(plan.search(shard.search), shard, Location.of(folder), shipped, made=made)
    (folder / "spec.yaml").write_text(SPEC_TEXT)
    return folder


@pytest.fixture(scope="module")
def merged(plan: Plan, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merged") / "campaign"
    shutil.copytree(shards, folder)
    for search in plan.searches:
        finish_search(Location.of(folder), search, manifests_of(Location.of(folder), search))
    return folder


@pytest.fixture
def campaign(shards: Path, tmp_path: Path) -> Location:
    """A directory with all shards and no results."""
    shutil.copytree(shards, tmp_path / "campaign")
    return Location.of(tmp_path / "campaign")


@pytest.fixture
def searched(merged: Path, tmp_path: Path) -> Location:
    """A directory with all shards and the results of all searches."""
    shutil.copytree(merged, tmp_path / "searched")
    return Location.of(tmp_path / "searched")


def manifests_of(campaign: Location, search: PlannedSearch, count: int | None = None) -> list[Manifest]:
    found = [read_manifest(campaign, shard) for shard in search.shards[:count]]
    return [manifest for manifest in found if manifest is not None]


def results_of(campaign: Location, plan: Plan) -> list[SearchResults]:
    found = [read_results(campaign / "searches" / search.name, SearchResults) for search in plan.searches]
    return [results for results in found if results is not None]


def finish(
    campaign: Location, plan: Plan, searches: list[SearchResults], failures: dict[str, str] | None = None
) -> CampaignResults:
    results = finish_campaign(
        campaign,
        plan,
        searches,
        failures=failures or {},
        damaged=["00000.parquet was cut off"] if failures else [],
        model_notes=["It is off by 5 K."],
    )
    assert set(results.files) == set(CAMPAIGN_OUTPUTS)
    return results


def path_of(campaign: Location, *parts: str) -> Path:
    return Path(campaign.path).joinpath(*parts)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_search_in_shards_comes_to_what_it_comes_to_alone(
    plan: Plan, campaign: Location, shipped: Models
) -> None:
    search = plan.searches[1]
    results = finish_search(campaign, search, manifests_of(campaign, search))
    rows = judged_rows(search.spec, shipped, name=search.name, shard_rows=16)
    assert results.summary == summarise(
        ranked(rows.table),
        rows=24,
        statuses=rows.result.status_counts(),
        required=search.spec.screens.names,
        base=rows.base,
    )
    assert results.summary.passed > 0
    assert results.summary.top[0].gap_k is not None
    assert results.summary.top[0].delta_tc_oracle_k is not None
    assert read_table(campaign / "searches" / search.name / "candidates.parquet").equals(ranked(rows.table))
    assert (results.name, results.base, results.seed) == ("LaNiAsO-s1", "LaNiAsO", 1)
    assert (results.shards, results.shards_done, results.complete) == (2, 2, True)


def test_every_file_of_a_search_is_there(plan: Plan, campaign: Location) -> None:
    search = plan.searches[0]
    manifests = manifests_of(campaign, search)
    about = {"weights": {"tc": "aa"}, "known": None, "kiago_ray": "1", "campaign": {"name": "four"}}
    results = finish_search(campaign, search, manifests, record=about)
    folder = path_of(campaign, "searches", search.name)
    assert {path.name for path in folder.iterdir()} == {"spec.yaml", *SEARCH_OUTPUTS}
    run = read_run(folder)
    assert run.finished
    own = {"search": search.spec.model_dump(mode="json"), "weights": {"tc": "aa"}, "known": None}
    assert find_run(folder, own) == run
    assert set(run.record) == {*own, "kiago_ray", "precision", "identity", "finished", "outputs"}
    assert results.wall_s == pytest.approx(sum(manifest.wall_s for manifest in manifests))
    assert results.finished_at == max(manifest.made["finished_at"] for manifest in manifests)
    assert read_results(campaign / "searches" / search.name, SearchResults) == results
    record = json.loads((folder / "summary.json").read_text())
    assert record["complete"] is True
    assert record["summary"] == results.summary.to_dict()
    assert all((folder / name).read_bytes()[:4] == b"\x89PNG" for name in SEARCH_OUTPUTS if "png" in name)
    top = list(csv.DictReader(io.StringIO((folder / "top.csv").read_text())))
    table = read_table(campaign / "searches" / search.name / "candidates.parquet")
    assert len(top) == results.summary.passed
    assert [row["formula"] for row in top] == table["formula"].to_pylist()[: len(top)]
    assert {row["search"] for row in top} == {search.name}


def test_what_is_there_is_not_done_again(plan: Plan, searched: Location) -> None:
    search = plan.searches[0]
    manifests = manifests_of(searched, search)
    first = finish_search(searched, search, manifests)
    folder = path_of(searched, "searches", search.name)
    before = times(folder)
    assert finish_search(searched, search, manifests[::-1]) == first
    assert times(folder) == before


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("candidates.parquet", lambda path: path.write_bytes(path.read_bytes()[:-1])),
        ("curves.parquet", Path.unlink),
        ("summary.json", lambda path: path.write_text("{")),
        ("summary.json", lambda path: path.write_text('{"summary": {"rows": 1}}')),
    ],
)
def test_damaged_results_are_made_anew(
    plan: Plan, searched: Location, name: str, damage: Callable[[Path], Any]
) -> None:
    search = plan.searches[0]
    manifests = manifests_of(searched, search)
    first = finish_search(searched, search, manifests)
    folder = path_of(searched, "searches", search.name)
    before = contents(folder)
    damage(folder / name)
    assert finish_search(searched, search, manifests) == first
    assert contents(folder) == before


def test_a_part_of_a_search_then_all_of_it(plan: Plan, searched: Location) -> None:
    search = plan.searches[0]
    folder = path_of(searched, "searches", search.name)
    whole = finish_search(searched, search, manifests_of(searched, search))
    expected = contents(folder)
    part = finish_search(searched, search, manifests_of(searched, search)[1:])
    assert (part.shards_done, part.complete) == (1, False)
    assert part.summary.rows == 8
    rows = read_table(shard_file(searched, manifests_of(searched, search)[1], TABLE))
    assert read_table(searched / "searches" / search.name / "candidates.parquet").equals(ranked(rows))
    assert part.sources != whole.sources
    assert finish_search(searched, search, manifests_of(searched, search)) == whole
    assert contents(folder) == expected
    with pytest.raises(ValueError, match="LaNiAsO-s0: no shard of it is done"):
        finish_search(searched, search, [])


def test_no_earlier_record_vouches_for_the_files_of_a_killed_merge(
    plan: Plan, searched: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    search = plan.searches[0]
    folder, manifests = searched / "searches" / search.name, manifests_of(searched, search)
    path_of(folder, "top.csv").unlink()
    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            finish_search(searched, search, manifests)
    assert path_of(folder, "top.csv").is_file()
    assert not read_run(folder).finished
    finish_search(searched, search, manifests)
    assert read_run(folder).finished


def test_a_shard_that_was_cut_off_since_stops_it(plan: Plan, campaign: Location) -> None:
    search = plan.searches[0]
    manifests = manifests_of(campaign, search)
    shard = Path(shard_file(campaign, manifests[1], TABLE).path)
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(StorageError, match=r"parquet is not a whole Parquet file"):
        finish_search(campaign, search, manifests)
    assert not path_of(campaign, "searches", search.name, "candidates.parquet").exists()
    assert read_results(campaign / "searches" / search.name, SearchResults) is None


def test_a_summary_that_is_none(campaign: Location) -> None:
    place = campaign / "searches" / "x"
    place.make_directory()
    for text in ("[]", "null", "{}", '{"summary": 1}'):
        (place / "summary.json").write_bytes(text.encode())
        with pytest.raises(DamagedError, match=r"x/summary.json is no summary of this version; run"):
            read_results(campaign / "searches" / "x", SearchResults)


def test_the_campaign_holds_each_formula_once_best_first(plan: Plan, searched: Location) -> None:
    searches = results_of(searched, plan)
    results = finish(searched, plan, searches)
    table = read_table(searched / "candidates.parquet").to_pylist()
    made = [each for search in plan.searches for each in manifests_of(searched, search)]
    every = pa.concat_tables([read_table(shard_file(searched, each, TABLE)) for each in made])
    best: dict[str, dict[str, Any]] = {}
    for row in every.to_pylist():  # in the order of searches and rows
        held = best.get(row["formula"])
        if row["formula"] and (held is None or (row["passed"] and not held["passed"])):
            best[row["formula"]] = row
    expected = sorted(
        best.values(),
        key=lambda row: (not row["passed"], -row["trusted_tc_k"], -row["tc_k"], row["formula"]),
    )
    assert [{**row, "rank": None, "pareto": None} for row in table] == expected
    assert 0 < sum(row["pareto"] for row in table) < len(table)
    assert all(row["passed"] for row in table if row["pareto"])
    assert [row["rank"] for row in table] == list(range(1, len(expected) + 1))
    assert len({row["search"] for row in table}) == 4
    assert results.to_dict() | {"top": None, "best": None} == {
        "outputs": {name: (searched / name).sha256() for name in CAMPAIGN_OUTPUTS if name != "summary.json"},
        "name": "four",
        "searches": 4,
        "searches_complete": 4,
        "shards": 8,
        "shards_done": 8,
        "candidates": 96,
        "rows": 96,
        "unique": len(expected),
        "passed": sum(row["passed"] for row in expected),
        "statuses": {
            "ok": 96,
            "nothing_allowed": 0,
            "not_finite": 0,
            "no_integer_formula": 0,
            "unknown_element": 0,
        },
        "top": None,
        "best": None,
        "ranked_by": "trusted",
        "gains": None,  # nothing known was given to compare with
        "left_out": 0,
        "new_systems": None,
        "sources": {},
        "failures": {},
        "damaged": (),
        "machines": ({**machine_here("cpu"), "shards": 6}, {"shards": 2}),
        "complete": True,
    }
    tc_k, oracle, trusted = (
        float(np.mean([row[name] for row in expected[:10]]))
        for name in ("tc_k", "tc_oracle_k", "trusted_tc_k")
    )
    told = results.top[0]
    assert (told.k, told.used) == (10, 10)
    assert told.mean_tc_k == pytest.approx(tc_k)
    assert told.gap_k == pytest.approx(tc_k - oracle)
    assert told.mean_trusted_tc_k == pytest.approx(trusted)
    assert told.delta_tc_k is told.delta_tc_oracle_k is None  # there are two bases
    for row, best_row in zip(expected[:10], results.best, strict=True):
        assert best_row == {name: row[name] for name in best_row}
        assert {"formula", "base", "search", "trusted_tc_k", "tc_k", "tc_oracle_k", "passed"} < set(best_row)


def test_a_campaign_of_searches_by_tc_alone_is_ranked_so(plan: Plan, searched: Location) -> None:
    by_tc = replace(
        plan,
        searches=tuple(
            replace(
                each,
                spec=each.spec.model_copy(
                    update={"screens": each.spec.screens.model_copy(update={"rank_by": "tc"})}
                ),
            )
            for each in plan.searches
        ),
    )
    finish(searched, by_tc, results_of(searched, plan))
    table = read_table(searched / "candidates.parquet")
    tc_k = table.filter(table["passed"])["tc_k"].to_pylist()
    assert tc_k == sorted(tc_k, reverse=True)
    mixed = replace(plan, searches=(by_tc.searches[0], *plan.searches[1:]))
    finish(searched, mixed, results_of(searched, plan))
    table = read_table(searched / "candidates.parquet")
    trusted = table.filter(table["passed"])["trusted_tc_k"].to_pylist()
    assert trusted == sorted(trusted, reverse=True)


def test_every_file_of_a_campaign_is_there_and_the_same_each_time(plan: Plan, searched: Location) -> None:
    searches = results_of(searched, plan)
    results = finish(searched, plan, searches)
    folder = path_of(searched)
    first = {name: (folder / name).read_bytes() for name in CAMPAIGN_OUTPUTS}
    assert read_results(searched, CampaignResults) == results
    top = list(csv.DictReader(io.StringIO(first["top.csv"].decode())))
    assert len({row["search"] for row in top}) > 1
    page = first["report.html"].decode()
    assert all(search.name in page for search in searches)
    assert "Why these may be believed, and why not" in page
    assert "exploitation gap: the first less the second" in page
    assert page.count("data:image/png;base64,") == 5
    assert "It is off by 5 K." in page
    assert "campaign: {name: four}" in page
    finish(searched, plan, results_of(searched, plan))
    assert {name: (folder / name).read_bytes() for name in CAMPAIGN_OUTPUTS} == first
    directory = write_run(searched, {}, {}, CAMPAIGN_OUTPUTS)
    assert whole_results(directory, CampaignResults) == results
    (folder / "candidates.parquet").write_bytes(b"")
    assert whole_results(directory, CampaignResults) is None


def test_failed_shards_are_named(plan: Plan, searched: Location) -> None:
    failures = {"MgB2-s1/00001": "ValueError: poison & <worse>"}
    searches = results_of(searched, plan)[:3]
    last = plan.searches[3]
    searches.append(finish_search(searched, last, manifests_of(searched, last)[:1]))
    results = finish(searched, plan, searches, failures)
    assert (results.complete, results.searches_complete, results.shards_done) == (False, 3, 7)
    assert (results.rows, results.candidates) == (88, 96)
    record = json.loads(path_of(searched, "summary.json").read_text())
    assert record["failures"] == {"MgB2-s1/00001": "ValueError: poison & <worse>"}
    assert record["damaged"] == ["00000.parquet was cut off"]
    page = path_of(searched, "report.html").read_text()
    assert "poison &amp; &lt;worse&gt;" in page
    assert "7 of 8 shards" in page


def test_nothing_finished_is_a_campaign_too(plan: Plan, campaign: Location) -> None:
    results = finish(campaign, plan, [], {"LaNiAsO-s0/00000": "RuntimeError: no"})
    assert (results.rows, results.unique, results.best) == (0, 0, ())
    assert read_table(campaign / "candidates.parquet").equals(schema().empty_table())
    assert all(path_of(campaign, name).is_file() for name in CAMPAIGN_OUTPUTS)
    assert "No search has results yet" in path_of(campaign, "report.html").read_text()


def test_the_page_again_is_the_page(plan: Plan, searched: Location) -> None:
    finish(searched, plan, results_of(searched, plan))
    before = contents(path_of(searched))
    page = page_of_directory(searched, plan, model_notes=["It is off by 5 K."])
    assert page == path_of(searched, "report.html").read_text()
    assert contents(path_of(searched)) == before


def test_the_page_of_a_campaign_under_way(plan: Plan, campaign: Location, tmp_path: Path) -> None:
    finish_search(campaign, plan.searches[0], manifests_of(campaign, plan.searches[0]))
    before = contents(path_of(campaign))
    page = page_of_directory(campaign, plan)
    assert "Not finished: 1 of 4 searches, 2 of 8 shards" in page
    assert contents(path_of(campaign)) == before
    # Ended with failures, then resumed: what was done since is on the page, and failures that are gone aren't.
    part = finish_search(campaign, plan.searches[2], manifests_of(campaign, plan.searches[2])[:1])
    done = read_results(campaign / "searches" / plan.searches[0].name, SearchResults)
    assert done is not None
    finish(campaign, plan, [done, part], {"MgB2-s0/00001": "first cause", "MgB2-s1/00000": "other cause"})
    assert "first cause" in page_of_directory(campaign, plan)
    finish_search(campaign, plan.searches[2], manifests_of(campaign, plan.searches[2]))
    page = page_of_directory(campaign, plan)
    assert "Not finished: 2 of 4 searches, 4 of 8 shards" in page
    assert "first cause" not in page
    assert "other cause" in page


def test_the_page_before_anything_is_done(plan: Plan, campaign: Location) -> None:
    assert "No search has results yet" in page_of_directory(campaign, plan)


def test_plots_draw_the_best_and_an_even_part_of_the_others() -> None:
    assert shown_points(MAX_POINTS).tolist() == list(range(MAX_POINTS))
    shown = shown_points(729_563)
    assert len(np.unique(shown)) == MAX_POINTS
    assert shown[:BEST_POINTS].tolist() == list(range(BEST_POINTS))
    assert shown[-1] == 729_562
    gaps = np.diff(shown[BEST_POINTS:])
    assert gaps.max() - gaps.min() <= 1
    assert len(np.unique(shown_points(MAX_POINTS + 1))) == MAX_POINTS
