"""A run's index: what a driver has seen isn't read again, and nothing is believed that has changed since."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kiago_ray.runs.plan import Plan, Shard
from kiago_ray.runs.shards import MANIFEST, SHARDS, STEPS, TABLE, Manifest, check_shard, manifest_file
from kiago_ray.runs.state import INDEX, State, read_index, state_of
from kiago_ray.storage.location import Location


class Look:
    """`check_shard`, which keeps the names of the shards that were read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, campaign: Location, shard: Shard) -> Manifest | None:
        self.read.append(shard.name)
        return check_shard(campaign, shard)


@pytest.fixture
def indexed(two_shards: Plan, made: Location) -> State:
    """What is done of the campaign in `made`, which has an index of it."""
    state = state_of(made, two_shards)
    assert state.indexed == 0
    state.write_index(made)
    assert state.indexed == 2
    return state


def path_of(campaign: Location, shard: Shard, ending: str) -> Path:
    if ending == MANIFEST:
        return Path(manifest_file(campaign, shard).path)
    folder = Path(campaign.path) / "shards" / shard.search
    (path,) = (each for each in folder.glob(f"{shard.number:05d}-*") if "".join(each.suffixes) == ending)
    return path


def test_what_the_index_knows_is_not_read(two_shards: Plan, made: Location, indexed: State) -> None:
    look = Look()
    state = state_of(made, two_shards, look)
    assert look.read == []
    assert state == indexed
    assert state.left(two_shards) == []


@pytest.mark.parametrize("ending", [TABLE, STEPS, MANIFEST])
@pytest.mark.parametrize("change", [lambda path: path.write_bytes(path.read_bytes()[:-9]), Path.unlink])
def test_a_file_that_changed_is_read_again(
    two_shards: Plan, made: Location, indexed: State, ending: str, change: Callable[[Path], object]
) -> None:
    first, second = two_shards.shards
    change(path_of(made, first, ending))
    state = state_of(made, two_shards)
    assert list(state.manifests) == [second.name]
    gone = ending == MANIFEST and not path_of(made, first, ending).exists()
    assert list(state.damaged) == ([] if gone else [first.name])
    assert state.left(two_shards) == [first]


def test_a_file_of_another_time_is_read_again_though_it_has_the_same_size(
    two_shards: Plan, made: Location, indexed: State
) -> None:
    first, second = two_shards.shards
    for shard in (first, second):
        path = path_of(made, shard, TABLE)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= shard is first
        path.write_bytes(content)
        os.utime(path, ns=(0, 10**18))
    look = Look()
    state = state_of(made, two_shards, look)
    assert sorted(look.read) == [first.name, second.name]
    assert (list(state.damaged), list(state.manifests)) == ([first.name], [second.name])


@pytest.mark.parametrize("content", [b"", b"[", b"{}", b'[{"manifest": 1}]', b"[[[[", b"\xff"])
def test_a_damaged_index_costs_nothing_but_time(
    two_shards: Plan, made: Location, indexed: State, content: bytes
) -> None:
    (made / SHARDS / INDEX).write_bytes(content)
    look = Look()
    state = state_of(made, two_shards, look)
    assert len(look.read) == 2
    assert (state.manifests, state.stamps) == (indexed.manifests, indexed.stamps)


def test_the_index_of_other_rows_is_not_believed(two_shards: Plan, made: Location, indexed: State) -> None:
    first = two_shards.shards[0]
    moved = Shard(first.search, 0, range(4))
    assert not indexed.manifests[first.name].is_of(moved)
    place = made / SHARDS / INDEX
    place.write_bytes(place.read_bytes().replace(b'"rows":8,"passed"', b'"rows":9,"passed"'))
    assert read_index(made)[first.name].manifest.rows == 9
    look = Look()
    state_of(made, two_shards, look)
    assert look.read == [first.name]


def test_a_shard_that_the_index_lacks_is_read(two_shards: Plan, made: Location, indexed: State) -> None:
    second = two_shards.shards[1]
    del indexed.manifests[second.name]
    indexed.write_index(made)
    look = Look()
    state = state_of(made, two_shards, look)
    assert look.read == [second.name]
    assert (len(state.manifests), state.indexed) == (2, 1)


def test_shards_that_never_began_are_not_asked_for(two_shards: Plan, tmp_path: Path) -> None:
    look = Look()
    assert state_of(Location.of(tmp_path / "none"), two_shards, look) == State()
    assert look.read == []


def test_the_index_is_written_ever_more_rarely() -> None:
    state, written = State(), []
    for number in range(20_000):
        state.manifests[str(number)] = None  # type: ignore[assignment]
        if state.behind():
            state.indexed = number + 1
            written.append(state.indexed)
    assert len(written) < 100
    assert sum(written) < 12 * 20_000  # shards written in all
    assert written[-1] > 0.85 * 20_000
