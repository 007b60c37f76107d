"""The service on Ray Serve: an ingress that speaks HTTP, a predictor that batches over requests, workers for searches.

    Api  ──score, explain──▶  Predictor   one batch at a time, of whatever requests are waiting here and there
     └───run_next───────────▶  Searcher    takes the next search from storage

Everything that a search is stands on storage (service.jobs), so that replicas may come and go. A call of `run_next` is
only what wakes a worker, and what Serve counts when it scales them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from kiago_ray.service.settings import ServiceSettings, is_loopback

if TYPE_CHECKING:
    from kiago_ray.models import Models
    from kiago_ray.scoring import Scores
    from kiago_ray.search.spec import SearchSpec
    from kiago_ray.service.jobs import JobStore

APPLICATION = "kiago"
BATCH_WAIT_S = 0.003
TRIES, AGAIN_S = 5, 0.5
WAKE_S = 5.0

log = logging.getLogger("kiago_ray.service")


def usable_threads(settings: ServiceSettings) -> int:
    """CPU threads of a replica."""
    return settings.threads or len(os.sched_getaffinity(0))


def prepare(settings: ServiceSettings) -> int:
    """Take this process's threads; how many. Before torch is loaded: spinning threads take the others' cores."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import torch

    torch.set_num_threads(usable_threads(settings))
    return usable_threads(settings)


Piece = tuple[list[str], int]  # formulas, and how many of the first get their energy above the hull


def formula_count(pieces: Sequence[Piece]) -> int:
    """What a batch is bounded by."""
    return sum(len(formulas) for formulas, _ in pieces)


@serve.deployment(
    name="Predictor",
    ray_actor_options={"num_cpus": 0},
    max_ongoing_requests=256,
    user_config={"weights": None},
    health_check_period_s=10,
    health_check_timeout_s=60,
    graceful_shutdown_timeout_s=30,
)
class Predictor:
    """Holds the models. user_config: {"weights": a folder or null}; a change of it loads the new ones beside the old
    and then swaps them, between two batches.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        from kiago_ray.distributed.service_metrics import ModelMeter

        self._settings = settings
        self._threads = prepare(settings)
        self._models: Models | None = None
        self._meter = ModelMeter()
        batch: Any = self._batch
        batch.set_max_batch_size(settings.batch_formulas)
        self._one = ThreadPoolExecutor(1)  # the models use all threads by themselves

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Load other models. Raises WeightsError, DataError."""

        def ready() -> Models:
            from kiago_ray.service.explain import explain
            from kiago_ray.service.models import PROBE

            models = _load(self._settings, config)
            explain(PROBE, models)  # what only the first gradient imports, nobody shall wait for
            return models

        self._models = await asyncio.to_thread(ready)

    async def check_health(self) -> None:
        """Raises where the models don't predict."""
        await self.check()

    async def check(self) -> str:
        """Predict a known superconductor; the models' version."""
        from kiago_ray.service.models import probe

        models = self._ready()
        await self._in_turn(lambda: probe(models))
        return models.version

    async def score(self, formulas: list[str]) -> tuple[str, Scores]:
        """The models' version and what they say; all of one version."""
        from kiago_ray.scoring import HULL_FORMULAS, joined

        most = self._settings.batch_formulas
        pieces = [
            (formulas[at : at + most], max(HULL_FORMULAS - at, 0)) for at in range(0, len(formulas), most)
        ]
        while True:
            found = [await self._batch(piece) for piece in pieces]
            versions = {version for version, _ in found} or {self._ready().version}
            if len(versions) == 1:
                return versions.pop(), joined([scores for _, scores in found])

    @serve.batch(max_batch_size=1024, batch_wait_timeout_s=BATCH_WAIT_S, batch_size_fn=formula_count)
    async def _batch(self, pieces: list[Piece]) -> list[tuple[str, Scores]]:
        import numpy as np

        from kiago_ray.scoring import score

        models = self._ready()
        flat = [formula for formulas, _ in pieces for formula in formulas]
        near = np.concatenate([np.arange(len(formulas)) < most for formulas, most in pieces])

        def compute() -> Scores:
            with self._meter.batch(len(flat)):
                return score(flat, models, near=near, threads=self._threads)

        scores = await self._in_turn(compute)
        self._meter.rows(scores)
        ends = np.cumsum([len(formulas) for formulas, _ in pieces]).tolist()
        return [
            (models.version, scores.part(slice(end - len(formulas), end)))
            for (formulas, _), end in zip(pieces, ends, strict=True)
        ]

    async def explain(self, formula: str) -> dict[str, Any] | str:
        """The explanation, or why the formula can't be read."""
        from kiago_ray.chemistry.formula import FormulaError
        from kiago_ray.service.explain import explain

        models = self._ready()
        try:
            found: dict[str, Any] = await self._in_turn(lambda: explain(formula, models))
            return found
        except FormulaError as error:
            return str(error)

    async def describe(self) -> dict[str, Any]:
        """What the models are."""
        from kiago_ray.service.models import described

        return described(self._ready())

    async def check_search(self, spec: SearchSpec) -> str | None:
        """Why the models can't run a search; None where they can."""
        from kiago_ray.search.errors import SpecError
        from kiago_ray.service.models import without_phases

        models = without_phases(self._ready())
        try:
            await self._in_turn(lambda: models.check(spec))
        except SpecError as error:
            return str(error)
        return None

    async def _in_turn(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._one, work)

    def _ready(self) -> Models:
        if self._models is None:
            raise RuntimeError("the models aren't loaded yet")
        return self._models


