"""Fitting plausibility to the past: what was known a few years ago, and what was reported since.

For each of the last years before the literature's end: features from what was known then, and as examples what came
after. Proposals that came true are few, so the regressions are strongly regularised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.data.neighbours import nearest
from kiago_ray.plausibility.features import PlausibilityFeatures
from kiago_ray.plausibility.literature import Floats, Literature, elements_at_hand
from kiago_ray.plausibility.model import MOST_DEVIATIONS, Logistic, Plausibility
from kiago_ray.plausibility.neighbours import added_systems, swapped_systems

TWO_SWAPS = 0.5  # probability that two elements are swapped instead of one
_TRIES = 10
_JITTER = 0.8  # of the logarithms of amounts


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


YEARS_BACK = (1, 2, 3, 4, 5, 6, 7)
PROPOSALS = 40_000  # systems next to known ones, of each kind
_SHARE = 0.4  # of the proposals that came to nothing that are learnt from
_STRENGTH = 0.003  # scikit-learn's C; the inverse of the regularisation
_FAR = 0.05  # L1 distance from all that was known, from which a composition is new
_KNOWN = 1500  # systems known then that are learnt from
_PER_SYSTEM = 3


@dataclass(frozen=True)
class Examples:
    """features: (n, f). real: (n,) whether it was reported. weight: (n,)."""

    features: Floats
    real: NDArray[np.bool_]
    weight: Floats

    @classmethod
    def joined(cls, parts: list[Examples]) -> Examples:
        return cls(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.real for part in parts]),
            np.concatenate([part.weight for part in parts]),
        )

    def fitted(self) -> Logistic:
        mean, deviation = self.features.mean(axis=0), self.features.std(axis=0) + 1e-6
        standard = np.clip((self.features - mean) / deviation, -MOST_DEVIATIONS, MOST_DEVIATIONS)
        model = LogisticRegression(C=_STRENGTH, max_iter=400)
        model.fit(standard, self.real, sample_weight=self.weight)
        return Logistic(mean, deviation, model.coef_[0], float(model.intercept_[0]))


def fit_plausibility(literature: Literature, *, seed: int = 0) -> Plausibility:
    """Plausibility as of the end of `literature`, learnt from it alone. About two minutes on one core.

    Raises ValueError where nothing was first reported in the years that it learns from.
    """
    proposals, alterations = [], []
    for back in YEARS_BACK:
        year = literature.year - back
        then = literature.before(year)
        if len(then.systems) == len(literature.systems):
            continue
        rng = np.random.default_rng([seed, year])
        features = PlausibilityFeatures(then)
        proposals.append(proposed(then, literature, features, rng))
        alterations.append(altered(then, literature, features, rng))
    if not proposals:
        raise ValueError(f"nothing was first reported in the {YEARS_BACK[-1]} years before {literature.year}")
    exists, reported = Examples.joined(alterations).fitted(), Examples.joined(proposals).fitted()
    return Plausibility(PlausibilityFeatures(literature), exists, reported)


def proposed(
    then: Literature, later: Literature, features: PlausibilityFeatures, rng: np.random.Generator
) -> Examples:
    """Systems next to those known then: real where they were reported until the end of `later`."""
    hands = elements_at_hand()
    kinds = (swapped_systems(then, hands, PROPOSALS), added_systems(then, hands, PROPOSALS))
    systems = np.unique(np.concatenate([kind.systems for kind in kinds]), axis=0)
    reported = {row.tobytes() for row in later.systems}
    real = np.array([row.tobytes() in reported for row in systems], dtype=np.bool_)
    kept = real | (rng.random(len(real)) < _SHARE)
    systems, real = systems[kept], real[kept]
    rows = systems / systems.sum(axis=1, keepdims=True)
    return Examples(features.of_many_systems(rows).double().numpy(), real, np.where(real, 1.0, 1 / _SHARE))


def altered(
    then: Literature, later: Literature, features: PlausibilityFeatures, rng: np.random.Generator
) -> Examples:
    """Compositions reported later, and known then, against the same with other elements or other amounts."""
    known = {row.tobytes() for row in later.systems}
    since = np.flatnonzero(later.first_year >= then.year)
    since = since[nearest(later.fractions[since], then.fractions)[1] > _FAR] if len(since) else since
    since = _few(rng.permutation(since), later.system)
    of_then = {row.tobytes() for row in then.systems}
    new = np.array([later.systems[at].tobytes() not in of_then for at in later.system[since]], dtype=np.bool_)
    of_system = np.bincount(later.system[since], minlength=len(later.systems))[later.system[since]]
    before = _few(rng.permutation(len(then.fractions)), then.system, most=1)[:_KNOWN]
    found, old = later.fractions[since], then.fractions[before]
    parts = [
        (found, True, np.where(new, 1.0, 0.3) / of_system),
        (old, True, np.full(len(old), 0.5)),
        *_against(found, known, rng, 10.0 / np.maximum(of_system.mean() if len(of_system) else 1.0, 1.0)),
        *_against(old, known, rng, 5.0),
    ]
    return Examples.joined(
        [
            Examples(
                features.of_many(rows)[0].double().numpy(),
                np.full(len(rows), real),
                np.broadcast_to(weight, len(rows)).astype(np.float64),
            )
            for rows, real, weight in parts
            if len(rows)
        ]
    )


def _against(
    rows: Floats, known: set[bytes], rng: np.random.Generator, weight: float
) -> list[tuple[Floats, bool, Floats]]:
    if not len(rows):
        return []
    swaps, amounts = swapped_at_random(rows, known, rng), amounts_altered(rows, rng)
    return [
        (swaps, False, np.full(len(swaps), weight)),
        (amounts, False, np.full(len(amounts), weight / 4)),
    ]


def _few(order: NDArray[np.int64], system: NDArray[np.int64], most: int = _PER_SYSTEM) -> NDArray[np.int64]:
    """Of these compositions, in their order, the first `most` of each system."""
    seen: dict[int, int] = {}
    kept = []
    for at in order.tolist():
        seen[int(system[at])] = seen.get(int(system[at]), 0) + 1
        if seen[int(system[at])] <= most:
            kept.append(at)
    return np.array(kept, dtype=np.int64)
