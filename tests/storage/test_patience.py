"""Storage that fails is waited for: longer each time, and no longer than there is patience."""

from __future__ import annotations

import pytest

from kiago_ray.storage.location import StorageError
from kiago_ray.storage.patience import patiently


class Failing:
    """Fails so many times, and keeps the pauses that were made and told of."""

    def __init__(self, times: int) -> None:
        self.times, self.told, self.waited = times, list[float](), list[float]()

    def __call__(self) -> str:
        if len(self.told) < self.times:
            raise StorageError(f"no {len(self.told)}")
        return "there"

    def note(self, pause_s: float, error: StorageError) -> None:
        assert str(error) == f"no {len(self.told)}"
        self.told.append(pause_s)

    def wait(self, pause_s: float) -> bool:
        self.waited.append(pause_s)
        return False


def test_pauses_grow_and_each_is_told() -> None:
    failing = Failing(7)
    assert patiently(failing, 120, wait=failing.wait, note=failing.note) == "there"
    assert failing.told == failing.waited == [0.5, 1, 2, 4, 8, 15, 15]


def test_patience_ends() -> None:
    failing = Failing(1)
    with pytest.raises(StorageError, match="no 0"):
        patiently(failing, 0.4, wait=failing.wait, note=failing.note)
    assert failing.waited == []


def test_who_waits_may_leave() -> None:
    failing = Failing(5)
    with pytest.raises(StorageError, match="no 2"):
        patiently(failing, 120, wait=lambda pause_s: pause_s > 1, note=failing.note)


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 // 0, 120, wait=Failing(0).wait, note=Failing(0).note)
