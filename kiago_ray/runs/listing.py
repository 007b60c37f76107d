"""The runs in a directory in a line each, and what two runs differ in: read from their files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kiago_ray.runs.lease import living_driver
from kiago_ray.runs.shards import SEARCHES
from kiago_ray.screening.candidates import identity
from kiago_ray.storage.location import Location, StorageError, Where, read_all
from kiago_ray.storage.run_directory import (
    CANDIDATES,
    SPEC,
    SUMMARY,
    CampaignResults,
    DamagedError,
    RunDirectory,
    RunDirectoryError,
    SearchResults,
    leaves,
    read_results,
    read_run,
)
from kiago_ray.storage.table import opened, read_table

KINDS = (
    "campaign",
    "sweep",
    "paper",
    "baseline",
    "search",
)  # keys of spec.yaml, the first that is there counts
MOST_LISTED = 1000
RUNNING = "running"
_NAMED = 3  # bases
_BESIDE = ("mlartifacts",)  # MLflow's, beside runs
_NO_FIELDS = ("identity", "finished", "outputs", "campaign_id", "sweep_id")
_FEW = 5  # formulas that are named


@dataclass(frozen=True)
class RunLine:
    """What a run was. changed_at: when its spec.yaml was written last, in seconds since 1970. rows: unique formulas.
    best_tc_k: the highest predicted T_c among those that passed. state: finished, running, how far it is, or what is
    wrong with it. All but name and state are None where they can't be told.
    """

    name: str
    state: str
    kind: str | None = None
    base: str | None = None
    preset: str | None = None
    changed_at: float | None = None
    rows: int | None = None
    best_tc_k: float | None = None


Remembered = dict[str, tuple[Mapping[str, tuple[int, int]], RunLine | None]]
"""Place → the stamps of its files when it was looked at, and what it was."""


def listed(where: Where, remembered: Remembered | None = None) -> tuple[list[RunLine], int]:
    """The runs in a directory, the latest first, then what is damaged or no run; and how many aren't listed. Of a
    directory that is a run itself, that run and its searches. remembered: of earlier looks, to be kept for the next:
    what has changed no file since is known by one list of its files. Raises StorageError where it can't be read.
    """
    place = Location.of(where)
    if place.kind() == "file":
        raise RunDirectoryError(f"{place.text} is a file; give a directory that holds runs")
    if (place / SPEC).read_if_there() is None:
        own, parent = [], place
    else:
        own, parent = [place], place / SEARCHES
    names = [name for name in parent.entries() if not name.startswith(".") and name not in _BESIDE]
    if not own and not names:
        raise RunDirectoryError(
            f"{place.text} holds no runs; check the path, or start one with `kiago search`"
        )
    places = [*own, *(parent / name for name in names[:MOST_LISTED])]
    before = {} if remembered is None else dict(remembered)
    seen = read_all(lambda place: _look(place, before), places)
    if remembered is not None:
        remembered.clear()
        remembered |= {place.text: each for place, each in zip(places, seen, strict=True)}
    lines = [line for _, line in seen if line is not None]
    lines.sort(key=lambda line: (line.kind is None, -(line.changed_at or 0.0)))
    return lines, max(0, len(names) - MOST_LISTED)


def _look(place: Location, before: Remembered) -> tuple[Mapping[str, tuple[int, int]], RunLine | None]:
    """The stamps of a run's files, and what it was; read where a stamp is another one, or where it was running: that
    ends by itself.
    """
    try:
        stamps = place.versions()
    except StorageError:  # as of a file
        return {}, run_line(place)
    known = before.get(place.text)
    if known is not None and known[0] == stamps and not (known[1] and known[1].state == RUNNING):
        return known
    return stamps, run_line(place)


def run_line(place: Location) -> RunLine | None:
    """What a run was; None for a file. What can't be read is said in its state."""
    name = place.name
    try:
        if place.kind() == "file":
            return None
        if (place / SPEC).read_if_there() is None:
            return RunLine(name, "no run")
        directory = read_run(place)
    except RunDirectoryError:
        return RunLine(name, f"unreadable {SPEC}")
    except StorageError as error:
        return RunLine(name, str(error))
    record = directory.record
    kind = kind_of(record)
    told: dict[str, Any] = {
        "kind": kind,
        "base": _base(record),
        "preset": _preset(record),
        "changed_at": (place / SPEC).changed_at(),
    }
    if kind is None:
        return RunLine(name, "no run")
    try:
        return RunLine(name, **told, **_findings(directory, kind))
    except DamagedError:
        return RunLine(name, f"unreadable {SUMMARY}", **told)
    except StorageError:
        return RunLine(name, f"unreadable {CANDIDATES}", **told)


def kind_of(record: Mapping[str, Any]) -> str | None:
    """What kind of run a record is of; None where it is of none."""
    return next((kind for kind in KINDS if kind in record), None)


