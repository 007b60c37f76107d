"""Ordered cells for sites that several elements share, or that are empty in part.

A cell is the smallest of a few shapes in which the amounts are met; the arrangements kept are those of lowest Ewald
energy, by the charges of the composition's states. Without states the electronegativities stand for them, which
spreads unlike atoms evenly, as a quasi-random structure would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, product
from math import factorial, prod
from typing import TYPE_CHECKING

import numpy as np
from sympy.utilities.iterables import multiset_permutations

from kiago_ray.chemistry.balance import cheapest_states
from kiago_ray.chemistry.elements import INDEX, Floats, Ints, properties
from kiago_ray.chemistry.formula import amounts_row
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.structures.occupation import Occupation
from kiago_ray.structures.prototypes import MOST_ATOMS, SYMPREC_A, StructureError, counted, quiet

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure

TOLERANCE = 0.035  # share of a site by which an amount may miss what was asked,
RELATIVE = 0.25  # and part of that amount
LARGER = 1.5  # times the smallest cell that is needed, for one of higher symmetry
MOST_ENUMERATED = 2000
_STARTS, _SWAPS = 30, 400  # of a random choice
_EMPTY = "X"
_ALIKE_EV = 1e-3  # Ewald energies of a cell that are of one arrangement


@dataclass(frozen=True)
class Ordering:
    """An ordered cell with its Ewald energy in eV/atom; that is of no use to compare compositions."""

    structure: Structure
    ewald_ev_per_atom: float


def orderings(
    occupation: Occupation, charges: Mapping[str, float], *, few: int, seed: int, most_atoms: int = MOST_ATOMS
) -> list[Ordering]:
    """At most `few` cells of an occupation, the lowest Ewald energy first. charges: of each element, see `charges_of`.
    Raises StructureError where no cell of `most_atoms` holds the amounts.
    """
    with quiet():
        cell, wanted = _cell(occupation, most_atoms)
        if all(len(counts) == 1 for counts in wanted.values()):
            filled = _filled(cell, wanted, None, {})
            return [Ordering(_scaled(filled, cell), 0.0)]
        own = [site.specie.symbol for site in cell]
        energies = _ewald(cell)
        q = {**charges, _EMPTY: 0.0}
        groups = [
            (np.flatnonzero([symbol == site for symbol in own]), counts)
            for site, counts in wanted.items()
            if len(counts) > 1
        ]
        fixed = np.array([q[next(iter(wanted[symbol]))] if len(wanted[symbol]) == 1 else 0 for symbol in own])
        found = dict[int, tuple[float, dict[int, str]]]()
        for placed in _arrangements(groups, energies, fixed, q, seed):
            charge = fixed.copy()
            charge[list(placed)] = [q[symbol] for symbol in placed.values()]
            energy = float(charge @ energies @ charge) / len(cell)
            found.setdefault(round(energy / _ALIKE_EV), (energy, placed))
        best = [found[key] for key in sorted(found)[:few]]
        return [Ordering(_scaled(_filled(cell, wanted, placed, q), cell), energy) for energy, placed in best]


def charges_of(amounts: Mapping[str, float]) -> dict[str, float]:
    """The mean charge of each element in the cheapest neutral states of a composition; without these the
    electronegativities, with a minus.
    """
    _, (states,) = cheapest_states(amounts_row(amounts)[None], OxidationSet.ICSD24)
    found = {}
    for symbol in amounts:
        shares = states.get(INDEX[symbol])
        if shares:
            found[symbol] = sum(state * atoms for state, atoms in shares) / sum(atoms for _, atoms in shares)
        else:
            found[symbol] = -electronegativity(symbol)
    return found


def electronegativity(symbol: str) -> float:
    """Pauling's, with the gaps filled."""
    own = properties()
    return float(own.values[INDEX[symbol], own.names.index("electronegativity_pauling")])


