"""A run directory: one search or campaign, its specification and what came of it. It never takes a second one.

`spec.yaml` holds what makes the run this one (its specification, the weights' hashes), the SHA-256 over that, anything
else worth knowing (versions), and whether the run is finished, with the files that belong to it. `summary.json` holds
the numbers that came of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from pydantic import TypeAdapter

from kiago_ray import __version__
from kiago_ray.errors import KiagoError, first_of
from kiago_ray.screening.screens import Summary, TopMean
from kiago_ray.storage.location import Location, MissingError, StorageError, Where, read_all

SPEC, CANDIDATES, TOP, REPORT = "spec.yaml", "candidates.parquet", "top.csv", "report.html"
SUMMARY = "summary.json"
IDENTITY = "identity"  # of a record: the SHA-256 over what makes the run this one
_HEADER = "# The complete specification of this run, with every default. Written by kiago-ray; don't edit.\n"
_SHOWN_DIFFERENCES = 3
_ABSENT = "absent"
adapter = cache(TypeAdapter[Any])  # to make one takes longer than to read by it
_PACKAGES = ("torch", "numpy", "lightgbm", "pyarrow", "ray", "mlflow")


class RunDirectoryError(StorageError):
    """A directory that can't hold this run, or holds none. The message is one line: why, and what to do."""


class DamagedError(KiagoError):
    """Files of a run that aren't what they should be. The message is one line: which, and what is wrong."""


@dataclass(frozen=True)
class RunDirectory:
    """A directory that holds this run and no other. record: what its spec.yaml says."""

    location: Location
    record: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """Whether the run is done and every file of it is there, so that nothing need be done again."""
        files = [self.location / name for name in self.record.get("outputs", ())]
        return self.record.get("finished") is True and all(file.kind() == "file" for file in files)

    def finish(self, outputs: Sequence[str]) -> RunDirectory:
        """Record that the run is done and which files came of it."""
        return _write(self.location, self.record, outputs)

    def reopen(self) -> RunDirectory:
        """Record that the run is to be done again, in part."""
        record = {key: value for key, value in self.record.items() if key != "outputs"}
        return _write(self.location, record, None)


def open_run(
    where: Where, identity: Mapping[str, Any], about: Mapping[str, Any] | None = None
) -> RunDirectory:
    """The directory for the run that `identity` defines: made, or found with the same run in it.

    identity: what makes results the same, plain types alone: the specification, the weights' hashes. about:
    what is good to know but may change, such as versions. A found run that isn't finished is to be done
    again, in place; one that is `finished` is left exactly as it is.

    Raises RunDirectoryError, and changes nothing, for a file, a directory that holds another run or
    anything else, a damaged spec.yaml, and a place that can't be written to.
    """
    try:
        found = find_run(where, identity)
        if found is not None and found.finished:
            return found
        location = Location.of(where)
        location.make_directory()
        return write_run(location, identity, about or {})
    except RunDirectoryError:
        raise
    except StorageError as error:
        raise RunDirectoryError(f"{error}; choose another output directory") from error


def write_run(
    location: Location,
    identity: Mapping[str, Any],
    about: Mapping[str, Any],
    outputs: Sequence[str] | None = None,
) -> RunDirectory:
    """Write the record of a run over any other that is. outputs: the files of a run that is finished. The keys are as
    in `open_run`.
    """
    record = {**identity, **about, IDENTITY: digest_of(identity)}
    return _write(location, _plain(record), outputs)


def find_run(where: Where, identity: Mapping[str, Any]) -> RunDirectory | None:
    """The run that `identity` defines where it is there already; nothing is written. Raises as `open_run` does."""
    location, identity = Location.of(where), _plain(identity)
    if location.kind() == "file":
        raise RunDirectoryError(f"{location.text} is a file; give a directory, new or empty")
    record = _read(location)
    if record is None:
        others = [name for name in location.entries() if not name.startswith(".")]
        if others:
            raise RunDirectoryError(
                f"{location.text} holds files ({others[0]}) but no run; give a directory, new or empty"
            )
        return None
    stored = {key: record[key] for key in identity if key in record}
    if record[IDENTITY] != digest_of(identity) or stored != identity:
        raise RunDirectoryError(
            f"{location.text} holds another run ({_differences(stored, identity)}); choose another output "
            "directory, or remove that one"
        )
    return RunDirectory(location, record)


def read_run(where: Where) -> RunDirectory:
    """The run in a directory, whichever it is. Raises RunDirectoryError, StorageError."""
    location = Location.of(where)
    record = _read(location)
    if record is None:
        raise RunDirectoryError(f"{location.text} holds no run (it has no {SPEC}); check the path")
    return RunDirectory(location, record)


def _read(location: Location) -> dict[str, Any] | None:
    """What spec.yaml holds; None where there is none."""
    place = location / SPEC
    content = place.read_if_there()
    if content is None:
        return None
    try:
        record = yaml.safe_load(content.decode("utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RunDirectoryError(
            f"{place.text} can't be read as YAML; choose another output directory"
        ) from error
    if not isinstance(record, dict) or IDENTITY not in record:
        raise RunDirectoryError(f"{place.text} is not the record of a run; choose another output directory")
    return record


def _write(location: Location, record: Mapping[str, Any], outputs: Sequence[str] | None) -> RunDirectory:
    done = {} if outputs is None else {"outputs": list(outputs)}
    record = {**record, "finished": outputs is not None, **done}
    text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True, width=110)
    location.write_all({SPEC: _HEADER + text})
    return RunDirectory(location, record)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as JSON has them, so that what is read back equals what was written."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(values), allow_nan=False))
    return plain


