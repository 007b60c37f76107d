"""Storage may be away for a while, and shared directories may be late to show what is there: both are waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from kiago_ray.storage.location import StorageError

PATIENCE_S = 120.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0

Got = TypeVar("Got")


def patiently(
    attempt: Callable[[], Got],
    patience_s: float,
    *,
    wait: Callable[[float], bool],
    note: Callable[[float, StorageError], None],
) -> Got:
    """What `attempt` gives, tried again where storage fails, for `patience_s` from its first failure; after that, and
    where `wait`, which waits for some seconds, says so, raises StorageError. note: hears of each pause, in s, and why.
    """
    until, pause = 0.0, _FIRST_PAUSE_S
    while True:
        try:
            return attempt()
        except StorageError as error:
            until = until or time.monotonic() + patience_s
            if time.monotonic() + pause > until:
                raise
            note(pause, error)
            if wait(pause):
                raise
            pause = min(2 * pause, _LONGEST_PAUSE_S)
