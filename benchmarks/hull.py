"""ΔE_hull against DFT, against pymatgen, and its cost.

Run it with `python benchmarks/hull.py --data ground_states.csv.gz`, the Materials Project's ground states with
decomposition energies (≤ 0: stable, the distance to the hull of the others). Parts:

- agreement: the file's decomposition energies from its own formation energies, for random stable and unstable rows;
- pymatgen: the same hulls by pymatgen's PhaseDiagram, difference and seconds by number of elements;
- cost: made-up candidates of 5 to 7 elements, drawn by how often SuperCon has them, by the ensemble's energies.

How well predicted energies tell stable from unstable is in the ensemble's card and in energies.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import ELEMNET_INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import amounts_row, parse_fractions, reduce_counts, write_row
from kiago_ray.data.sources import load_materials_project
from kiago_ray.data.tables import shipped_element_counts
from kiago_ray.hull import EnergyHull, HullPlace, judge

PARTS = ("agreement", "pymatgen", "cost")
CLOSE_EV_PER_ATOM = 0.001
LIMITS_EV_PER_ATOM = (0.0, 0.025, 0.05, 0.1, 0.15, 0.2)
CANDIDATES = 1000
OF_FILE = "decomposition_ev_per_atom"

Floats = NDArray[np.float64]


def drawn(table: pd.DataFrame, stable: bool, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Random rows of one kind."""
    kind = np.flatnonzero((table[OF_FILE] <= 0).to_numpy() == stable)
    return table.iloc[np.sort(rng.choice(kind, min(rows, len(kind)), replace=False))]


def placed(hull: EnergyHull, table: pd.DataFrame, ef: Floats | None = None) -> list[HullPlace]:
    """Where rows of the file lie; all have a place."""
    judged = judge(hull, table["formula"].tolist(), ef)
    assert not any(each.error for each in judged), [each.error for each in judged if each.error][:3]
    return [each.place for each in judged if each.place is not None]


def agreement(hull: EnergyHull, table: pd.DataFrame, rows: int, rng: np.random.Generator) -> None:
    """Our decomposition energies beside the file's, and what tells apart those that differ.

    Were a competitor of the file's hull missing here, ours would lie lower. Where ours lies higher, phases of the file
    itself mix to less than the file's hull: that mixture is added up here, without the linear program.
    """
    ef = dict(zip(table["formula"], table["ef_ev_per_atom"], strict=True)) | dict.fromkeys(SYMBOLS, 0.0)
    for stable in (True, False):
        chosen = drawn(table, stable, rows, rng)
        began = time.perf_counter()
        places = placed(hull, chosen, chosen["ef_ev_per_atom"].to_numpy())
        seconds = time.perf_counter() - began
        ours, theirs = (
            np.array([each.e_decomposition_ev_per_atom for each in places]),
            chosen[OF_FILE].to_numpy(),
        )
        gap = ours - theirs
        close, higher = np.abs(gap) <= CLOSE_EV_PER_ATOM, gap > CLOSE_EV_PER_ATOM
        print(
            f"{'stable' if stable else 'unstable'}: {close.sum()} of {len(gap)} within 1 meV/atom "
            f"({100 * close.mean():.1f} %), {(np.abs(gap) <= 1e-5).sum()} within 0.01, largest difference "
            f"{1e3 * np.abs(gap).max():.1f} meV/atom, {((ours <= 0) == (theirs <= 0)).sum()} stable or not as in the "
            f"file; {seconds:.1f} s"
        )
        of_file = chosen["ef_ev_per_atom"].to_numpy() - theirs
        mixed = np.array([sum(share * ef[name] for name, share in each.decomposition) for each in places])
        to_elements = np.array([all(name in SYMBOLS for name, _ in each.decomposition) for each in places])
        print(
            f"  the others: {(~close & ~higher).sum()} lower, as where a competitor is missing here "
            f"({(gap < -1e-5).sum()} of all by more than 0.01 meV/atom); {higher.sum()} "
            f"higher, of which {(higher & (mixed < of_file)).sum()} are proved by a mixture of the file's phases "
            f"that lies below its hull, {(higher & to_elements).sum()} of these a mixture of elements alone"
        )
        for at in np.argsort(-np.abs(gap))[:5]:
            if not close[at]:
                formula, into = chosen["formula"].iloc[at], places[at].decomposition_text
                print(
                    f"  {formula}: file {theirs[at]:+.4f}, here {ours[at]:+.4f} eV/atom; {into}", flush=True
                )


