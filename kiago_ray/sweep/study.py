"""Which point comes next: Optuna's samplers, or every listed point, told of what was found before."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.space import Parameter, Point, draw, grid_draws
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import Trial

_TOLD = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}


class Study:
    """Points one after another. Trials that began before, in an earlier process, come first: of those that ended a
    sampler learns, and with their number it draws on, so that no process draws another's points again.
    """

    def __init__(self, sweep: SweepSpec, before: Iterable[Trial] = ()) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._sweep = sweep
        known = list(before)
        self._grid = grid_draws(sweep.space) if sweep.searcher.kind == "grid" else None
        self._study = optuna.create_study(
            directions=["maximize" if METRICS[name].mode == "max" else "minimize" for name in sweep.metrics],
            sampler=_sampler(sweep, len(known)),
        )
        for trial in known:
            if trial.ended:
                self.tell(trial)

    def point(self, number: int) -> Point:
        """What trial `number` draws. Asking again may draw something else."""
        if self._grid is not None:
            return self._grid[number]
        asked = self._study.ask()
        drawn = draw(self._sweep.space, asked)
        # What came of it is told as a whole: this one would count as running for ever.
        self._study.tell(asked, state=TrialState.FAIL)
        return drawn

    def tell(self, trial: Trial) -> None:
        """What came of a trial that has ended."""
        if self._grid is None:
            self._study.add_trial(_frozen(self._sweep, trial))


def _sampler(sweep: SweepSpec, begun: int) -> optuna.samplers.BaseSampler:
    seed = sweep.searcher.seed + 1_000_003 * begun
    if sweep.searcher.kind == "tpe":
        return optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=sweep.searcher.startup)
    return optuna.samplers.RandomSampler(seed=seed % 2**32)


def _frozen(sweep: SweepSpec, trial: Trial) -> FrozenTrial:
    state = _TOLD[trial.status]
    values = [trial.mean(name).value for name in sweep.metrics]
    if state is not TrialState.FAIL and any(map(math.isnan, values)):
        state = TrialState.FAIL
    by_seed = {seeds: trial.mean(sweep.metrics[0], seeds).value for seeds in range(1, trial.seeds + 1)}
    return create_trial(
        state=state,
        values=values if state is TrialState.COMPLETE else None,
        params=dict(_drawn(sweep.space, trial.point)),
        distributions={name: _distribution(sweep.space[name]) for name in trial.point},
        intermediate_values=by_seed if state is TrialState.PRUNED else {},
    )


def _drawn(space: Mapping[str, Parameter], point: Mapping[str, Any]) -> Point:
    """The point as it was drawn: of a list the place in it."""
    return {
        name: space[name].values.index(value) if space[name].listed else value
        for name, value in point.items()
    }


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.listed:
        return CategoricalDistribution(range(len(parameter.values)))
    if parameter.kind == "randint":
        return IntDistribution(*parameter.values)
    low, high = parameter.values
    return FloatDistribution(low, high, log=parameter.kind == "loguniform")
