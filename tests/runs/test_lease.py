"""One driver at a time, on a local disk, with the threads and processes that there really are."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kiago_ray.runs.lease import LEASE, Lease, LeaseError, read_lease
from kiago_ray.storage.location import Location

RENEW_S, EXPIRE_S = 0.1, 0.8


def quick(campaign: Location) -> Lease:
    return Lease(campaign, renew_s=RENEW_S, expire_s=EXPIRE_S)


def until(what: Any, seconds: float = 10) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.02)
    return bool(what())


@pytest.fixture
def campaign(tmp_path: Path) -> Location:
    return Location.of(tmp_path)


def write_lease(campaign: Location, **changes: Any) -> None:
    holder = {"id": "of-another", "beat": 1, "host": "another-host", "pid": 4321, "started": 1.0, **changes}
    (campaign / LEASE).write_bytes(json.dumps(holder).encode())


def test_a_living_driver_keeps_others_out_and_its_lease_ends_with_it(campaign: Location) -> None:
    with quick(campaign) as lease:
        first = read_lease(campaign / LEASE)
        assert first is not None
        with pytest.raises(LeaseError, match=r"is being run by process \d+ on .*; wait for it, stop it, or"):
            quick(campaign).__enter__()
        assert until(lambda: (read_lease(campaign / LEASE) or first)["beat"] > first["beat"])
        assert not lease.lost
    assert campaign.entries() == []
    with quick(campaign):
        pass


def test_it_ends_with_an_error_too(campaign: Location) -> None:
    def failing() -> None:
        with quick(campaign):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        failing()
    assert campaign.entries() == []


DRIVER = """
import sys, time
from kiago_ray.runs.lease import Lease
from kiago_ray.storage.location import Location
with Lease(Location.of(sys.argv[1]), renew_s=0.1, expire_s=0.8):
    print("driving", flush=True)
    time.sleep(60)
"""


def test_a_killed_driver_of_this_machine_is_known_dead_at_once(campaign: Location) -> None:
    process = subprocess.Popen([sys.executable, "-c", DRIVER, campaign.path], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"driving\n"
        with pytest.raises(LeaseError, match=f"process {process.pid} on"):
            quick(campaign).__enter__()
    finally:
        process.kill()
        process.wait()
    holder = read_lease(campaign / LEASE)
    assert holder is not None
    assert holder["pid"] == process.pid
    began = time.monotonic()
    with Lease(campaign, expire_s=60):
        assert time.monotonic() - began < 5


def test_a_later_process_of_the_same_number_is_not_the_driver(campaign: Location) -> None:
    write_lease(campaign, host=socket.gethostname(), pid=os.getpid(), started=1.0)
    began = time.monotonic()
    with Lease(campaign, expire_s=60):
        assert time.monotonic() - began < 5


def test_a_silent_driver_of_another_machine_loses_it_when_it_expires(campaign: Location) -> None:
    write_lease(campaign)
    began = time.monotonic()
    with quick(campaign) as lease:
        assert time.monotonic() - began >= EXPIRE_S
        assert not lease.lost


def test_a_driver_of_another_machine_that_goes_on_is_left_alone(campaign: Location) -> None:
    write_lease(campaign, beat=1)
    ended = threading.Event()

    def renew() -> None:
        beat = 1
        while not ended.wait(RENEW_S):
            beat += 1
            write_lease(campaign, beat=beat)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(LeaseError, match="process 4321 on another-host"):
            quick(campaign).__enter__()
    finally:
        ended.set()
        thread.join()


def test_a_driver_notices_that_another_took_over_and_leaves_its_lease_alone(campaign: Location) -> None:
    with quick(campaign) as lease:
        write_lease(campaign)
        assert until(lambda: lease.lost)
    holder = read_lease(campaign / LEASE)
    assert holder is not None
    assert holder["id"] == "of-another"


def test_a_lease_that_was_removed_is_written_again(campaign: Location) -> None:
    with quick(campaign) as lease:
        (campaign / LEASE).delete()
        assert until(lambda: read_lease(campaign / LEASE) is not None)
        assert not lease.lost


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"{", b"[]", b'"x"', b"{}", b'{"id": "x", "beat": 1, "host": "h"}']
    + [
        json.dumps({"id": "x", "beat": 1, "host": "h", "pid": pid, "started": 1}).encode()
        for pid in ("1", -1, 0, None)
    ],
)
def test_what_is_no_lease_keeps_nobody_out(campaign: Location, content: bytes) -> None:
    (campaign / LEASE).write_bytes(content)
    assert read_lease(campaign / LEASE) is None
    with quick(campaign) as lease:
        assert not lease.lost
    assert campaign.entries() == []


def test_of_drivers_that_start_together_one_drives(campaign: Location) -> None:
    start, leave = threading.Barrier(4), threading.Event()
    outcomes: list[Lease | LeaseError] = []

    def drive() -> None:
        start.wait()
        try:
            with quick(campaign) as lease:
                outcomes.append(lease)
                leave.wait(20)
        except LeaseError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=drive) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert until(lambda: len(outcomes) == 4)
    entered = [outcome for outcome in outcomes if isinstance(outcome, Lease)]
    assert until(lambda: sum(not lease.lost for lease in entered) == 1)
    time.sleep(3 * RENEW_S)
    assert sum(not lease.lost for lease in entered) == 1
    leave.set()
    for thread in threads:
        thread.join()
    assert campaign.entries() == []


def test_a_driver_of_another_machine_with_the_same_name_is_not_taken_for_dead(campaign: Location) -> None:
    write_lease(campaign, host=socket.gethostname(), space="pid:[4026531836] another-boot", pid=2**22 - 1)
    began = time.monotonic()
    with quick(campaign):
        assert time.monotonic() - began >= EXPIRE_S
