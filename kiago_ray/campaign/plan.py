"""From a campaign's specification to its searches and shards. Pure: nothing is read, started or written."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.campaign.spec import MAX_SEARCHES, CampaignSpec
from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import parse
from kiago_ray.screening import check_phases
from kiago_ray.search.errors import SpecError
from kiago_ray.search.presets import build_spec
from kiago_ray.search.problem import resolve
from kiago_ray.search.run import shard_size
from kiago_ray.search.spec import SearchSpec

MAX_SHARDS = 1_000_000
CURVE_ROWS = 64  # rows of a search whose every step is kept, shared evenly among its shards
_SHOWN_REASONS = 20
_SHOWN_NAMES = 3
_NAME_LENGTH = 60
# Peak memory of a worker, measured on a CPU: what the process holds, and what a row of a running shard adds.
_PROCESS_MB = 640
_ROW_MB = 0.02
_ROW_MB_PER_ATOM = 0.00005

Mask = NDArray[np.bool_]


def _few(names: list[str]) -> str:
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


class InfeasibleError(SpecError):
    """Searches that can't run. reasons: (search, why) of each."""

    def __init__(self, reasons: tuple[tuple[str, str], ...], total: int) -> None:
        searches: dict[str, list[str]] = {}
        for name, why in reasons:
            searches.setdefault(why, []).append(name)
        shown = "; ".join(f"{_few(names)}: {why}" for why, names in [*searches.items()][:_SHOWN_REASONS])
        more = len(searches) - _SHOWN_REASONS
        super().__init__(
            f"{len(reasons)} of {total} searches can't run: {shown}"
            + (f"; and {more} more reasons" if more > 0 else "")
        )
        self.reasons = reasons


@dataclass(frozen=True)
class Shard:
    """Rows of a search that run together and are stored as one file."""

    search: str
    number: int
    rows: range

    @property
    def name(self) -> str:
        """Such as LaNiAsO-s0/00003; its files' names without their endings."""
        return f"{self.search}/{self.number:05d}"


@dataclass(frozen=True)
class PlannedSearch:
    """One search of a campaign. shard_rows: rows of a full shard. curve_rows: rows a shard whose steps are kept."""

    name: str
    base: str | None
    variant: str
    seed: int
    spec: SearchSpec
    shard_rows: int
    curve_rows: int

    @property
    def shards(self) -> list[Shard]:
        """In the order of their rows."""
        starts = range(0, self.spec.row_count, self.shard_rows)
        return [
            Shard(self.name, number, range(start, min(start + self.shard_rows, self.spec.row_count)))
            for number, start in enumerate(starts)
        ]

    @property
    def shard_count(self) -> int:
        """How many shards it has."""
        return -(-self.spec.row_count // self.shard_rows)


@dataclass(frozen=True)
class Plan:
    """What a campaign will run: the searches in their order. memory_mb: estimated peak of one worker."""

    campaign: CampaignSpec
    searches: tuple[PlannedSearch, ...]
    memory_mb: int

    @property
    def shards(self) -> list[Shard]:
        """All shards, search by search."""
        return [shard for search in self.searches for shard in search.shards]

    @property
    def shard_count(self) -> int:
        """How many shards there are."""
        return sum(search.shard_count for search in self.searches)

    @property
    def candidates(self) -> int:
        """Rows of all searches."""
        return sum(search.spec.row_count for search in self.searches)

    def search(self, name: str) -> PlannedSearch:
        """The search of this name. Raises KeyError."""
        return {each.name: each for each in self.searches}[name]


def make_plan(campaign: CampaignSpec, supported: Mask) -> Plan:
    """The searches and shards of a campaign for predictors that know the elements `supported`, (118,).

    Raises InfeasibleError with every search that can't run and why, SpecError where there are too many.
    """
    count = len(campaign.variants) or math.prod(map(len, campaign.grid.values()))
    total = max(1, len(campaign.bases)) * count * len(campaign.seeds)
    if total > MAX_SEARCHES:
        raise SpecError(f"these are {total:,} searches; a campaign holds up to {MAX_SEARCHES:,}")
    variants = list(_variants(campaign))
    searches: list[PlannedSearch] = []
    reasons: list[tuple[str, str]] = []
    names: set[str] = set()
    for base, (variant, overrides), seed in itertools.product(
        campaign.bases or (None,), variants, campaign.seeds
    ):
        name = _name(base or "random", variant, seed, names)
        try:
            spec = _search_spec(campaign, overrides, base, seed)
            _check(spec, supported)
        except ValueError as error:
            reasons.append((name, " ".join(str(error).split())))
            continue
        rows = shard_size(spec.row_count, campaign.shard_size)
        shards = -(-spec.row_count // rows)
        searches.append(
            PlannedSearch(name, base, variant, seed, spec, rows, max(1, -(-CURVE_ROWS // shards)))
        )
    if reasons:
        raise InfeasibleError(tuple(reasons), total)
    plan = Plan(campaign, tuple(searches), max(map(_memory_mb, searches)))
    if plan.shard_count > MAX_SHARDS:
        raise SpecError(
            f"shard_size: {campaign.shard_size} makes {plan.shard_count:,} shards; a campaign holds up to "
            f"{MAX_SHARDS:,}, so give larger ones"
        )
    return plan


def _variants(campaign: CampaignSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and overrides of each; "" where there is but one."""
    if campaign.variants:
        yield from campaign.variants.items()
        return
    keys = list(campaign.grid)
    for values in itertools.product(*campaign.grid.values()):
        overrides = dict(zip(keys, values, strict=True))
        yield "_".join(f"{k.rpartition('.')[2]}={_short(v)}" for k, v in overrides.items()), overrides


def _search_spec(
    campaign: CampaignSpec, overrides: dict[str, Any], base: str | None, seed: int
) -> SearchSpec:
    own: dict[str, Any] = {"seed": seed}
    if base is not None:
        own["base"] = base
    if campaign.candidates is not None:
        own["candidates"] = campaign.candidates
    return build_spec(campaign.search, overrides, own)


def _check(spec: SearchSpec, supported: Mask) -> None:
    """Refuse what only the predictors' elements show to be impossible. Raises SpecError."""
    resolve(spec, supported)
    check_phases(spec.screens.names, given=False)
    unknown = [s for s in (parse(spec.base) if spec.base else ()) if not supported[INDEX[s]]]
    if unknown:
        raise SpecError(f"base: the predictors don't know {', '.join(unknown)}; choose another base")


def _name(base: str, variant: str, seed: int, taken: set[str]) -> str:
    """A name for files and tables, unlike any in `taken`, which it joins."""
    text = "-".join(part for part in (base, variant, f"s{seed}") if part)
    name = re.sub(r"[^A-Za-z0-9._+=-]", "_", text)
    plain, again = name, 0
    while len(name) > _NAME_LENGTH or name in taken:
        digest = hashlib.sha256(f"{text}{again or ''}".encode()).hexdigest()[:8]
        name = f"{plain[: _NAME_LENGTH - 9 - len(str(seed)) - 2]}-{digest}-s{seed}"
        again += 1
    taken.add(name)
    return name


def _short(value: Any) -> str:
    if isinstance(value, int | float):
        return str(value)
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text[:_NAME_LENGTH]).strip("-") or "none"


def _memory_mb(search: PlannedSearch) -> int:
    row = _ROW_MB + _ROW_MB_PER_ATOM * search.spec.n_unit.max
    return round(_PROCESS_MB + search.shard_rows * row)
