"""What is done of a run, as its storage tells: a shard with a manifest, whose files are what the manifest says.

To read every file of many shards takes long on a remote storage. So a driver keeps an index: one file with the
manifests that it has seen and the stamps (size and time of the last change) that their files had then. A file whose
stamp is still the same isn't read again. The index is a memory and nothing more: what it lacks is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kiago_ray.runs.plan import Plan, PlannedSearch, Shard
from kiago_ray.runs.shards import MANIFEST, SHARDS, STEPS, TABLE, Manifest, check_shard
from kiago_ray.storage.location import TEMPORARY, Location, Stamp, read_all
from kiago_ray.storage.machines import MACHINE, SHARDS_OF, Kind, kinds_of
from kiago_ray.storage.run_directory import DamagedError, adapter

INDEX = "index.json"  # beside the shards' folders
ENDINGS = (TABLE, STEPS, MANIFEST)
_GROWTH, _FEWEST = 1.1, 32  # shards by which the index has to fall behind before it is written again


@dataclass(frozen=True)
class Seen:
    """A finished shard, and the stamps of its files (ENDINGS) when it was found whole."""

    manifest: Manifest
    stamps: tuple[Stamp, ...]


@dataclass
class State:
    """manifests, stamps: of the finished shards and their files, by name. damaged: shard → what is wrong with it.
    indexed: how many shards the index holds.
    """

    manifests: dict[str, Manifest] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    stamps: dict[str, tuple[Stamp, ...]] = field(default_factory=dict)
    indexed: int = 0

    def add(self, seen: Seen) -> None:
        """A shard is done."""
        self.stamps[seen.manifest.shard] = seen.stamps  # first, for a thread may be writing the index
        self.manifests[seen.manifest.shard] = seen.manifest

    def left(self, plan: Plan) -> list[Shard]:
        """The shards still to run, in the plan's order."""
        return [shard for shard in plan.shards if shard.name not in self.manifests]

    def by_search(self) -> dict[str, list[Manifest]]:
        """The finished shards of each search that has any."""
        grouped: dict[str, list[Manifest]] = {}
        for manifest in self.manifests.values():
            grouped.setdefault(manifest.search, []).append(manifest)
        return grouped

    def behind(self) -> bool:
        """Whether the index lacks so many shards that it should be written: seldom enough to cost little in all."""
        return len(self.manifests) >= _GROWTH * self.indexed + _FEWEST

    def write_index(self, run: Location) -> None:
        """Write the index of the shards that are done. Raises StorageError."""
        seen = [Seen(manifest, self.stamps[name]) for name, manifest in [*self.manifests.items()]]
        (run / SHARDS / INDEX).write_bytes(adapter(list[Seen]).dump_json(seen))
        self.indexed = len(seen)


def read_index(run: Location) -> dict[str, Seen]:
    """The shards of the index by name; none where there is no whole one. Raises StorageError."""
    content = (run / SHARDS / INDEX).read_if_there()
    with suppress(ValueError):
        found: list[Seen] = adapter(list[Seen]).validate_json(content or b"[]", strict=True)
        return {seen.manifest.shard: seen for seen in found}
    return {}


def state_of(
    run: Location,
    plan: Plan | PlannedSearch,
    look: Callable[[Location, Shard], Manifest | None] = check_shard,
    *,
    remembered: bool = True,
) -> State:
    """What is done of a plan or search: `check_shard` reads every finished shard that the index doesn't know as it is,
    and compares it to its hashes; `read_manifest` is quick, for a look at a running campaign. remembered: whether to
    trust the index. Raises StorageError.
    """
    there, index = (run / SHARDS).files(), read_index(run) if remembered else {}

    def found(shard: Shard) -> Seen | str | None:
        known = index.get(shard.name)
        if known and known.stamps == stamps_of(there, known.manifest) and known.manifest.is_of(shard):
            return known
        try:
            manifest = look(run, shard)
        except DamagedError as error:
            return str(error)
        return None if manifest is None else Seen(manifest, stamps_of(there, manifest))

    state = State()
    begun = [shard for shard in plan.shards if f"{shard.name}{MANIFEST}" in there]
    for shard, seen in zip(begun, read_all(found, begun), strict=True):
        if isinstance(seen, Seen):
            state.add(seen)
            state.indexed += seen is index.get(shard.name)
        elif seen is not None:
            state.damaged[shard.name] = seen
    return state


def stamps_of(files: Mapping[str, Stamp], made: Manifest) -> tuple[Stamp, ...]:
    """The stamps of a shard's files, those that are there."""
    return tuple(files[name] for ending in ENDINGS if (name := made.file(ending)) in files)


def best_of(best: Iterable[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """The best of the rows that manifests have as theirs: formula, trusted_tc_k, tc_k, delta_tc_k. Those are compared
    by trusted T_c where it is known, then by T_c.
    """

    def key(best: Mapping[str, Any]) -> tuple[float, float]:
        return -1.0 if best["trusted_tc_k"] is None else best["trusted_tc_k"], best["tc_k"]

    return max((dict(each) for each in best if each), key=key, default=None)


def machines_of(manifests: Iterable[Manifest]) -> tuple[Kind, ...]:
    """The kinds of machine on which these shards were made (`kinds_of`)."""
    return kinds_of({**each.made.get(MACHINE, {}), SHARDS_OF: 1} for each in manifests)


def remove_leftovers(campaign: Location, state: State) -> None:
    """Remove the temporary files of processes that were killed while they wrote, and tables for which no manifest of
    `state` vouches. For the campaign's only driver.
    """
    whole = {
        f"{SHARDS}/{each.file(ending)}" for each in state.manifests.values() for ending in (TABLE, STEPS)
    }
    for path in campaign.files():
        name = path.rpartition("/")[2]
        of_nobody = path.startswith(f"{SHARDS}/") and path.endswith(TABLE) and path not in whole
        if of_nobody or (name.startswith(".") and name.endswith(TEMPORARY)):
            (campaign / path).delete()
