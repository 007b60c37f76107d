"""One experiment of Ray Tune: trials from a searcher, each by an actor that keeps its predictors, quietly."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import cloudpickle, tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from kiago_ray.distributed.trial import FAILED, SweepTrial, TrialJob, told

RETRIES = 2  # of a trial whose actor died
# Tune's own books go to a temporary directory: what must last is in the sweep's.
_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that can't run reports its cause and no metric
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}


class Hearer(tune.Callback):
    """Tells what happens; ends the experiment, without ending its trials, when asked to."""

    def __init__(
        self,
        *,
        result: Callable[[Mapping[str, Any], Mapping[str, Any]], None],
        error: Callable[[Mapping[str, Any], str, BaseException | None], None],
        recovered: Callable[[Mapping[str, Any]], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._result, self._error, self._recovered = result, error, recovered
        self._should_stop = should_stop

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A step of a trial is done, or can't be."""
        if FAILED in result:
            self._error(trial.config, str(result[FAILED]), None)
        else:
            self._result(trial.config, result)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial's actor died, and it will go on in another one."""
        self._recovered(trial.config)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has failed for good."""
        raised = _raised(trial.pickled_error_file)
        self._error(trial.config, told(raised), raised)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tune looks around; its own way to be interrupted is this signal, whose handler it has set."""
        if self._should_stop():
            signal.raise_signal(signal.SIGUSR1)


def _raised(file: str | None) -> BaseException:
    """What was raised in the actor, out of what Ray wraps around it. file: as this process has just written it."""
    if file is None or not Path(file).exists():
        return RuntimeError("the worker was lost")
    with Path(file).open("rb") as stream:
        error: BaseException = cloudpickle.load(stream)
    while isinstance(inner := getattr(error, "cause", None), BaseException):
        error = inner
    return error


def run_trials(
    job: TrialJob,
    searcher: Searcher,
    scheduler: TrialScheduler | None,
    hearer: Hearer,
    *,
    trials: int,
    at_once: int,
) -> None:
    """Run `trials` trials, `at_once` at a time. How each ended the searcher and the hearer have heard.

    Raises RuntimeError outside the main thread, where the signal that stops Tune would end the process.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a sweep runs in the main thread; start a process of its own for it")
    resources = job.sweep.resources
    bundle = {"CPU": resources.cpus, "GPU": resources.gpus}
    if resources.memory_gb:
        bundle["memory"] = int(resources.memory_gb * (1 << 30))
    trainable = tune.with_resources(
        tune.with_parameters(SweepTrial, job=job), tune.PlacementGroupFactory([bundle])
    )
    with _quietly() as scratch:
        # Not tune.Tuner: that pickles searcher and callbacks, for a way to resume that isn't ours.
        tune.run(
            trainable,
            name="trials",
            num_samples=trials,
            max_concurrent_trials=at_once,
            search_alg=searcher,
            scheduler=scheduler,
            callbacks=[hearer],
            reuse_actors=True,
            max_failures=RETRIES,
            raise_on_failed_trial=False,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            storage_path=scratch,
            verbose=0,
        )


@contextmanager
def _quietly() -> Iterator[str]:
    """A directory for Tune's books, its settings, and no word from it: what goes wrong the hearer tells."""
    ours = {name: value for name, value in _SETTINGS.items() if name not in os.environ}
    os.environ.update(ours)
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    interrupted = signal.getsignal(signal.SIGUSR1)
    try:
        with tempfile.TemporaryDirectory(prefix="kiago-tune-") as scratch:
            yield scratch
    finally:
        signal.signal(signal.SIGUSR1, interrupted)
        logger.setLevel(level)
        for name in ours:
            del os.environ[name]
