"""The service without Ray: the application on models in this process, and a worker for its searches."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from kiago_ray.models import Models
from kiago_ray.service.app import build_app
from kiago_ray.service.backend import Backend, service_models
from kiago_ray.service.jobs import JobStore, Runner
from kiago_ray.service.settings import Limits, ServiceSettings


@pytest.fixture(scope="session")
def models() -> Models:
    return service_models(ServiceSettings(known="landmarks"))


def run_all(worker: Runner) -> int:
    """Run jobs until none is left that isn't run by another; how many were run."""
    return sum(iter(worker.run_next, False))


@dataclass(frozen=True)
class Service:
    """An application, its store, and a client of it that speaks to it directly."""

    app: Any
    store: JobStore
    client: TestClient
    models: Models

    def run_searches(self) -> int:
        """What a worker does with what waits."""
        return run_all(Runner(self.store, self.models))


MakeService = Callable[..., Service]


@pytest.fixture
def make_service(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeService]:
    """`make_service(limits={...}, token=..., backend=..., **settings)`."""
    monkeypatch.delenv("KIAGO_TOKEN", raising=False)
    opened: list[TestClient] = []

    def make(
        *,
        limits: dict[str, Any] | None = None,
        token: str | None = None,
        backend: Backend | None = None,
        **settings: Any,
    ) -> Service:
        if token is not None:
            monkeypatch.setenv("KIAGO_TOKEN", token)
        given = {
            "data": str(tmp_path / "data"),
            "runs": None,
            "require_token": False,
            "search_shard_rows": 8,
            **settings,
        }
        resolved = ServiceSettings(**given, limits=Limits(**(limits or {})))
        store = JobStore.of(resolved.data)
        app = build_app(backend or Backend(models), store, resolved)
        client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
        opened.append(client)
        return Service(app, store, client, models)

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def service(make_service: MakeService) -> Service:
    return make_service()


Listen = Callable[[Any], str]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """`listen(app)` → the address of a real server with it."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(app: Any) -> str:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        servers.append((server, thread))
        while not server.started:
            time.sleep(0.01)
        return f"http://127.0.0.1:{port}"

    yield start
    for server, thread in servers:
        server.should_exit = server.force_exit = True
        thread.join(10)
