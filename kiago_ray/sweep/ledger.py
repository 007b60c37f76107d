"""A sweep's trials on its storage: what was drawn, each seed's scores, how it ended. Whatever is there needn't be done
again, by whichever process.

    trials/00003/point.json     what was drawn, written before it runs
    trials/00003/seed-1.json    the scores of one seed on all bases, written by whoever ran them
    trials/00003/end.json       how it ended
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from kiago_ray.storage.location import Location
from kiago_ray.sweep.metrics import Score
from kiago_ray.sweep.space import Point, decoded
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import Status, Trial

TRIALS = "trials"
POINT, END = "point.json", "end.json"


def trial_name(number: int) -> str:
    """A trial's folder, below the sweep."""
    return f"{TRIALS}/{number:05d}"


def write_scores(sweep: Location, folder: str, seed: int, scores: Sequence[Score]) -> None:
    """Keep one seed's scores. Raises StorageError."""
    plain = [{**asdict(score), "values": _without_nan(score.values)} for score in scores]
    _write(sweep, folder, f"seed-{seed}.json", plain)


def read_scores(sweep: Location, folder: str, seeds: Sequence[int]) -> dict[int, tuple[Score, ...]]:
    """The scores that are there of these seeds, in their order. Raises StorageError."""
    there = set((sweep / folder).entries())
    found = {
        seed: _read(sweep / folder / f"seed-{seed}.json") for seed in seeds if f"seed-{seed}.json" in there
    }
    return {
        seed: tuple(
            Score(
                **{**plain, "values": {k: math.nan if v is None else v for k, v in plain["values"].items()}}
            )
            for plain in scores
        )
        for seed, scores in found.items()
        if scores is not None
    }


class Ledger:
    """The trials of one sweep. Everything raises StorageError where the storage is gone."""

    def __init__(self, location: Location, sweep: SweepSpec) -> None:
        self._location, self._sweep = location, sweep

    def begin(self, number: int, drawn: Point) -> None:
        """Keep what a trial draws."""
        _write(self._location, trial_name(number), POINT, drawn)

    def end(self, number: int, status: Status, cause: str | None = None) -> None:
        """Keep how a trial ended."""
        _write(self._location, trial_name(number), END, {"status": status, "cause": cause})

    def trial(self, number: int) -> Trial | None:
        """A trial as it stands; None where its point isn't there or is damaged. A damaged end is none."""
        folder = trial_name(number)
        drawn, end = (_read(self._location / folder / name) for name in (POINT, END))
        if not isinstance(drawn, dict) or any(name not in self._sweep.space for name in drawn):
            return None
        scores = read_scores(self._location, folder, self._sweep.seeds)
        status: Status = "unfinished"
        if isinstance(end, dict) and end.get("status") in ("finished", "stopped", "failed"):
            status = end["status"]
        if status == "finished" and len(scores) < len(self._sweep.seeds):
            status = "unfinished"  # a file of it was lost
        return Trial(
            number,
            f"{number:05d}",
            status,
            decoded(self._sweep.space, drawn),
            tuple(score for each in scores.values() for score in each),
            end.get("cause") if isinstance(end, dict) else None,
        )

    def drawn(self, number: int) -> Point:
        """What a trial that has begun draws."""
        plain = _read(self._location / trial_name(number) / POINT)
        assert isinstance(plain, dict)
        return plain

    def trials(self) -> list[Trial]:
        """All that have begun, by number."""
        names = (self._location / TRIALS).entries()
        found = [self.trial(int(name)) for name in names if name.isdigit()]
        return [trial for trial in found if trial is not None]


def _write(location: Location, folder: str, name: str, plain: Any) -> None:
    (location / folder).make_directory()
    (location / folder / name).write_bytes(json.dumps(plain, allow_nan=False).encode())


def _read(place: Location) -> Any:
    """What a file holds; None where there is none, or half of one."""
    if place.kind() != "file":
        return None
    try:
        return json.loads(place.read_bytes())
    except ValueError:
        return None


def _without_nan(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}
