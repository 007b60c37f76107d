"""How long a failing operation is tried again, and which failures that can help."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from kiago_ray.campaign.shards import DamagedError
from kiago_ray.distributed.tracking.target import TrackingError
from kiago_ray.storage.location import StorageError

_FIRST_WAIT_S = 0.25
# MLflow's codes for what it says of one request and would say again.
_REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "PERMISSION_DENIED", "UNAUTHENTICATED")

T = TypeVar("T")


class Abandoned(BaseException):
    """Nobody waits for the result any more. No failure, so that nothing takes it for one."""


class Patience:
    """Calls an operation, again with growing waits where it fails and that can help, for `seconds` in all.

    Raises the operation's last error, and Abandoned as soon as `abandoned` is set.
    """

    def __init__(self, seconds: float, abandoned: threading.Event) -> None:
        self._seconds, self._abandoned = seconds, abandoned

    def __call__(self, operation: Callable[[], T]) -> T:
        until = time.monotonic() + self._seconds
        wait = _FIRST_WAIT_S
        while True:
            if self._abandoned.is_set():
                raise Abandoned
            try:
                return operation()
            except Exception as error:
                if _hopeless(error) or time.monotonic() + wait > until:
                    raise
            self._abandoned.wait(wait)
            wait *= 2


def of_one_search(error: Exception) -> bool:
    """Whether the next search may well do better."""
    return isinstance(error, StorageError | DamagedError | LookupError | TypeError) or _refused(error)


def _hopeless(error: Exception) -> bool:
    return isinstance(error, StorageError | DamagedError | TrackingError) or _refused(error)


def _refused(error: Exception) -> bool:
    return getattr(error, "error_code", None) in _REFUSALS