def digest_of(identity: Mapping[str, Any]) -> str:
    """SHA-256 of what makes a run this one, whatever the order of the keys."""
    return hashlib.sha256(json.dumps(_plain(identity), sort_keys=True).encode("utf-8")).hexdigest()


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The first few values that differ, for a message."""
    old, new = dict(leaves(there)), dict(leaves(here))
    keys = [key for key in {**new, **old} if old.get(key, _ABSENT) != new.get(key, _ABSENT)]
    shown = [f"{key} is {old.get(key, _ABSENT)} there, {new.get(key, _ABSENT)} here" for key in keys]
    if not shown:
        return "its spec.yaml was changed by hand, or is of another version"
    return first_of(shown, _SHOWN_DIFFERENCES)


@dataclass(frozen=True)
class SearchResults:
    """What came of one search, or of the shards of it that are done.

    wall_s: of all its shards together. finished_at: of the last one, in seconds since 1970. sources: SHA-256 over
    its shards' SHA-256, "" where it ran in one piece. outputs: its files but summary.json → their SHA-256. machines:
    the kinds on which its shards were made (`kinds_of`).
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
    outputs: Mapping[str, str]
    machines: tuple[Mapping[str, Any], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all its shards are in it."""
        return self.shards_done == self.shards

    @property
    def files(self) -> list[str]:
        """The names of its files."""
        return [*self.outputs, SUMMARY]

    def best(self, k: int) -> TopMean:
        """What the summary says of the best k."""
        return next((each for each in self.summary.top if each.k == k), TopMean(k, 0, None))

    def gain_k(self, k: int) -> float | None:
        """ΔT_c in K of the best k; where there is no base, their mean T_c. None where nothing passed."""
        best = self.best(k)
        return best.mean_tc_k if self.summary.base is None else best.delta_tc_k

    def is_short(self, k: int) -> bool:
        """Whether something passed, but fewer formulas than k."""
        return 0 < self.best(k).used < k

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain types, for JSON."""
        return {**asdict(self), "complete": self.complete, "summary": self.summary.to_dict()}


@dataclass(frozen=True)
class CampaignResults:
    """What came of a campaign so far.

    candidates: rows planned. rows: rows done. best: the first rows of its table, with BEST_COLUMNS. top, ranked_by,
    gains, left_out, sources: as in Summary. new_systems: how many that passed and are neither known nor tried are of
    chemical systems without a known superconductor; None where nothing was held against any. failures: shard → cause.
    damaged: what was wrong with files that were found. outputs, machines: as in SearchResults.
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
    top: tuple[TopMean, ...]
    best: tuple[Mapping[str, Any], ...]
    ranked_by: str
    gains: int | None
    left_out: int
    new_systems: int | None
    sources: Mapping[str, int]
    failures: Mapping[str, str]
    damaged: tuple[str, ...]
    outputs: Mapping[str, str]
    machines: tuple[Mapping[str, Any], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every shard is done."""
        return self.shards_done == self.shards

    @property
    def files(self) -> list[str]:
        """The names of its files, but for those of its searches and shards."""
        return [*self.outputs, SUMMARY]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain types, for JSON."""
        return {**asdict(self), "complete": self.complete}


Results = TypeVar("Results", SearchResults, CampaignResults)


def read_results(folder: Location, kind: type[Results]) -> Results | None:
    """What came of the search or campaign in a directory, None where it isn't there yet. Raises DamagedError,
    StorageError.
    """
    content = (folder / SUMMARY).read_if_there()
    try:
        return None if content is None else adapter(kind).validate_json(content)  # type: ignore[arg-type]
    except ValueError as error:
        raise DamagedError(
            f"{(folder / SUMMARY).text} is no summary of this version; run the campaign again"
        ) from error


def changed_files(folder: Location, results: SearchResults | CampaignResults) -> list[str]:
    """What is wrong with the files of a search or campaign, by the hashes in its summary. Raises StorageError."""

    def wrong(name: str) -> str | None:
        try:
            whole = (folder / name).sha256() == results.outputs[name]
        except MissingError:
            return f"{(folder / name).text} is missing"
        return (
            None
            if whole
            else f"{(folder / name).text} was cut off or changed: its SHA-256 is not its summary's"
        )

    return [text for text in read_all(wrong, results.outputs) if text is not None]


def whole_results(directory: RunDirectory, kind: type[Results]) -> Results | None:
    """The results of a search or a campaign that is done and whose files are what they were; None where it has to be
    run (again). Raises StorageError.
    """
    with suppress(DamagedError):
        results = read_results(directory.location, kind) if directory.record.get("finished") is True else None
        if results and not changed_files(directory.location, results):
            return results
    return None


def summary_json(results: SearchResults | CampaignResults) -> str:
    """The text of summary.json."""
    return json.dumps(results.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings under dotted keys."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def cpu_name() -> str:
    """The processor's model where the system tells it."""
    told = Path("/proc/cpuinfo")
    found = re.search(
        r"^model name\s*:\s*(.+)$", told.read_text("utf-8") if told.is_file() else "", re.MULTILINE
    )
    return found[1] if found else platform.processor() or platform.machine()


def git_commit() -> str | None:
    """The commit that this code is of, with "-dirty" for changes since: KIAGO_GIT_COMMIT, which an image sets, or what
    git says of the checkout. None for an installed package.
    """
    if named := os.environ.get("KIAGO_GIT_COMMIT"):
        return named[:80]
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def versions() -> dict[str, Any]:
    """Versions of the project and of what decides its figures, and the processor."""
    return {
        "kiago_ray": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "git": git_commit(),
        "cpu": cpu_name(),
    }


def provenance() -> dict[str, Any]:
    """The versions, and the threads and devices of this process."""
    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    return {**versions(), "threads": torch.get_num_threads(), "devices": devices}
