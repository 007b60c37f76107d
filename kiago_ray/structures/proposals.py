"""A composition from prototypes to the relaxed crystal of lowest energy, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kiago_ray.chemistry.elements import Floats
from kiago_ray.chemistry.formula import FormulaError, amounts_row, fractions, parse, write_row
from kiago_ray.hull import EnergyHull
from kiago_ray.structures.occupation import Occupation, occupations
from kiago_ray.structures.orderings import Ordering, charges_of, orderings
from kiago_ray.structures.prototypes import (
    MOST_ATOMS,
    Prototype,
    StructureError,
    aflow,
    counted,
    quiet,
    shipped,
    shortest_distance,
    symmetry,
    too_near,
)
from kiago_ray.structures.relaxation import MODES_ATOMS, STEPS, Potential, Relaxed, formation_energy

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure

WELL_FITTING = 0.1  # cost a site, above which AFLOW's prototypes are asked too
CHGNET_STD_EV_PER_ATOM = 0.038  # measured: benchmarks/structures.md
_ALIKE: dict[str, Any] = {"ltol": 0.2, "stol": 0.3, "angle_tol": 5.0}


@dataclass(frozen=True)
class Request:
    """A row to find a structure for. base: of its search."""

    formula: str
    base: str | None = None


@dataclass(frozen=True)
class Settings:
    """How structures are looked for. own: a person's prototypes, which come first. prototypes: how many are tried
    where the base doesn't name one. few: ordered cells that are compared before the best is relaxed. seed: of their
    random choice. modes: whether those at Γ are computed of cells of up to MODES_ATOMS.
    """

    own: tuple[Prototype, ...] = ()
    prototypes: int = 2
    few: int = 3
    most_atoms: int = MOST_ATOMS
    steps: int = STEPS
    seed: int = 0
    modes: bool = True


@dataclass(frozen=True)
class Found:
    """What came of a row. start, relaxed: the cell before and after, None where there is an `error` among the values.
    values: the formula, and the columns of the table `structures` (kiago_ray.storage.table).
    """

    values: Mapping[str, Any]
    start: Structure | None = None
    relaxed: Structure | None = None

    @classmethod
    def failed(cls, request: Request, why: str) -> Found:
        """A row without a structure."""
        return cls({"formula": request.formula, "error": why})


def structure_of(
    request: Request, settings: Settings, potential: Potential, hull: EnergyHull, odds: Floats
) -> Found:
    """The structure of lowest energy that a row takes. Whatever is wrong with it is its `error`."""
    try:
        amounts = parse(request.formula)
        base = parse(request.base) if request.base else None
        fitting = fitting_prototypes(amounts, base, settings, odds)
        if not fitting:
            raise StructureError("no known prototype fits it; give one with --structures DIR")
        best: tuple[Occupation, Ordering, Relaxed, int] | None = None
        problems = list[str]()
        tried: list[Structure] = []
        for occupation in fitting:
            try:
                one = _relaxed(occupation, amounts, settings, potential, tried)
            except StructureError as error:
                problems.append(f"{occupation.prototype.name}: {error}")
                continue
            if one and (best is None or one[1].energy_ev_per_atom < best[2].energy_ev_per_atom):
                best = occupation, *one
        if best is None:
            raise StructureError("; ".join(problems))
        values = _told(request, best, settings, potential, hull)
    except (StructureError, FormulaError) as error:
        return Found.failed(request, str(error))
    return Found({**values, "structures_tried": len(tried)}, best[1].structure, best[2].structure)


def fitting_prototypes(
    amounts: Mapping[str, float], base: Mapping[str, float] | None, settings: Settings, odds: Floats
) -> list[Occupation]:
    """The prototypes to try: a person's own first, then the table's, and AFLOW's where these fit badly."""
    near = occupations(amounts, (*settings.own, *shipped()), odds, base)
    if not near or near[0].cost > WELL_FITTING or (base is None and near[0].cost > 1e-6):
        near += occupations(amounts, aflow(), odds, base)
    own = set(map(id, settings.own))
    near.sort(key=lambda each: (id(each.prototype) not in own, round(each.cost, 6)))
    return near[: settings.prototypes]


