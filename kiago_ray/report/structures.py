"""Structures for people: a picture of the cell, a page, and the README of the folder that a DFT group gets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from markupsafe import Markup

from kiago_ray.chemistry.oxidation import metals
from kiago_ray.report.page import Column, number, render, table_of, text
from kiago_ray.report.plots import png_of
from kiago_ray.report.reasons import Row
from kiago_ray.storage.table import columns, written
from kiago_ray.structures.inputs import CIF
from kiago_ray.structures.prototypes import quiet

if TYPE_CHECKING:
    from pymatgen.core.structure import Structure

_BOND = (
    1.08  # of the sum of covalent radii, up to which a bond is drawn; none between metals beside non-metals
)
_MOST_DRAWN = 60  # atoms of a conventional cell
_FULL_SIZE_A = 12.0  # of a cell, above which atoms are drawn smaller
_EDGE = 1e-3  # of the cell: atoms nearer to a face are drawn on the opposite one too


def cell_picture(structure: Structure) -> bytes:
    """The conventional cell, or the cell itself where that is large, as PNG: atoms, bonds, edges, a legend."""
    from ase.data import chemical_symbols, covalent_radii
    from ase.data.colors import jmol_colors
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = _conventional(structure)
    fractional, numbers = _drawn_atoms(drawn)
    lattice = drawn.lattice.matrix
    places, corners = fractional @ lattice, np.array(list(product((0, 1), repeat=3))) @ lattice
    low, high = corners.min(axis=0), corners.max(axis=0)
    figure = Figure(figsize=(4.6, 4.6), dpi=130)
    FigureCanvasAgg(figure)
    axes: Any = figure.add_axes((0, 0, 0.86, 1), projection="3d", proj_type="ortho", computed_zorder=False)
    for start, end in combinations(range(8), 2):
        if (start ^ end).bit_count() == 1:  # corners are numbered by their places in binary
            axes.plot(*corners[[start, end]].T, color="#8a8a8a", lw=0.8, zorder=1)
    radii = covalent_radii[numbers]
    apart = np.linalg.norm(places[:, None] - places[None], axis=2) / (radii[:, None] + radii[None])
    metal = metals()[numbers - 1]
    bonded = (apart < _BOND) & (metal.all() | ~(metal[:, None] & metal[None]))
    for i, j in zip(*np.nonzero(np.triu(bonded, 1)), strict=True):
        axes.plot(*places[[i, j]].T, color="#5c5c5c", lw=1.4, zorder=2)
    size = 330 * radii**2 * min(1.0, float(_FULL_SIZE_A / (high - low).max()) ** 1.5)
    for z in dict.fromkeys(numbers.tolist()):
        at = numbers == z
        axes.scatter(
            *places[at].T,
            s=size[at],
            color=[jmol_colors[z]],
            edgecolors="#333333",
            linewidths=0.5,
            depthshade=False,
            zorder=3,
            label=chemical_symbols[z],
        )
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axes.set_box_aspect(high - low, zoom=1.05 if (high - low)[2] < 1.4 * (high - low)[0] else 0.9)
    axes.view_init(elev=10, azim=-72)
    axes.set_axis_off()
    legend: Any = figure.legend(loc="center right", frameon=False, fontsize=10)
    for handle in legend.legend_handles:
        handle.set_sizes([70])
    return png_of(figure)


def _conventional(structure: Structure) -> Structure:
    """The conventional cell, or the cell itself where that holds too many atoms to see any."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    with quiet():
        conventional = SpacegroupAnalyzer(structure, 0.05).get_conventional_standard_structure()
    return conventional if len(conventional) <= max(_MOST_DRAWN, len(structure)) else structure


def _drawn_atoms(structure: Structure) -> tuple[Any, Any]:
    """Fractional places and atomic numbers of the atoms in the cell, those on a face on the opposite one too."""
    fractional, numbers = [], []
    for site in structure:
        inside = np.mod(site.frac_coords + _EDGE / 2, 1) - _EDGE / 2
        for shift in product(*((0, 1) if abs(each) < _EDGE else (0,) for each in inside)):
            fractional.append(inside + np.array(shift))
            numbers.append(site.specie.Z)
    return np.array(fractional), np.array(numbers)


def structures_page(rows: Sequence[Row], pictures: Mapping[int, bytes]) -> str:
    """The page as HTML5 text. pictures: PNG by the number of a row."""
    title = f"Structures of {len(rows):,} compositions"
    return render("structures.html.j2", title=title, **_content(rows, pictures, ""))


