"""Sampling: from noise to compositions, step by step; with a base (ILVR), with guidance, with an account of T_c.

A step is: denoise, guide, refine. The last word is ILVR's, so that at every noise level the sample has the reference's
low-pass content exactly, whatever guidance did. Row r's noise comes from a generator of (seed, r) alone; on a GPU,
where thousands of small draws take longer than the network, a batch's comes from one of (seed, its first row).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from kiago_ray.baselines.superdiff.network import (
    LENGTH,
    STEPS,
    SuperDiff,
    UNet,
    check_steps,
    noise_scheduler,
)
from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS, WRITING_ORDER
from kiago_ray.chemistry.formula import MAX_AMOUNT, write
from kiago_ray.errors import InputError

if TYPE_CHECKING:
    from kiago_ray.predictors.base import Predictor

SCALE_FACTORS = (1, 2, 4, 6)
BATCH_ROWS = 256
LEAST_AMOUNT = 0.05  # eight times the noise of the lowest level; SuperCon has 1 in 40 amounts below it
DECIMALS = 2  # as SuperDiff rounds, and as the paper's Table 3 has its formulas
Progress = Callable[[int, int], None]
"""Called with steps done and steps in all, over all batches."""


class SampleStatus(IntEnum):
    """What became of a row. EMPTY: no amount reached 0.05 atoms; DIVERGED: not finite, or beyond what a formula
    holds.
    """

    OK = 0
    EMPTY = 1
    DIVERGED = 2


@dataclass(frozen=True)
class TcChanges:
    """Where a sample's predicted T_c comes from, in K (rows,) each: start + denoise + guide + ilvr = end.

    start: of the first noise; denoise, guide, ilvr: the sums of the changes by these over all steps (Table 4).
    """

    start_k: NDArray[np.float64]
    denoise_k: NDArray[np.float64]
    guide_k: NDArray[np.float64]
    ilvr_k: NDArray[np.float64]
    end_k: NDArray[np.float64]

    def means(self) -> dict[str, float]:
        """The means over the rows, and their sum as Table 4 has it."""
        parts = {name: float(getattr(self, f"{name}_k").mean()) for name in ("denoise", "ilvr", "guide")}
        return {**{f"{name}_k": value for name, value in parts.items()}, "sum_k": sum(parts.values())}


@dataclass(frozen=True)
class Samples:
    """amounts: (count, 118) atoms, cleaned: below 0.05 counts as nothing, so does a negative one; the rest to two
    decimals.

    signal: (count, 118) what came out of the model. status: (count,) of SampleStatus; a row that isn't OK has no
    amounts. scale_factors: (count,) ILVR's, 0 without a base. changes: None where nobody asked.
    """

    amounts: NDArray[np.float64]
    signal: NDArray[np.float32]
    status: NDArray[np.int8]
    scale_factors: NDArray[np.int64]
    changes: TcChanges | None = None

    def counts(self) -> dict[str, int]:
        """How many rows ended how."""
        return {status.name.lower(): int((self.status == status).sum()) for status in SampleStatus}


def cleaned(signal: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Amounts (N, 118) and statuses (N,) of what came out of the model (N, 118)."""
    diverged = ~np.all(np.isfinite(signal) & (np.abs(signal) < MAX_AMOUNT), axis=1)
    kept = np.where(diverged[:, None] | (signal < LEAST_AMOUNT), 0, signal)
    amounts = np.asarray(np.round(kept.astype(np.float64), DECIMALS), dtype=np.float64)
    status = np.where(amounts.any(axis=1), SampleStatus.OK, SampleStatus.EMPTY)
    return amounts, np.where(diverged, SampleStatus.DIVERGED, status).astype(np.int8)


def formulas(samples: Samples) -> list[str]:
    """The formulas of the rows that hold something, in their order: "LaNi0.99As0.99O1.01", not reduced."""
    return [formula_of(row) for row in samples.amounts[samples.status == SampleStatus.OK]]


def formula_of(amounts: NDArray[np.float64]) -> str:
    """The formula of amounts (118,), least electronegative element first. Raises FormulaError where all are 0."""
    if amounts.shape != (N_ELEMENTS,):
        raise ValueError(f"amounts have the shape {amounts.shape}; give one row of ({N_ELEMENTS},)")
    return write({SYMBOLS[z]: float(amounts[z]) for z in WRITING_ORDER if amounts[z]})


