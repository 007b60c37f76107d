"""For all tests: search results made from formulas, so that verdicts can be worked out by hand; one Ray cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS, Mask
from kiago_ray.chemistry.formula import parse
from kiago_ray.distributed.cluster import LEAN_SERVE
from kiago_ray.models import Models
from kiago_ray.predictors.base import Predictors
from kiago_ray.screening.known import KnownMaterials
from kiago_ray.search.result import RowStatus, SearchResult, Trajectory

Row = tuple[str | None, float, float]
"""Formula (None: the row has none), T_c in K, E_f in eV/atom."""
MakeResult = Callable[[Sequence[Row]], SearchResult]


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
        trajectory=Trajectory(np.zeros(0, dtype=np.int64), np.ones(1, dtype=np.int64), none, none, none),
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


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Two CPUs and two GPUs that Ray is told of; there need be none."""
    import ray

    ours = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", **LEAN_SERVE}
    before = {name: os.environ.get(name) for name in (*ours, "RAY_ADDRESS")}
    os.environ |= ours
    os.environ.pop("RAY_ADDRESS", None)
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
    ray.shutdown()
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


LONGEST = (
    "test_sweep.py",
    "test_campaign_processes.py",
    "test_serve.py",
    "test_service.py",
    "test_job_submit.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes first, so that no process is left alone with one of them at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST and item.path.parent.name != "distributed")
