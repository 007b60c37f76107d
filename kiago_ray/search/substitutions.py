"""What is known about which element takes the place of which: data that a family search is given."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import N_ELEMENTS

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def _nothing_made() -> Floats:
    return np.zeros((0, N_ELEMENTS))


@dataclass(frozen=True)
class Substitutions:
    """odds: (118, 118), odds[a, c] from 0 to 1: how often c takes the place of a. vacancies: (118,) the elements whose
    places are known to stay empty in part. made: (m, 118) fractions of compounds that exist and were never tested.

    Raises ValueError for other shapes, and for odds that are not from 0 to 1.
    """

    odds: Floats
    vacancies: Mask
    made: Floats = field(default_factory=_nothing_made)

    def __post_init__(self) -> None:
        for name, shape in (("odds", (N_ELEMENTS, N_ELEMENTS)), ("vacancies", (N_ELEMENTS,))):
            found = getattr(self, name).shape
            if found != shape:
                raise ValueError(f"substitutions: {name} have the shape {found}; give {shape}")
        if self.made.ndim != 2 or self.made.shape[1] != N_ELEMENTS:
            raise ValueError(f"substitutions: made has the shape {self.made.shape}; give (m, {N_ELEMENTS})")
        if not ((self.odds >= 0) & (self.odds <= 1)).all():
            raise ValueError("substitutions: odds lie between 0 and 1")
