"""How SuperDiff is trained: on SuperCon's compositions as they are written, not normalised, by the predictors' own
`fit`, on fresh noise every epoch, to weights with a card that says how good unconditional samples are.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kiago_ray.baselines.superdiff import (
    KIND,
    LEAST_AMOUNT,
    LENGTH,
    STEPS,
    NetworkSettings,
    SampleStatus,
    SuperDiff,
    UNet,
    formulas,
    noise_scheduler,
    padded,
    sample,
)
from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.chemistry.formula import MAX_LENGTH, parse_amounts
from kiago_ray.data.compositions import held_out, nearest
from kiago_ray.data.files import LoadReport
from kiago_ray.errors import InputError
from kiago_ray.predictors.weights import halved, save_network
from kiago_ray.training.fit import FitSettings, RunOptions, fit, model_card
from kiago_ray.training.tables import HELD_OUT_SHARE, SALT, Epoch

# 97 % of SuperCon. The others are alloys in per cent and clathrates: their amounts lie up to thirty times above all
# others', and a model of the rest would spend itself on them.
MAX_ATOMS = 40.0
# `fit` squares errors up to this width, and no error of v comes near: |v| ≤ |ε| + 40 atoms.
_SQUARED_TO = 64.0
SETTINGS = FitSettings(
    epochs=60,
    batch_rows=128,
    learning_rate=2e-3,
    weight_decay=0.01,
    average_decay=0.999,
    huber_width=_SQUARED_TO,
)
RECIPE = {
    "target": "v = √ᾱ·ε − √(1 − ᾱ)·x₀, x₀ in atoms of the formula as written",
    "loss": "mean squared error",
    "schedule": f"cosine, {STEPS} steps",
    "most_atoms": MAX_ATOMS,
}
Amounts = NDArray[np.float32]
HELD_OUT_DRAWS = 8  # noisy versions of each held-out composition
QUALITY_SAMPLES = 512
MOST_ELEMENTS = 10  # the histogram's last bin: so many and more
NEAR = 0.1  # L1 distance of fractions: one atom in twenty is another


def amounts_of(formulas: Iterable[str]) -> Amounts:
    """Atoms of each element as the formulas are written, (N, 118). Raises FormulaError."""
    rows = [parse_amounts(formula) for formula in formulas]
    return np.array(rows, dtype=np.float32).reshape(-1, N_ELEMENTS)


def split(formulas: Sequence[str]) -> tuple[Amounts, Amounts]:
    """Amounts (n, 118) of formulas up to MAX_ATOMS to fit, and of those held out at random. Raises FormulaError."""
    amounts, test = amounts_of(formulas), held_out(formulas, share=HELD_OUT_SHARE, salt=f"{SALT} random")
    fits = amounts.sum(axis=1) <= MAX_ATOMS
    return amounts[fits & ~test], amounts[fits & test]


def train_superdiff(
    known: Sequence[str],
    network_settings: NetworkSettings,
    settings: FitSettings,
    options: RunOptions,
    sources: Sequence[LoadReport] = (),
    *,
    samples: int = QUALITY_SAMPLES,
    sampling_steps: int = STEPS,
) -> dict[str, Any]:
    """Train, write `superdiff.safetensors` and `superdiff.json` to `options.out`, return the card.

    known: formulas, each once. A run that was stopped goes on from its last epoch, to the same weights. samples:
    as many are drawn for the card's figures of quality, in sampling_steps. Raises InputError.
    """
    train, test = split(known)
    if not len(test):
        raise InputError(f"none of {len(train)} compositions is held out: use more data")
    recipe = {**RECIPE, "bfloat16": options.bfloat16}
    network, seconds = fit(
        partial(UNet, network_settings),
        _velocity,
        partial(noisy_epoch, padded(train)),
        settings,
        options,
        KIND,
        recipe,
    )
    network.load_state_dict(halved(network.state_dict()))
    network.requires_grad_(False)
    figures: dict[str, Any] = {"network_settings": asdict(network_settings)}
    losses = denoising_losses(network, train, test, settings.seed)
    if samples:
        drawn = {"count": samples, "seed": settings.seed, "steps": sampling_steps}
        model = SuperDiff(network, figures)
        figures["samples"] = sample_quality(model, train, test, device=options.device, **drawn)
    card = model_card(
        KIND,
        "atoms of the formula as written",
        sources,
        settings,
        options,
        recipe=recipe,
        train_rows=len(train),
        too_large_rows=len(known) - len(train) - len(test),
        seconds=seconds,
        held_out_loss=losses,
        **figures,
    )
    return save_network(network, KIND, card, options.out)


def noisy_epoch(clean: Tensor, generator: torch.Generator) -> Epoch:
    """Every composition (N, 120) once, at a step and with noise drawn anew; all steps equally often.

    The rows are what the network sees and, in a column more, their step: (N, 121). The targets are v (N, 120).
    """
    scheduler = noise_scheduler()
    steps = torch.randperm(len(clean), generator=generator) * STEPS // len(clean)
    noise = torch.randn(clean.shape, generator=generator)
    noisy = scheduler.add_noise(clean, noise, steps)
    return Epoch(
        torch.cat([noisy, steps[:, None].float()], dim=1), scheduler.get_velocity(clean, noise, steps)
    )


def _velocity(network: UNet, rows: Tensor) -> Tensor:
    return cast(Tensor, network(rows[:, :LENGTH], rows[:, LENGTH])).float()


@torch.no_grad()
def denoising_losses(network: UNet, train: Amounts, test: Amounts, seed: int) -> dict[str, Any]:
    """Mean squared errors on held-out compositions, over all steps and by quarters of them from the least noise on.

    `v` is what was trained, `noise` the same as an error of ε. `independent_elements`: what the best linear guess
    of v reaches that knows each element's mean and variance, and nothing of how elements go together.
    """
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    levels = noise_scheduler().alphas_cumprod
    variance = padded(train)[:, :N_ELEMENTS].double().var(dim=0)
    found: list[tuple[Tensor, Tensor]] = []
    for _ in range(HELD_OUT_DRAWS):
        epoch = noisy_epoch(padded(test), generator)
        parts = [_velocity(network, rows.to(device)).cpu() for rows in torch.split(epoch.fractions, 1024)]
        errors = (torch.cat(parts) - epoch.targets)[:, :N_ELEMENTS].square().mean(dim=1).double()
        found.append((epoch.fractions[:, LENGTH].long(), errors))
    steps, errors = (torch.cat(part) for part in zip(*found, strict=True))
    all_levels = levels.double()[:, None]
    independent = (variance / (all_levels * variance + 1 - all_levels)).mean(dim=1)
    quarter = steps * 4 // STEPS
    return {
        "rows": len(test),
        "v": round(float(errors.mean()), 5),
        "noise": round(float((errors * levels.double()[steps]).mean()), 5),
        "v_by_quarter": [round(float(errors[quarter == q].mean()), 5) for q in range(4)],
        "independent_elements": round(float(independent.mean()), 5),
        "independent_elements_by_quarter": [round(float(part.mean()), 5) for part in independent.chunk(4)],
    }


def sample_quality(
    model: SuperDiff, train: Amounts, test: Amounts, *, count: int, seed: int, steps: int, device: str
) -> dict[str, Any]:
    """Of `count` unconditional samples: shares of all that hold something, can be read, are unique, have no negative
    amount; elements, atoms and distances to training compositions, each beside those of the held-out ones (N, 118).
    """
    began = time.monotonic()
    samples = sample(model, count, seed=seed, steps=steps, device=device)
    readable = [text for text in formulas(samples) if len(text) <= MAX_LENGTH]  # all else can be read
    drawn = samples.amounts[samples.status == SampleStatus.OK]
    figures: dict[str, Any] = {
        "rows": count,
        "steps": steps,
        "seconds": round(time.monotonic() - began),
        "status": samples.counts(),
        "readable": round(len(readable) / count, 4),
        "unique": round(len(set(readable)) / count, 4),
        "without_negative_amounts": round(float((samples.signal > -LEAST_AMOUNT).all(axis=1).mean()), 4),
    }
    if len(drawn):
        mine, held_out = element_shares(drawn), element_shares(test)
        figures["difference_in_numbers_of_elements"] = round(float(np.abs(mine - held_out).sum() / 2), 4)
        figures |= {"samples": likeness(drawn, train), "held_out": likeness(test, train)}
    return figures


def likeness(amounts: NDArray[np.floating], train: Amounts) -> dict[str, Any]:
    """Of compositions (N, 118): shares by number of elements, median atoms, L1 distances to training compositions."""
    mine, theirs = (each.astype(np.float64) for each in (amounts, train))
    _, distance = nearest(*(each / each.sum(axis=1, keepdims=True) for each in (mine, theirs)))
    return {
        "numbers_of_elements": [round(float(share), 4) for share in element_shares(amounts)],
        "median_atoms": round(float(np.median(amounts.sum(axis=1))), 2),
        "near_a_training_composition": round(float((distance <= NEAR).mean()), 4),
        "median_distance": round(float(np.median(distance)), 4),
    }


def element_shares(amounts: NDArray[np.floating]) -> NDArray[np.float64]:
    """Shares (10,) of rows with 1, 2, … and 10 or more elements of at least 0.05 atoms; a row of none counts as 1."""
    numbers = (amounts >= LEAST_AMOUNT).sum(axis=1).clip(1, MOST_ELEMENTS)
    return np.bincount(numbers - 1, minlength=MOST_ELEMENTS) / len(amounts)
