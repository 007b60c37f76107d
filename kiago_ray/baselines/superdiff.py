"""SuperDiff (Yuan & Dordevic, Sci. Rep. 14, 10275, 2024), as the paper compares with it: a 1-D diffusion model on
SuperCon's unnormalised compositions, conditioned on a base by ILVR, with or without guidance by the predictors.

A composition is a signal of one channel over 120 places: the 118 elements by atomic number and two places more,
because 120 is a multiple of every scale factor of ILVR. Unlike pixels, elements are no translations of one another, so
what a place means is learnt: each has a vector of its own beside its amount.

A step of sampling is: denoise, guide, refine. The last word is ILVR's, so that at every noise level the sample has the
reference's low-pass content exactly, whatever guidance did. Row r's noise comes from a generator of (seed, r) alone;
on a GPU, where small draws take longer than the network, a batch's comes from one of (seed, its first row).
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.chemistry.formula import MAX_AMOUNT, checked_amounts, write_row
from kiago_ray.errors import InputError
from kiago_ray.predictors.base import Predictor
from kiago_ray.predictors.weights import WeightsError, filled, read_tensors

KIND = "superdiff"
LENGTH, STEPS = 120, 1000
GROUPS = 8
HEADS = 4
LEVELS = 3  # 60, 30 and 15 places
MAX_WIDTH, MAX_DEPTH = 512, 8
LONGEST_WAVE = 10_000.0  # of the time embedding, in steps
SCALE_FACTORS = (1, 2, 4, 6)
BATCH_ROWS = 256
MAX_COUNT, MAX_BATCH_ROWS = 10_000_000, 1_000_000
LEAST_AMOUNT = 0.05  # eight times the noise of the lowest level; SuperCon has 1 in 40 amounts below it
DECIMALS = 2  # as SuperDiff rounds, and as the paper's Table 3 has its formulas
Progress = Callable[[int, int], None]
"""Called with steps done and steps in all, over all batches."""
Noise = tuple[list[torch.Generator] | torch.Generator, Callable[[], Tensor]]
"""What the noise of some rows comes from, and what draws the next of it, (rows, 120)."""


@dataclass(frozen=True)
class NetworkSettings:
    """width: channels on 60 places, a multiple of 8, more on 30 and 15. depth: blocks a level. Raises InputError."""

    width: int = 32
    depth: int = 1

    def __post_init__(self) -> None:
        if not (GROUPS <= self.width <= MAX_WIDTH and self.width % GROUPS == 0):
            raise InputError(f"width is {self.width!r}: give a multiple of {GROUPS} up to {MAX_WIDTH}")
        if not 1 <= self.depth <= MAX_DEPTH:
            raise InputError(f"depth is {self.depth!r}: give 1 to {MAX_DEPTH}")


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, twice; time scales and shifts what is between: (rows, in, L) → (rows, out, L)."""

    def __init__(self, inputs: int, outputs: int, time: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, inputs)
        self.conv1 = nn.Conv1d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(time, 2 * outputs)
        self.norm2 = nn.GroupNorm(GROUPS, outputs)
        self.conv2 = nn.Conv1d(outputs, outputs, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        inner = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.time(time)[..., None].chunk(2, dim=1)
        inner = self.conv2(functional.silu(self.norm2(inner) * (1 + scale) + shift))
        return cast(Tensor, self.skip(x) + inner)


class Attention(nn.Module):
    """Every place looks at every other: (rows, C, L) → (rows, C, L)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.inward = nn.Conv1d(channels, 3 * channels, 1)
        self.outward = nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.outward.weight)

    def forward(self, x: Tensor) -> Tensor:
        rows, channels, length = x.shape
        parts = self.inward(self.norm(x)).reshape(rows, 3, HEADS, channels // HEADS, length)
        query, key, value = parts.transpose(3, 4).unbind(1)  # each (rows, heads, L, C / heads)
        seen = functional.scaled_dot_product_attention(query, key, value)
        return cast(Tensor, x + self.outward(seen.transpose(2, 3).reshape(rows, channels, length)))


class UNet(nn.Module):
    """What to take away from a noisy composition: (rows, 120) and steps (rows,) → v (rows, 120).

    v = √ᾱ·ε − √(1 − ᾱ)·x₀ is the noise ε put another way (Salimans & Ho 2022): it stays of order 1 where x is nearly
    all noise, and there the cosine schedule would blow up an error of ε.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        channels = [settings.width * (level + 1) for level in range(LEVELS)]  # from 60 places to 15
        time = 4 * settings.width
        self.time = nn.Sequential(
            nn.Linear(2 * settings.width, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU()
        )
        self.entry = nn.Conv1d(1, channels[0], 4, stride=2, padding=1)
        self.places = nn.Parameter(torch.randn(1, channels[0], LENGTH // 2) * 0.5)
        self.down, self.up, self.shrink, self.grow = (nn.ModuleList() for _ in range(4))
        for level, width in enumerate(channels[:-1]):
            self.down.append(nn.ModuleList(ResidualBlock(width, width, time) for _ in range(settings.depth)))
            blocks = (ResidualBlock(width if at else 2 * width, width, time) for at in range(settings.depth))
            self.up.append(nn.ModuleList(blocks))
            self.shrink.append(nn.Conv1d(width, channels[level + 1], 2, stride=2))
            self.grow.append(nn.ConvTranspose1d(channels[level + 1], width, 2, stride=2))
        self.middle = nn.ModuleList()
        for _ in range(settings.depth + 1):
            self.middle += [Attention(channels[-1]), ResidualBlock(channels[-1], channels[-1], time)]
        self.last_norm = nn.GroupNorm(GROUPS, channels[0])
        self.exit = nn.ConvTranspose1d(channels[0], 1, 4, stride=2, padding=1)
        nn.init.zeros_(self.exit.weight)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        time = self.time(waves(step, self.settings.width))
        x = self.entry(x[:, None]) + self.places
        kept: list[Tensor] = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            for block in cast(nn.ModuleList, blocks):
                x = block(x, time)
            kept.append(x)
            x = shrink(x)
        for block in self.middle:
            x = block(x) if isinstance(block, Attention) else block(x, time)
        for blocks, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            x = torch.cat([grow(x), kept.pop()], dim=1)
            for block in cast(nn.ModuleList, blocks):
                x = block(x, time)
        return cast(Tensor, self.exit(functional.silu(self.last_norm(x)))[:, 0])


def waves(step: Tensor, count: int) -> Tensor:
    """Sines and cosines of the step (rows,) at `count` frequencies, (rows, 2 · count) (Vaswani et al. 2017)."""
    exponents = torch.arange(count, dtype=torch.float32, device=step.device) / count
    angles = step.float()[:, None] * torch.exp(-math.log(LONGEST_WAVE) * exponents)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def noise_scheduler(steps: int = STEPS) -> Any:
    """diffusers' DDPMScheduler with SuperDiff's noise, 1,000 levels of a cosine schedule (Nichol & Dhariwal 2021), set
    to go from the last level to none in `steps` steps; fewer steps skip levels, all equally many.

    x_t = √ᾱ_t·x₀ + √(1 − ᾱ_t)·ε, of amounts as they are, in atoms of the formula as written: as SuperDiff does it, and
    because their root mean square over the 118 elements, 0.56 in SuperCon, is already near the noise's 1. Amounts are
    not clipped on the way. Raises InputError for steps that don't divide the levels, and without diffusers.
    """
    if not 1 <= steps <= STEPS or STEPS % steps:
        raise InputError(f"steps is {steps!r}: give a divisor of {STEPS}, such as {STEPS} or {STEPS // 10}")
    try:
        from diffusers import DDPMScheduler
    except ImportError:
        raise InputError(
            "SuperDiff needs the package diffusers: pip install 'kiago-ray[superdiff]'"
        ) from None
    ddpm: Any = DDPMScheduler
    scheduler = ddpm(
        num_train_timesteps=STEPS,
        beta_schedule="squaredcos_cap_v2",
        variance_type="fixed_large",  # σ² = β, SuperDiff's section II B
        clip_sample=False,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    return scheduler


@dataclass(frozen=True)
class SuperDiff:
    """network: frozen, in evaluation mode; card: how it was trained and how good its samples are."""

    network: UNet
    card: dict[str, Any]


def load_superdiff(folder: Path | None = None) -> SuperDiff:
    """The model from the package or from a folder that `kiago train superdiff` wrote.

    Raises WeightsError for a missing or damaged file, a wrong hash or a network of another size than the card's.
    """
    stored, card, path = read_tensors(KIND, folder or Path(__file__).parent / "weights")
    try:
        network = UNet(NetworkSettings(**card["network_settings"]))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is not the network that its card describes ({error})") from None
    return SuperDiff(filled(network, stored, path), card)


class SampleStatus(IntEnum):
    """What became of a row. EMPTY: no amount reached 0.05 atoms; DIVERGED: not finite or beyond a formula's."""

    OK = 0
    EMPTY = 1
    DIVERGED = 2


Changes = Mapping[str, NDArray[np.float64]]
"""Where a sample's predicted T_c comes from, in K (rows,) each: start (of the first noise) + denoise + guide + ilvr
(the sums of the changes by these over all steps, Table 4) = end.
"""


def mean_changes(changes: Changes) -> dict[str, float]:
    """The means over the rows in K, and their sum as Table 4 has it."""
    parts = {name: float(changes[name].mean()) for name in ("denoise", "ilvr", "guide")}
    return {**parts, "sum": sum(parts.values())}


@dataclass(frozen=True)
class Samples:
    """amounts: (count, 118) atoms to two decimals, of which fewer than 0.05 count as none. signal: (count, 118) what
    came out of the model. status: (count,) of SampleStatus; a row that isn't OK has no amounts. scale_factors:
    (count,) ILVR's, 0 without a base. changes: None where nobody asked.
    """

    amounts: NDArray[np.float64]
    status: NDArray[np.int8]
    signal: NDArray[np.float32]
    scale_factors: NDArray[np.int64]
    changes: Changes | None = None

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
    """The formulas of the rows that hold something: "LaNi0.99As0.99O1.01", the least electronegative first."""
    return [write_row(row) for row in samples.amounts[samples.status == SampleStatus.OK]]


@dataclass(frozen=True)
class Guidance:
    """Guidance of the samples by the predictors: x ← x − w·∂(−T_c + α·E_f)/∂x at every step (section 3.1, eq. 13).

    tc and ef: predictors, on the device of the samples. alpha: K per eV/atom. weight w: atoms² per K. The predictors
    see the sample's positive part, normalised, though they never saw noise in training. The slope is each sample's,
    however many are drawn with it. The paper doesn't say whether its loss is averaged over a batch, which would divide
    its weights by hundreds: what its 1e-3 does, ours does near 4e-6 (benchmarks/superdiff.py). Raises InputError.
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
    small = functional.interpolate(x[:, None], size=LENGTH // factor, mode="area")
    return functional.interpolate(small, size=LENGTH, mode="nearest")[:, 0]


def refine(x: Tensor, reference: Tensor, factors: Tensor) -> Tensor:
    """Iterative latent variable refinement (Choi et al. 2021; SuperDiff's II C): x ← x + φ(y_t − x), so that x has the
    low-pass content of the noised reference, both (rows, 120), at each row's own factor (rows,).

    The larger the factor, the less is taken over: factor 6 keeps the sums over H–C, N–Mg, …, and the model distributes
    them. With factor 1 φ is the identity and the model has no say: what is left is the reference with the lowest
    level's noise, 0.006 atoms an element, as a quarter of the paper's samples (Table 3: Ni0.99LaO1.01As0.99).
    """
    refined = x.clone()
    for factor in sorted(set(factors.tolist())):
        rows = factors == factor
        if factor == 1:
            refined[rows] = reference[rows]
        else:
            refined[rows] += low_pass(reference[rows] - x[rows], factor)
    return refined


def _check_call(count: int, batch_rows: int, seed: int, scale_factors: Sequence[int]) -> None:
    """Raises InputError for what `sample` can't draw by."""
    for name, value, fits, wanted in (
        ("count", count, 1 <= count <= MAX_COUNT, f"1 to {MAX_COUNT:,}"),
        ("batch_rows", batch_rows, 1 <= batch_rows <= MAX_BATCH_ROWS, f"1 to {MAX_BATCH_ROWS:,}"),
        ("seed", seed, seed >= 0, "0 or more"),
        ("scale_factors", scale_factors, len(scale_factors) > 0, "at least one, such as 2"),
    ):
        if not fits:
            raise InputError(f"{name} is {value!r}: give {wanted}")
    for factor in scale_factors:
        check_factor(factor)


def sample(
    model: SuperDiff,
    count: int,
    *,
    base: NDArray[np.floating] | None = None,
    scale_factors: Sequence[int] = SCALE_FACTORS,
    guidance: Guidance | None = None,
    seed: int,
    steps: int = STEPS,
    batch_rows: int = BATCH_ROWS,
    device: str | torch.device = "cpu",
    account: Predictor | None = None,
    progress: Progress = lambda done, total: None,
) -> Samples:
    """Draw `count` compositions, conditioned on `base` (118 amounts, as its formula is written) where one is given.

    Scale factors take turns, so that each has the same share. account: the T_c predictor, on `device` as all are, by
    which the changes of T_c are summed. On a CPU other batches give the same samples up to rounding, which 1,000 steps
    may enlarge. Raises InputError, also without diffusers.
    """
    _check_call(count, batch_rows, seed, scale_factors)
    device = torch.device(device)
    try:
        reference = None if base is None else padded(checked_amounts(base[None]))[0].to(device)
    except ValueError as error:
        raise InputError(f"the base's {error}") from None
    network, scheduler = deepcopy(model.network).to(device), noise_scheduler(steps)
    turns = [0] if reference is None else scale_factors
    factors = torch.tensor(turns)[torch.arange(count) % len(turns)]
    batches = [range(count)[start : start + batch_rows] for start in range(0, count, batch_rows)]
    done, total = itertools.count(1), len(batches) * steps
    parts: dict[str, list[Tensor]] = defaultdict(list)
    for rows in batches:
        noise, own = _noise_of(seed, rows, device), factors[rows.start : rows.stop].to(device)
        x, changes = _denoise(
            network, scheduler, noise, reference, own, guidance, account, lambda: progress(next(done), total)
        )
        for name, values in {"signal": x[:, :N_ELEMENTS], **changes}.items():
            parts[name].append(values.cpu())
    whole = {name: torch.cat(each).numpy() for name, each in parts.items()}
    signal = whole.pop("signal")
    return Samples(*cleaned(signal), signal, factors.numpy(), whole or None)


def padded(amounts: NDArray[np.floating]) -> Tensor:
    """Amounts (N, 118) on the network's 120 places, in single precision."""
    return functional.pad(torch.from_numpy(amounts).float(), (0, LENGTH - N_ELEMENTS))


@torch.no_grad()
def _denoise(
    network: UNet,
    scheduler: Any,
    noise: Noise,
    reference: Tensor | None,
    factors: Tensor,
    guidance: Guidance | None,
    account: Predictor | None,
    report: Callable[[], None],
) -> tuple[Tensor, dict[str, Tensor]]:
    """A batch from noise to signal (rows, 120), and its Changes. reference: (120,). factors: (rows,)."""
    generators, draw = noise
    x = draw()
    sums: dict[str, Tensor] = {}
    if account is not None:
        start = predicted_tc_k(account, x).double()
        sums = {name: torch.zeros_like(start) for name in ("denoise", "guide", "ilvr")}
        sums |= {"start": start, "end": start}

    def book(name: str) -> None:
        """Put down what changed since the last entry."""
        if account is not None:
            latest = predicted_tc_k(account, x).double()
            sums[name] += latest - sums["end"]
            sums["end"] = latest

    levels = scheduler.alphas_cumprod.to(x.device)  # looked up by number, so that a GPU waits for no copy
    for step in scheduler.timesteps.tolist():
        predicted = network(x, torch.full((len(x),), step, device=x.device))
        x = scheduler.step(predicted, step, x, generator=generators).prev_sample
        book("denoise")
        if guidance is not None:
            x = x - guidance.weight * guidance.slope(x)
            book("guide")
        if reference is not None:
            # Below the lowest level there is none, so the last step keeps that level's noise.
            kept = levels[max(int(scheduler.previous_timestep(step)), 0)]
            noised = torch.sqrt(kept) * reference.expand(len(x), -1) + torch.sqrt(1 - kept) * draw()
            x = refine(x, noised, factors)
            book("ilvr")
        report()
    return x, sums


def _noise_of(seed: int, rows: range, device: torch.device) -> Noise:
    def generator(row: int) -> torch.Generator:
        words = np.random.SeedSequence([seed, row]).generate_state(1, np.uint64)
        return torch.Generator(device).manual_seed(int(words[0]))

    if device.type != "cpu":
        one = generator(rows.start)
        return one, lambda: torch.randn(len(rows), LENGTH, generator=one, device=device)
    each = [generator(row) for row in rows]
    return each, lambda: torch.stack([torch.randn(LENGTH, generator=generator) for generator in each])