def structures_section(rows: Sequence[Row], pictures: Mapping[int, bytes], folder: str) -> str:
    """The section of a run's page. folder: where the structures are, beside that page."""
    return render("structures_section.html.j2", **_content(rows, pictures, f"{folder}/"))


def _content(rows: Sequence[Row], pictures: Mapping[int, bytes], beside: str) -> dict[str, Any]:
    """What both show."""
    done, link = [row for row in rows if not row["error"]], Markup('<a href="{}{}/{}">CIF</a>')
    files = Column[Row]("Files", lambda row: (link.format(beside, row["folder"], CIF), None))
    return {
        "summary": summary_line(rows),
        "table": table_of(done, [_NUMBER, files, *map(_column, _SHOWN.split())], "Structures"),
        "cells": [(row, pictures[row["number"]]) for row in done[:_PICTURES]],
        "failures": [(row["formula"], row["error"]) for row in rows if row["error"]],
    }


_PICTURES = 20  # on a page; a row's folder has its own
_NUMBER: Column[Row] = number("#", lambda row: row["number"], "{:d}")
_FORMULAS = ("formula", "approximant", "prototype")
_SHOWN = (
    "formula approximant prototype spacegroup_start spacegroup ef_composition_ev_per_atom ef_chgnet_ev_per_atom "
    "ef_difference_ev_per_atom energies_disagree e_hull_chgnet_ev_per_atom structure_stable volume_change "
    "largest_stretch prototype_survived imaginary_modes"
)


def _column(name: str) -> Column[Row]:
    """A column of the rows, with its header and digits."""
    column = columns("structures").get(name) or columns()[name]
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return number(column.header, lambda row: row[name], f"{{:z.{column.decimals or 0}f}}")
    return text(column.header or "Stable", lambda row: written(row, name), formula=name in _FORMULAS)


def summary_line(rows: Sequence[Row]) -> str:
    """How many rows came to what, in a sentence."""
    told = [row for row in rows if not row["error"]]
    stable, disagree = (
        sum(row[name] is True for row in told) for name in ("structure_stable", "energies_disagree")
    )
    return (
        f"Compositions with a relaxed structure: {len(told)} of {len(rows)}. Of these near the hull by CHGNet, with "
        f"their prototype kept: {stable}; with two formation energies that disagree: {disagree}."
    )


def readme(rows: Sequence[Row], columns: Sequence[Any]) -> str:
    """The README of the folder, for who runs the calculations."""
    families = Counter(row["prototype_family"] for row in rows if row["prototype_family"])
    meanings = "\n".join(f"| `{each.name}` | {each.unit} | {each.description} |" for each in columns)
    return f"""# Structures for the DFT queue

{summary_line(rows)} Families: {", ".join(f"{name} ({count})" for name, count in families.most_common())}.

Each row has a folder:

| file | what |
| --- | --- |
| `structure.cif`, `POSCAR` | the relaxed cell; the CIF is symmetrised to 0.05 Å |
| `start.cif` | the cell before relaxation |
| `vasp/` | `INCAR`, `KPOINTS`, `POSCAR` of the Materials Project's relaxation (pymatgen's MPRelaxSet) |
| `vasp/POTCAR.spec` | the potentials that it asks for; put your own `POTCAR` beside it |
| `qe/pw.in` | Quantum ESPRESSO; put pseudopotentials into `qe/pseudo/`, name them in the file, check cut-offs |
| `cell.png` | a picture |

`structures.html`, `structures.csv` and `structures.parquet` have a line a row, the tables with the columns of the
search that it comes from.

What to know before you queue them:

- A cell is an ordered approximant. Where sites are shared, its composition is near the formula, and one of many
  arrangements: that of lowest energy by CHGNet among those of lowest Ewald energy.
- CHGNet is a model. It knows no spin order beyond what it learnt, and layers that van der Waals forces bind come out
  too far apart.
- Energies are on the Materials Project's scale: compare VASP results with it after its corrections (MP2020).
- MPRelaxSet puts +U on transition metals wherever oxygen or fluorine is there, in oxypnictides too, and CHGNet learnt
  from such results: iron has large moments and the cell is too large. Take LDAU out for electronic structure.
- Imaginary modes are those of the cell alone.

## Columns

| column | unit | meaning |
| --- | --- | --- |
{meanings}
"""
