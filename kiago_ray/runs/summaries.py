"""summary.json: what came of one search of a campaign, and of the campaign, in a page of numbers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from kiago_ray.runs.merge import Merged
from kiago_ray.runs.plan import Plan
from kiago_ray.runs.shards import DamagedError
from kiago_ray.screening.summary import Summary, TopMean, summarise_ranked
from kiago_ray.storage.location import Location
from kiago_ray.storage.table import best_rows

SUMMARY = "summary.json"
BEST_ROWS = 10
_LISTS = ("top", "best", "damaged")
_BEST_COLUMNS = [
    "formula",
    "base",
    "search",
    "source",
    "plausibility",
    "expected_improvement_k",
    "gain",
    "trusted_tc_k",
    "tc_k",
    "tc_std_k",
    "tc_oracle_k",
    "extrapolation",
    "delta_tc_k",
    "ef_ev_per_atom",
    "passed",
]
_OF_ONE_BASE = ("delta_tc_k", "delta_tc_oracle_k")  # differences: a campaign's best come from several bases

Results = TypeVar("Results")


@dataclass(frozen=True)
class SearchResults:
    """What came of one search, or of the shards of it that are done.

    wall_s: of all its shards together. finished_at: of the last one, in seconds since 1970. sources: SHA-256 over
    its shards' SHA-256, "" where it ran in one piece. candidates_sha256: of its candidates.parquet.
    """

    name: str
    base: str | None
    variant: str
    seed: int
    shards: int
    shards_done: int
    summary: Summary
    wall_s: float
    finished_at: float
    sources: str
    candidates_sha256: str

    @property
    def complete(self) -> bool:
        """Whether all its shards are in it."""
        return self.shards_done == self.shards

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain types, for JSON."""
        return {**asdict(self), "complete": self.complete, "summary": self.summary.to_dict()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> SearchResults:
        """What `to_dict` wrote. Raises KeyError, TypeError for anything else."""
        values = {name: plain[name] for name in cls.__dataclass_fields__}
        return cls(**{**values, "summary": Summary.from_dict(plain["summary"])})


@dataclass(frozen=True)
class CampaignResults:
    """What came of a campaign so far.

    candidates: rows planned. rows: rows done. top: of the best that passed, as in Summary (TopMean), but
    for differences to the base.
    best: the first rows of its table. ranked_by, gains, left_out, sources: as in Summary. new_systems: as in
    Merged. failures: shard → cause. damaged: what was wrong with files that were found.
    """

    name: str
    searches: int
    searches_complete: int
    shards: int
    shards_done: int
    candidates: int
    rows: int
    unique: int
    passed: int
    statuses: Mapping[str, int]
    top: tuple[Mapping[str, Any], ...]
    best: tuple[Mapping[str, Any], ...]
    ranked_by: str
    gains: int | None
    left_out: int
    new_systems: int | None
    sources: Mapping[str, int]
    failures: Mapping[str, str]
    damaged: tuple[str, ...]
    candidates_sha256: str

    @property
    def complete(self) -> bool:
        """Whether every shard is done."""
        return self.shards_done == self.shards

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain types, for JSON."""
        failures = [{"shard": shard, "cause": cause} for shard, cause in self.failures.items()]
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return {**asdict(self), **lists, "failures": failures, "complete": self.complete}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> CampaignResults:
        """What `to_dict` wrote. Raises KeyError, TypeError for anything else."""
        values = {name: plain[name] for name in cls.__dataclass_fields__}
        values |= {name: tuple(plain[name]) for name in _LISTS}
        return cls(**{**values, "failures": {each["shard"]: each["cause"] for each in plain["failures"]}})


def campaign_results(
    plan: Plan,
    searches: Sequence[SearchResults],
    merged: Merged,
    head: Any,
    *,
    failures: Mapping[str, str] = MappingProxyType({}),
    damaged: Sequence[str] = (),
) -> CampaignResults:
    """What these searches of a plan, merged, come to. head: the first rows of the merged table, 50 at least."""
    statuses: Counter[str] = Counter()
    for each in searches:
        statuses.update(each.summary.statuses)
    counted = summarise_ranked(
        rows=sum(each.summary.rows for each in searches),
        statuses=statuses,
        passed=merged.passed,
        tc_k=merged.tc_k,
        best=best_rows(head),
        screens=merged.screens,
        required=(),
        **merged.counted,
    )
    return CampaignResults(
        name=plan.campaign.name,
        searches=len(plan.searches),
        searches_complete=sum(each.complete for each in searches),
        shards=plan.shard_count,
        shards_done=sum(each.shards_done for each in searches),
        candidates=plan.candidates,
        rows=counted.rows,
        unique=counted.unique,
        passed=counted.passed,
        statuses=counted.statuses,
        top=tuple(_without_base(each) for each in counted.top),
        best=tuple(head.select(_BEST_COLUMNS).slice(0, BEST_ROWS).to_pylist()),
        ranked_by=counted.ranked_by,
        gains=counted.gains,
        left_out=counted.left_out,
        new_systems=merged.new_systems,
        sources=counted.sources,
        failures=dict(failures),
        damaged=tuple(damaged),
        candidates_sha256=merged.sha256,
    )


def _without_base(top: TopMean) -> dict[str, Any]:
    return {name: value for name, value in asdict(top).items() if name not in _OF_ONE_BASE}


def top_of_several(plain: Mapping[str, Any]) -> TopMean:
    """One of CampaignResults.top as it was counted, without differences to a base."""
    return TopMean(**{**dict.fromkeys(_OF_ONE_BASE), **plain})


def read_search_results(folder: Location) -> SearchResults | None:
    """What came of the search in a directory, None where it isn't there yet. Raises DamagedError, StorageError."""
    return _read(folder / SUMMARY, SearchResults.from_dict)


def read_campaign_results(campaign: Location) -> CampaignResults | None:
    """What came of a campaign, None where it isn't there yet. Raises DamagedError, StorageError."""
    return _read(campaign / SUMMARY, CampaignResults.from_dict)


def write_summary(results: SearchResults | CampaignResults, folder: Location) -> None:
    """Write summary.json into a folder. Raises StorageError."""
    text = json.dumps(results.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / SUMMARY).write_bytes(text.encode("utf-8"))


def _read(place: Location, made: Callable[[Mapping[str, Any]], Results]) -> Results | None:
    if place.kind() != "file":
        return None
    content = place.read_bytes()
    try:
        return made(json.loads(content))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedError(f"{place.text} is no summary of this version; run the campaign again") from error
