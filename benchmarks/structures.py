"""CHGNet's structures against what is measured and calculated: a JSON object a line, and plots.

    python benchmarks/structures.py lattice
    python benchmarks/structures.py energies --data ground_states.csv.gz --compositions 300 --seed 0
    python benchmarks/structures.py series --out DIR

lattice: the shipped prototypes after relaxation against their measured cells and space groups. energies: formation
energies of Materials Project compositions, from prototypes of the table and AFLOW, against the file's; the file holds
no structures, so that the right prototype was tried is judged by the energy alone. series: doped cells, and their
energies against x.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.data.sources import load_materials_project
from kiago_ray.hull import EnergyHull
from kiago_ray.plausibility.model import load_prospects
from kiago_ray.report.plots import new_figure, png_of
from kiago_ray.structures.occupation import Occupation, occupations
from kiago_ray.structures.orderings import charges_of, orderings
from kiago_ray.structures.proposals import Request, Settings, structure_of
from kiago_ray.structures.prototypes import StructureError, aflow, quiet, rows, shipped, symmetry
from kiago_ray.structures.relaxation import Potential, element_energies, formation_energy

WITHIN_EV = 0.06  # of the file's energy: then the right prototype is taken to be among those tried
WITHIN_CELL = 0.03
SERIES = {
    "La2-xSrxCuO4": (
        "La2CuO4",
        "Sr",
        "Cu",
        lambda x: f"La{2 - x:g}Sr{x:g}CuO4",
        (0, 0.1, 0.2, 0.3, 0.4, 0.5),
    ),
    "LaFeAsO1-xFx": ("LaFeAsO", "F", "Fe", lambda x: f"LaFeAsO{1 - x:g}F{x:g}", (0, 0.125, 0.25, 0.375, 0.5)),
    "Mg1-xAlxB2": ("MgB2", "Al", "B", lambda x: f"Mg{1 - x:g}Al{x:g}B2", (0, 0.125, 0.25, 0.375, 0.5)),
}


def lattice(potential: Potential) -> Iterator[dict[str, Any]]:
    """Each prototype: measured and relaxed lattice parameters in Å of the conventional cell, and space groups."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    for row, prototype in zip(rows(), shipped(), strict=True):
        began = time.process_time()
        try:
            found = potential.relaxed(prototype.structure, 300)
        except StructureError as error:
            yield {"formula": prototype.name, "family": prototype.family, "error": str(error)}
            continue
        with quiet():
            before, after = (
                SpacegroupAnalyzer(each, 0.05).get_conventional_standard_structure().lattice.abc
                for each in (prototype.structure, found.structure)
            )
        change = [b / a - 1 for a, b in zip(before, after, strict=True)]
        group = symmetry(found.structure)[1]
        yield {
            "formula": prototype.name,
            "family": prototype.family,
            "change": [round(each, 4) for each in change],
            "within": max(map(abs, change)) <= WITHIN_CELL,
            "space_group": int(row["space_group"]),
            "same_group": group == int(row["space_group"]),
            "cpu_s": round(time.process_time() - began, 1),
        }


