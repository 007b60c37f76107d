"""The service on Ray Serve: replicas that speak HTTP and hold the models, and workers for searches.

    Predictor  every request of HTTP; predictions go to the models in batches, of whatever requests are waiting
     └──run_next──▶  Searcher  takes the next search from storage

Everything that a search is stands on storage (service.jobs), so that replicas may come and go. A call of `run_next` is
only what wakes a worker, and what Serve counts when it scales them: so there is one for each search that hasn't ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import torch
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import DeploymentUnavailableError
from ray.util.metrics import Counter, Gauge, Histogram

from kiago_ray.distributed.code import Code
from kiago_ray.distributed.scaling import STREAMS
from kiago_ray.models import Models
from kiago_ray.service.app import build_app
from kiago_ray.service.backend import PROBE, Backend, service_models
from kiago_ray.service.jobs import JobStore, Runner
from kiago_ray.service.predictions import explained
from kiago_ray.service.settings import ServiceSettings, is_loopback
from kiago_ray.storage.location import StorageError

APPLICATION = "kiago"
WAKE_S = 5.0
MOST_CALLS = 256  # that wait for a worker; more scale nothing
SECONDS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
ROWS = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0]

log = logging.getLogger("kiago_ray.service")


def take_threads(settings: ServiceSettings) -> int:
    """Have torch use this process's threads; how many."""
    torch.set_num_threads(settings.threads or len(os.sched_getaffinity(0)))
    return torch.get_num_threads()


@serve.deployment(
    name="Predictor",
    ray_actor_options={"num_cpus": 0},
    max_ongoing_requests=256,
    max_queued_requests=512,
    backpressure_config={"status_code": 429, "retry_after_s": 1},
    user_config={"weights": None},
    health_check_period_s=10,
    health_check_timeout_s=60,
    graceful_shutdown_timeout_s=60,
)
@serve.ingress()
class Predictor(Backend):
    """The HTTP application on models of its own. user_config: {"weights": a folder or null}; a change of it loads the
    new ones beside the old and then swaps them, between two batches.
    """

    def __init__(self, settings: ServiceSettings, code: Code, searcher: Any) -> None:
        code.check_here()
        self._meter = Meter()
        super().__init__(
            threads=take_threads(settings), batch_formulas=settings.batch_formulas, observe=self._meter.batch
        )
        if not is_loopback(proxy_host()):
            settings = settings.model_copy(update={"require_token": True})
        access = logging.getLogger("kiago_ray.service.access")
        access.setLevel(logging.INFO)
        access.addHandler(logging.StreamHandler())  # a replica's stderr is a file of Ray's, and a pod's log
        access.propagate = False
        self._settings = settings
        self._store = JobStore.of(settings.data)
        self._calls = Calls(searcher.run_next.remote)

    def __serve_build_asgi_app__(self) -> FastAPI:
        self._watch = asyncio.get_running_loop().create_task(self._watch_searches())
        app = build_app(self, self._store, self._settings, count=self._meter.request)
        self._board = app.state.service.board
        return app

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What `without_streams` scales by."""
        return {STREAMS: float(self._board.streams)}

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Load other models. Raises WeightsError, DataError."""

        def ready() -> Models:
            models = configured_models(self._settings, config)
            explained(PROBE, models)  # what only the first gradient imports, nobody shall wait for
            return models

        self._models = await asyncio.to_thread(ready)

    async def check_health(self) -> None:
        """Raises where the models don't predict."""
        await self.sound_version()

    def wake(self) -> None:
        """Have one more worker look for a search."""
        self._calls.have(len(self._calls) + 1)

    async def _watch_searches(self) -> None:
        """Wake workers for the searches that nobody was woken for: after a restart, after a worker was lost."""
        while True:
            try:
                counts = await asyncio.to_thread(self._store.counts)
                self._calls.have(counts.total())
                self._meter.queue(counts)
            except StorageError as error:
                log.error("storage: %s", error)
            await asyncio.sleep(WAKE_S)


