"""Sampling: from noise to compositions, step by step; with a base (ILVR), with guidance, with an account of T_c.

A step is: denoise, guide, refine. The last word is ILVR's, so that at every noise level the sample has the reference's
low-pass content exactly, whatever guidance did. Row r's noise comes from a generator of (seed, r) alone; on a GPU,
where thousands of small draws take longer than the network, a batch's from one of (seed, its first row).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional

from kiago_ray.baselines.superdiff.guidance import Guidance, predicted_tc_k
from kiago_ray.baselines.superdiff.ilvr import check_factor, noised, refine
from kiago_ray.baselines.superdiff.model import SuperDiff
from kiago_ray.baselines.superdiff.network import LENGTH, UNet
from kiago_ray.baselines.superdiff.samples import Samples, TcChanges, cleaned
from kiago_ray.baselines.superdiff.schedule import STEPS, check_steps, noise_scheduler
from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.errors import InputError

if TYPE_CHECKING:
    from kiago_ray.predictors.base import Predictor

SCALE_FACTORS = (1, 2, 4, 6)
BATCH_ROWS = 256
Progress = Callable[[int, int], None]
"""Called with steps done and steps in all, over all batches."""


@dataclass(frozen=True)
class _Batch:
    """What the rows of one batch need. generators: one a row, or one for all. reference: (rows, 120) or None; factors:
    (rows,).
    """

    generators: list[torch.Generator] | torch.Generator
    factors: Tensor
    reference: Tensor | None


class _Ledger:
    """Sums of changes of T_c, (rows,) each; keeps no account without a predictor."""

    def __init__(self, tc: Predictor | None, x: Tensor) -> None:
        self.tc = tc
        zero = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        self.sums = {name: zero.clone() for name in ("denoise", "guide", "ilvr")}
        self.start = self.now = zero if tc is None else predicted_tc_k(tc, x).double()

    def book(self, name: str, x: Tensor) -> None:
        """Put down what changed since the last entry."""
        if self.tc is not None:
            latest = predicted_tc_k(self.tc, x).double()
            self.sums[name] += latest - self.now
            self.now = latest

    def columns(self) -> Tensor:
        """start, denoise, guide, ilvr, end: (5, rows)."""
        return torch.stack([self.start, *self.sums.values(), self.now]).cpu()


def sample(
    model: SuperDiff,
    count: int,
    *,
    base: ArrayLike | None = None,
    scale_factors: Sequence[int] = SCALE_FACTORS,
    guidance: Guidance | None = None,
    seed: int,
    steps: int = STEPS,
    batch_rows: int = BATCH_ROWS,
    device: str | torch.device = "cpu",
    account: Predictor | None = None,
    progress: Progress | None = None,
) -> Samples:
    """Draw `count` compositions, conditioned on `base` (118 amounts, as its formula is written) where one is given.

    Scale factors take turns, so that each has the same share. `account`: the T_c predictor by which the changes of
    T_c are summed (two or three predictions a step). Predictors must be on `device`. On a CPU other batches give
    the same samples up to rounding, which 1,000 steps may enlarge. Raises InputError, also without
    diffusers.
    """
    device = torch.device(device)
    reference = None if base is None else _reference(base)
    _check(count, scale_factors, seed, steps, batch_rows)
    network = model.network
    here = next(network.parameters()).device
    if here.type != device.type or device.index not in (None, here.index):
        network = deepcopy(network).to(device)
    factors = torch.zeros(count, dtype=torch.long)
    if reference is not None:
        factors = torch.tensor(scale_factors)[torch.arange(count) % len(scale_factors)]
    signals: list[Tensor] = []
    columns: list[Tensor] = []
    starts = range(0, count, batch_rows)
    for number, start in enumerate(starts):
        rows = range(start, min(start + batch_rows, count))
        batch = _Batch(
            _generators(seed, rows, device),
            factors[start : rows.stop].to(device),
            None if reference is None else reference.expand(len(rows), -1).to(device),
        )

        def report(done: int, number: int = number) -> None:
            if progress is not None:
                progress(number * steps + done, len(starts) * steps)

        x, ledger = _denoise(network, batch, guidance, account, steps, device, report)
        signals.append(x[:, :N_ELEMENTS].cpu())
        columns.append(ledger.columns())
    signal = torch.cat(signals).numpy()
    amounts, status = cleaned(signal)
    changes = None if account is None else TcChanges(*torch.cat(columns, dim=1).numpy())
    return Samples(amounts, signal, status, factors.numpy(), changes)


@torch.no_grad()
def _denoise(
    network: UNet,
    batch: _Batch,
    guidance: Guidance | None,
    account: Predictor | None,
    steps: int,
    device: torch.device,
    report: Callable[[int], None],
) -> tuple[Tensor, _Ledger]:
    """One batch from noise to signal (rows, 120), and its account."""
    scheduler = noise_scheduler(steps)
    levels = scheduler.alphas_cumprod.to(device)
    x = _noise(batch, device)
    ledger = _Ledger(account, x)
    for done, step in enumerate(scheduler.timesteps.tolist()):
        predicted = network(x, torch.full((len(x),), step, device=device))
        x = scheduler.step(predicted, step, x, generator=batch.generators).prev_sample
        ledger.book("denoise", x)
        if guidance is not None:
            x = x - guidance.weight * guidance.slope(x)[0]
            ledger.book("guide", x)
        if batch.reference is not None:
            # Below the lowest level there is none, so the last step keeps that level's noise.
            level = levels[max(int(scheduler.previous_timestep(step)), 0)]
            x = refine(x, noised(batch.reference, _noise(batch, device), level), batch.factors)
            ledger.book("ilvr", x)
        report(done + 1)
    return x, ledger


def _generators(seed: int, rows: range, device: torch.device) -> list[torch.Generator] | torch.Generator:
    if device.type == "cpu":
        return [_generator(seed, row, device) for row in rows]
    return _generator(seed, rows.start, device)


def _generator(seed: int, row: int, device: torch.device) -> torch.Generator:
    words = np.random.SeedSequence([seed, row]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(words[0]))


def _noise(batch: _Batch, device: torch.device) -> Tensor:
    """(rows, 120)."""
    if isinstance(batch.generators, torch.Generator):
        return torch.randn(len(batch.factors), LENGTH, generator=batch.generators, device=device)
    return torch.stack([torch.randn(LENGTH, generator=generator) for generator in batch.generators])


def _reference(base: ArrayLike) -> Tensor:
    """The base (118,) on the network's places, (120,)."""
    amounts = np.asarray(base, dtype=np.float64)
    if amounts.shape != (N_ELEMENTS,):
        raise InputError(f"the base has the shape {amounts.shape}: give {N_ELEMENTS} amounts")
    if not np.isfinite(amounts).all() or (amounts < 0).any() or not amounts.any():
        raise InputError("the base's amounts must be finite, not negative and not all 0")
    return functional.pad(torch.from_numpy(amounts).float(), (0, LENGTH - N_ELEMENTS))


def _check(count: int, scale_factors: Sequence[int], seed: int, steps: int, batch_rows: int) -> None:
    for name, value, most in (("count", count, 10_000_000), ("batch_rows", batch_rows, 1_000_000)):
        if not 1 <= value <= most:
            raise InputError(f"{name} is {value!r}: give 1 to {most:,}")
    if seed < 0:
        raise InputError(f"seed is {seed!r}: give 0 or more")
    if not scale_factors:
        raise InputError("scale_factors is empty: give at least one, such as 2")
    try:
        check_steps(steps)
        for factor in scale_factors:
            check_factor(factor)
    except ValueError as error:
        raise InputError(str(error)) from None
