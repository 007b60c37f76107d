"""Made-up compositions labelled by trees: what fills the space between and around the training rows.

A network fitted to 11,000 compositions alone is free to say anything a small step away from them, and a gradient
search goes exactly there. So each epoch also holds made-up rows of the kinds that a search visits (jittered,
mixed, substituted and enriched training rows), with T_c from extremely randomised trees that were fitted to the
*same training rows*. Trees fall back to averages away from data, and the network learns that from them. Nothing
held out is ever seen by either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

Floats = NDArray[np.float32]

TREES = 200
PARTNERS = 40
SMALL_JITTER, LARGE_JITTER = 0.03, 0.15  # standard deviation of ln(amount)
MAX_ADDED_RATIO = 0.3  # the paper's start adds as much (section 3.2)


@dataclass(frozen=True)
class MadeUp:
    """Rows of each kind to make."""

    small_jitter: int = 50_000
    large_jitter: int = 40_000
    mixed: int = 60_000
    substituted: int = 40_000
    enriched: int = 20_000


def made_up(known: Floats, counts: MadeUp, generator: np.random.Generator) -> Floats:
    """Compositions (sum of counts, 118) made from known ones (N, 118); every row sums to 1."""
    frequencies = (known > 0).sum(0) / (known > 0).sum()
    rows = [
        _jittered(known, counts.small_jitter, SMALL_JITTER, generator),
        _jittered(known, counts.large_jitter, LARGE_JITTER, generator),
        _mixed(known, counts.mixed, generator),
        _substituted(known, counts.substituted, frequencies, generator),
        _enriched(known, counts.enriched, frequencies, generator),
    ]
    everything = np.concatenate(rows)
    return np.asarray(everything / everything.sum(1, keepdims=True), dtype=np.float32)


def tree_labels(train: Floats, values: Floats, made: Floats, *, seed: int, trees: int = TREES) -> Floats:
    """Values (M,) of made-up rows by trees fitted to the training rows."""
    forest = ExtraTreesRegressor(trees, random_state=seed, n_jobs=-1).fit(train, values)
    return np.asarray(forest.predict(made), dtype=np.float32)


def _jittered(known: Floats, count: int, width: float, generator: np.random.Generator) -> Floats:
    """Every amount off by a random factor."""
    rows = known[generator.integers(len(known), size=count)]
    rows = rows * np.exp(width * generator.standard_normal(rows.shape, dtype=np.float32))
    return np.asarray(rows, dtype=np.float32)


def _mixed(known: Floats, count: int, generator: np.random.Generator) -> Floats:
    """Mixtures of two rows: the second is, of 40 at random, the one most like the first in its elements."""
    first = generator.integers(len(known), size=count)
    choice = generator.integers(len(known), size=(count, PARTNERS))
    holds = known > 0
    second = np.empty(count, dtype=np.int64)
    for row in range(count):
        mine, theirs = holds[first[row]], holds[choice[row]]
        likeness = (mine & theirs).sum(1) - 0.3 * (mine ^ theirs).sum(1)
        second[row] = choice[row, likeness.argmax()]
    share = generator.random((count, 1), dtype=np.float32)
    return np.asarray(share * known[first] + (1 - share) * known[second], dtype=np.float32)


def _substituted(
    known: Floats, count: int, frequencies: NDArray[np.float64], generator: np.random.Generator
) -> Floats:
    """One element, in half of the rows only a part of it, replaced by another one drawn by frequency."""
    rows = known[generator.integers(len(known), size=count)].copy()
    incoming = generator.choice(len(frequencies), size=count, p=frequencies)
    shares = np.where(generator.random(count) < 0.5, 1.0, generator.random(count)).astype(np.float32)
    for row, element, share in zip(rows, incoming, shares, strict=True):
        outgoing = generator.choice(np.flatnonzero(row))
        moved = share * row[outgoing]
        row[outgoing] -= moved
        row[element] += moved
    return rows


def _enriched(
    known: Floats, count: int, frequencies: NDArray[np.float64], generator: np.random.Generator
) -> Floats:
    """One to three elements added, as a search's start does."""
    rows = known[generator.integers(len(known), size=count)].copy()
    for row in rows:
        added = generator.choice(len(frequencies), size=generator.integers(1, 4), p=frequencies)
        np.add.at(row, added, MAX_ADDED_RATIO * generator.random(len(added), dtype=np.float32))
    return rows
