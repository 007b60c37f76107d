"""How much each field decides a metric: what a random forest loses when the field is shuffled among the trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.sweep.space import Parameter, is_number
from kiago_ray.sweep.trials import Trial

TELLS = 0.1  # R² below which importances mean nothing
_LEAST, _ENOUGH = 4, 10  # trials, for importances and for an R²
_FOLDS, _REPEATS, _SHUFFLES = 5, 3, 10
_TREES = 100
_FITTED = 1000  # trials; more decide it no better, and take minutes
_ABSENT = -1.0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FieldImportance:
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


def first_value(trial: Trial, metric: str) -> float:
    """The metric after a trial's first seed, by which stopped and finished trials compare; NaN without one."""
    return trial.mean(metric, 1).value


def position(parameter: Parameter, value: Any) -> float:
    """Where a value lies among those that the parameter takes, from 0 to 1; log-uniform ones by their logarithm,
    listed ones a step each, numbers in their order and other values as they are listed.
    """
    if parameter.listed:
        places = [parameter.place(each) for each in ordered(parameter)]
        return places.index(parameter.place(value)) / (len(places) - 1) if len(places) > 1 else 0.5
    low, high = parameter.values
    if parameter.kind == "loguniform":
        low, high, value = (math.log(each) for each in (low, high, value))
    return float((value - low) / (high - low))


def ordered(parameter: Parameter) -> list[Any]:
    """The listed values in the order of `position`."""
    values = list(parameter.values)
    return sorted(values) if all(map(is_number, values)) else values


def importances(trials: Sequence[Trial], fields: Mapping[str, Parameter], metric: str) -> Importance:
    """Permutation importance, on trials held out from the forest, of the fields for the metric after the first seed.

    A field that others depend on is shuffled together with them; one that applies to some trials only, among these.
    The same trials give the same importances.
    """
    told = [trial for trial in trials if math.isfinite(first_value(trial, metric))]
    kept = np.unique(np.linspace(0, len(told) - 1, min(len(told), _FITTED)).astype(int))
    told = [told[place] for place in kept]
    wanted = np.array([first_value(trial, metric) for trial in told])
    if len(told) < _LEAST or not np.ptp(wanted) > 0:
        return Importance(metric, (), None, len(told))
    error, rises = _errors(_coded(told, fields), wanted, _together(fields))
    variance = float(wanted.var())
    found = [
        FieldImportance(name, float(rise.mean()) / variance, float(rise.std()) / variance)
        for name, rise in zip(fields, rises, strict=True)
    ]
    r2 = 1 - error / variance if len(told) >= _ENOUGH else None
    return Importance(metric, tuple(sorted(found, key=lambda each: -each.value)), r2, len(told))


def _errors(coded: Array, wanted: Array, together: Sequence[Sequence[int]]) -> tuple[float, Array]:
    """The mean square error on held-out trials, and by how much shuffling each field raises it.

    coded: (trials, fields). wanted: (trials,). The rises: (fields, repeats × shuffles).
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import RepeatedKFold

    trials, fields = coded.shape
    folds = min(_FOLDS, trials)
    splits = RepeatedKFold(n_splits=folds, n_repeats=_REPEATS, random_state=0)
    squares, rises = 0.0, np.zeros((fields, _REPEATS, _SHUFFLES))
    for number, (seen, held) in enumerate(splits.split(coded)):
        forest = RandomForestRegressor(n_estimators=_TREES, random_state=0, n_jobs=1)
        forest.fit(coded[seen], wanted[seen])
        own = float(np.square(forest.predict(coded[held]) - wanted[held]).sum())
        squares += own
        for field in range(fields):
            shuffled = _shuffled(coded, together[field], repeat=number // folds)[:, held]
            found = forest.predict(shuffled.reshape(-1, fields)).reshape(_SHUFFLES, len(held))
            rises[field, number // folds] += np.square(found - wanted[held]).sum(axis=1) - own
    return squares / (trials * _REPEATS), rises.reshape(fields, -1) / trials


def _shuffled(coded: Array, columns: Sequence[int], repeat: int) -> Array:
    """Copies (shuffles, trials, fields) with these columns shuffled among the trials that their first applies to;
    the same for every fold of a repeat, whichever trials it holds out.
    """
    copies = np.repeat(coded[None], _SHUFFLES, axis=0)
    applies = np.flatnonzero(coded[:, columns[0]] != _ABSENT)
    for shuffle in range(_SHUFFLES):
        random = np.random.default_rng((repeat, shuffle, columns[0]))
        copies[shuffle, applies[:, None], columns] = coded[random.permutation(applies)[:, None], columns]
    return copies


def _coded(trials: Sequence[Trial], fields: Mapping[str, Parameter]) -> Array:
    """(trials, fields): where each value lies, and a code of its own for a field that doesn't apply."""
    rows = [
        [
            position(each, trial.point[name]) if name in trial.point else _ABSENT
            for name, each in fields.items()
        ]
        for trial in trials
    ]
    return np.array(rows)


def _together(fields: Mapping[str, Parameter]) -> list[list[int]]:
    """Of each field its place, and then those of the fields that apply or not by it."""
    names = list(fields)
    groups = [[place] for place in range(len(names))]
    for group in groups:
        for other in range(group[0] + 1, len(names)):  # a field stands below what it depends on
            if any(names[place] in fields[names[other]].when for place in group):
                group.append(other)
    return groups
