"""The Ray cluster of a campaign: a running one, or one embedded in this process; and what it can hold."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kiago_ray.errors import InputError
from kiago_ray.runs.spec import ResourcesSpec

EMBEDDED = "local"
_OBJECT_STORE_BYTES = 256 << 20  # only weights and manifests travel
_KNOCK_S = 10.0
_SMALL = 1e-9
# Nothing of ours keeps a replica's event loop busy, and threads beside it would cost each request a third more.
LEAN_SERVE = {
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection to Ray for the time of the block.

    address: of a running cluster; None takes RAY_ADDRESS, and an embedded cluster of this machine's cores without
    it, which ends with the block. A connection that is there already is used and left. Raises InputError.
    """
    address = address or os.environ.get("RAY_ADDRESS") or EMBEDDED
    options: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if address == EMBEDDED:
        if "ray" not in sys.modules:  # which reads the environment when it is imported
            _close_the_door(os.environ)
            os.environ.update({name: os.environ.get(name, value) for name, value in LEAN_SERVE.items()})
        options |= {
            "num_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
        }
    else:
        _knock(address)
    import ray

    if ray.is_initialized():
        yield
        return
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, **options)
    except SystemExit as error:  # Ray's own handler of SIGTERM, which it sets while it starts
        raise KeyboardInterrupt from error
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        if address == EMBEDDED:
            raise InputError(f"Ray can't start on this machine ({_first_line(error)})") from error
        raise _unreachable(address, _first_line(error)) from error
    _handle_termination(terminate)
    try:
        yield
    finally:
        ray.shutdown()
        _handle_termination(terminate)


def _handle_termination(handler: Any) -> None:
    """Put back what SIGTERM did: Ray's start and its end each put something else there."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _knock(address: str) -> None:
    """Ray itself would try for minutes where nothing listens. Raises InputError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, _first_line(error)) from error


def _unreachable(address: str, why: str) -> InputError:
    return InputError(
        f"--address: can't join the Ray cluster at {address} ({why}); check that it runs, and that RAY_AUTH_MODE and "
        "its token are the cluster's"
    )


def _close_the_door(environment: MutableMapping[str, str]) -> None:
    """An embedded cluster listens on the network: without a token of the user's, give it one of its own."""
    environment.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    environment.setdefault("RAY_AUTH_MODE", "token")
    chosen = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    if environment["RAY_AUTH_MODE"] == "token" and not any(environment.get(name) for name in chosen):
        environment["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@dataclass(frozen=True)
class Demand:
    """What one worker needs of a node, in Ray's own names and units."""

    cpus: float
    gpus: float
    memory: int

    @classmethod
    def of(cls, resources: ResourcesSpec) -> Demand:
        """The demand that a campaign's `resources` state."""
        return cls(resources.cpus, resources.gpus, int((resources.memory_gb or 0) * (1 << 30)))

    def options(self) -> dict[str, Any]:
        """For an actor's `options`."""
        asked: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus}
        return {**asked, "memory": self.memory} if self.memory else asked

    def fits(self, node: Mapping[str, float]) -> int:
        """How many such workers a node with these total resources holds."""
        counts = [int(node.get("CPU", 0) / self.cpus + _SMALL)]
        if self.gpus:
            devices = int(node.get("GPU", 0) + _SMALL)
            per_device = int(1 / self.gpus + _SMALL)
            counts.append(devices * per_device if self.gpus <= 1 else int(devices / self.gpus + _SMALL))
        if self.memory:
            counts.append(int(node.get("memory", 0) / self.memory + _SMALL))
        return min(counts)

    def __str__(self) -> str:
        memory = f", {self.memory / (1 << 30):g} GB of memory" if self.memory else ""
        return f"{self.cpus:g} CPU, {self.gpus:g} GPU{memory}"


def nodes() -> list[dict[str, float]]:
    """The total resources of each living node."""
    import ray

    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def capacity(demand: Demand) -> int:
    """How many workers the cluster as it is now would hold if it were empty."""
    return sum(demand.fits(node) for node in nodes())


def refusal(demand: Demand) -> str:
    """Why no node can hold a worker, in one line with what to do."""
    there = nodes()
    if not any(node.get("CPU") for node in there):
        found = f"the cluster has {len(there)} node(s) and none has a CPU to give"
    else:
        best = max(there, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)))
        memory = best.get("memory", 0) / (1 << 30)
        found = (
            f"the best of its {len(there)} node(s) has {best.get('CPU', 0):g} CPU, {best.get('GPU', 0):g} GPU, "
            f"{memory:.0f} GB"
        )
    return (
        f"no node of the cluster can ever hold a worker ({demand}): {found}; lower the campaign's resources, or give "
        "--wait MINUTES where an autoscaler adds nodes"
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
