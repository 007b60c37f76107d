from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kiago_ray.api import propose
from kiago_ray.models import Models
from kiago_ray.runs.plan import Plan, Shard
from kiago_ray.runs.shards import (
    STEPS,
    STEPS_SCHEMA,
    TABLE,
    check_shard,
    compute_shard,
    read_manifest,
    shard_file,
)
from kiago_ray.runs.state import best_of, remove_leftovers, state_of
from kiago_ray.screening.candidates import ranked
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import DamagedError
from kiago_ray.storage.table import read_parquet, read_table


def path_of(campaign: Location, shard: Shard, ending: str) -> Path:
    folder = Path(campaign.path) / "shards" / shard.search
    (path,) = (each for each in folder.glob(f"{shard.number:05d}*") if "".join(each.suffixes) == f".{ending}")
    return path


def table_of(campaign: Location, shard: Shard, ending: str) -> Location:
    manifest = read_manifest(campaign, shard)
    assert manifest is not None
    return shard_file(campaign, manifest, ending)


def test_shards_together_are_the_search_itself(two_shards: Plan, shipped: Models, made: Location) -> None:
    (search,) = two_shards.searches
    alone = propose(spec=search.spec, models=shipped)
    rows = pa.concat_tables([read_table(table_of(made, shard, TABLE)) for shard in search.shards])
    assert rows["row"].to_pylist() == list(range(12))
    assert set(rows["search"].to_pylist()) == {search.name}
    together = ranked(rows)
    assert together["formula"].to_pylist() == alone.table["formula"].to_pylist()
    np.testing.assert_allclose(
        together["tc_k"].to_numpy(), alone.table["tc_k"].to_numpy(), rtol=1e-4, atol=1e-3
    )


def test_a_manifest_tells_of_its_files(two_shards: Plan, made: Location) -> None:
    for shard in two_shards.shards:
        manifest = check_shard(made, shard)
        assert manifest is not None
        assert manifest == read_manifest(made, shard)
        table = read_table(table_of(made, shard, TABLE))
        assert (manifest.rows, manifest.first_row) == (len(shard.rows), shard.rows.start)
        assert sum(manifest.statuses.values()) == manifest.rows
        assert manifest.passed == sum(table["passed"].to_pylist())
        assert manifest.bytes == path_of(made, shard, "parquet").stat().st_size
        assert manifest.base is not None
        assert manifest.base.formula == "LaNiAsO"
        passed = table.filter(table["passed"])
        assert (manifest.best is None) == (not len(passed))
        if manifest.best is not None:
            first = ranked(passed).to_pylist()[0]
            assert manifest.best == {name: first[name] for name in manifest.best}


def test_the_same_shard_made_again_is_the_same_bytes(
    two_shards: Plan, shipped: Models, made: Location, tmp_path: Path
) -> None:
    shard = two_shards.shards[1]
    again = Location.of(tmp_path / "again")
    compute_shard(two_shards.searches[0], shard, again, shipped, made={"host": "another"})
    for ending in ("parquet", "steps.parquet"):
        assert path_of(made, shard, ending).read_bytes() == path_of(again, shard, ending).read_bytes()


def test_steps_are_kept_row_by_row(two_shards: Plan, made: Location) -> None:
    shard = two_shards.shards[1]
    steps = read_parquet(table_of(made, shard, STEPS))
    assert steps.schema.equals(STEPS_SCHEMA)
    assert steps["row"].to_pylist() == [row for row in shard.rows for _ in range(5)]
    assert steps["step"].to_pylist() == [0, 1, 2, 3, 4] * len(shard.rows)
    assert steps["stage"].to_pylist()[:5] == [1, 1, 2, 2, 2]
    final = steps.filter(steps["step"].to_numpy() == 4)["tc_k"].to_numpy()
    relaxed = read_table(table_of(made, shard, TABLE))["tc_relaxed_k"].to_numpy()
    np.testing.assert_allclose(np.maximum(final, 0), relaxed, atol=1e-3)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def other_rows(path: Path) -> None:
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "rows": 3}))