def against_pymatgen(
    hull: EnergyHull, table: pd.DataFrame, rng: np.random.Generator, systems: int = 12
) -> None:
    """Energies above the hull of rows with 2 to 6 elements, and the seconds of one, by both."""
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
    from pymatgen.core import Composition, Element

    elements = table["chemical_system"].str.count("-") + 1
    held = [frozenset(system.split("-")) for system in table["chemical_system"]]
    ef = table["ef_ev_per_atom"].to_numpy()
    for k in range(2, 7):
        chosen = table.iloc[rng.choice(np.flatnonzero(elements == k), systems, replace=False)]
        theirs, phases, spent = [], [], 0.0
        for formula, system in zip(chosen["formula"], chosen["chemical_system"], strict=True):
            inside = [at for at, each in enumerate(held) if each <= set(system.split("-"))]
            entries = [PDEntry(c := Composition(table["formula"][at]), ef[at] * c.num_atoms) for at in inside]
            entries += [PDEntry(Composition(symbol), 0.0) for symbol in system.split("-")]
            began = time.perf_counter()
            diagram = PhaseDiagram(entries, elements=[Element(symbol) for symbol in system.split("-")])
            entry = next(each for each in entries if each.name == Composition(formula).reduced_formula)
            theirs.append(diagram.get_e_above_hull(entry))
            spent += time.perf_counter() - began
            phases.append(len(entries))
        began = time.perf_counter()
        ours = np.array([place.e_hull_ev_per_atom for place in placed(hull, chosen)])
        own = time.perf_counter() - began
        worst = np.abs(ours - np.array(theirs)).max()
        print(
            f"{k} elements, {np.median(phases):.0f} phases: pymatgen {1e3 * spent / systems:.1f} ms, "
            f"here {1e3 * own / systems:.1f} ms, largest difference {worst:.1e} eV/atom",
            flush=True,
        )


def made_up(rows: int, rng: np.random.Generator) -> list[str]:
    """Formulas of 5 to 7 elements with 1 to 8 atoms of each, the elements drawn as often as SuperCon has them."""
    counts = amounts_row(shipped_element_counts()["supercon"].counts)
    known = np.zeros(N_ELEMENTS)
    known[list(ELEMNET_INDEX)] = counts[list(ELEMNET_INDEX)]
    amounts = np.zeros((rows, N_ELEMENTS), dtype=np.int64)
    for row in range(rows):
        chosen = rng.choice(N_ELEMENTS, 5 + row % 3, replace=False, p=known / known.sum())
        amounts[row, chosen] = rng.integers(1, 9, len(chosen))
    return [write_row(reduce_counts(row)) for row in amounts]


def cost(hull: EnergyHull, formulas: Sequence[str]) -> None:
    """Seconds of ΔE_hull alone, and what it says of them."""
    x = parse_fractions(formulas)
    began = time.perf_counter()
    ef, _ = hull.energies(x)
    predicted = time.perf_counter()
    places = hull.places(x, ef)
    ended = time.perf_counter()
    size = np.array([place.n_phases for place in places])
    above = np.array([place.e_hull_ev_per_atom for place in places])
    print(
        f"{len(x)} candidates: E_f {predicted - began:.1f} s, ΔE_hull {ended - predicted:.1f} s, "
        f"median {np.median(size):.0f} and at most {size.max()} competing phases"
    )
    print(
        f"  ΔE_hull: median {np.median(above):.3f} eV/atom, at most 0.1 in {100 * (above <= 0.1).mean():.1f} %"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="those to run, all by default")
    parser.add_argument("--data", required=True, help="the Materials Project's ground states")
    parser.add_argument(
        "--candidates", help="CSV file with a column formula for `cost`, such as a run's top.csv"
    )
    parser.add_argument("--rows", type=int, default=300, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    parts = options.parts or PARTS
    table, report = load_materials_project(options.data)
    print(
        f"{report.file} ({report.sha256[:12]}…): {report.rows_kept:,} of {report.rows_read:,} rows",
        flush=True,
    )
    began = time.perf_counter()
    by_file = EnergyHull.of(options.data, energies="file")
    print(f"phases with the file's energies read in {time.perf_counter() - began:.1f} s", flush=True)
    if "agreement" in parts:
        agreement(by_file, table, options.rows, np.random.default_rng(options.seed))
    if "pymatgen" in parts:
        against_pymatgen(by_file, table, np.random.default_rng(options.seed))
    if "cost" in parts:
        began = time.perf_counter()
        hull = EnergyHull.of()
        print(f"the shipped phases in {time.perf_counter() - began:.1f} s", flush=True)
        chosen = made_up(CANDIDATES, np.random.default_rng(options.seed))
        if options.candidates is not None:
            chosen = pd.read_csv(options.candidates)["formula"].tolist()
        cost(hull, chosen)


if __name__ == "__main__":
    main()
