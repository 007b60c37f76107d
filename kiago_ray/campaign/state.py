"""How far a campaign is, from its directory alone: what is done, what is damaged, what is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from kiago_ray.campaign.plan import Plan, Shard
from kiago_ray.campaign.shards import SHARDS, DamagedError, Manifest, check_shard, read_manifest
from kiago_ray.campaign.summaries import search_folder
from kiago_ray.storage.location import TEMPORARY, Location

_READERS = 8  # on a remote storage a look at a shard is mostly waiting


@dataclass(frozen=True)
class State:
    """manifests: of the finished shards by name. damaged: shard → what is wrong with its files."""

    manifests: dict[str, Manifest]
    damaged: dict[str, str]

    def left(self, plan: Plan) -> list[Shard]:
        """The shards still to run, in the plan's order."""
        return [shard for shard in plan.shards if shard.name not in self.manifests]

    def by_search(self) -> dict[str, list[Manifest]]:
        """The finished shards of each search that has any."""
        grouped: dict[str, list[Manifest]] = {}
        for manifest in self.manifests.values():
            grouped.setdefault(manifest.search, []).append(manifest)
        return grouped


def checked_state(campaign: Location, plan: Plan) -> State:
    """The state with every finished shard read and compared to its hashes. Raises StorageError."""
    return _state(plan, lambda shard: check_shard(campaign, shard))


def listed_state(campaign: Location, plan: Plan) -> State:
    """The state as the manifests have it: quick, for a look at a running campaign. Raises StorageError."""
    return _state(plan, lambda shard: read_manifest(campaign, shard))


def _state(plan: Plan, look: Callable[[Shard], Manifest | None]) -> State:
    shards = plan.shards
    manifests: dict[str, Manifest] = {}
    damaged: dict[str, str] = {}

    def guarded(shard: Shard) -> Manifest | str | None:
        try:
            return look(shard)
        except DamagedError as error:
            return str(error)

    with ThreadPoolExecutor(_READERS) as readers:
        for shard, found in zip(shards, readers.map(guarded, shards), strict=True):
            if isinstance(found, Manifest):
                manifests[shard.name] = found
            elif found is not None:
                damaged[shard.name] = found
    return State(manifests, damaged)


def best_of(manifests: Sequence[Manifest]) -> dict[str, Any] | None:
    """The best row that passed, of all these shards: formula, trusted_tc_k, tc_k, delta_tc_k."""
    best = [manifest.best for manifest in manifests if manifest.best]
    return max(map(dict, best), key=standing) if best else None


def standing(best: Mapping[str, Any]) -> tuple[float, float]:
    """What the best rows of shards are compared by: trusted T_c where it is known, then T_c."""
    trusted = best.get("trusted_tc_k")
    return -1.0 if trusted is None else float(trusted), float(best["tc_k"])


def remove_leftovers(campaign: Location, plan: Plan) -> None:
    """Remove the temporary files of processes that were killed while they wrote. For the campaign's only driver."""
    folders = [campaign, *(campaign / SHARDS / search.name for search in plan.searches)]
    folders += [search_folder(campaign, search.name) for search in plan.searches]
    with ThreadPoolExecutor(_READERS) as readers:
        for folder, names in zip(folders, readers.map(_entries, folders), strict=True):
            for name in names:
                if name.startswith(".") and name.endswith(TEMPORARY):
                    (folder / name).delete()


def _entries(folder: Location) -> list[str]:
    return folder.entries() if folder.kind() == "directory" else []
