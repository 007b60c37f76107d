"""A sweep's trials: what each drew, what its searches scored, how it ended; their files on the sweep's storage; and
what they teach: which point comes next, by an Optuna study whose trial number N is trial number N of the sweep, and
which fields matter, by a random forest that learns a metric from them.

Whatever is on the storage needn't be done again, by whichever process:

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
from typing import Any, Literal, NamedTuple

import numpy as np
import optuna
from optuna.trial import BaseTrial, FixedTrial, TrialState, create_trial
from pydantic import TypeAdapter

from kiago_ray.chemistry.elements import Floats, Mask
from kiago_ray.storage.location import Location
from kiago_ray.sweep.metrics import METRICS, Mean, Score, mean_over
from kiago_ray.sweep.spec import BEST, Parameter, Point, Space, SweepSpec, grid_points

TRIALS = "trials"
POINT, END = "point.json", "end.json"
TABLE, PRESET = "trials.parquet", "best.yaml"
TELLS = 0.1  # R² below which importances mean nothing
_LEAST, _ENOUGH = 4, 10  # trials, for importances and for an R²
_FITTED = 1000  # trials; more decide it no better, and take minutes
_FOLDS, _TREES, _SHUFFLES = 5, 100, 30
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


def ranked(trials: Sequence[Trial], metric: str) -> list[Trial]:
    """The finished trials, then the stopped, the unfinished and the failed ones; of each kind the best first, the
    earliest of equals, and those without a value last.
    """

    def key(trial: Trial) -> tuple[int, float, int]:
        worth = trial.worth(metric)
        return STATUSES.index(trial.status), math.inf if math.isnan(worth) else -worth, trial.number

    return sorted(trials, key=key)


def best_trial(trials: Sequence[Trial], metric: str) -> Trial | None:
    """The finished trial that is best by the metric, the earliest of equals; None where none has a value."""
    return next(iter(ranked(finished(trials, metric), metric)), None)


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
        if (self._location / trial_name(number) / POINT).read_mapping() != point:
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
        place = self._location / trial_name(number)
        point, end = (place / POINT).read_mapping(), (place / END).read_mapping()
        if not point or any(name not in self._sweep.space for name in point):
            return None
        status: Status = end["status"] if end.get("status") in STATUSES else "unfinished"
        scores = self.scores(trial_name(number), self._sweep.seeds)
        if status == "finished" and len(scores) < len(self._sweep.seeds):
            status = "unfinished"  # a file of it was lost
        return Trial(number, status, point, sum(scores.values(), ()), end.get("cause"))

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


def make_study(
    sweep: SweepSpec, before: Sequence[Trial], storage: optuna.storages.BaseStorage | None = None
) -> optuna.Study:
    """A study that goes on from the trials of earlier processes. `draw` asks each of its trials for a point.

    It has learnt from the trials that ended. Trials that had begun come next, with the points that they had; then, of
    a grid, every point that is left, else what the sampler draws.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # No process draws with the numbers of another one, which would give it the same points.
    seed = (sweep.searcher.seed + 1_000_003 * len(before)) % 2**32
    tpe = optuna.samplers.TPESampler(seed=seed, n_startup_trials=sweep.searcher.startup)
    study = optuna.create_study(
        study_name=sweep.name,
        storage=storage,
        directions=["maximize" if METRICS[name].mode == "max" else "minimize" for name in sweep.metrics],
        sampler=tpe if sweep.searcher.kind == "tpe" else optuna.samplers.RandomSampler(seed=seed),
    )
    space, known = sweep.space, {trial.number: trial for trial in before}
    grid = grid_points(sweep.space)[: sweep.trials] if sweep.searcher.kind == "grid" else []
    for number in range(max([len(grid), *(number + 1 for number in known)])):
        trial = known.get(number)
        drawn_anew = grid[number] if grid else {}  # {}: a lost one, or one that nobody has drawn
        point = drawn_anew if trial is None else trial.point
        params = {
            name: space[name].place(each) if space[name].listed else each for name, each in point.items()
        }
        if trial is None or not trial.ended:
            study.enqueue_trial(params)
            continue
        values = [trial.mean(name).value for name in sweep.metrics]
        told = not any(map(math.isnan, values))
        state = TrialState.COMPLETE if told else TrialState.FAIL
        drawn = FixedTrial(params)
        draw(space, drawn)  # which tells it what each field is drawn from
        study.add_trial(
            create_trial(
                state=state,
                values=values if told else None,
                params=drawn.params,
                distributions=drawn.distributions,
            )
        )
    return study


