"""Where Ray Tune gets its trials from, who is told how they end, and what the scheduler knows of earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher

from kiago_ray.distributed.trial import FAILED, SEEDS
from kiago_ray.storage.location import StorageError
from kiago_ray.sweep.ledger import Ledger, trial_name
from kiago_ray.sweep.metrics import METRICS
from kiago_ray.sweep.space import decoded
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.study import Study
from kiago_ray.sweep.trials import Trial


class Units(Searcher):
    """Configs that are there already, one after another."""

    def __init__(self, configs: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self._configs = list(configs)

    def suggest(self, trial_id: str) -> Any:
        """The next config."""
        return dict(self._configs.pop(0)) if self._configs else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: nobody learns from it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the sweep's storage has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the sweep's storage has it all."""


class Points(Searcher):
    """The trials of a sweep: first those that an earlier process began and didn't end, then new ones of the study.

    problem: told of storage that fails, since Tune would only log it.
    """

    def __init__(
        self,
        sweep: SweepSpec,
        ledger: Ledger,
        before: Sequence[Trial],
        *,
        began: Callable[[Trial], None],
        ended: Callable[[Trial], None],
        problem: Callable[[BaseException], None],
    ) -> None:
        super().__init__()
        self._sweep, self._ledger = sweep, ledger
        self._began, self._ended, self._problem = began, ended, problem
        self._study = Study(sweep, before)
        self._begun = [trial.number for trial in before if not trial.ended]
        known = {trial.number for trial in before}
        self._new = [number for number in range(sweep.points) if number not in known]
        self._numbers: dict[str, int] = {}

    @property
    def left(self) -> int:
        """How many trials are still to be given out."""
        return len(self._begun) + len(self._new)

    def suggest(self, trial_id: str) -> Any:
        """The next trial's config."""
        if not self.left:
            return Searcher.FINISHED
        try:
            if self._begun:
                number = self._begun.pop(0)
                drawn = self._ledger.drawn(number)
            else:
                number = self._new.pop(0)
                drawn = self._study.point(number)
                self._ledger.begin(number, drawn)
        except StorageError as error:
            self._problem(error)
            return None
        self._numbers[trial_id] = number
        point = decoded(self._sweep.space, drawn)
        self._began(Trial(number, f"{number:05d}", "unfinished", point, ()))
        return {
            "number": number,
            "folder": trial_name(number),
            "point": point,
            "bases": list(self._sweep.trial_bases),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Keep how it ended, and let the study learn from it. Of one that failed, `failed` is told the cause."""
        number = self._numbers.pop(trial_id, None)
        if number is None or error or result is None or FAILED in result:
            return
        done = int(result.get(SEEDS, 0))
        self._end(number, "finished" if done == len(self._sweep.seeds) else "stopped", None)

    def failed(self, number: int, cause: str) -> None:
        """Keep why a trial couldn't go on."""
        self._end(number, "failed", cause)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it all."""

    def _end(self, number: int, status: Any, cause: str | None) -> None:
        try:
            self._ledger.end(number, status, cause)
            trial = self._ledger.trial(number)
        except StorageError as error:
            self._problem(error)
            return
        if trial is not None and trial.status == status:
            self._study.tell(trial)
            self._ended(trial)


@dataclass(frozen=True)
class _Earlier:
    """A trial of an earlier process, as a scheduler sees one."""

    trial_id: str


def asha(sweep: SweepSpec, before: Sequence[Trial]) -> TrialScheduler | None:
    """The sweep's scheduler, with what earlier trials had at each rung; None for none."""
    if sweep.scheduler.kind == "none":
        return None
    metric = sweep.metrics[0]
    scheduler = ASHAScheduler(
        time_attr=SEEDS,
        metric=metric,
        mode=METRICS[metric].mode,
        max_t=len(sweep.seeds),
        grace_period=sweep.scheduler.first,
        reduction_factor=sweep.scheduler.reduction,
    )
    for trial in before:
        earlier: Any = _Earlier(trial.id)
        scheduler.on_trial_add(None, earlier)  # type: ignore[arg-type]
        for seeds in range(1, trial.seeds + 1):
            result = {SEEDS: seeds, metric: trial.mean(metric, seeds).value}
            scheduler.on_trial_result(None, earlier, result)  # type: ignore[arg-type]
    return scheduler
