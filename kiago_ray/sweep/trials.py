"""A sweep's trials: what each drew, what its searches scored, how it ended; and their files on the sweep's storage.

Whatever is there needn't be done again, by whichever process:

    trials/00003/point.json     the point, written before it is searched for
    trials/00003/seed-1.json    the scores of one seed on all bases, written by whoever ran them
    trials/00003/end.json       how it ended
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from kiago_ray.storage.location import Location
from kiago_ray.sweep.metrics import METRICS, Mean, Score, mean_over
from kiago_ray.sweep.spec import BEST, Point, SweepSpec

TRIALS = "trials"
POINT, END = "point.json", "end.json"
TABLE, PRESET, SUMMARY = "trials.parquet", "best.yaml", "summary.json"
_SCORES = TypeAdapter(tuple[Score, ...])

Status = Literal["finished", "stopped", "failed", "unfinished"]
STATUSES: tuple[Status, ...] = ("finished", "stopped", "unfinished", "failed")


@dataclass(frozen=True)
class Trial:
    """A point and its scores, seed by seed, the bases of a seed together.

    number: from 0 in the order of their beginning. status: finished (all seeds), stopped (by the scheduler), failed
    (`cause` says why), unfinished (under way when the sweep was stopped).
    """

    number: int
    status: Status
    point: Point
    scores: tuple[Score, ...]
    cause: str | None = None

    @property
    def id(self) -> str:
        """Its number, as its folder has it."""
        return f"{self.number:05d}"

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to be had of it; what failed may be tried again."""
        return self.status in ("finished", "stopped")

    @property
    def seeds(self) -> int:
        """How many seeds are done."""
        return len({score.seed for score in self.scores})

    @property
    def row_steps(self) -> int:
        """Rows × steps of all its searches."""
        return sum(score.row_steps for score in self.scores)

    @property
    def seconds(self) -> float:
        """Wall time of all its searches, in s."""
        return sum(score.seconds for score in self.scores)

    def mean(self, metric: str, seeds: int | None = None) -> Mean:
        """A metric after all that it has done, or after its first `seeds` seeds; NaN where it has done nothing."""
        kept = list(dict.fromkeys(score.seed for score in self.scores))[:seeds]
        return mean_over([score for score in self.scores if score.seed in kept], metric)

    def worth(self, metric: str) -> float:
        """Its mean, with the sign turned where less is better: the higher, the better. NaN where it is unknown."""
        return METRICS[metric].sign * self.mean(metric).value


def finished(trials: Sequence[Trial], *metrics: str) -> list[Trial]:
    """Those that have done all seeds, which alone are compared with one another, and have a value of each metric."""
    whole = [trial for trial in trials if trial.status == "finished"]
    return [trial for trial in whole if not any(math.isnan(trial.mean(name).value) for name in metrics)]


def best_trial(trials: Sequence[Trial], metric: str) -> Trial | None:
    """The finished trial that is best by the metric, the earliest of equals; None where none has a value."""
    known = finished(trials, metric)
    return max(known, key=lambda trial: (trial.worth(metric), -trial.number), default=None)


def front(trials: Sequence[Trial], metrics: Sequence[str]) -> list[Trial]:
    """Finished trials that no other one beats in one metric without losing in another, best by the first first."""
    known = [(tuple(map(trial.worth, metrics)), trial) for trial in finished(trials, *metrics)]

    def beats(other: tuple[float, ...], own: tuple[float, ...]) -> bool:
        return other != own and all(a >= b for a, b in zip(other, own, strict=True))

    kept = [(own, trial) for own, trial in known if not any(beats(other, own) for other, _ in known)]
    return [trial for _, trial in sorted(kept, key=lambda each: each[0], reverse=True)]


@dataclass(frozen=True)
class Unit:
    """What is searched for by one worker: a point on some bases, seed by seed.

    folder: of its scores, below the sweep. number: of a trial; None in a comparison, where `name` is what is compared.
    """

    name: str
    folder: str
    point: Mapping[str, Any]
    bases: tuple[str | None, ...]
    number: int | None = None

    @property
    def is_trial(self) -> bool:
        """Whether it is a trial, not a part of the comparison."""
        return self.number is not None

    def seeds(self, sweep: SweepSpec) -> tuple[int, ...]:
        """The seeds that it is searched for with."""
        return sweep.seeds if self.is_trial else sweep.compare.seeds


