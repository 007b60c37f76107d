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

import psutil

from kiago_ray.storage.location import Location, StorageError

LEASE = ".driver.json"
RENEW_S = 3.0
EXPIRE_S = 15.0
_SETTLE_S = 0.3
_CLOCK_S = 60.0  # by which a machine's clock may have been set since a process began


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
        self._campaign, self._place = campaign, campaign / LEASE
        self._mine = uuid.uuid4().hex
        self._beats = 0
        self._ended = threading.Event()
        self.lost = False  # another driver has taken over, and this one must stop
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        holder = living_driver(self._campaign, watch_s=self._expire_s, look_s=self._renew_s / 4)
        if holder is not None:
            raise self._refusal(holder)
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

    def _refusal(self, holder: dict[str, Any] | None) -> LeaseError:
        who = "another driver" if holder is None else f"process {holder['pid']} on {holder['host']}"
        return LeaseError(
            f"{self._campaign.text} is being run by {who}; wait for it, stop it, or choose another --out"
        )

    def _renew(self) -> None:
        while not self._ended.wait(self._renew_s):
            try:
                holder = read_lease(self._place)
                if holder is not None and holder["id"] != self._mine:
                    self.lost = True
                    return
                self._write()
            except StorageError:
                continue  # what can't be written now is tried again; shards tell of the trouble

    def _write(self) -> None:
        self._beats += 1
        holder = {
            "id": self._mine,
            "beat": self._beats,
            **_machine(),
            "pid": os.getpid(),
            "started": _began_at(os.getpid()),
        }
        self._place.write_bytes(json.dumps(holder).encode())


def read_lease(place: Location) -> dict[str, Any] | None:
    """Who holds a lease: id, beat, host, pid, started; None where nobody does, or what is there is no lease.

    Raises StorageError where that can't be found out.
    """
    holder = place.read_mapping()
    if not {"id", "beat", "host", "pid", "started"} <= holder.keys():
        return None
    pid, started = holder["pid"], holder["started"]
    return holder if isinstance(pid, int) and pid > 0 and isinstance(started, int | float) else None


def living_driver(
    campaign: Location, *, watch_s: float = 2 * RENEW_S, look_s: float = RENEW_S / 4
) -> dict[str, Any] | None:
    """Who drives a campaign, None where nobody does. One of this machine is known to be alive or dead at once; of
    another machine, or of this process, it is watched for a sign of life.
    """
    place = campaign / LEASE
    holder = read_lease(place)
    if holder is None:
        return None
    if all(holder.get(key, own) == own for key, own in _machine().items()):
        began_at = _began_at(holder["pid"])
        if began_at is None or abs(began_at - holder["started"]) >= _CLOCK_S:
            return None  # it is dead, and maybe a later process has its number
        if holder["pid"] != os.getpid():
            return holder
    until = time.monotonic() + watch_s
    while time.monotonic() < until:
        time.sleep(look_s)
        now = read_lease(place)
        if now != holder:
            return now
    return None


def _machine() -> dict[str, str | None]:
    """This machine. space: tells machines and containers of one name apart, whose process numbers are their own."""
    space = None
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = f"{os.readlink('/proc/self/ns/pid')} {boot}"
    return {"host": socket.gethostname(), "space": space}


def _began_at(pid: int) -> float | None:
    """When a process of this machine began, in s since 1970; None where none is alive."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None
