"""Compositions that nobody would make, to learn from: elements swapped at random, amounts altered."""

from __future__ import annotations

import numpy as np

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.plausibility.literature import Floats, Mask

TWO_SWAPS = 0.5  # probability that two elements are swapped instead of one
_TRIES = 10
_JITTER = 0.8  # of the logarithms of amounts
_NOT_AT_HAND = ("He", "Ne", "Ar", "Kr", "Xe", "Po", "At", "Rn", "Fr", "Ra")


def elements_at_hand() -> Mask:
    """(118,): hydrogen to plutonium without noble gases and what nobody has in weighable amounts."""
    mask = np.arange(N_ELEMENTS) < INDEX["Am"]
    mask[[INDEX[symbol] for symbol in _NOT_AT_HAND]] = False
    return mask


def swapped_at_random(
    fractions: Floats, known: set[bytes], rng: np.random.Generator, two: float = TWO_SWAPS
) -> Floats:
    """Rows of fractions (n, 118) with one or two elements swapped for others, each as likely, (≤ n, 118). A swap that
    gives a known system, whose set of elements is in `known`, is drawn again, and left out after ten.
    """
    others = np.flatnonzero(elements_at_hand())
    altered = []
    for row in fractions:
        held = np.flatnonzero(row)
        free = others[row[others] == 0]
        for _ in range(_TRIES):
            number = 1 + (rng.random() < two and len(held) > 1)
            old = rng.choice(held, number, replace=False)
            new = rng.choice(free, number, replace=False)
            other = row.copy()
            other[new], other[old] = row[old], 0
            if (other > 0).tobytes() not in known:
                altered.append(other)
                break
    return np.array(altered).reshape(-1, N_ELEMENTS)


def amounts_altered(fractions: Floats, rng: np.random.Generator) -> Floats:
    """Rows of fractions (n, 118) with their amounts exchanged among their elements, or each multiplied at random."""
    altered = np.zeros_like(fractions)
    for row, given in enumerate(fractions):
        held = np.flatnonzero(given)
        if rng.random() < 0.5 and len(held) > 1:
            altered[row, held] = given[rng.permutation(held)]
        else:
            altered[row, held] = given[held] * np.exp(rng.normal(0, _JITTER, len(held)))
    return np.asarray(altered / altered.sum(axis=1, keepdims=True))