def energies(potential: Potential, data: Path, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Compositions of the file, drawn at random among those of 2 to 4 elements whose elements each take whole sites of
    a prototype with at most 16 atoms in the cell; the lowest of three by CHGNet.
    """
    table, _ = load_materials_project(data)
    odds, known = load_prospects().odds, element_energies()
    everything, left = (*shipped(), *aflow()), count
    for at in np.random.default_rng(seed).permutation(len(table)):
        formula, ef = table["formula"].iloc[at], float(table["ef_ev_per_atom"].iloc[at])
        try:
            amounts = parse(formula)
        except FormulaError:
            continue
        if not 2 <= len(amounts) <= 4 or sum(amounts.values()) > 20 or not amounts.keys() <= known.keys():
            continue
        near = occupations(amounts, everything, odds, most=5)
        fitting = [
            each
            for each in near
            if each.cost <= 0.1 and is_whole(each) and len(each.prototype.structure) <= 16
        ]
        if not fitting:
            continue
        found: list[tuple[float, str]] = []
        for occupation in fitting[:3]:
            try:
                (cell,) = orderings(occupation, charges_of(amounts), few=1, seed=seed)
                relaxed = potential.relaxed(cell.structure, 100)
                energy = formation_energy(relaxed.structure, relaxed.energy_ev_per_atom)
                found.append((energy, occupation.prototype.family))
            except StructureError:
                continue
        if found:
            energy, family = min(found)
            yield {
                "formula": formula,
                "ef_ev_per_atom": round(ef, 4),
                "ef_chgnet_ev_per_atom": round(energy, 4),
                "family": family,
                "tried": len(found),
            }
            left -= 1
        if not left:
            return


def is_whole(occupation: Occupation) -> bool:
    """Whether each of the prototype's sites is wholly one element's."""
    held, room = occupation.held, occupation.prototype.amounts
    return all(len(each) == 1 and abs(sum(each.values()) - room[site]) < 1e-3 for site, each in held.items())


def series(potential: Potential, out: Path) -> Iterator[dict[str, Any]]:
    """Doped cells of SERIES, and a plot of their E_f against x."""
    hull, odds = EnergyHull.of(), load_prospects().odds
    figure, panels = new_figure(10, 3.2, 1, len(SERIES))
    for panel, (name, (base, dopant, counter, written, amounts)) in zip(panels, SERIES.items(), strict=True):
        points: list[Mapping[str, Any]] = []
        for x in amounts:
            settings = Settings(modes=False, most_atoms=60)
            found = structure_of(Request(written(x) if x else base, base), settings, potential, hull, odds)
            held = parse(found.values.get("approximant") or base)
            x = held.get(dopant, 0.0) / held[counter] * parse(base)[counter]  # of the cell, not as asked
            points.append({"series": name, "x": x, **found.values})
            kept = ("approximant", "spacegroup", "ef_chgnet_ev_per_atom", "prototype_survived", "error")
            yield {"series": name, "x": x, **{each: found.values.get(each) for each in kept}}
        done = [each for each in points if not each["error"]]
        for column, label in (
            ("ef_chgnet_ev_per_atom", "CHGNet"),
            ("ef_composition_ev_per_atom", "composition model"),
        ):
            panel.plot([each["x"] for each in done], [each[column] for each in done], "o-", label=label)
        panel.set(title=name, xlabel="x", ylabel="E_f (eV/atom)")
    panels[0].legend(frameon=False)
    (out / "structures_series.png").write_bytes(png_of(figure))


def summary(what: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of a benchmark."""
    if what == "lattice":
        good = [line for line in lines if "change" in line]
        return {
            "prototypes": len(lines),
            "cell_within_3_percent": sum(line["within"] for line in good),
            "same_space_group": sum(line["same_group"] for line in good),
        }
    if what == "energies":
        off = np.array([line["ef_chgnet_ev_per_atom"] - line["ef_ev_per_atom"] for line in lines])
        right = np.abs(off) <= WITHIN_EV
        return {
            "compositions": len(off),
            "right_prototype_by_energy": float(right.mean()),
            "median_error": float(np.median(np.abs(off))),
            "mae": float(np.abs(off).mean()),
            "mae_of_the_right": float(np.abs(off[right]).mean()),
            "bias": float(np.median(off)),
            "below_by_more_than_0.06": float((off < -WITHIN_EV).mean()),
        }
    return {"points": len(lines), "failed": sum(bool(line["error"]) for line in lines)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["lattice", "energies", "series"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--compositions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("."))
    given = parser.parse_args()
    torch.set_num_threads(1)
    potential = Potential()
    if given.what == "energies" and given.data is None:
        parser.error("energies: give --data, the Materials Project's ground states")
    source = {
        "lattice": lambda: lattice(potential),
        "energies": lambda: energies(potential, given.data, given.compositions, given.seed),
        "series": lambda: series(potential, given.out),
    }[given.what]()
    lines = []
    for line in source:
        print(json.dumps(line), flush=True)
        lines.append(line)
    print(json.dumps(summary(given.what, lines)))


if __name__ == "__main__":
    main()
