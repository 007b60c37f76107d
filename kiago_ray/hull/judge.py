"""What the hull says of many formulas, bad ones among them: the same rows in the same order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import FormulaError, fractions, parse
from kiago_ray.hull.energy_hull import EnergyHull, HullPlace

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HullScores:
    """Of n formulas: E_f (n,) in eV/atom, where each lies, and why one has no place; NaN and None where unknown."""

    ef_ev_per_atom: Floats
    places: tuple[HullPlace | None, ...]
    errors: tuple[str | None, ...]


def judge(hull: EnergyHull, formulas: Sequence[object], ef_ev_per_atom: Floats | None = None) -> HullScores:
    """Where each formula lies; one that can't be read, holds an unknown element or has no energy gets an error.

    ef_ev_per_atom: (n,) energies that are known of them; where one is NaN, the hull's own counts (see
    `EnergyHull.energies`).
    """
    rows = np.zeros((len(formulas), N_ELEMENTS))
    errors: list[str | None] = []
    supported = hull.supported
    for row, text in enumerate(formulas):
        try:
            amounts = parse(text if isinstance(text, str) else "")
        except FormulaError as error:
            errors.append(str(error))
            continue
        unknown = [symbol for symbol in amounts if not supported[INDEX[symbol]]]
        errors.append(f"the predictor doesn't know {', '.join(unknown)}" if unknown else None)
        rows[row] = fractions(amounts)
    good = np.flatnonzero([error is None for error in errors])
    energies = np.full(len(rows), np.nan) if ef_ev_per_atom is None else np.array(ef_ev_per_atom, dtype=float)
    asked = good[np.isnan(energies[good])]
    energies[asked] = hull.energies(rows[asked])
    for row in good[np.isnan(energies[good])].tolist():
        errors[row] = "not among the phases, so the file has no energy of it; give one as ef_ev_per_atom"
    judged = np.flatnonzero([error is None for error in errors])
    energies[[row for row, error in enumerate(errors) if error is not None]] = np.nan
    places: list[HullPlace | None] = [None] * len(rows)
    for row, place in zip(judged.tolist(), hull.places(rows[judged], energies[judged]), strict=True):
        places[row] = place
    return HullScores(energies, tuple(places), tuple(errors))
