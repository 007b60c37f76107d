"""From a campaign's specification to its searches and shards. Pure: nothing is read, started or written."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kiago_ray.errors import first_of
from kiago_ray.runs.spec import ALONE, LITERATURE, MAX_SEARCHES, CampaignSpec
from kiago_ray.search.run import shard_size as shard_rows
from kiago_ray.search.sections import SpecError, validated
from kiago_ray.search.spec import SearchSpec, build_spec

MAX_SHARDS = 1_000_000
CURVE_ROWS = 64  # rows of a search whose every step is kept, shared evenly among its shards
_SHOWN_REASONS = 20
_SHOWN_NAMES = 3
_NAME_LENGTH = 60
# Peak memory of a worker, measured on a CPU: what the process holds, and what a row of a running shard adds.
_PROCESS_MB = 640
_ROW_MB = 0.02
_ROW_MB_PER_ATOM = 0.00005

Check = Callable[[SearchSpec], None]


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
    """One search of a campaign. shard_rows: rows of a full shard.

    bases: the known families of a search around all of them, whose `base` is "literature" and whose `spec` has none:
    each has `spec.row_count` rows, one family after another, and a shard holds whole families.
    """

    name: str
    base: str | None
    variant: str
    seed: int
    spec: SearchSpec
    shard_rows: int
    bases: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: SearchSpec, shard_size: int, *, name: str = ALONE, variant: str = "") -> PlannedSearch:
        """A search around one base, or none, in shards of at most `shard_size` rows."""
        return cls(name, spec.base, variant, spec.seed, spec, shard_rows(spec.row_count, shard_size))

    @property
    def row_count(self) -> int:
        """Rows of it, of all its bases."""
        return self.spec.row_count * (len(self.bases) or 1)

    @property
    def shards(self) -> list[Shard]:
        """In the order of their rows."""
        starts = range(0, self.row_count, self.shard_rows)
        return [
            Shard(self.name, number, range(start, min(start + self.shard_rows, self.row_count)))
            for number, start in enumerate(starts)
        ]

    @property
    def shard_count(self) -> int:
        """How many shards it has."""
        return -(-self.row_count // self.shard_rows)

    @property
    def curve_rows(self) -> int:
        """Rows of each shard whose every step is kept."""
        return -(-CURVE_ROWS // self.shard_count)

    def parts(self, shard: Shard) -> list[tuple[int, SearchSpec]]:
        """The searches that a shard's rows are of, with the row at which each begins: those around the families of a
        shard, whole; of one base the search itself, of which a shard is a part.
        """
        if not self.bases:
            return [(0, self.spec)]
        each = self.spec.row_count
        families = range(shard.rows.start // each, shard.rows.stop // each)
        return [(at * each, around(self.spec, self.bases[at])) for at in families]


@dataclass(frozen=True)
class Plan:
    """What a campaign will run: the searches in their order. memory_mb: estimated peak of one worker. left_out: known
    families that can't be searched, and why.
    """

    campaign: CampaignSpec
    searches: tuple[PlannedSearch, ...]
    memory_mb: int
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def families(self) -> tuple[str, ...]:
        """The known families that are searched, of a campaign around the literature."""
        return tuple(dict.fromkeys(base for search in self.searches for base in search.bases))

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
        return sum(search.row_count for search in self.searches)

    def search(self, name: str) -> PlannedSearch:
        """The search of this name. Raises KeyError."""
        return {each.name: each for each in self.searches}[name]


def make_plan(campaign: CampaignSpec, check: Check | None, families: Sequence[str] = ()) -> Plan:
    """The searches and shards of a campaign.

    check: raises SpecError for a search that can't run (`Models.check`); None for a campaign that was checked before.
    families: of the literature, in their order; those that can't be searched are left out. Raises SpecError that
    names the other searches that can't run and why, and where there are too many.
    """
    count = len(campaign.variants) or math.prod(map(len, campaign.grid.values()))
    total = max(1, len(campaign.bases), len(families)) * count * len(campaign.seeds)
    if total > MAX_SEARCHES:
        raise SpecError(f"these are {total:,} searches; a campaign holds up to {MAX_SEARCHES:,}")
    check = check or (lambda spec: None)
    searches: list[PlannedSearch] = []
    reasons: dict[str, list[str]] = {}  # why searches can't run → these
    left_out: dict[str, str] = {}
    names: set[str] = set()
    bases = (LITERATURE,) if campaign.literature is not None else campaign.bases or (None,)
    for base, (variant, overrides), seed in itertools.product(bases, _variants(campaign), campaign.seeds):
        name = _name(base or "random", variant, seed, names)
        try:
            own = {"seed": seed, "base": base, "candidates": campaign.candidates}
            given = {key: value for key, value in own.items() if value not in (None, LITERATURE)}
            spec = build_spec(campaign.search, overrides, given)
            if base == LITERATURE:
                search, unfit = _around_all(spec, name, variant, campaign.shard_size, families, check)
                left_out |= unfit
            else:
                check(spec)
                search = PlannedSearch.of(spec, campaign.shard_size, name=name, variant=variant)
        except ValueError as error:
            reasons.setdefault(str(error), []).append(name)
        else:
            searches.append(search)
    if reasons:
        shown = [f"{first_of(unfit, _SHOWN_NAMES, ', ')}: {why}" for why, unfit in reasons.items()]
        count = sum(map(len, reasons.values()))
        raise SpecError(f"{count} of {total} searches can't run: {first_of(shown, _SHOWN_REASONS)}")
    _check_different(searches)
    most_mb = max(each.shard_rows * (_ROW_MB + _ROW_MB_PER_ATOM * each.spec.n_unit.max) for each in searches)
    plan = Plan(campaign, tuple(searches), round(_PROCESS_MB + most_mb), tuple(left_out.items()))
    if plan.shard_count > MAX_SHARDS:
        raise SpecError(
            f"shard_size: {campaign.shard_size} makes {plan.shard_count:,} shards; a campaign holds up to "
            f"{MAX_SHARDS:,}, so give larger ones"
        )
    return plan


def _check_different(searches: Sequence[PlannedSearch]) -> None:
    """Raise SpecError for two searches whose fields are the same, however they are written."""
    same: dict[tuple[str, tuple[str, ...]], str] = {}
    for each in searches:
        first = same.setdefault((each.spec.model_dump_json(), each.bases), each.name)
        if first != each.name:
            raise SpecError(
                f"{each.name} is the same search as {first}, all its fields are equal; leave one out"
            )


def _around_all(
    spec: SearchSpec, name: str, variant: str, shard_size: int, families: Sequence[str], check: Check
) -> tuple[PlannedSearch, dict[str, str]]:
    """The search around each of the families that can be searched, and why others can't. Raises SpecError where none
    can.
    """
    if spec.row_count > shard_size:
        raise SpecError(
            f"shard_size: {shard_size} rows hold no family's {spec.row_count}; give more, or fewer candidates"
        )
    reasons: dict[str, str] = {}
    for family in families:
        try:
            check(around(spec, family))
        except ValueError as error:
            reasons[family] = str(error)
    bases = tuple(family for family in families if family not in reasons)
    if not bases:
        raise SpecError(next(iter(reasons.values()), "bases: the literature holds no family"))
    rows = shard_size // spec.row_count * spec.row_count
    return PlannedSearch(name, LITERATURE, variant, spec.seed, spec, rows, bases), reasons


def around(spec: SearchSpec, base: str) -> SearchSpec:
    """The same search with a base. Raises SpecError where it doesn't go with it."""
    return validated(SearchSpec, {**spec.model_dump(), "base": base})


def _variants(campaign: CampaignSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and overrides of each; "" where there is but one."""
    if campaign.variants:
        yield from campaign.variants.items()
        return
    keys = list(campaign.grid)
    for values in itertools.product(*campaign.grid.values()):
        overrides = dict(zip(keys, values, strict=True))
        yield "_".join(f"{k.rpartition('.')[2]}={_short(v)}" for k, v in overrides.items()), overrides


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
