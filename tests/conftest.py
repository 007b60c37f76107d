"""For all tests: search results made from formulas, so that verdicts can be worked out by hand; one Ray cluster."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from kiago_ray import models
from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS, Mask
from kiago_ray.chemistry.formula import parse
from kiago_ray.distributed.cluster import SERVE_ENVIRONMENT
from kiago_ray.models import Models
from kiago_ray.predictors.base import Predictors
from kiago_ray.screening.known import KnownMaterials
from kiago_ray.search.result import RowStatus, SearchResult, Trajectory

Row = tuple[str | None, float, float]
"""Formula (None: the row has none), T_c in K, E_f in eV/atom."""
MakeResult = Callable[[Sequence[Row]], SearchResult]


def benchmark_of(name: str) -> ModuleType:
    """A script of `benchmarks/` as a module."""
    spec = importlib.util.spec_from_file_location(
        f"benchmark_of_{name}", Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _result(rows: Sequence[Row]) -> SearchResult:
    n = len(rows)
    amounts = np.zeros((n, N_ELEMENTS))
    for at, (formula, _, _) in enumerate(rows):
        held = parse(formula) if formula else {}
        amounts[at] = [held.get(symbol, 0.0) for symbol in SYMBOLS]
    whole = (amounts == np.rint(amounts)).all(axis=1)
    ok = amounts.any(axis=1)
    total = np.where(ok, amounts.sum(axis=1), 1)[:, None]
    tc, ef = (np.array([row[column] for row in rows], dtype=np.float32) for column in (1, 2))
    none = np.zeros((1, 0), dtype=np.float32)
    return SearchResult(
        rows=np.arange(n),
        status=np.where(ok, RowStatus.OK, RowStatus.NO_INTEGER_FORMULA).astype(np.int8),
        recoveries=np.zeros(n, dtype=np.int64),
        start=(amounts / total).astype(np.float32),
        x_final=(amounts / total).astype(np.float32),
        tc_relaxed_k=tc + 1,
        counts=np.where((whole & ok)[:, None], amounts, 0).astype(np.int64),
        amounts=amounts,
        distance=np.where(ok, 0.01, np.nan),
        tc_k=np.where(ok, tc, np.float32(np.nan)),
        ef_ev_per_atom=np.where(ok, ef, np.float32(np.nan)),
        trajectory=Trajectory(
            np.zeros(0, dtype=np.int64), np.ones(1, dtype=np.int64), none, none, none, none
        ),
        wall_s=1.0,
        seconds={},
    )


def known_of(formulas: Sequence[str], tc_k: Sequence[float], **columns: Sequence[float]) -> KnownMaterials:
    """Known materials from formulas alone, and maybe other columns of `KnownMaterials.from_table`."""
    table = {
        "formula": list(formulas),
        "tc_k": list(tc_k),
        **{name: list(each) for name, each in columns.items()},
    }
    return KnownMaterials.from_table(pd.DataFrame(table))


def models_of(supported: Mask) -> Models:
    """Models whose predictors know these elements (118,), and say nothing."""
    silent: Any = SimpleNamespace(supported=torch.from_numpy(supported))
    return Models(Predictors(silent, silent))


@pytest.fixture
def make_result() -> MakeResult:
    return _result


@pytest.fixture(autouse=True, scope="session")
def shipped_models_are_read_once() -> Iterator[None]:
    """Many tests load the models that ship, which takes a second: each gets a copy of its own of what was read first.
    What loading does is tested on the functions themselves, and other folders are read each time.
    """

    def once(load: Callable[..., Any]) -> Callable[..., Any]:
        shipped = cache(load)
        return lambda folder, **options: (
            load(folder, **options) if folder else deepcopy(shipped(None, **options))
        )

    with pytest.MonkeyPatch.context() as patch:
        for name in ("load_predictors", "load_prospects"):
            patch.setattr(models, name, once(getattr(models, name)))
        yield


CLUSTERED, FOLLOWING = pytest.StashKey[set[Path]](), pytest.StashKey[pytest.Item | None]()
ENVIRONMENT = pytest.StashKey[pytest.MonkeyPatch]()
LONG_S = 1200  # for a test that is marked so, also where others use the machine
CLUSTER = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # else whatever else runs here comes first
    **SERVE_ENVIRONMENT,
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that use Ray first: they take longest, and a cluster costs every other test time while it is there."""
    config.stash[CLUSTERED] = {item.path for item in items if "cluster" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in config.stash[CLUSTERED])
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_S))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """For `cluster`, which stays for the next file that uses it."""
    item.config.stash[FOLLOWING] = nextitem


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    """Two CPUs and two GPUs that Ray is told of; there need be none."""
    import ray

    environment = request.config.stash.setdefault(ENVIRONMENT, pytest.MonkeyPatch())
    if not ray.is_initialized():
        for name, value in CLUSTER.items():
            environment.setenv(name, value)
        environment.delenv("RAY_ADDRESS", raising=False)
        terminate = signal.getsignal(signal.SIGTERM)
        ray.init(
            address="local",
            num_cpus=2,  # as many workers start at once, each of which takes seconds of a core
            num_gpus=2,
            include_dashboard=False,
            logging_level="error",
            log_to_driver=False,
            object_store_memory=128 << 20,
        )
        signal.signal(signal.SIGTERM, terminate)
    yield
    following = request.config.stash[FOLLOWING]
    if following is None or following.path not in request.config.stash[CLUSTERED]:
        ray.shutdown()
        environment.undo()
