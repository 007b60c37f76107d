"""Structures on Ray workers: a task a row. Ray's processes stay, so that each reads CHGNet once; a row that loses its
process is given to another one by Ray itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Any

import torch

from kiago_ray.chemistry.elements import Floats
from kiago_ray.distributed.cluster import capacity, connected, one_line, options, refusal
from kiago_ray.errors import InputError
from kiago_ray.hull import EnergyHull
from kiago_ray.runs.spec import ResourcesSpec
from kiago_ray.structures.proposals import Found, Request, Settings, structure_of
from kiago_ray.structures.relaxation import Potential

_RETRIES = 2  # of a row that loses its process


@cache
def _potential() -> Potential:
    """The potential of this process."""
    torch.set_num_threads(1)
    return Potential()


def _made(request: Request, settings: Settings, hull: EnergyHull, odds: Floats) -> Found:
    return structure_of(request, settings, _potential(), hull, odds)


def found_on_ray(
    requests: Sequence[tuple[int, Request]],
    settings: Settings,
    hull: EnergyHull,
    odds: Floats,
    *,
    workers: int | None = None,
    address: str | None = None,
) -> Iterator[tuple[int, Found]]:
    """Each row's place and what came of it, as they are done; what Ray can't do of a row is its error. Raises
    InputError where no cluster can be had.
    """
    with connected(address):
        import ray

        resources = ResourcesSpec()
        if not (cores := capacity(resources)):
            raise InputError(refusal(resources))
        task: Any = ray.remote(_made).options(**options(resources), max_retries=_RETRIES)
        shared = [ray.put(each) for each in (settings, hull, odds)]
        waiting, running = iter(requests), dict[Any, tuple[int, Request]]()
        while True:
            for at, request in islice(waiting, (workers or cores) - len(running)):
                running[task.remote(request, *shared)] = at, request
            if not running:
                return
            (ready,), _ = ray.wait(list(running), num_returns=1)
            at, request = running.pop(ready)
            try:
                yield at, ray.get(ready)
            except ray.exceptions.RayError as error:
                yield at, Found.failed(request, f"its worker failed: {one_line(error)}")
