"""Whether the files of a run are what was written, by the hashes that its summaries and manifests hold; and what can
be made again from what is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kiago_ray.runs.plan import Plan, PlannedSearch
from kiago_ray.runs.results import finish_campaign, finish_search, sources_of
from kiago_ray.runs.shards import SEARCHES, SHARDS, Manifest, read_manifest, search_folder
from kiago_ray.runs.state import INDEX, State, state_of
from kiago_ray.storage.location import Location, StorageError, Where, read_all
from kiago_ray.storage.run_directory import (
    IDENTITY,
    CampaignResults,
    DamagedError,
    Results,
    RunDirectory,
    RunDirectoryError,
    SearchResults,
    changed_files,
    digest_of,
    read_results,
    read_run,
    whole_results,
    write_run,
)

CAMPAIGN_ID = "campaign_id"  # of a record and of its shards' manifests
_SEEN = f"{SEARCHES}/{INDEX}"  # the stamps of results when they were written


@dataclass(frozen=True)
class Damage:
    """What is wrong with a run, a line each. shards: those to be run again → why. results: what can be made again from
    shards. state: the shards that are whole.
    """

    shards: Mapping[str, str]
    results: Sequence[str]
    state: State


def damage_of(directory: RunDirectory, plan: Plan) -> Damage:
    """What is wrong with a campaign: every file is read. What isn't there yet of one under way is no damage. Raises
    StorageError.
    """
    place, finished = directory.location, directory.record.get("finished") is True
    state = state_of(place, plan, remembered=False)
    shards, identity = dict(state.damaged), directory.record[IDENTITY]
    for name, manifest in state.manifests.items():
        if manifest.made.get(IDENTITY, identity) != identity:
            shards[name] = f"{name} was made for another campaign than the one in spec.yaml"
    if finished:
        shards |= {
            shard.name: f"{shard.name} is missing" for shard in state.left(plan) if shard.name not in shards
        }
    results = changed_searches(place, plan, state.by_search() if finished else None)
    own = changed_results(place, CampaignResults, needed=finished)
    return Damage(shards, [*results, *own], state)


def remember_results(campaign: Location, results: CampaignResults) -> None:
    """Keep the sizes and times of the files of a campaign that is done, so that they needn't be read to be known as
    the same. It is a memory and nothing more: a storage that fails isn't waited for.
    """
    with suppress(StorageError):
        stamps = _stamps(campaign)
        own = {name: stamp for name, stamp in stamps.items() if "/" in name or name in results.files}
        (campaign / _SEEN).write_bytes(json.dumps(own).encode())


def done_before(directory: RunDirectory, plan: Plan) -> CampaignResults | None:
    """The results of a campaign that is done and whose files are what they were, by their sizes and times, and by
    their hashes where those are others; None where it has to be run (again). Raises StorageError.
    """
    place = directory.location
    if directory.record.get("finished") is not True:
        return None
    seen = (place / _SEEN).read_mapping()
    stamps = _stamps(place) if seen else {}
    if seen and all(stamps.get(name) == stamp for name, stamp in seen.items()):
        with suppress(DamagedError):
            return read_results(place, CampaignResults)
    results = whole_results(directory, CampaignResults)
    return None if results is None or changed_searches(place, plan) else results


def _stamps(campaign: Location) -> dict[str, list[int]]:
    """Size and time of each file of the campaign's own and of its searches."""
    own = {name: [size, mtime_ns] for name, (mtime_ns, size) in campaign.versions().items()}
    below = {f"{SEARCHES}/{name}": [*stamp] for name, stamp in (campaign / SEARCHES).files().items()}
    return {name: stamp for name, stamp in {**own, **below}.items() if name != _SEEN}


def changed_searches(
    campaign: Location, plan: Plan, done: Mapping[str, Sequence[Manifest]] | None = None
) -> list[str]:
    """What is wrong with the results of a campaign's searches. done: the shards of each, of which they have to be,
    where the campaign is finished. Raises StorageError.
    """

    def wrong(search: PlannedSearch) -> list[str]:
        folder = search_folder(campaign, search.name)
        texts = changed_results(folder, SearchResults, needed=done is not None)
        if texts or done is None or search.name not in done:
            return texts
        found = read_results(folder, SearchResults)
        other = found is not None and found.sources != sources_of(done[search.name])
        return [f"{folder.text} was made from other shards than there are"] if other else []

    return [text for texts in read_all(wrong, plan.searches) for text in texts]


def changed_results(folder: Location, kind: type[Results], *, needed: bool) -> list[str]:
    """What is wrong with the files of a search or campaign. needed: whether it is wrong that there are none. Raises
    StorageError.
    """
    try:
        results = read_results(folder, kind)
    except DamagedError as error:
        return [str(error)]
    if results is None:
        return [f"{folder.text} has no results"] if needed else []
    return changed_files(folder, results)


def repair(
    directory: RunDirectory, plan: Plan, damage: Damage, *, model_notes: Sequence[str] = ()
) -> list[str]:
    """Make again what is wrong with the results, from shards that are whole: tables, plots, top.csv, pages. What can't
    be made is returned, and why; where shards are damaged, or something is left, the run no longer counts as finished,
    so that running it makes them. For the campaign's only driver. Raises StorageError.
    """
    place, finished, left = directory.location, directory.record.get("finished") is True, list[str]()
    searches, whole = list[SearchResults](), damage.state.by_search()
    if damage.results or damage.shards:
        directory = directory.reopen()
    for search in plan.searches:
        done = whole.get(search.name, [])
        folder, found = search_folder(place, search.name), None
        if len(done) == search.shard_count or (done and not finished):
            found = finish_search(place, search, done, record=directory.record)
        elif finished and not changed_results(folder, SearchResults, needed=True):
            found = read_results(folder, SearchResults)  # of all shards, better than of those that are left
        elif finished:
            left.append(f"{folder.text} needs all shards of its search")
        searches += [] if found is None else [found]
    if damage.results and not left:
        told: dict[str, Any] = {"failures": {}, "damaged": ()}
        with suppress(DamagedError):
            if (recorded := read_results(place, CampaignResults)) is not None:
                told = {"failures": recorded.failures, "damaged": recorded.damaged}
        results = finish_campaign(place, plan, searches, model_notes=model_notes, **told)
        if results.complete and not damage.shards:
            directory.finish(results.files)
            remember_results(place, results)
    return left


def rebuilt_record(where: Where, plan: Plan, identity: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Write the spec.yaml of a campaign anew where it is damaged or gone, and all finished shards say that they are of
    this campaign. Returns whether it was written. identity, about: as in `open_run`. Raises StorageError.
    """
    location = Location.of(where)
    if SHARDS not in location.entries():
        return False
    with suppress(RunDirectoryError):
        read_run(location)
        return False
    manifests = state_of(location, plan, read_manifest).manifests.values()
    belongs = {(each.made.get(IDENTITY), each.made.get(CAMPAIGN_ID)) for each in manifests}
    if len(belongs) != 1:
        return False
    ((whose, campaign_id),) = belongs
    if whose != digest_of(identity):
        return False
    write_run(location, identity, {CAMPAIGN_ID: campaign_id, **about})
    return True