def _relaxed(
    occupation: Occupation,
    amounts: Mapping[str, float],
    settings: Settings,
    potential: Potential,
    tried: list[Structure],
) -> tuple[Ordering, Relaxed, int] | None:
    """The ordered cell of lowest energy, relaxed, and how many there were; None where an equal one was tried."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    cells = orderings(
        occupation, charges_of(amounts), few=settings.few, seed=settings.seed, most_atoms=settings.most_atoms
    )
    energies = potential.energies([each.structure for each in cells]) if len(cells) > 1 else np.zeros(1)
    best = cells[int(np.argmin(energies))]
    if (near := too_near(best.structure)) is not None:
        raise StructureError(f"{near}, nearer than any bond")
    if any(StructureMatcher(**_ALIKE).fit(best.structure, each) for each in tried):
        return None
    tried.append(best.structure)
    relaxed = potential.relaxed(best.structure, settings.steps)
    if (near := too_near(relaxed.structure)) is not None:
        raise StructureError(f"{near} after relaxation, nearer than any bond")
    return best, relaxed, len(cells)


def _told(
    request: Request,
    best: tuple[Occupation, Ordering, Relaxed, int],
    settings: Settings,
    potential: Potential,
    hull: EnergyHull,
) -> dict[str, Any]:
    """What is to be said of a relaxed structure, by column."""
    occupation, ordering, relaxed, cells = best
    start, final = ordering.structure, relaxed.structure
    counts = {symbol: float(number) for symbol, number in counted(final).items()}
    x, asked = fractions(counts), fractions(parse(request.formula))
    ef = formation_energy(final, relaxed.energy_ev_per_atom)
    (place,) = hull.places(x[None], np.array([ef]))
    own_ef, own_std = (float(each[0]) for each in hull.energies(x[None]))
    difference = None if np.isnan(own_ef) else ef - own_ef
    spread = np.hypot(np.nan_to_num(own_std), CHGNET_STD_EV_PER_ATOM)
    modes = potential.lowest_modes_thz(final) if settings.modes and len(final) <= MODES_ATOMS else np.zeros(0)
    unit = np.gcd.reduce([int(number) for number in counts.values()])
    approximant = write_row(amounts_row(counts) / unit)
    above = place.e_hull_ev_per_atom
    (before, _), (after, _) = symmetry(start), symmetry(final)
    return {
        "formula": request.formula,
        "approximant": approximant,
        "approximant_distance": float(np.abs(x - asked).sum()),
        "prototype": occupation.prototype.name,
        "prototype_family": occupation.prototype.family,
        "prototype_source": occupation.prototype.source,
        "prototype_cost": occupation.cost,
        "orderings": cells,
        "cell_atoms": len(final),
        "energy_ev_per_atom": relaxed.energy_ev_per_atom,
        "ef_chgnet_ev_per_atom": ef,
        "e_hull_chgnet_ev_per_atom": above,
        "decomposition_chgnet": place.reaction(approximant) if above else None,
        "ef_composition_ev_per_atom": None if np.isnan(own_ef) else own_ef,
        "ef_composition_std_ev_per_atom": None if np.isnan(own_std) else own_std,
        "ef_difference_ev_per_atom": difference,
        "energies_disagree": None if difference is None else bool(abs(difference) > spread),
        "volume_a3_per_atom": final.volume / len(final),
        "volume_change": final.volume / start.volume - 1,
        "largest_stretch": _largest_stretch(start, final),
        "shortest_distance_a": shortest_distance(final)[0],
        "spacegroup_start": before,
        "spacegroup": after,
        "prototype_survived": _survived(start, final),
        "imaginary_modes": Potential.imaginary(modes) if len(modes) else None,
        "lowest_mode_thz": float(modes[0]) if len(modes) else None,
        "converged": relaxed.converged,
        "error": None,
    }


def _largest_stretch(start: Structure, final: Structure) -> float:
    """By what part the cell grew (or shrank, < 0) along the direction in which it changed most."""
    stretches = np.linalg.svd(np.linalg.solve(start.lattice.matrix, final.lattice.matrix))[1] - 1
    return float(stretches[np.argmax(np.abs(stretches))])


def _survived(start: Structure, final: Structure) -> bool:
    """Whether the relaxed cell still is the structure that it began as."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    with quiet():
        return bool(StructureMatcher(**_ALIKE, primitive_cell=False).fit(start, final))
