"""The diffusion model: a 1-D U-Net along the elements (Yuan & Dordevic 2024, section II B), its noise, its weights.

A composition is a signal of one channel over 120 places: the 118 elements by atomic number and two places more,
because 120 is a multiple of every scale factor of ILVR. What a place means is learnt: unlike pixels, elements
are no translations of one another, so each place has a vector of its own beside its amount.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional

from kiago_ray.errors import InputError
from kiago_ray.predictors.weights import WeightsError, read_weights

KIND = "superdiff"
LENGTH, STEPS = 120, 1000
GROUPS = 8
HEADS = 4
LEVELS = 3  # 60, 30 and 15 places
MAX_WIDTH, MAX_DEPTH = 512, 8
LONGEST_WAVE = 10_000.0  # of the time embedding, in steps


@dataclass(frozen=True)
class NetworkSettings:
    """The network's size. width: channels on 60 places, a multiple of 8, twice and three times as many on 30 and 15;
    depth: residual blocks a level. Raises InputError.
    """

    width: int = 32
    depth: int = 1

    def __post_init__(self) -> None:
        if not (GROUPS <= self.width <= MAX_WIDTH and self.width % GROUPS == 0):
            raise InputError(f"width is {self.width!r}: give a multiple of {GROUPS} up to {MAX_WIDTH}")
        if not 1 <= self.depth <= MAX_DEPTH:
            raise InputError(f"depth is {self.depth!r}: give 1 to {MAX_DEPTH}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels on each level, from 60 places to 15."""
        return tuple(self.width * (level + 1) for level in range(LEVELS))


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
        channels = settings.channels
        time = 4 * settings.width
        self.frequencies = settings.width
        self.time = nn.Sequential(
            nn.Linear(2 * settings.width, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU()
        )
        self.entry = nn.Conv1d(1, channels[0], 4, stride=2, padding=1)
        self.places = nn.Parameter(torch.randn(1, channels[0], LENGTH // 2) * 0.5)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        self.shrink = nn.ModuleList()
        self.grow = nn.ModuleList()
        for level, width in enumerate(channels[:-1]):
            self.down.append(nn.ModuleList(ResidualBlock(width, width, time) for _ in range(settings.depth)))
            self.up.append(
                nn.ModuleList(
                    ResidualBlock(2 * width if first else width, width, time)
                    for first in [True] + [False] * (settings.depth - 1)
                )
            )
            self.shrink.append(nn.Conv1d(width, channels[level + 1], 2, stride=2))
            self.grow.append(nn.ConvTranspose1d(channels[level + 1], width, 2, stride=2))
        self.middle = nn.ModuleList()
        for _ in range(settings.depth + 1):
            self.middle += [Attention(channels[-1]), ResidualBlock(channels[-1], channels[-1], time)]
        self.last_norm = nn.GroupNorm(GROUPS, channels[0])
        self.exit = nn.ConvTranspose1d(channels[0], 1, 4, stride=2, padding=1)
        nn.init.zeros_(self.exit.weight)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        time = self.time(waves(step, self.frequencies))
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
    check_steps(steps)
    try:
        import diffusers
    except ImportError:
        raise InputError(
            "SuperDiff needs the package diffusers: pip install 'kiago-ray[superdiff]'"
        ) from None
    ddpm: Any = diffusers.DDPMScheduler
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


def check_steps(steps: int) -> None:
    """Raises InputError where `steps` don't divide the 1,000 levels evenly."""
    if not 1 <= steps <= STEPS or STEPS % steps:
        raise InputError(f"steps is {steps!r}: give a divisor of {STEPS}, such as {STEPS} or {STEPS // 10}")


@dataclass(frozen=True)
class SuperDiff:
    """network: frozen, in evaluation mode; card: how it was trained and how good its samples are."""

    network: UNet
    card: dict[str, Any]


def shipped_folder() -> Path:
    """Where the package has its own weights."""
    return Path(__file__).parents[1] / "weights"


def load_superdiff(folder: Path | None = None) -> SuperDiff:
    """The model from the package or from a folder that `kiago train superdiff` wrote.

    Raises WeightsError for a missing or damaged file, a wrong hash or a network of another size than the card's.
    """
    content, card, path = read_weights(KIND, folder or shipped_folder())
    try:
        network = UNet(NetworkSettings(**card["network_settings"]))
        network.load_state_dict(load(content))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} is not the network that its card describes ({reason})") from None
    return SuperDiff(network.eval().requires_grad_(False), card)