def _part(record: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    """A mapping within a record; {} where there is none."""
    for name in names:
        found = record.get(name)
        record = found if isinstance(found, Mapping) else {}
    return record


def _base(record: Mapping[str, Any]) -> str | None:
    if base := _part(record, "search").get("base"):
        return str(base)
    own = _part(record, "campaign") or _part(record, "sweep")
    if own.get("literature") is not None or record.get("families"):
        return "literature"
    bases = own.get("bases")
    if not isinstance(bases, list):
        return str(bases) if bases else None
    more = f" and {len(bases) - _NAMED} more" if len(bases) > _NAMED else ""
    return ", ".join(map(str, bases[:_NAMED])) + more or None


def _preset(record: Mapping[str, Any]) -> str | None:
    named = record.get("preset")
    for kind in ("campaign", "sweep"):
        if kind in record:
            named = _part(record, kind, "search").get("preset", "default")
    return str(named) if isinstance(named, str) else None


def _findings(directory: RunDirectory, kind: str) -> dict[str, Any]:
    """State, rows and best T_c. Raises DamagedError, StorageError."""
    place, results = directory.location, None
    if kind == "campaign":
        results = read_results(place, CampaignResults)
        state = _state(
            directory, None if results is None else (results.shards_done, results.shards, "shards")
        )
        if results is not None and results.failures and not directory.finished:
            state += f", {len(results.failures)} failed"
        rows = results.unique if results else None
    elif kind in ("search", "baseline"):
        found = read_results(place, SearchResults)
        state = _state(directory, None if found is None else (found.shards_done, found.shards, "shards"))
        rows = found.summary.unique if found else None
    else:
        told = (place / SUMMARY).read_mapping()
        ended = sum(_part(told, "trials").get(each, 0) for each in ("finished", "stopped"))
        state = (
            ""
            if kind == "paper"
            else _state(directory, (ended, told.get("planned", 0), "trials") if told else None)
        )
        rows = None
    best = None if rows is None else _best_tc_k(place / CANDIDATES)
    return {"state": state, "rows": rows, "best_tc_k": best}


def _state(directory: RunDirectory, parts: tuple[int, int, str] | None) -> str:
    if directory.finished:
        return "finished"
    if living_driver(directory.location):
        return RUNNING
    if directory.record.get("finished") is True:
        return "files are missing"
    return "{} of {} {}".format(*parts) if parts and parts[0] < parts[1] else "unfinished"


def _best_tc_k(table: Location) -> float | None:
    """The highest T_c of those that passed, of a table's first row group, which has the first 65,536 rows."""
    with opened(table) as file:
        if not file.num_row_groups:
            return None
        rows = file.read_row_group(0, columns=["tc_k", "passed"])
    values = rows.filter(rows["passed"])["tc_k"].drop_null().to_numpy()
    return float(values.max()) if len(values) else None


@dataclass(frozen=True)
class Side:
    """One of two runs that are compared. rows: unique formulas. only: those that the other lacks, the first of them
    by rank. best_tc_k: the highest T_c predicted of what passed.
    """

    name: str
    kind: str | None
    rows: int
    passed: int
    best_tc_k: float | None
    only: int
    only_first: tuple[str, ...]

    @property
    def passed_share(self) -> float | None:
        """The share of the rows that passed; None without rows."""
        return self.passed / self.rows if self.rows else None


@dataclass(frozen=True)
class Comparison:
    """Two runs. fields: name → its value in either, of those that differ; "absent" where one has none. sides: None
    where a run has no table of candidates. both: formulas in both. changed_tc: of these, how many have a T_c that
    differs by more than 1 K.
    """

    fields: Mapping[str, tuple[Any, Any]]
    sides: tuple[Side, Side] | None
    both: int = 0
    changed_tc: int = 0


def compared(first: Where, second: Where) -> Comparison:
    """What two runs differ in. Raises StorageError where one can't be read, or is none."""
    runs = read_run(first), read_run(second)
    records = [dict(leaves({k: v for k, v in run.record.items() if k not in _NO_FIELDS})) for run in runs]
    names = dict.fromkeys([*records[0], *records[1]])
    pairs = {name: tuple(record.get(name, "absent") for record in records) for name in names}
    fields = {name: (pair[0], pair[1]) for name, pair in pairs.items() if pair[0] != pair[1]}
    if any((run.location / CANDIDATES).kind() != "file" for run in runs):
        return Comparison(fields, None)
    tables = [
        read_table(run.location / CANDIDATES, ("formula", "tc_k", "passed")).to_pylist() for run in runs
    ]
    rows: list[dict[str, Any]] = [{identity(row["formula"]): row for row in table} for table in tables]
    both = rows[0].keys() & rows[1].keys()
    moved = [abs((rows[0][key]["tc_k"] or 0.0) - (rows[1][key]["tc_k"] or 0.0)) for key in both]
    sides = [
        _side(run, own, [row["formula"] for key, row in own.items() if key not in both])
        for run, own in zip(runs, rows, strict=True)
    ]
    return Comparison(fields, (sides[0], sides[1]), len(both), sum(each > 1 for each in moved))


def _side(run: RunDirectory, rows: Mapping[str, Mapping[str, Any]], only: Sequence[str]) -> Side:
    passed = [row["tc_k"] for row in rows.values() if row["passed"]]
    known = [tc for tc in passed if tc is not None]
    best = max(known) if known else None
    return Side(
        run.location.text, kind_of(run.record), len(rows), len(passed), best, len(only), tuple(only[:_FEW])
    )