@serve.deployment(
    name="Searcher",
    ray_actor_options={"num_cpus": 0},
    max_ongoing_requests=1,
    user_config={"weights": None},
    graceful_shutdown_timeout_s=10,
)
class Searcher:
    """Runs searches, one at a time. One that it is cut off from is taken up by the next, at its last whole shard."""

    def __init__(self, settings: ServiceSettings) -> None:
        prepare(settings)
        self._settings = settings
        self._models: Models | None = None
        self._closing = threading.Event()

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Load other models, for the searches to come. Raises WeightsError, DataError."""
        self._models = await asyncio.to_thread(_load, self._settings, config)

    async def run_next(self) -> bool:
        """Run the next search that waits, with the models there are now; False where none waits."""
        from kiago_ray.service.jobs import JobStore
        from kiago_ray.service.running import Runner

        assert self._models is not None
        runner = Runner(JobStore.of(self._settings.data), self._models, self._closing.is_set)
        return await asyncio.to_thread(runner.run_next)

    def __del__(self) -> None:
        self._closing.set()


def _load(settings: ServiceSettings, config: dict[str, Any]) -> Models:
    from kiago_ray.service.models import service_models

    unknown = sorted(set(config) - {"weights"})
    if unknown:
        raise ValueError(f"user_config: unknown key {unknown[0]!r}; the only one is 'weights'")
    return service_models(settings, config.get("weights"))


class ServeBackend:
    """Answers of the deployments (service.backend.Backend)."""

    def __init__(self, predictor: Any, searcher: Any, store: JobStore, batch_formulas: int) -> None:
        from kiago_ray.scoring import HULL_FORMULAS
        from kiago_ray.service.gather import Gathered

        most = min(
            batch_formulas, HULL_FORMULAS
        )  # so that all of a call with several requests can have theirs
        self._predictor, self._searcher, self._store = predictor, searcher, store
        self._gathered = Gathered(lambda formulas: self._asked(predictor.score, formulas), most)
        self._draining: set[asyncio.Task[None]] = set()

    async def score(self, formulas: Sequence[str]) -> tuple[str, Scores]:
        return await self._gathered.score(formulas)

    async def explain(self, formula: str) -> dict[str, Any]:
        from kiago_ray.chemistry.formula import FormulaError

        found = await self._asked(self._predictor.explain, formula)
        if isinstance(found, str):
            raise FormulaError("refused", found)
        explanation: dict[str, Any] = found
        return explanation

    async def describe(self) -> dict[str, Any]:
        described: dict[str, Any] = await self._asked(self._predictor.describe)
        return described

    async def check_search(self, spec: SearchSpec) -> None:
        from kiago_ray.search.errors import SpecError

        refusal = await self._asked(self._predictor.check_search, spec)
        if refusal is not None:
            raise SpecError(refusal)

    async def check(self) -> str:
        return str(await self._asked(self._predictor.check))

    async def _asked(self, method: Any, *given: Any) -> Any:
        """Predicting changes nothing, so that what a lost replica was asked goes to another."""
        from kiago_ray.service.backend import BusyError, LostError

        for _ in range(TRIES):
            try:
                return await method.remote(*given)
            except BackPressureError as error:
                raise BusyError from error
            except (RayActorError, DeploymentUnavailableError):
                await asyncio.sleep(AGAIN_S)
        raise LostError

    def wake(self) -> None:
        task = asyncio.get_running_loop().create_task(self._drain())
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def _drain(self) -> None:
        try:
            while await self._searcher.run_next.remote():
                pass
        except (RayActorError, DeploymentUnavailableError):
            return  # `watch` finds what it left
        except RayError as error:
            log.error("a worker failed: %s", error)  # so too

    async def watch(self, queued: Callable[[str, int], None]) -> None:
        """Wake a worker while searches wait that nobody was woken for: after a restart, after a worker was lost."""
        from kiago_ray.storage.location import StorageError

        while True:
            try:
                counts = await asyncio.to_thread(self._store.counts)
                if counts.total() and not self._draining:
                    self.wake()
                for state in ("queued", "running"):
                    queued(state, counts[state])
            except StorageError as error:
                log.error("storage: %s", error)
            await asyncio.sleep(WAKE_S)


@serve.deployment(
    name="Api",
    ray_actor_options={"num_cpus": 0},
    max_ongoing_requests=256,
    max_queued_requests=512,
    backpressure_config={"status_code": 429, "retry_after_s": 1},
    graceful_shutdown_timeout_s=60,
)
@serve.ingress()
class Api:
    """The ingress: everything of HTTP, nothing of models."""

    def __init__(self, settings: ServiceSettings, predictor: Any, searcher: Any) -> None:
        from kiago_ray.distributed.service_metrics import ApiMeter
        from kiago_ray.service.jobs import JobStore

        if not is_loopback(proxy_host()):
            settings = settings.model_copy(update={"require_token": True})
        access = logging.getLogger("kiago_ray.service.access")
        access.setLevel(logging.INFO)
        access.addHandler(logging.StreamHandler())  # a replica's stderr is a file of Ray's, and a pod's log
        access.propagate = False
        self._settings, self._meter = settings, ApiMeter()
        self._store = JobStore.of(settings.data)
        self._backend = ServeBackend(predictor, searcher, self._store, settings.batch_formulas)

    def __serve_build_asgi_app__(self) -> Any:
        from kiago_ray.service.app import build_app

        self._watch = asyncio.get_running_loop().create_task(self._backend.watch(self._meter.queue))
        return build_app(
            self._backend, self._store, self._settings, meter=self._meter, names_requests=False
        )  # Serve's proxy does


def proxy_host() -> str:
    """Where Serve's proxies listen: whoever set that, the token depends on it."""
    from ray.serve.context import _get_global_client  # Serve has no public word for it

    client = _get_global_client()
    return str(client.http_config.host) if client is not None else ""


def application(settings: ServiceSettings, weights: str | None = None) -> Any:
    """The Serve application. weights: the folder that the deployments' user_config starts with."""
    config = {"weights": weights}
    deployments: tuple[Any, ...] = (
        Api,
        Predictor,
        Searcher,
    )  # the decorators hide what they make of the classes
    api, predictor, searcher = deployments
    return api.bind(
        settings,
        predictor.options(user_config=config).bind(settings),
        searcher.options(user_config=config).bind(settings),
    )


def build(args: ServiceSettings) -> Any:
    """The same for `serve deploy`: Serve wants a builder of one argument, and takes user_config from its YAML."""
    return application(args)