def _cell(occupation: Occupation, most_atoms: int) -> tuple[Structure, dict[str, dict[str, int]]]:
    """Of the cells that meet the amounts, up to LARGER times the smallest, the most symmetric and compact; where none
    does, that of most_atoms at most that comes nearest. And how many atoms of what (_EMPTY for none) stand on each
    element's sites. Raises StructureError.
    """
    prototype, structure = occupation.prototype, occupation.prototype.structure
    shares = {
        site: {symbol: atoms / prototype.amounts[site] for symbol, atoms in each.items()}
        for site, each in occupation.held.items()
    }
    mixed = any(max(each.values()) < 1 - 1e-3 for each in shares.values())
    found: list[tuple[float, int, dict[str, dict[str, int]]]] = []
    for times in range(1, (max(most_atoms // len(structure), 1) if mixed else 1) + 1):
        counts, missed = {}, 0.0  # in what is allowed
        for site, each in shares.items():
            places = len(prototype.sites[site]) * times
            counts[site] = whole = _whole(each, places)
            for symbol, share in each.items():
                off = abs(whole.get(symbol, 0) / places - share) / min(TOLERANCE, RELATIVE * share)
                missed = max(missed, off if whole.get(symbol) else np.inf)
        found.append((missed, times, counts))
    near = [each for each in found if each[0] <= 1] or [min(found, key=lambda each: each[0])]
    missed, times, counts = near[0]
    if missed == np.inf:
        raise StructureError(
            f"no cell of {most_atoms} atoms holds so small an amount on the sites of {prototype.name}; round the "
            "amounts, or allow more with --max-atoms"
        )
    if times == 1:
        return structure, counts
    shapes = [(*_shape(structure, each[1]), each[2]) for each in near if each[1] <= LARGER * times]
    _, shape, counts = max(shapes, key=lambda each: each[0])
    return structure.make_supercell(shape, in_place=False).get_reduced_structure("LLL"), counts


def _whole(shares: Mapping[str, float], places: int) -> dict[str, int]:
    """Whole atoms on so many places, by largest remainders; what is left is _EMPTY."""
    atoms = {symbol: share * places for symbol, share in shares.items()}
    atoms[_EMPTY] = max(places - sum(atoms.values()), 0.0)
    whole = {symbol: int(amount + 1e-6) for symbol, amount in atoms.items()}
    for symbol in sorted(atoms, key=lambda each: whole[each] - atoms[each])[: places - sum(whole.values())]:
        whole[symbol] += 1
    return {symbol: number for symbol, number in whole.items() if number}


def _shape(structure: Structure, times: int) -> tuple[tuple[int, float], Ints]:
    """Of all supercells of so many cells that which keeps most of the structure's rotations, and of these the most
    compact, (3, 3); before it both as numbers, the second the shortest vector over the root of the volume.
    """
    from pymatgen.core.lattice import Lattice
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    shapes = np.array(list(_hermite_forms(times)))
    columns = shapes.transpose(0, 2, 1)[:, None].astype(float)  # the vectors of each, in those of the cell
    rotations = SpacegroupAnalyzer(structure, SYMPREC_A).get_symmetry_dataset().rotations
    turned = np.linalg.solve(columns, rotations @ columns)
    kept = np.isclose(turned, np.round(turned), atol=1e-6).all(axis=(2, 3)).sum(axis=1)

    def compactness(shape: Ints) -> float:
        reduced = Lattice(shape @ structure.lattice.matrix).get_lll_reduced_lattice()
        return round(float(min(reduced.abc) / reduced.volume ** (1 / 3)), 3)

    best: Ints = max(shapes[kept == kept.max()], key=compactness)
    return (int(kept.max()), compactness(best)), best


def _hermite_forms(times: int) -> Iterator[list[list[int]]]:
    """Every superlattice of so many cells once, its vectors in rows."""
    for a in range(1, times + 1):
        for d in range(1, times // a + 1):
            if times % (a * d) == 0:
                f = times // (a * d)
                for b, c, e in product(range(d), range(f), range(f)):
                    yield [[a, b, c], [0, d, e], [0, 0, f]]


def _ewald(cell: Structure) -> Floats:
    """(n, n) in eV: the Ewald energy of charges q is q · M · q, but for a term in their sum, which is the same for all
    arrangements.
    """
    from pymatgen.analysis.ewald import EwaldSummation

    charged = cell.copy()
    charged.add_oxidation_state_by_site([1.0] * len(cell))
    matrix: Floats = EwaldSummation(charged).total_energy_matrix
    return matrix


Groups = list[tuple[Ints, dict[str, int]]]


def _arrangements(
    groups: Groups, energies: Floats, fixed: Floats, q: Mapping[str, float], seed: int
) -> Iterator[dict[int, str]]:
    """Arrangements of atoms on the places of groups: all where they are few, else those in which no exchange of two
    atoms lowers the Ewald energy, from random ones.
    """
    symbols = [[symbol for symbol, count in counts.items() for _ in range(count)] for _, counts in groups]
    places = np.concatenate([places for places, _ in groups]).tolist()
    number = prod(factorial(len(each)) for each in symbols)
    if (
        number // prod(factorial(count) for _, counts in groups for count in counts.values())
        <= MOST_ENUMERATED
    ):
        for chosen in product(*map(multiset_permutations, symbols)):
            yield dict(zip(places, chain(*chosen), strict=True))
        return
    rng = np.random.default_rng(seed)
    for _ in range(_STARTS):
        placed = dict(zip(places, chain(*(rng.permutation(each).tolist() for each in symbols)), strict=True))
        yield _descended(placed, groups, energies, fixed, q, rng)


def _descended(
    placed: dict[int, str],
    groups: Groups,
    energies: Floats,
    fixed: Floats,
    q: Mapping[str, float],
    rng: np.random.Generator,
) -> dict[int, str]:
    """The arrangement after exchanges of two atoms of a group that each lower the energy."""
    charge = fixed.copy()
    charge[list(placed)] = [q[symbol] for symbol in placed.values()]
    field = 2 * energies @ charge
    for _ in range(_SWAPS):
        places, _ = groups[int(rng.integers(len(groups)))]
        i, j = rng.choice(places, 2, replace=False).tolist()
        by = charge[j] - charge[i]
        change = by * (field[i] - field[j]) + by**2 * (energies[i, i] + energies[j, j] - 2 * energies[i, j])
        if placed[i] != placed[j] and change < 0:
            placed[i], placed[j] = placed[j], placed[i]
            charge[i], charge[j] = charge[j], charge[i]
            field += 2 * by * (energies[:, i] - energies[:, j])
    return placed


def _filled(
    cell: Structure,
    wanted: Mapping[str, Mapping[str, int]],
    placed: Mapping[int, str] | None,
    q: Mapping[str, float],
) -> Structure:
    """The cell with its atoms, without those that are missing."""
    filled, gone = cell.copy(), []
    for at, site in enumerate(cell):
        counts = wanted[site.specie.symbol]
        symbol = next(iter(counts)) if len(counts) == 1 else (placed or {})[at]
        if symbol == _EMPTY:
            gone.append(at)
        else:
            filled.replace(at, symbol)
    filled.remove_sites(gone)
    return filled


def _scaled(filled: Structure, cell: Structure) -> Structure:
    """The cell scaled as the radii of its atoms suggest: by the ratio of the volumes that bond lengths predict for it
    and for the prototype, whose own volume is known.
    """
    from pymatgen.analysis.structure_prediction.volume_predictor import DLSVolumePredictor

    if counted(filled) == counted(cell):
        return filled
    predictor = DLSVolumePredictor()
    try:
        ratio = predictor.predict(filled) / predictor.predict(cell)
    except (ValueError, KeyError, ZeroDivisionError, TypeError):  # it knows no radius, or sees no bond
        ratio = 1.0
    scaled = filled.copy()
    scaled.scale_lattice(cell.volume * float(np.clip(ratio, 0.4, 2.5)))
    return scaled.get_sorted_structure()