def trial_unit(sweep: SweepSpec, number: int, point: Point) -> Unit:
    """What a trial of the sweep searches for."""
    return Unit(f"trial {number}", trial_name(number), point, sweep.trial_bases, number)


def compare_units(sweep: SweepSpec, best: Trial | None) -> list[Unit]:
    """What the comparison searches for: the best and the others on each base; nothing without a best.

    Another point has its scores in another folder.
    """
    if best is None:
        return []
    return [
        Unit(name, f"compare/{name}-{_digest(sweep, point)}/{place}", point, (base,))
        for name, point in {BEST: best.point, **sweep.compare.against}.items()
        for place, base in enumerate(sweep.compare_bases)
    ]


def _digest(sweep: SweepSpec, point: Mapping[str, Any]) -> str:
    values = sweep.spec(point).model_dump(mode="json")
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def trial_name(number: int) -> str:
    """A trial's folder, below the sweep."""
    return f"{TRIALS}/{number:05d}"


def write_scores(sweep: Location, folder: str, seed: int, scores: Sequence[Score]) -> None:
    """Keep one seed's scores. Raises StorageError."""
    _write(sweep / folder, f"seed-{seed}.json", _SCORES.dump_json(tuple(scores)))


def read_scores(sweep: Location, folder: str, seeds: Sequence[int]) -> dict[int, tuple[Score, ...]]:
    """The scores that are there of these seeds, in their order; damaged ones count as none. Raises StorageError."""
    there = set((sweep / folder).entries())
    found: dict[int, tuple[Score, ...]] = {}
    for seed in seeds:
        if f"seed-{seed}.json" in there:
            try:
                found[seed] = _SCORES.validate_json((sweep / folder / f"seed-{seed}.json").read_bytes())
            except ValueError:
                continue
    return found


class Ledger:
    """The files of one sweep's trials. Everything raises StorageError where the storage is gone."""

    def __init__(self, location: Location, sweep: SweepSpec) -> None:
        self._location, self._sweep = location, sweep

    def begin(self, number: int, point: Point) -> None:
        """Keep a trial's point, unless it is there."""
        folder = self._location / trial_name(number)
        if _read(folder / POINT) != point:
            _write(folder, POINT, json.dumps(point, allow_nan=False).encode())

    def end(self, number: int, status: Status, cause: str | None = None) -> None:
        """Keep how a trial ended."""
        end = json.dumps({"status": status, "cause": cause}).encode()
        _write(self._location / trial_name(number), END, end)

    def trial(self, number: int) -> Trial | None:
        """A trial as it stands; None where its point isn't there or is damaged. A damaged end is none."""
        folder = trial_name(number)
        point, end = (_read(self._location / folder / name) for name in (POINT, END))
        if point is None or any(name not in self._sweep.space for name in point):
            return None
        if end is not None and end.get("status") not in STATUSES:
            end = None
        scores = read_scores(self._location, folder, self._sweep.seeds)
        status: Status = "unfinished" if end is None else end["status"]
        if status == "finished" and len(scores) < len(self._sweep.seeds):
            status = "unfinished"  # a file of it was lost
        flat = tuple(score for each in scores.values() for score in each)
        return Trial(number, status, point, flat, None if end is None else end.get("cause"))

    def trials(self) -> list[Trial]:
        """All that have begun, by number."""
        names = (self._location / TRIALS).entries()
        found = [self.trial(int(name)) for name in names if name.isdigit()]
        return [trial for trial in found if trial is not None]


def _write(folder: Location, name: str, contents: bytes) -> None:
    folder.make_directory()
    (folder / name).write_bytes(contents)


def _read(place: Location) -> dict[str, Any] | None:
    """The mapping in a file; None where there is none, or half of one."""
    found = place.read_if_there()
    try:
        content = None if found is None else json.loads(found)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


class SweepWatcher:
    """Hears of everything that happens, in the thread that runs the sweep; does nothing with it. A view overrides."""

    def begun(self, sweep: SweepSpec, before: Sequence[Trial]) -> None:
        """The sweep starts, with these trials begun or ended by an earlier process."""

    def trial_began(self, trial: Trial) -> None:
        """A trial was given out."""

    def seed_done(self, number: int, seeds: int, values: Mapping[str, float]) -> None:
        """A trial has done so many seeds and stands at these means."""

    def trial_ended(self, trial: Trial) -> None:
        """A trial has finished, was stopped or has failed."""

    def comparing(self, done: int, total: int) -> None:
        """So many searches of the comparison are done."""

    def note(self, text: str) -> None:
        """Something that a person should know, in one line."""