def changed(**changes: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


DAMAGE: list[tuple[str, Callable[[Path], None], str]] = [
    ("parquet", truncate, "was cut off or changed"),
    ("parquet", flip, "was cut off or changed"),
    ("parquet", Path.unlink, "is missing"),
    ("steps.parquet", truncate, "was cut off or changed"),
    ("steps.parquet", Path.unlink, "is missing"),
    ("json", truncate, "is no manifest"),
    ("json", other_rows, "is the manifest of other rows"),
    ("json", changed(made={}), "is no manifest"),
    ("json", changed(made={"finished_at": 1.0, "machine": "AMD EPYC"}), "is no manifest"),
    ("json", changed(statuses=[1]), "is no manifest"),
    ("json", changed(base={"formula": "MgB2"}), "is no manifest"),
    ("json", changed(best={"formula": "MgB2"}), "is no manifest"),
    ("json", changed(passed=77), "counts other rows than its table holds"),
    ("json", changed(statuses={"ok": 100}), "counts other rows than its table holds"),
]


@pytest.mark.parametrize(("ending", "damage", "said"), DAMAGE)
def test_damage_is_found_and_named(
    two_shards: Plan, made: Location, ending: str, damage: Callable[[Path], None], said: str
) -> None:
    first, second = two_shards.shards
    damage(path_of(made, first, ending))
    with pytest.raises(DamagedError, match=said):
        check_shard(made, first)
    state = state_of(made, two_shards)
    assert list(state.damaged) == [first.name]
    assert list(state.manifests) == [second.name]
    assert state.left(two_shards) == [first]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop_columns(["plausibility"]), "is not a table of candidates of this version"),
        (lambda table: table.take(pa.array(range(len(table)))[::-1]), "holds other rows than"),
        (lambda table: table.drop_columns(["row"]), "is not a whole Parquet file"),
    ],
)
def test_a_table_that_a_manifest_vouches_for_is_still_looked_at(
    two_shards: Plan, made: Location, change: Callable[[pa.Table], pa.Table], said: str
) -> None:
    shard = two_shards.shards[0]
    place, manifest = path_of(made, shard, "parquet"), path_of(made, shard, "json")
    pq.write_table(change(pq.read_table(place)), place)
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    changed(sha256=digest)(manifest)
    place.rename(place.with_name(f"{shard.number:05d}-{digest[:16]}.parquet"))
    with pytest.raises(DamagedError, match=said):
        check_shard(made, shard)


def test_a_shard_copied_over_another_is_found(two_shards: Plan, made: Location) -> None:
    first, second = two_shards.shards
    for ending in ("parquet", "steps.parquet", "json"):
        shutil.copy(
            path_of(made, second, ending), path_of(made, first, ending)
        )  # under the name of the first
    with pytest.raises(DamagedError, match="is the manifest of other rows"):
        check_shard(made, first)


def test_a_shard_without_a_manifest_isnt_done(two_shards: Plan, made: Location) -> None:
    path_of(made, two_shards.shards[0], "json").unlink()
    assert check_shard(made, two_shards.shards[0]) is None
    assert state_of(made, two_shards, read_manifest).left(two_shards) == [two_shards.shards[0]]


def test_nothing_is_done_where_there_is_nothing(two_shards: Plan, tmp_path: Path) -> None:
    state = state_of(Location.of(tmp_path / "none"), two_shards)
    assert state.manifests == {}
    assert state.damaged == {}
    assert state.left(two_shards) == two_shards.shards
    assert best_of([]) is None


def test_the_best_of_all_shards(two_shards: Plan, made: Location) -> None:
    manifests = list(state_of(made, two_shards, read_manifest).manifests.values())
    best = best_of(each.best for each in manifests)
    assert best is not None
    assert best["trusted_tc_k"] == max(m.best["trusted_tc_k"] for m in manifests if m.best)


def test_trust_decides_which_row_is_best_where_it_is_known(two_shards: Plan, made: Location) -> None:
    first, other = state_of(made, two_shards, read_manifest).manifests.values()
    believed = replace(first, best={"formula": "A", "trusted_tc_k": 5.0, "tc_k": 10.0})
    hoped = replace(other, best={"formula": "B", "trusted_tc_k": 0.0, "tc_k": 90.0})
    unknown = replace(other, best={"formula": "C", "trusted_tc_k": None, "tc_k": 99.0})
    colder = replace(other, best={"formula": "D", "trusted_tc_k": None, "tc_k": 9.0})
    assert (best_of(each.best for each in (hoped, believed, unknown)) or {})["formula"] == "A"
    assert (best_of([colder.best, unknown.best, None]) or {})["formula"] == "C"


def test_what_killed_processes_left_is_removed_and_nothing_else(two_shards: Plan, made: Location) -> None:
    folder = Path(made.path)
    before = {path for path in folder.rglob("*") if path.is_file()}
    search = two_shards.searches[0].name
    (folder / "searches" / search).mkdir(parents=True)
    for name in (
        ".spec.yaml.1.tmp",
        f"shards/{search}/.00000.parquet.2.tmp",
        f"searches/{search}/.top.csv.3.tmp",
    ):
        (folder / name).write_text("half")
    kept = folder / f"shards/{search}/.notes"
    kept.write_text("somebody's")
    stale = folder / f"shards/{search}/00000-0123456789abcdef.parquet"
    stale.write_text("of a worker that was given up")
    state = state_of(made, two_shards, read_manifest)
    remove_leftovers(made, state)
    assert {path for path in folder.rglob("*") if path.is_file()} == before | {kept}
    remove_leftovers(Location.of(folder / "none"), state)


def test_a_worker_that_was_given_up_changes_no_shard(
    two_shards: Plan, shipped: Models, made: Location
) -> None:
    """It writes after all, and other values, as on another type of processor."""
    shard, search = two_shards.shards[0], two_shards.searches[0]
    before = check_shard(made, shard)
    late = replace(search, spec=search.spec.model_copy(update={"seed": 77}))
    other = compute_shard(late, shard, made, shipped, vouch=False)
    assert before is not None
    assert other.sha256 != before.sha256
    assert check_shard(made, shard) == before
    assert state_of(made, two_shards).damaged == {}
