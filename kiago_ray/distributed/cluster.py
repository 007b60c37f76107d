"""The Ray cluster of a campaign or sweep: a running one, or one embedded in this process; what it can hold; and its
worker, an actor that loads the models once, holds one device, and runs one shard at a time.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kiago_ray import __version__
from kiago_ray.data import NONE
from kiago_ray.errors import InputError, KiagoError
from kiago_ray.models import Models, load_models
from kiago_ray.predictors.weights import (
    ORACLE,
    PLAUSIBILITY,
    kinds_in,
    weights_hashes,
)
from kiago_ray.runs.plan import PlannedSearch, Shard
from kiago_ray.runs.shards import Manifest, compute_shard
from kiago_ray.runs.spec import ResourcesSpec
from kiago_ray.screening.known import KnownMaterials, TriedMaterials
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import cpu_name

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


def memory_bytes(resources: ResourcesSpec) -> int:
    """The memory that a worker reserves in Ray's books; 0 for none."""
    return int((resources.memory_gb or 0) * (1 << 30))


def actor_options(resources: ResourcesSpec) -> dict[str, Any]:
    """What one worker needs of a node, for an actor's `options`."""
    asked: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": resources.gpus}
    return {**asked, "memory": memory_bytes(resources)} if resources.memory_gb else asked


def fits(resources: ResourcesSpec, node: Mapping[str, float]) -> int:
    """How many such workers a node with these total resources, in Ray's names and units, holds."""
    counts = [int(node.get("CPU", 0) / resources.cpus + _SMALL)]
    if gpus := resources.gpus:
        devices = int(node.get("GPU", 0) + _SMALL)
        counts.append(devices * int(1 / gpus + _SMALL) if gpus <= 1 else int(devices / gpus + _SMALL))
    if resources.memory_gb:
        counts.append(int(node.get("memory", 0) / memory_bytes(resources) + _SMALL))
    return min(counts)


def in_words(resources: ResourcesSpec) -> str:
    """Such as 1 CPU, 0.5 GPU, 4 GB of memory."""
    memory = f", {resources.memory_gb:g} GB of memory" if resources.memory_gb else ""
    return f"{resources.cpus:g} CPU, {resources.gpus:g} GPU{memory}"


def nodes() -> list[dict[str, float]]:
    """The total resources of each living node."""
    import ray

    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def capacity(resources: ResourcesSpec) -> int:
    """How many workers the cluster as it is now would hold if it were empty."""
    return sum(fits(resources, node) for node in nodes())


def refusal(resources: ResourcesSpec) -> str:
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
        f"no node of the cluster can ever hold a worker ({in_words(resources)}): {found}; lower the campaign's "
        "resources, or give --wait MINUTES where an autoscaler adds nodes"
    )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


class WorkerSetupError(KiagoError):
    """A worker that can't do its job where it is. The message is one line: why, and what to do."""


@dataclass(frozen=True)
class WorkerSetup:
    """What every worker of a campaign gets.

    campaign: the directory, a URI or an absolute path; weights: SHA-256 of each predictor's; weight_files: name →
    content where they aren't the package's own; version: the driver's kiago_ray.
    """

    campaign: str
    device: str
    threads: int
    weights: Mapping[str, str]
    weight_files: Mapping[str, bytes]
    known: KnownMaterials | None
    version: str
    tried: TriedMaterials | None = None

    @classmethod
    def of(
        cls, where: str, resources: ResourcesSpec, models: Models, weights: Path | None = None
    ) -> WorkerSetup:
        """What workers need to compute with the driver's `models`, whose weights are those of the folder."""
        location = Location.of(where)
        return cls(
            campaign=location.text if "://" in location.text else location.path,
            device=resources.torch_device,
            threads=resources.threads,
            weights=models.hashes,
            weight_files=weight_files(weights),
            known=models.known,
            version=__version__,
            tried=models.tried,
        )


@dataclass(frozen=True)
class WorkerInfo:
    """Where a worker runs. gpus: the ids of the devices that Ray gave it."""

    host: str
    pid: int
    device: str
    device_name: str
    threads: int
    gpus: tuple[str, ...]


class SearchWorker:
    """Runs shards of one campaign. Nothing is loaded before `start`, so that its errors arrive as they are."""

    def __init__(self, setup: WorkerSetup) -> None:
        self.setup = setup
        self.models: Models | None = None
        self.info: WorkerInfo | None = None

    def start(self) -> WorkerInfo:
        """Take the device and load the models. Raises WorkerSetupError, WeightsError."""
        import ray

        setup, host = self.setup, socket.gethostname()
        if __version__ != setup.version:
            raise WorkerSetupError(
                f"the worker on {host} has kiago-ray {__version__}, the driver {setup.version}; install the same "
                "everywhere"
            )
        torch.set_num_threads(setup.threads)
        gpus = tuple(map(str, ray.get_gpu_ids())) if ray.is_initialized() else ()
        if setup.device == "cuda" and not torch.cuda.is_available():
            raise WorkerSetupError(
                f"the worker on {host} was given GPU {', '.join(gpus) or 'none'} but torch sees no CUDA device there; "
                "check the node's driver and that torch was installed with CUDA, or set resources.device to cpu"
            )
        self.models = self._load_models()
        name = torch.cuda.get_device_name() if setup.device == "cuda" else cpu_name()
        self.info = WorkerInfo(host, os.getpid(), setup.device, name, torch.get_num_threads(), gpus)
        return self.info

    def run(self, search: PlannedSearch, shard: Shard) -> Manifest:
        """Run a shard and write it; what comes back is its manifest alone. Raises StorageError and what the search
        raises.
        """
        assert self.models is not None
        assert self.info is not None
        made = {**vars(self.info), "kiago_ray": self.setup.version}
        return compute_shard(search, shard, Location.of(self.setup.campaign), self.models, made=made)

    def _load_models(self) -> Models:
        setup = self.setup
        with tempfile.TemporaryDirectory() as folder:
            for name, content in setup.weight_files.items():
                (Path(folder) / name).write_bytes(content)
            own = Path(folder) if setup.weight_files else None
            if weights_hashes(own) != dict(setup.weights):
                raise WorkerSetupError(
                    f"the worker on {socket.gethostname()} has other weights than the driver; install the same "
                    "kiago-ray everywhere"
                )
            models = load_models(own, known=NONE, device=setup.device)
        return replace(models, known=setup.known, tried=setup.tried)


def weight_files(folder: Path | None) -> dict[str, bytes]:
    """The files that a worker needs of a folder with weights; none for None, the package's own."""
    if folder is None:
        return {}
    kinds = (*kinds_in(folder), ORACLE, PLAUSIBILITY)
    return {path.name: path.read_bytes() for kind in kinds for path in folder.glob(f"{kind}.*")}
