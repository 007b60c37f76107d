"""The Ray cluster of a campaign or sweep: a running one, or one embedded in this process; and what it can hold."""

from __future__ import annotations

import math
import os
import re
import secrets
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kiago_ray.distributed.joining import CLIENT, joinable
from kiago_ray.errors import InputError, first_of
from kiago_ray.runs.spec import ResourcesSpec

EMBEDDED = "local"
_OBJECT_STORE_BYTES = 256 << 20  # only weights and manifests travel
_SMALL = 1e-9
_ACCELERATOR = "accelerator_type:"  # begins the name of a resource of Ray's, of which a worker takes a trifle
NODE_ID = "ray.io/node-id"  # Ray's label
_SHOWN_VALUES = 5
_NO_PLACE = (
    "it keeps sockets and logs below RAY_TMPDIR or TMPDIR: set RAY_TMPDIR to a directory that is yours, of at most 40 "
    "characters, such as /tmp/ray-$USER"
)
# What Ray Serve takes from the environment: kiago_ray.service.proxy stands in front of it. Nothing of ours keeps a
# replica's event loop busy, and threads beside it would cost each request a third more. On a busy machine its proxy
# takes longer to start than the 5 s after which Serve would kill it and start it again; the whole start has 60 s.
SERVE_ENVIRONMENT = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "kiago_ray.service.proxy:middlewares",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
}


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A connection to Ray for the time of the block; one that is there already is used and left. address: of a running
    cluster; None takes RAY_ADDRESS, without it an embedded cluster of this machine's cores. Raises InputError.
    """
    named, theirs = "--address", os.environ.get("RAY_ADDRESS")
    if theirs and address in (None, "auto"):  # which is what Ray takes for auto, too
        address, named = theirs, "RAY_ADDRESS"
    address = address or EMBEDDED
    options: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    # With it, a driver under `uv run` ships its working directory to the workers, first on their path.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    if "ray" not in sys.modules:  # which reads the environment when it is imported
        if address == EMBEDDED:
            _close_the_door(os.environ)
            os.environ.update({**SERVE_ENVIRONMENT, **os.environ})
        elif address == "auto":
            _show_token(os.environ)
    if address == EMBEDDED:
        options |= {
            "num_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
        }
    import ray
    from ray.job_config import JobConfig

    if ray.is_initialized():
        yield
        return
    if not address.startswith(CLIENT):
        # Ray puts the driver's working directory first on each worker's path, where a torch.py of the user's would run
        # in torch's place. It does so for every job but those of Ray's own client.
        options["job_config"] = JobConfig(_client_job=True)
    place = address if address == EMBEDDED else joinable(address, named)
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=place, **options)
    except SystemExit as error:  # Ray's own handler of SIGTERM, which it sets while it starts
        raise KeyboardInterrupt from error
    except Exception as error:  # no narrower: a node that is slow to start is a bare one
        why = one_line(error)
        if address == EMBEDDED:
            what = _NO_PLACE if isinstance(error, OSError) else "try again when the machine is less busy"
            raise InputError(f"Ray can't start on this machine ({why}); {what}") from error
        raise InputError(
            f"{named}: can't join the Ray cluster at {place} ({why}); check that it runs, with the same Ray and Python"
        ) from error
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


def _close_the_door(environment: MutableMapping[str, str]) -> None:
    """An embedded cluster listens on the network: without a token of the user's, give it one of its own."""
    environment.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    environment.setdefault("RAY_AUTH_MODE", "token")
    chosen = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    if environment["RAY_AUTH_MODE"] == "token" and not any(environment.get(name) for name in chosen):
        environment["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _show_token(environment: MutableMapping[str, str]) -> None:
    """Show the user's token, if there is one: so does Ray where it finds a cluster by itself."""
    given = any(environment.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if given or (Path(environment.get("HOME", "~")) / ".ray/auth_token").is_file():
        environment.setdefault("RAY_AUTH_MODE", "token")


class Node(NamedTuple):
    """A living node. totals: its resources in all, in Ray's names and units."""

    totals: Mapping[str, float]
    labels: Mapping[str, str]


def reserved(resources: ResourcesSpec) -> dict[str, float]:
    """What a worker reserves in Ray's books, in Ray's names and units."""
    memory = int((resources.memory_gb or 0) * (1 << 30))
    own = {f"{_ACCELERATOR}{resources.accelerator_type}": 0.001} if resources.accelerator_type else {}
    return {"CPU": resources.cpus, "GPU": resources.gpus, "memory": memory, **own}


def options(resources: ResourcesSpec, without: Collection[str] = ()) -> dict[str, Any]:
    """What Ray is asked for where a worker is an actor. without: ids of nodes where it shall not be."""
    own = reserved(resources)
    elsewhere = {NODE_ID: f"!in({','.join(sorted(without))})"} if without else {}
    return {
        "num_cpus": own["CPU"],
        "num_gpus": own["GPU"],
        "memory": own["memory"] or None,
        "accelerator_type": resources.accelerator_type,
        "label_selector": {**resources.label_selector, **elsewhere} or None,
    }


def selected(resources: ResourcesSpec, node: Node) -> bool:
    """Whether a node is one that the resources' selector of labels asks for."""
    for label, told in resources.label_selector.items():
        values = told.removeprefix("!").removeprefix("in(").removesuffix(")").split(",")
        if (node.labels.get(label) in values) is told.startswith("!"):
            return False
    return True


def fits(resources: ResourcesSpec, node: Node) -> int:
    """How many such workers a node holds."""
    needed = {name: amount for name, amount in reserved(resources).items() if amount}
    counts = [int(node.totals.get(name, 0) / amount + _SMALL) for name, amount in needed.items()]
    if 0 < resources.gpus < 1:  # a worker's part is of one device
        counts.append(int(node.totals.get("GPU", 0) + _SMALL) * int(1 / resources.gpus + _SMALL))
    return min(counts) if selected(resources, node) else 0


def in_words(resources: ResourcesSpec) -> str:
    """Such as 1 CPU, 0.5 GPU, 4 GB of memory, accelerator A100, ray.io/market-type spot."""
    memory = f", {resources.memory_gb:g} GB of memory" if resources.memory_gb else ""
    accelerator = f", accelerator {resources.accelerator_type}" if resources.accelerator_type else ""
    labels = "".join(f", {label} {values}" for label, values in resources.label_selector.items())
    return f"{resources.cpus:g} CPU, {resources.gpus:g} GPU{memory}{accelerator}{labels}"


def living() -> dict[str, Node]:
    """Each living node by its id."""
    import ray

    found: list[Any] = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"]: Node(node["Resources"], node["Labels"]) for node in found if node["Alive"]}


def door_of(node_id: str) -> tuple[str, int]:
    """Address and port at which Ray's process on a node answers."""
    import ray

    found: list[Any] = ray.nodes()  # type: ignore[no-untyped-call]
    node = next(node for node in found if node["NodeID"] == node_id)
    return str(node["NodeManagerAddress"]), int(node["NodeManagerPort"])


def draining() -> dict[str, float]:
    """The nodes that Ray was told to empty, as before a spot node is taken back: id → seconds until one goes away,
    infinite where Ray wasn't told. Ray's own libraries ask in this way (ray 2.60); none is documented.
    """
    import ray

    found = ray._private.state.state.get_draining_nodes()
    return {node: end_ms / 1000 - time.time() if end_ms else math.inf for node, end_ms in found.items()}


def room(resources: ResourcesSpec, nodes: Iterable[Node]) -> int:
    """How many workers these nodes would hold if they were empty."""
    return sum(fits(resources, node) for node in nodes)


def capacity(resources: ResourcesSpec) -> int:
    """How many workers the cluster as it is now would hold if it were empty."""
    return room(resources, living().values())


def refusal(resources: ResourcesSpec) -> str:
    """Why no node can hold a worker, in one line with what to do."""
    nodes = [*living().values()]
    alike = [node for node in nodes if selected(resources, node)]
    there = [[node.totals.get(name, 0) for name in ("GPU", "CPU", "memory")] for node in alike]
    gpus, cpus, memory = max(there, default=(0, 0, 0))
    accelerators = {
        name.removeprefix(_ACCELERATOR)
        for node in alike
        for name in node.totals
        if name.startswith(_ACCELERATOR)
    }
    told = f"the best of its {len(alike)} node(s) has {cpus:g} CPU, {gpus:g} GPU, {memory / (1 << 30):.0f} GB"
    change = "lower the file's resources"
    if nodes and not alike:
        labels = resources.label_selector
        found = {f"{label} {node.labels.get(label, 'absent')}" for node in nodes for label in labels}
        told = f"its {len(nodes)} node(s) have {first_of(sorted(found), _SHOWN_VALUES, ', ')}"
        change = "correct resources.label_selector"
    elif resources.accelerator_type and resources.accelerator_type not in accelerators:
        named = first_of(sorted(accelerators), _SHOWN_VALUES, ", ") or "none"
        told = f"its {len(alike)} node(s) have these accelerators: {named}"
        change = "correct resources.accelerator_type"
    return (
        f"no node of the cluster can ever hold a worker ({in_words(resources)}): {told}; {change}, or give --wait "
        "where an autoscaler adds nodes"
    )


def one_line(error: BaseException) -> str:
    """What an error says, in one line without Ray's wrapping."""
    import ray

    text = " ".join(str(error).split())
    if isinstance(error, ray.exceptions.RayActorError):
        if error.actor_init_failed:  # its class couldn't be imported; no worker does anything else there
            last = str(error).strip().splitlines()[-1].strip()
            places = re.findall(r'File "([^"]+)", line \d+', str(error))
            where = f", imported by {places[-1]}" if places else ""
            return (
                f"a worker can't import kiago-ray: {last[:300]}{where}; install the same kiago-ray everywhere, and "
                "let no PYTHONPATH or runtime environment lead to another"
            )
        return f"the worker process died ({text.rpartition('Worker exit detail:')[2].strip()[:160]})"
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "the worker was stopped because its node ran out of memory; give fewer rows a shard, or more memory_gb"
    return f"{type(error).__name__}: {text[:400]}" if text else type(error).__name__
