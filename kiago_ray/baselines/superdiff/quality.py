"""How good unconditional samples are, beside the data they should resemble: figures for the model's card."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.baselines.superdiff.network import SuperDiff
from kiago_ray.baselines.superdiff.sampling import LEAST_AMOUNT, SampleStatus, formulas, sample
from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.data.compositions import nearest

MOST_ELEMENTS = 10  # the histogram's last bin: so many and more
NEAR = 0.1  # L1 distance of fractions: one atom in twenty is another


def sample_quality(
    model: SuperDiff,
    train: NDArray[np.float32],
    test: NDArray[np.float32],
    *,
    count: int,
    seed: int,
    steps: int,
    device: str,
) -> dict[str, Any]:
    """Of `count` unconditional samples: shares of all that hold something, can be read, are unique, have no negative
    amount; elements, atoms and distances to training compositions, each beside those of the held-out ones (N, 118).
    """
    began = time.monotonic()
    samples = sample(model, count, seed=seed, steps=steps, device=device)
    seconds = time.monotonic() - began
    ok = samples.status == SampleStatus.OK
    readable = [text for text in formulas(samples) if _can_be_read(text)]
    drawn = samples.amounts[ok]
    figures: dict[str, Any] = {
        "rows": count,
        "steps": steps,
        "seconds": round(seconds),
        "status": samples.counts(),
        "readable": round(len(readable) / count, 4),
        "unique": round(len(set(readable)) / count, 4),
        "without_negative_amounts": round(float((samples.signal > -LEAST_AMOUNT).all(axis=1).mean()), 4),
    }
    if ok.any():
        mine, held_out = element_shares(drawn), element_shares(test)
        figures["difference_in_numbers_of_elements"] = round(float(np.abs(mine - held_out).sum() / 2), 4)
        figures |= {"samples": likeness(drawn, train), "held_out": likeness(test, train)}
    return figures


def likeness(amounts: NDArray[np.floating], train: NDArray[np.float32]) -> dict[str, Any]:
    """Of compositions (N, 118): shares with 1, 2, … and 10 or more elements, median atoms, and how near the next
    training composition is by the L1 distance of atomic fractions.
    """
    _, distance = nearest(_fractions(amounts), _fractions(train))
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


def _fractions(amounts: NDArray[np.floating]) -> NDArray[np.float64]:
    whole = amounts.astype(np.float64)
    return np.asarray(whole / whole.sum(axis=1, keepdims=True))


def _can_be_read(text: str) -> bool:
    try:
        parse(text)
    except FormulaError:
        return False
    return True
