"""Watching a search: what is kept of each step, what a progress bar gets, when to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kiago_ray.search.losses import Terms
from kiago_ray.search.result import Trajectory
from kiago_ray.search.stages import StageSettings
from kiago_ray.search.status import RowStatus


@dataclass(frozen=True)
class Progress:
    """Where a search is: step `step` of `total`, counted over all shards; T_c in K of the living rows of this
    shard.
    """

    stage: int
    step: int
    total: int
    best_tc_k: float
    mean_tc_k: float


ProgressCallback = Callable[[Progress], None]
ShouldStop = Callable[[], bool]


@dataclass
class Recorder:
    """Collects the terms of every step of one shard, on the device, and passes on progress and requests to
    stop.

    sample: (k,) positions in the shard whose terms are kept. wanted: (rows,) bool, False for padding.
    first, total: steps done before this shard, and of all shards. every: steps between two calls of `progress`;
    each waits for the device.
    """

    sample: Tensor
    wanted: Tensor
    first: int
    total: int
    progress: ProgressCallback | None
    should_stop: ShouldStop | None
    every: int = 1
    steps_done: int = 0
    terms: list[Tensor] = field(default_factory=list)

    def __call__(self, settings: StageSettings, number: int, status: Tensor, terms: Terms) -> bool:
        """Keep one step's terms; False if the search shall stop."""
        self.keep(status, terms)
        self.steps_done += 1
        last = self.first + self.steps_done == self.total
        if self.progress is not None and (last or self.steps_done % self.every == 0):
            living = terms.tc_k[self.wanted & (status == RowStatus.OK) & terms.tc_k.isfinite()]
            best, mean = (float(living.max()), float(living.mean())) if len(living) else (float("nan"),) * 2
            self.progress(Progress(settings.number, self.first + self.steps_done, self.total, best, mean))
        return self.should_stop is None or not self.should_stop()

    def keep(self, status: Tensor, terms: Terms) -> None:
        """Add the sampled rows' terms, (3, k), NaN for rows that have stopped."""
        table = torch.stack((terms.tc_k, terms.ef_ev_per_atom, terms.integer_loss))
        living = (status == RowStatus.OK).expand_as(table)
        self.terms.append(torch.where(living, table, torch.nan)[:, self.sample])

    def trajectory(self, rows: np.ndarray, steps: tuple[int, int]) -> Trajectory:
        """What was kept, for the sample's row numbers (k,); steps that weren't reached are NaN."""
        points = sum(steps) + 1
        table = np.full((points, 3, len(rows)), np.nan, dtype=np.float32)
        kept = torch.stack(self.terms).cpu().numpy()
        table[: len(kept)] = kept
        stage = np.where(np.arange(points) < steps[0], 1, 2)
        return Trajectory(rows, stage, table[:, 0], table[:, 1], table[:, 2])
