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
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter

from kiago_ray.chemistry.elements import Mask
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
    known = finished(trials, *metrics)
    worth = np.array([[trial.worth(name) for name in metrics] for trial in known]).reshape(-1, len(metrics))
    as_good, better = worth >= worth[:, None], worth > worth[:, None]  # (trials, other trials, metrics)
    beaten: Mask = np.any(np.all(as_good, axis=2) & np.any(better, axis=2), axis=1)
    order = np.lexsort(-worth.T[::-1])
    return [known[at] for at in order if not beaten[at]]


@dataclass(frozen=True)
class Unit:
    """What is searched for by one worker: a point on some bases, seed by seed.

    folder: of its scores, below the sweep. number: of a trial; None in a comparison, where `name` is what is compared.
    """

    name: str
    folder: str
    point: Mapping[str, Any]
    bases: tuple[str | None, ...]
    seeds: tuple[int, ...]
    number: int | None = None


def trial_unit(sweep: SweepSpec, number: int, point: Point) -> Unit:
    """What a trial of the sweep searches for."""
    return Unit(f"trial {number}", trial_name(number), point, sweep.trial_bases, sweep.seeds, number)


def compare_units(sweep: SweepSpec, best: Trial | None) -> list[Unit]:
    """What the comparison searches for: the best and the others on each base; nothing without a best.

    Another point has its scores in another folder.
    """
    units: list[Unit] = []
    points = {} if best is None else {BEST: best.point, **sweep.compare.against}
    for name, point in points.items():
        spec = json.dumps(sweep.spec(point).model_dump(mode="json"), sort_keys=True)
        folder = f"compare/{name}-{hashlib.sha256(spec.encode()).hexdigest()[:8]}"
        for place, base in enumerate(sweep.compare_bases):
            units.append(Unit(name, f"{folder}/{place}", point, (base,), sweep.compare.seeds))
    return units


def trial_name(number: int) -> str:
    """A trial's folder, below the sweep."""
    return f"{TRIALS}/{number:05d}"


class Ledger:
    """The files of a sweep's trials and its comparison. Everything raises StorageError where the storage is gone."""

    def __init__(self, location: Location, sweep: SweepSpec) -> None:
        self._location, self._sweep = location, sweep

    def begin(self, number: int, point: Mapping[str, Any]) -> None:
        """Keep a trial's point, unless it is there."""
        if self._read(trial_name(number), POINT) != point:
            self._write(trial_name(number), POINT, json.dumps(point, allow_nan=False).encode())

    def keep(self, folder: str, seed: int, scores: Sequence[Score]) -> None:
        """Keep one seed's scores, in the folder of a unit."""
        self._write(folder, f"seed-{seed}.json", _SCORES.dump_json(tuple(scores)))

    def end(self, number: int, status: Status, cause: str | None = None) -> None:
        """Keep how a trial ended."""
        self._write(trial_name(number), END, json.dumps({"status": status, "cause": cause}).encode())

    def scores(self, folder: str, seeds: Sequence[int]) -> dict[int, tuple[Score, ...]]:
        """The scores that a folder has of these seeds, in their order; damaged ones count as none."""
        place = self._location / folder
        there, found = set(place.entries()), {}
        for seed in seeds:
            if f"seed-{seed}.json" in there:
                with suppress(ValueError):
                    found[seed] = _SCORES.validate_json((place / f"seed-{seed}.json").read_bytes())
        return found

    def trial(self, number: int) -> Trial | None:
        """A trial as it stands; None where its point isn't there or is damaged. A damaged end is none."""
        folder = trial_name(number)
        point, end = self._read(folder, POINT), self._read(folder, END)
        if point is None or any(name not in self._sweep.space for name in point):
            return None
        if end is None or end.get("status") not in STATUSES:
            end = {"status": "unfinished"}
        scores = self.scores(folder, self._sweep.seeds)
        if end["status"] == "finished" and len(scores) < len(self._sweep.seeds):
            end["status"] = "unfinished"  # a file of it was lost
        return Trial(number, end["status"], point, sum(scores.values(), ()), end.get("cause"))

    def trials(self) -> list[Trial]:
        """All that have begun, by number."""
        names = (self._location / TRIALS).entries()
        found = [self.trial(int(name)) for name in names if name.isdigit()]
        return [trial for trial in found if trial is not None]

    def left_to_compare(self, trials: Sequence[Trial]) -> list[Unit]:
        """What is to be searched still for the comparison of the best of these trials."""
        units = compare_units(self._sweep, best_trial(trials, self._sweep.metrics[0]))
        return [unit for unit in units if len(self.scores(unit.folder, unit.seeds)) < len(unit.seeds)]

    def _write(self, folder: str, name: str, contents: bytes) -> None:
        place = self._location / folder
        place.make_directory()
        (place / name).write_bytes(contents)

    def _read(self, folder: str, name: str) -> dict[str, Any] | None:
        """The mapping in a file; None where there is none, or half of one."""
        with suppress(ValueError):
            content = json.loads((self._location / folder / name).read_if_there() or b"null")
            return content if isinstance(content, dict) else None
        return None


class SweepWatcher:
    """Hears of everything that happens, in the thread that runs the sweep; does nothing with it. A view overrides.

    begun: the sweep starts, with the trials that an earlier process began or ended. trial_began: a trial was given
    out. seed_done: it has done so many seeds and stands at these means. trial_ended: it has finished, was stopped or
    has failed. comparing: so many searches of the comparison are done. note: what a person should know, in one line.
    """

    def begun(self, sweep: SweepSpec, before: Sequence[Trial]) -> None: ...
    def trial_began(self, trial: Trial) -> None: ...
    def seed_done(self, number: int, seeds: int, values: Mapping[str, float]) -> None: ...
    def trial_ended(self, trial: Trial) -> None: ...
    def comparing(self, done: int, total: int) -> None: ...
    def note(self, text: str) -> None: ...
