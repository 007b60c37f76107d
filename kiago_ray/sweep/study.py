"""Which point comes next: an Optuna study in which trial number N is trial number N of the sweep."""

from __future__ import annotations

import math
from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.space import Parameter, encoded, grid_draws
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import Trial


def make_study(sweep: SweepSpec, before: Sequence[Trial], storage: BaseStorage | None = None) -> optuna.Study:
    """A study that goes on from the trials of earlier processes. `space.draw` asks each of its trials for a point.

    It has learnt from the trials that ended. Trials that had begun come next, with the points that they had; then, of
    a grid, every point that is left, else what the sampler draws.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name=sweep.name,
        storage=storage,
        directions=["maximize" if METRICS[name].mode == "max" else "minimize" for name in sweep.metrics],
        sampler=_sampler(sweep, len(before)),
    )
    known = {trial.number: trial for trial in before}
    grid = grid_draws(sweep.space)[: sweep.points] if sweep.searcher.kind == "grid" else []
    for number in range(max([len(grid), *(number + 1 for number in known)])):
        trial = known.get(number)
        if trial is not None and trial.ended:
            study.add_trial(_frozen(sweep, trial))
        elif trial is not None:
            study.enqueue_trial(encoded(sweep.space, trial.point))
        else:
            study.enqueue_trial(grid[number] if grid else {})  # {}: a lost one, drawn anew
    return study


def _sampler(sweep: SweepSpec, begun: int) -> BaseSampler:
    """No process draws with the numbers of another one, which would give it the same points."""
    seed = (sweep.searcher.seed + 1_000_003 * begun) % 2**32
    if sweep.searcher.kind == "tpe":
        return TPESampler(seed=seed, n_startup_trials=sweep.searcher.startup)
    return RandomSampler(seed=seed)


def _frozen(sweep: SweepSpec, trial: Trial) -> FrozenTrial:
    """A trial that ended, as Ray Tune's OptunaSearch would have told of it."""
    values = [trial.mean(name).value for name in sweep.metrics]
    known = not any(map(math.isnan, values))
    drawn = encoded(sweep.space, trial.point)
    return create_trial(
        state=TrialState.COMPLETE if known else TrialState.FAIL,
        values=values if known else None,
        params=drawn,
        distributions={name: _distribution(sweep.space[name]) for name in drawn},
    )


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.listed:
        return CategoricalDistribution(range(len(parameter.values)))
    if parameter.kind == "randint":
        return IntDistribution(*parameter.values)
    low, high = parameter.values
    return FloatDistribution(low, high, log=parameter.kind == "loguniform")
