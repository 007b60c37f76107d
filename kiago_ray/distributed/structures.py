"""Structures on Ray workers: an actor a core that holds CHGNet, and rows to whichever is free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from kiago_ray.chemistry.elements import Floats
from kiago_ray.distributed.cluster import capacity, connected, one_line, options, refusal
from kiago_ray.errors import InputError
from kiago_ray.hull import EnergyHull
from kiago_ray.runs.spec import ResourcesSpec
from kiago_ray.structures.proposals import Found, Request, Settings, structure_of
from kiago_ray.structures.relaxation import Potential

_TRIES = 3  # how often a row may lose its worker


class StructureWorker:
    """Holds the potential and the hull, and takes one row at a time."""

    def __init__(self, settings: Settings, hull: EnergyHull, odds: Floats) -> None:
        torch.set_num_threads(1)
        self.settings, self.hull, self.odds, self.potential = settings, hull, odds, Potential()

    def run(self, request: Request) -> Found:
        """The structure of a row."""
        return structure_of(request, self.settings, self.potential, self.hull, self.odds)


def found_on_ray(
    requests: Sequence[tuple[int, Request]],
    settings: Settings,
    hull: EnergyHull,
    odds: Floats,
    *,
    workers: int | None = None,
    address: str | None = None,
) -> Iterator[tuple[int, Found]]:
    """Each row's place and what came of it, as they are done. A row that loses its worker is tried again, and comes as
    an error after _TRIES losses. Raises InputError where no cluster can be had.
    """
    with connected(address):
        import ray

        resources = ResourcesSpec()
        if not (cores := capacity(resources)):
            raise InputError(refusal(resources))
        number = min(workers or cores, len(requests))
        kind: Any = ray.remote(StructureWorker).options(**options(resources))
        shared = [ray.put(each) for each in (settings, hull, odds)]
        free = [kind.remote(*shared) for _ in range(number)]
        waiting, busy = list(requests), dict[Any, tuple[Any, int, Request]]()
        losses = Counter[int]()
        while waiting or busy:
            while waiting and free:
                worker, (at, request) = free.pop(), waiting.pop(0)
                busy[worker.run.remote(request)] = worker, at, request
            (ready,), _ = ray.wait(list(busy), num_returns=1)
            worker, at, request = busy.pop(ready)
            try:
                found = ray.get(ready)
            except ray.exceptions.RayError as error:
                ray.kill(worker)
                free.append(kind.remote(*shared))
                losses[at] += 1
                if losses[at] < _TRIES and isinstance(error, ray.exceptions.RayActorError):
                    waiting.insert(0, (at, request))
                    continue
                cause = f"its worker failed: {one_line(error)}"
                found = Found({"formula": request.formula, "error": cause}, error=cause)
            else:
                free.append(worker)
            yield at, found