def draw(space: Space, trial: BaseTrial) -> Point:
    """Ask Optuna for a value of each field that applies, by its name; of a list for the place in it."""
    point: Point = {}
    for name, parameter in space.items():
        if not parameter.applies(point):
            continue
        if parameter.listed:
            point[name] = parameter.values[trial.suggest_categorical(name, range(len(parameter.values)))]
        elif parameter.kind == "randint":
            point[name] = trial.suggest_int(name, *parameter.values)
        else:
            point[name] = trial.suggest_float(name, *parameter.values, log=parameter.kind == "loguniform")
    return point


class FieldImportance(NamedTuple):
    """value: by how much R² falls with the field shuffled; about 0 where the field doesn't matter, by chance a little
    below, above 1 where it alone decides. error: standard deviation over shuffles.
    """

    field: str
    value: float
    error: float


@dataclass(frozen=True)
class Importance:
    """Of all fields, the most important first; none where the trials can't tell at all.

    r2: part of the variance that the forest foretells of trials it hasn't seen; None with too few trials. trials: how
    many it was fitted to.
    """

    metric: str
    fields: tuple[FieldImportance, ...]
    r2: float | None
    trials: int

    @property
    def tells(self) -> bool:
        """Whether the importances mean anything."""
        return self.r2 is not None and self.r2 >= TELLS


def position(parameter: Parameter, value: Any) -> float:
    """Where a value lies among those that the parameter takes, from 0 to 1; log-uniform ones by their logarithm,
    listed ones a step each.
    """
    if parameter.listed:
        steps = len(parameter.values) - 1
        return parameter.place(value) / steps if steps else 0.5
    low, high = parameter.values
    if parameter.kind == "loguniform":
        low, high, value = map(math.log, (low, high, value))
    return float((value - low) / (high - low))


def positions(space: Space, trials: Sequence[Trial], absent: float) -> Floats:
    """Where the values of the trials lie in each field, (trials, fields); `absent` where a field doesn't apply."""
    return np.array(
        [
            [
                position(each, trial.point[name]) if name in trial.point else absent
                for name, each in space.items()
            ]
            for trial in trials
        ]
    ).reshape(len(trials), len(space))


def importances(trials: Sequence[Trial], space: Space, metric: str) -> Importance:
    """Permutation importance of the fields for the metric after the first seed, by which stopped and finished trials
    compare. A forest foretells each trial that hasn't seen it; a field that doesn't apply counts as in the middle.

    The same trials give the same importances.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold

    told = [trial for trial in trials if math.isfinite(trial.mean(metric, 1).value)]
    told = [told[at] for at in np.unique(np.linspace(0, len(told) - 1, min(len(told), _FITTED)).astype(int))]
    wanted = np.array([trial.mean(metric, 1).value for trial in told])
    if len(told) < _LEAST or not np.ptp(wanted) > 0:
        return Importance(metric, (), None, len(told))
    coded = positions(space, told, absent=0.5)
    folds = list(KFold(min(_FOLDS, len(told)), shuffle=True, random_state=0).split(coded))
    forests = [RandomForestRegressor(_TREES, random_state=0).fit(coded[i], wanted[i]) for i, _ in folds]

    def lost(copies: Floats) -> Floats:
        """The part of the variance that isn't foretold (copies,) of copies (copies, trials, fields) of the trials."""
        foretold = np.empty(copies.shape[:2])
        for forest, (_, held) in zip(forests, folds, strict=True):
            foretold[:, held] = forest.predict(copies[:, held].reshape(-1, len(space))).reshape(-1, len(held))
        return np.asarray(np.square(foretold - wanted).mean(axis=1) / wanted.var())

    own, fields = float(lost(coded[None])[0]), []
    for place, name in enumerate(space):
        copies = np.repeat(coded[None], _SHUFFLES, axis=0)
        copies[:, :, place] = np.random.default_rng(place).permuted(copies[:, :, place], axis=1)
        falls = lost(copies) - own
        fields.append(FieldImportance(name, float(falls.mean()), float(falls.std())))
    fields.sort(key=lambda each: -each.value)
    return Importance(metric, tuple(fields), 1 - own if len(told) >= _ENOUGH else None, len(told))
