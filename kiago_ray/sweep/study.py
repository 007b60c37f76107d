"""What trials teach: which point comes next, by an Optuna study whose trial number N is trial number N of the sweep,
and which fields matter, by a random forest that learns a metric from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.trial import BaseTrial, FixedTrial, TrialState, create_trial

from kiago_ray.chemistry.elements import Floats
from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.spec import Parameter, Point, Space, SweepSpec, grid_points
from kiago_ray.sweep.trials import Trial

TELLS = 0.1  # R² below which importances mean nothing
_LEAST, _ENOUGH = 4, 10  # trials, for importances and for an R²
_FITTED = 1000  # trials; more decide it no better, and take minutes
_FOLDS, _TREES, _SHUFFLES = 5, 100, 30


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