class Calls:
    """The calls that wait for a worker or have one. run_next: makes one; it ends with the search that it ran."""

    def __init__(self, run_next: Callable[[], Awaitable[bool]]) -> None:
        self._run_next = run_next
        self._out: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._out)

    def have(self, count: int) -> None:
        """Make those that are missing to so many."""
        for _ in range(min(count, MOST_CALLS) - len(self)):
            task = asyncio.get_running_loop().create_task(self._call())
            self._out.add(task)
            task.add_done_callback(self._out.discard)

    async def _call(self) -> None:
        try:
            await self._run_next()
        except (RayActorError, DeploymentUnavailableError):
            return  # who counts the searches finds what it left
        except RayError as error:
            log.error("a worker failed: %s", error)  # so too


@serve.deployment(
    name="Searcher",
    ray_actor_options={"num_cpus": 0},
    max_ongoing_requests=1,
    user_config={"weights": None},
    graceful_shutdown_timeout_s=10,
)
class Searcher:
    """Runs searches, one at a time. One that it is cut off from is taken up by the next, at its last whole shard."""

    def __init__(self, settings: ServiceSettings, code: Code) -> None:
        self._closing = threading.Event()
        code.check_here()
        take_threads(settings)
        self._settings, self._store = settings, JobStore.of(settings.data)

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Load other models, for the searches to come. Raises WeightsError, DataError."""
        models = await asyncio.to_thread(configured_models, self._settings, config)
        self._runner = Runner(self._store, models, self._closing.is_set)

    async def run_next(self) -> bool:
        """Run the next search that waits, with the models there are now; False where none waits."""
        return await asyncio.to_thread(self._runner.run_next)

    def __del__(self) -> None:
        self._closing.set()


class Meter:
    """What the service counts beside what Ray Serve does; Ray exports it to Prometheus with `ray_` in front."""

    def __init__(self) -> None:
        self._requests = Counter("kiago_requests_total", "Requests by route and status.", ("route", "status"))
        self._seconds = Histogram("kiago_request_seconds", "Time of a request.", SECONDS, ("route",))
        self._queue = Gauge("kiago_queue_searches", "Searches that haven't ended.", ("state",))
        self._rows = Counter("kiago_rows_total", "Formulas that were predicted or refused.", ("outcome",))
        self._batch = Histogram("kiago_batch_rows", "Formulas of a batch.", ROWS)
        self._model_seconds = Histogram("kiago_model_seconds", "Time of a pass through the models.", SECONDS)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request (service.app.Count)."""
        self._requests.inc(1, {"route": route, "status": str(status)})
        self._seconds.observe(max(seconds, 1e-9), {"route": route})

    def queue(self, counts: Mapping[str, int]) -> None:
        """Note how many searches are queued and running now."""
        for state in ("queued", "running"):
            self._queue.set(counts[state], {"state": state})

    def batch(self, scores: Any, seconds: float) -> None:
        """Count a batch, and what became of its formulas."""
        self._model_seconds.observe(max(seconds, 1e-9))
        self._batch.observe(max(len(scores), 1))
        predicted = scores["error"].null_count
        for outcome, count in (("refused", len(scores) - predicted), ("predicted", predicted)):
            if count:
                self._rows.inc(count, {"outcome": outcome})


def configured_models(settings: ServiceSettings, config: Mapping[str, Any]) -> Models:
    """The models of a user_config. Raises ValueError for an unknown key, WeightsError, DataError."""
    unknown = sorted(set(config) - {"weights"})
    if unknown:
        raise ValueError(f"user_config: unknown key {unknown[0]!r}; the only one is 'weights'")
    return service_models(settings, config.get("weights"))


def proxy_host() -> str:
    """Where Serve's proxies listen: whoever set that, the token depends on it."""
    from ray.serve.context import _get_global_client  # Serve has no public word for it

    client = _get_global_client()
    return str(client.http_config.host) if client is not None else ""


def application(settings: ServiceSettings, weights: str | None = None) -> Any:
    """The Serve application. weights: the folder that the deployments' user_config starts with."""
    config, code = {"weights": weights}, Code.imported()
    # The decorators hide what they make of the classes.
    deployments: tuple[Any, ...] = (Predictor, Searcher)
    predictor, searcher = (each.options(user_config=config) for each in deployments)
    return predictor.bind(settings, code, searcher.bind(settings, code))


def build(args: ServiceSettings) -> Any:
    """The same for `serve deploy`: Serve wants a builder of one argument, and takes user_config from its YAML."""
    return application(args)
