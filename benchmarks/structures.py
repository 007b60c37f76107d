"""CHGNet's structures against what is measured and calculated: a JSON object a line of a file, plots, a summary.

    python benchmarks/structures.py lattice
    python benchmarks/structures.py energies --compositions 300 --seed 0
    python benchmarks/structures.py series --out DIR

lattice: the shipped prototypes after relaxation against their measured cells and space groups. energies: formation
energies against the Materials Project's; it goes on where it was stopped. series: doped cells, and their energies
against x.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pymatgen.core.structure import Structure

from kiago_ray.chemistry.elements import Floats
from kiago_ray.chemistry.formula import parse
from kiago_ray.data import tables
from kiago_ray.data.compositions import canonical
from kiago_ray.hull import EnergyHull
from kiago_ray.plausibility.model import load_prospects
from kiago_ray.report.plots import new_figure, png_of
from kiago_ray.structures.occupation import Occupation
from kiago_ray.structures.orderings import orderings
from kiago_ray.structures.proposals import Request, Settings, fitting_prototypes, structure_of
from kiago_ray.structures.prototypes import (
    Prototype,
    StructureError,
    aflow,
    quiet,
    rows,
    shipped,
    symmetry,
    too_near,
)
from kiago_ray.structures.relaxation import STEPS, Potential, Relaxed, element_energies, formation_energy

TRIED, MOST_ATOMS, MOST_COST = (
    3,
    20,
    0.2,
)  # prototypes of a composition that is drawn, and how badly the best may fit
COARSE = 25  # steps of each prototype, of which the lowest is relaxed to the end
SETS = {
    "table's compounds": lambda line: line["from"] == "table",
    "AFLOW's compounds": lambda line: line["from"] == "AFLOW",
    "drawn": lambda line: line["from"] == "drawn",
    "drawn, COD's space group tried": lambda line: line["from"] == "drawn" and line["cod"] in line["tried"],
}
WITHIN_CELL = 0.03
SERIES = {
    "La2-xSrxCuO4": (
        "La2CuO4",
        "Sr",
        "Cu",
        lambda x: f"La{2 - x:g}Sr{x:g}CuO4",
        (0, 0.125, 0.25, 0.333, 0.5),
    ),
    "LaFeAsO1-xFx": ("LaFeAsO", "F", "Fe", lambda x: f"LaFeAsO{1 - x:g}F{x:g}", (0, 0.125, 0.25, 0.375, 0.5)),
    "Mg1-xAlxB2": ("MgB2", "Al", "B", lambda x: f"Mg{1 - x:g}Al{x:g}B2", (0, 0.125, 0.25, 0.333, 0.5)),
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


def energies(potential: Potential, count: int, seed: int, done: Collection[str]) -> Iterator[dict[str, Any]]:
    """Formation energies of the Materials Project's compositions, but of those that are `done`."""
    phases, made = tables.phases(), tables.made().dropna(subset="spacegroup")
    file = dict(zip(phases["formula"], phases["ef_ev_per_atom"].astype(float), strict=True))
    groups = dict(zip(made["formula"], made["spacegroup"].astype(int), strict=True))
    own = {source: own_structures(prototypes, file) for source, prototypes in named().items()}
    drawable = sorted(file.keys() & groups.keys() - own["table"].keys() - own["AFLOW"].keys())
    sets = {
        "table": own["table"].items(),
        "drawn": drawn(drawable, count, seed, done),
        "AFLOW": ((formula, cells) for formula, cells in own["AFLOW"].items() if formula not in own["table"]),
    }
    for source, cells_of in sets.items():
        for formula, cells in cells_of:
            if formula not in done:
                yield from lowest(potential, formula, file[formula], source, cells, groups.get(formula))


def named() -> dict[str, Sequence[Prototype]]:
    """Prototypes by the collection that has them."""
    return {"table": shipped(), "AFLOW": aflow()}


def own_structures(prototypes: Sequence[Prototype], file: Collection[str]) -> dict[str, list[Structure]]:
    """The cells of compounds of several elements that are in the file, by formula: what a prototype was named by."""
    found = dict[str, list[Structure]]()
    for each in prototypes:
        formula = canonical(each.amounts)
        if formula in file and len(each.amounts) > 1 and len(each.structure) <= MOST_ATOMS:
            found.setdefault(formula, []).append(each.structure)
    return found


