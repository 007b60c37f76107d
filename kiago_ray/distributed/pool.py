"""The workers that a Ray cluster holds for a campaign, and what Ray tells of its nodes: all that the dispatcher knows
of Ray. A test gives it workers of its own in the same words.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from kiago_ray.distributed.cluster import door_of, draining, living, one_line, options, refusal, room
from kiago_ray.errors import KiagoError
from kiago_ray.runs.spec import ResourcesSpec
from kiago_ray.storage.location import StorageError

_SILENCE_S = 30.0  # of the cluster's head; after 60 Ray itself would end this process
_DOOR_S = 5.0  # in which the process of a node that is there takes a connection
_AGAIN = "finished shards are kept; once Ray runs again, the same command goes on"


class ClusterLostError(KiagoError):
    """The Ray cluster is gone, or this machine is no longer part of it. The message is one line: why, what to do."""

    exit_code = 1


@dataclass(frozen=True)
class Answer:
    """What a call to a worker came to. value: what it returned. cause: why there is none, in one line: the call
    `raised`, or couldn't use the `storage`; the worker was `lost`, or was `moved` away with its node.
    """

    value: Any = None
    kind: Literal["done", "raised", "storage", "lost", "moved"] = "done"
    cause: str = ""


@dataclass(frozen=True)
class Nodes:
    """The nodes as they are now. room: how many workers they would hold if they were empty, without those that drain
    or are avoided. living: their ids. draining: id → seconds until the node goes away, infinite where Ray wasn't told.
    """

    room: int
    living: frozenset[str]
    draining: Mapping[str, float]


class Pool:
    """Workers of one class with one setup on the connected cluster. `hire` gives a handle, `call` a reference to an
    answer; `now` is the clock, in s.
    """

    def __init__(self, worker: type, setup: object, resources: ResourcesSpec) -> None:
        import ray

        self._resources = resources
        self._own_node = ray.get_runtime_context().get_node_id()
        self._own_door = door_of(self._own_node)
        self._setup = ray.put(setup)
        self._actor: Any = ray.remote(worker)
        self._avoided: set[str] = set()

    def hire(self) -> Any:
        """Ask for a worker, which waits until a node has room for it."""
        asked = options(self._resources, self._avoided)
        return self._actor.options(max_restarts=0, max_task_retries=0, **asked).remote(self._setup)

    def avoid(self, node: str) -> None:
        """Ask for no more workers on the node of this id, which has no room from now on."""
        self._avoided.add(node)

    def call(self, handle: Any, method: str, *arguments: Any) -> Any:
        """Have a worker do something."""
        return getattr(handle, method).remote(*arguments)

    def ready(self, refs: Sequence[Any], timeout_s: float) -> list[Any]:
        """Those that have an answer, once there is one or the time is over."""
        import ray

        first, _ = ray.wait(list(refs), num_returns=1, timeout=timeout_s)
        return ray.wait(list(refs), num_returns=len(refs), timeout=0)[0] if first else []

    def answer(self, ref: Any) -> Answer:
        """What came of a call that is ready."""
        import ray

        try:
            return Answer(ray.get(ref))
        except ray.exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None) or error
            return Answer(None, "storage" if isinstance(cause, StorageError) else "raised", one_line(cause))
        except ray.exceptions.RayError as error:
            moved = getattr(error, "preempted", False)
            return Answer(None, "moved" if moved else "lost", one_line(error))

    def dismiss(self, handle: Any) -> None:
        """End a worker, whatever it does: one that is frozen is killed by its node some seconds later."""
        import ray

        ray.kill(handle, no_restart=True)

    def nodes(self) -> Nodes:
        """The nodes as they are now. Raises ClusterLostError."""
        import ray

        try:
            socket.create_connection(self._own_door, timeout=_SILENCE_S).close()
        except ConnectionRefusedError:
            # Ray marks the node dead some 15 s later, and then ends this process without a word.
            raise ClusterLostError(f"Ray's process on this machine (its raylet) has died; {_AGAIN}") from None
        except OSError:
            pass  # that it is late means nothing
        found: list[Nodes] = []

        def look() -> None:
            with suppress(ray.exceptions.RayError):
                going, alive = draining(), living()
                stay = [node for key, node in alive.items() if key not in {*going, *self._avoided}]
                found.append(Nodes(room(self._resources, stay), frozenset(alive), going))

        looking = threading.Thread(target=look, name="nodes", daemon=True)  # it hangs where the head is gone
        looking.start()
        looking.join(_SILENCE_S)
        if not found:
            raise ClusterLostError(
                f"the head of the Ray cluster (its GCS) has died or doesn't answer; {_AGAIN}"
            )
        if self._own_node not in found[0].living:
            raise ClusterLostError(f"Ray's process on this machine (its raylet) has died; {_AGAIN}")
        return found[0]

    def gone(self, node: str) -> bool:
        """Whether a node has gone away: its process answers at once or never again, and Ray says so some time later.
        Raises ClusterLostError.
        """
        if node not in self.nodes().living:
            return True
        try:
            socket.create_connection(door_of(node), timeout=_DOOR_S).close()
        except OSError:
            return True
        return False

    def refusal(self) -> str:
        """Why no node can hold a worker, in one line with what to do."""
        return refusal(self._resources)

    def now(self) -> float:
        """Seconds of a clock that nobody sets."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)
