"""What runs were, and what two differ in, from their files; what is damaged or foreign gets a word."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kiago_ray.models import Models
from kiago_ray.runs.listing import RunLine, compared, listed
from kiago_ray.runs.plan import Plan
from kiago_ray.runs.results import finish_campaign, finish_search
from kiago_ray.runs.shards import compute_shard, read_manifest
from kiago_ray.runs.state import state_of
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import RunDirectoryError, open_run, write_run
from kiago_ray.storage.table import read_table, table_bytes


@pytest.fixture(scope="module")
def every(two_shards: Plan, shipped: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished campaign of one search, a sweep under way, and what is none."""
    folder = tmp_path_factory.mktemp("runs")
    made = Location.of(folder / "small")
    for shard in two_shards.shards:
        compute_shard(two_shards.search(shard.search), shard, made, shipped)
    campaign = two_shards.campaign.model_dump(mode="json")
    directory = write_run(made, {"campaign": campaign, "weights": {"tc": "0"}}, {"campaign_id": "1"})
    search = two_shards.searches[0]
    found = finish_search(made, search, list(state_of(made, two_shards, read_manifest).manifests.values()))
    outputs = finish_campaign(made, two_shards, [found], failures={}, damaged=[], model_notes=[]).files
    directory.finish(outputs)
    sweep = {"bases": ["MgB2", "LaNiAsO", "NbN", "YNi2B2C"], "search": {"preset": "open"}}
    open_run(folder / "sweep", {"sweep": sweep})
    (folder / "sweep" / "summary.json").write_text(json.dumps({"trials": {"finished": 3}, "planned": 8}))
    (folder / "notes").mkdir()
    (folder / "notes.txt").touch()
    (folder / "torn").mkdir()
    (folder / "torn" / "spec.yaml").write_text("{")
    return folder


@pytest.fixture
def runs(every: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(every, tmp_path / "runs"))


def by_name(folder: Path) -> dict[str, RunLine]:
    return {line.name: line for line in listed(folder)[0]}


def test_each_run_says_what_it_was(runs: Path) -> None:
    lines = by_name(runs)
    small = lines["small"]
    assert (small.state, small.kind, small.base, small.preset) == ("finished", "campaign", "LaNiAsO", "open")
    assert small.rows is not None
    assert 0 < small.rows <= 12
    assert small.changed_at == pytest.approx((runs / "small" / "spec.yaml").stat().st_mtime)
    sweep = lines["sweep"]
    assert (sweep.state, sweep.base) == ("3 of 8 trials", "MgB2, LaNiAsO, NbN and 1 more")
    assert lines["notes"] == RunLine("notes", "no run")
    assert lines["torn"].state == "unreadable spec.yaml"
    assert "notes.txt" not in lines


def test_a_campaigns_own_directory_lists_its_searches(runs: Path) -> None:
    assert [(line.name, line.kind) for line in listed(runs / "small")[0]] == [
        ("small", "campaign"),
        ("LaNiAsO-s0", "search"),
    ]


def test_damage_is_a_word_and_no_traceback(runs: Path) -> None:
    (runs / "small" / "candidates.parquet").write_bytes(b"PAR1")
    assert by_name(runs)["small"].state == "unreadable candidates.parquet"
    (runs / "small" / "summary.json").write_text("[]")
    assert by_name(runs)["small"].state == "unreadable summary.json"
    (runs / "small" / "report.html").unlink()
    (runs / "small" / "summary.json").unlink()
    assert by_name(runs)["small"].state == "files are missing"


def test_what_holds_no_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="holds no runs"):
        listed(tmp_path / "nothing")
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="is a file"):
        listed(tmp_path / "file")


def test_only_fields_that_differ_are_said(runs: Path) -> None:
    found = compared(runs / "small", runs / "small" / "searches" / "LaNiAsO-s0")
    assert found.fields["campaign.name"] == ("small", "absent")
    assert found.fields["search.base"] == ("absent", "LaNiAsO")
    assert found.sides is not None
    a, b = found.sides
    assert (a.only, b.only, found.changed_tc) == (0, 0, 0)
    assert found.both == a.rows == b.rows
    assert a.best_tc_k == b.best_tc_k == by_name(runs)["small"].best_tc_k
    assert compared(runs / "small", runs / "small").fields == {}
    assert compared(runs / "small", runs / "sweep").sides is None


def test_rows_are_the_same_by_composition(runs: Path) -> None:
    other = runs / "small" / "searches" / "LaNiAsO-s0"
    shutil.copytree(other, runs / "fewer")
    table = read_table(other / "candidates.parquet")
    (runs / "fewer" / "candidates.parquet").write_bytes(table_bytes(table.slice(2)))
    found = compared(other, runs / "fewer")
    assert found.sides is not None
    assert found.both == len(table) - 2
    assert [side.only for side in found.sides] == [2, 0]
    assert list(found.sides[0].only_first) == table["formula"].to_pylist()[:2]
