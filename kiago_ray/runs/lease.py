"""One driver at a time: a small file that the driver of a campaign rewrites every few seconds while it lives.

It works on every storage, where locks of an operating system don't. Clocks of different machines are never
compared: a lease is alive when its file changes. Two drivers could only get past one another within the moment
between reading and writing, and then the first renewal stops one of them; shards are whole and repeatable, so that
even this costs nothing but time.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from kiago_ray.storage.location import Location, StorageError

LEASE = ".driver.json"
RENEW_S = 3.0
EXPIRE_S = 15.0
_SETTLE_S = 0.3


class LeaseError(StorageError):
    """Another driver has this campaign. The message is one line: who, and what to do."""


class Lease:
    """The right to drive the campaign in a directory, renewed by a thread of its own.

    Use as a context manager. Entering raises LeaseError where another driver lives: one that renews its lease, seen
    within `expire_s`; of this machine the living and the dead are known at once. All drivers of a campaign need the
    same seconds.
    """

    def __init__(self, campaign: Location, *, renew_s: float = RENEW_S, expire_s: float = EXPIRE_S) -> None:
        self._renew_s, self._expire_s = renew_s, expire_s
        self._place = campaign / LEASE
        self._text = campaign.text
        self._mine = uuid.uuid4().hex
        self._beats = 0
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    @property
    def lost(self) -> bool:
        """Whether another driver has taken over: this one must stop."""
        return self._lost.is_set()

    def __enter__(self) -> Lease:
        self._wait_for_the_last_one()
        self._write()
        time.sleep(_SETTLE_S)
        holder = read_lease(self._place)
        if holder is None or holder["id"] != self._mine:
            raise self._refusal(holder)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        if not self.lost:
            with suppress(StorageError):  # one that can't be taken away expires
                self._place.delete()

    def _wait_for_the_last_one(self) -> None:
        holder = read_lease(self._place)
        if holder is None or _known_dead(holder):
            return
        if _of_this_machine(holder) and holder["pid"] != os.getpid():
            raise self._refusal(holder)
        until = time.monotonic() + self._expire_s
        while time.monotonic() < until:
            time.sleep(self._renew_s / 4)
            now = read_lease(self._place)
            if now is None:
                return
            if now != holder:
                raise self._refusal(now)

    def _refusal(self, holder: dict[str, Any] | None) -> LeaseError:
        who = "another driver" if holder is None else f"process {holder['pid']} on {holder['host']}"
        return LeaseError(
            f"{self._text} is being run by {who}; wait for it, stop it, or choose another --out"
        )

    def _renew(self) -> None:
        while not self._ended.wait(self._renew_s):
            try:
                holder = read_lease(self._place)
                if holder is not None and holder["id"] != self._mine:
                    self._lost.set()
                    return
                self._write()
            except StorageError:
                continue  # what can't be written now is tried again; shards tell of the trouble

    def _write(self) -> None:
        self._beats += 1
        holder = {
            "id": self._mine,
            "beat": self._beats,
            "host": socket.gethostname(),
            "space": _process_space(),
            "pid": os.getpid(),
            "started": _process_start(os.getpid()),
        }
        self._place.write_bytes(json.dumps(holder).encode())


def read_lease(place: Location) -> dict[str, Any] | None:
    """Who holds a lease: id, beat, host, pid, started; None where nobody does, or what is there is no lease.

    Raises StorageError where that can't be found out.
    """
    if place.kind() != "file":
        return None
    try:
        holder = json.loads(place.read_bytes())
    except StorageError:
        if place.kind() == "file":
            raise
        return None  # released between the two looks
    except (ValueError, RecursionError):
        return None
    whole = isinstance(holder, dict) and {"id", "beat", "host", "pid", "started"} <= holder.keys()
    return holder if whole and isinstance(holder["pid"], int) and holder["pid"] > 0 else None


def living_driver(campaign: Location, *, watch_s: float = 2 * RENEW_S) -> dict[str, Any] | None:
    """Who drives a campaign, None where nobody does: one of another machine is watched for a sign of life."""
    place = campaign / LEASE
    holder = read_lease(place)
    if holder is None or _known_dead(holder):
        return None
    if _of_this_machine(holder):
        return holder
    until = time.monotonic() + watch_s
    while time.monotonic() < until:
        time.sleep(RENEW_S / 4)
        now = read_lease(place)
        if now != holder:
            return now
    return None


def _of_this_machine(holder: dict[str, Any]) -> bool:
    space = _process_space()
    return holder["host"] == socket.gethostname() and holder.get("space", space) == space


def _process_space() -> str | None:
    """What tells machines and containers apart that share a host's name but not its process numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{os.readlink('/proc/self/ns/pid')} {boot}"
    except OSError:
        return None


def _known_dead(holder: dict[str, Any]) -> bool:
    """Whether the holder ran on this machine and no longer does."""
    if not _of_this_machine(holder):
        return False
    return bool(_process_start(holder["pid"]) != holder["started"])


def _process_start(pid: int) -> float | None:
    """When a process of this machine began, None where none is alive: tells it from a later one of its number.

    On Linux in ticks since the machine started: a time of day would move with the clock.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *fields = text.rpartition(")")[2].split()
        return None if state == "Z" else float(fields[18])
    except OSError:
        pass  # no such process, or no such file system
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None