@dataclass(frozen=True)
class Guidance:
    """Guidance of the samples by the predictors: x ← x − w·∂(−T_c + α·E_f)/∂x at every step (section 3.1, eq. 13).

    tc and ef: predictors, on the device of the samples. alpha: K per eV/atom. weight w: atoms² per K. The predictors
    see the sample's positive part, normalised, though they never saw noise in training. The slope is each sample's,
    so that a sample doesn't depend on how many are drawn with it. The paper doesn't say whether its loss is averaged
    over a batch, which would divide its weights by hundreds: what its 1e-3 does, ours does near 4e-6
    (benchmarks/superdiff.py). Raises InputError.
    """

    tc: Predictor
    ef: Predictor
    alpha: float = 4.0
    weight: float = 1e-3

    def __post_init__(self) -> None:
        for name, value in (("alpha", self.alpha), ("weight", self.weight)):
            if not 0 <= value < float("inf"):
                raise InputError(f"{name} of the guidance is {value!r}: give a finite number, 0 or more")

    def slope(self, x: Tensor) -> Tensor:
        """∂(−T_c + α·E_f)/∂x of samples x (rows, 120), of the same shape; 0 in a row with nothing above 0, which is no
        composition. T_c counts before its final ReLU, so that a sample at 0 K has a slope.
        """
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            parts, alive = positive_fractions(leaf)
            loss = self.alpha * self.ef(parts) - self.tc(parts)  # eq. 13
            (slope,) = torch.autograd.grad(loss.sum(), leaf)
        return torch.where(alive[:, None], slope, 0)


def positive_fractions(x: Tensor) -> tuple[Tensor, Tensor]:
    """σ of eq. 5: samples (rows, 120) → atomic fractions (rows, 118), and which rows (rows,) have anything above 0."""
    positive = x[:, :N_ELEMENTS].relu()
    total = positive.sum(dim=1, keepdim=True)
    alive = total[:, 0] != 0  # NaN counts as alive, so that it shows
    return positive / torch.where(alive[:, None], total, 1), alive


@torch.no_grad()
def predicted_tc_k(tc: Predictor, x: Tensor) -> Tensor:
    """T_c in K, 0 or more, of samples (rows, 120) at any noise: (rows,); 0 where nothing is above 0."""
    parts, alive = positive_fractions(x)
    return torch.where(alive, tc(parts).relu(), 0)


def check_factor(factor: int) -> None:
    """Raises InputError where blocks of `factor` places don't fill the 120."""
    if not 1 <= factor <= LENGTH or LENGTH % factor:
        divisors = ", ".join(str(n) for n in range(1, LENGTH + 1) if LENGTH % n == 0)
        raise InputError(f"a scale factor is {factor!r}: give a divisor of {LENGTH} ({divisors})")


def low_pass(x: Tensor, factor: int) -> Tensor:
    """φ: the mean over each block of `factor` places, in all of its places: (rows, 120) → (rows, 120)."""
    check_factor(factor)
    small = functional.interpolate(x[:, None], size=LENGTH // factor, mode="area")
    return functional.interpolate(small, size=LENGTH, mode="nearest")[:, 0]


def refine(x: Tensor, reference: Tensor, factors: Tensor) -> Tensor:
    """Iterative latent variable refinement (Choi et al. 2021; SuperDiff's II C): x ← x + φ(y_t − x), so that x has the
    low-pass content of the noised reference, both (rows, 120), at each row's own factor (rows,).

    The larger the factor, the less is taken over: factor 6 keeps the sums over H–C, N–Mg, …, and the model distributes
    them. With factor 1 φ is the identity, every sample is the noised reference itself and the model has no say; what
    is left at the end is the reference with the noise of the lowest level, 0.006 atoms an element. That is how the
    paper's Table 3 comes by Ni0.99LaO1.01As0.99 from LaNiAsO, and a quarter of its samples are of that kind.
    """
    refined = x.clone()
    for factor in sorted(set(factors.tolist())):
        rows = factors == factor
        if factor == 1:
            refined[rows] = reference[rows]
        else:
            refined[rows] += low_pass(reference[rows] - x[rows], factor)
    return refined


def noised(clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """The reference at a noise level: √ᾱ·y + √(1 − ᾱ)·ε, all (rows, 120), ᾱ of no dimension."""
    return torch.sqrt(level) * clean + torch.sqrt(1 - level) * noise


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
    the same samples up to rounding, which 1,000 steps may enlarge. Raises InputError, also without diffusers.
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
            x = x - guidance.weight * guidance.slope(x)
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
    check_steps(steps)
    for factor in scale_factors:
        check_factor(factor)