def drawn(
    formulas: Sequence[str], count: int, seed: int, done: Collection[str]
) -> Iterator[tuple[str, list[Structure]]]:
    """Compositions of 2 to 4 elements at random, with cells of the first TRIED prototypes that fit them as those of a
    row do, each site wholly one element's; none for those that are done.
    """
    known, odds = element_energies(), load_prospects().odds
    for at in np.random.default_rng(seed).permutation(len(formulas)):
        amounts = parse(formulas[at])
        if not 2 <= len(amounts) <= 4 or not amounts.keys() <= known.keys():
            continue
        whole = list[Occupation]()
        if formulas[at] not in done:
            near = fitting_prototypes(amounts, None, Settings(prototypes=10), odds)
            whole = [each for each in near if is_whole(each) and len(each.prototype.structure) <= MOST_ATOMS]
            if not whole or whole[0].cost > MOST_COST:
                continue
        yield formulas[at], [orderings(each, {}, few=1, seed=seed)[0].structure for each in whole[:TRIED]]
        if not (count := count - 1):
            return


def lowest(
    potential: Potential, formula: str, ef: float, source: str, cells: list[Structure], group: int | None
) -> Iterator[dict[str, Any]]:
    """The cell of lowest energy after COARSE steps, relaxed to the end, beside the Materials Project's energy and
    COD's space group.
    """
    began, found = time.process_time(), list[tuple[Relaxed, int]]()
    tried = [symmetry(cell)[1] for cell in cells]
    for cell, own_group in zip(cells, tried, strict=True):
        if too_near(cell) is not None:
            continue  # as a row's is
        with suppress(StructureError):
            found.append((potential.relaxed(cell, COARSE if len(cells) > 1 else STEPS), own_group))
    if found:
        best, own_group = min(found, key=lambda each: each[0].energy_ev_per_atom)
        with suppress(StructureError):
            best = best if best.converged else potential.relaxed(best.structure)
        energy = formation_energy(best.structure, best.energy_ev_per_atom)
        yield {
            "formula": formula,
            "from": source,
            "ef_ev_per_atom": round(ef, 4),
            "ef_chgnet_ev_per_atom": round(energy, 4),
            "space_group": own_group,
            "tried": tried,
            "cod": group,
            "cpu_s": round(time.process_time() - began, 1),
        }


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
        return {
            name: figures([line for line in lines if which(line)]) for name, which in SETS.items()
        } | spread([line for line in lines if line["from"] == "table" or line["cod"] in line["tried"]])
    return {"points": len(lines), "failed": sum(bool(line["error"]) for line in lines)}


def figures(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Of CHGNet's formation energies less the Materials Project's, in eV/atom."""
    off = errors(lines)
    return {
        "compositions": len(off),
        "mae": round(float(np.abs(off).mean()), 4),
        "median_absolute": round(float(np.median(np.abs(off))), 4),
        "median": round(float(np.median(off)), 4),
        "within_0.06": round(float((np.abs(off) <= 0.06).mean()), 3),
        "lowest_has_cods_group": round(
            float(np.mean([line["space_group"] == line["cod"] for line in lines])), 3
        ),
    }


def errors(lines: list[dict[str, Any]]) -> Floats:
    return np.array([line["ef_chgnet_ev_per_atom"] - line["ef_ev_per_atom"] for line in lines])


def spread(lines: list[dict[str, Any]]) -> dict[str, float]:
    """The σ below which 68.3 % of the errors of every second line lie, and how many of the others' lie below it, and
    below twice that.
    """
    off = np.abs(errors(sorted(lines, key=lambda line: line["formula"])))
    sigma = float(np.quantile(off[::2], 0.683))
    held_out = {
        f"within_{times}_sigma_held_out": float((off[1::2] <= times * sigma).mean()) for times in (1, 2)
    }
    return {"sigma": round(sigma, 4)} | held_out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["lattice", "energies", "series"])
    parser.add_argument("--compositions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument(
        "--lines", type=Path, required=True, help="What is done; energies goes on from there."
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    potential = Potential()
    lines = (
        [json.loads(line) for line in given.lines.read_text().splitlines()] if given.lines.exists() else []
    )
    source = {
        "lattice": lambda: lattice(potential),
        "energies": lambda: energies(
            potential, given.compositions, given.seed, [line["formula"] for line in lines]
        ),
        "series": lambda: series(potential, given.out),
    }[given.what]()
    for line in source:
        with given.lines.open("a") as file:
            file.write(json.dumps(line) + "\n")
        lines.append(line)
    print(json.dumps(summary(given.what, lines), indent=1))


if __name__ == "__main__":
    main()
