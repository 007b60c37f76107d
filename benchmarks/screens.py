"""What the screens let pass: known superconductors, which they should, and random swaps, which they shouldn't.

Run it with `python benchmarks/screens.py --fit`; it prints a table and, with --write, puts it into
kiago_ray/screening/screen_recall.json, which `kiago search --help` shows. Superconductors are SuperCon's compositions
of stated oxygen with T_c > 0, drawn at random. A swap replaces one or two elements of such a composition, each by one
that occurs in superconductors and that the predictors know, and is drawn again where its chemical system is known.

With --fit plausibility is fitted once for each of the folds into which the systems of the superconductors are dealt;
a composition, and a swap of it, are judged by the fit that knows nothing of its system. Without --fit there is no
screen `plausible`. Some fifteen minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray import load_predictors
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import parse
from kiago_ray.data.tables import superconductors
from kiago_ray.hull import EnergyHull, with_hull
from kiago_ray.models import Models
from kiago_ray.plausibility.literature import Literature, system_names
from kiago_ray.plausibility.model import fit_plausibility
from kiago_ray.screening.candidates import collect
from kiago_ray.screening.screens import FILE, REQUIRED, SCREENS, apply_screens
from kiago_ray.search.run import given_result
from kiago_ray.search.sections import ScreensSpec
from kiago_ray.search.spec import SearchSpec

FOLDS = 5
ASKED = {"charge": {"mixed_valence": True}, "screens": {"names": ("neutral_atoms",)}}
HIGH_TC_K = 30.0
TARGET = Path(__file__).parents[1] / "kiago_ray" / "screening" / FILE

Floats = NDArray[np.float64]
System = frozenset[str]
LogPlausibility = Callable[[Floats], Floats]
Fit = Callable[[frozenset[System]], LogPlausibility]


@dataclass(frozen=True)
class Drawn:
    """n superconductors and a swap of each: amounts (n, 118) in atoms; T_c (n,) in K; the chemical system of each
    superconductor.
    """

    real: Floats
    swapped: Floats
    tc_k: Floats
    systems: tuple[System, ...]


def draw(rows: int, seed: int) -> Drawn:
    """Superconductors at random, without replacement, and a swap of each."""
    table = superconductors()
    known = {frozenset(parse(formula)) for formula in table["formula"]}
    real = table[(table["tc_k"] > 0) & (table["oxygen"] == "stated")]
    formulas = [parse(formula) for formula in real["formula"]]
    generator, unknown = np.random.default_rng(seed), Models(load_predictors()).foreign
    elements = sorted({INDEX[symbol] for amounts in formulas for symbol in amounts if symbol not in unknown})
    chosen = generator.permutation(len(formulas))[:rows].tolist()
    amounts = np.zeros((len(chosen), N_ELEMENTS))
    for row, at in enumerate(chosen):
        for symbol, amount in formulas[at].items():
            amounts[row, INDEX[symbol]] = amount
    swapped = np.array([swap(row, elements, known, generator) for row in amounts])
    systems = tuple(frozenset(formulas[at]) for at in chosen)
    return Drawn(amounts, swapped, real["tc_k"].to_numpy(dtype=np.float64)[chosen], systems)


def swap(amounts: Floats, elements: list[int], known: set[System], generator: np.random.Generator) -> Floats:
    """The composition (118,) with one or two of its elements replaced, of a chemical system that isn't known."""
    held = np.flatnonzero(amounts)
    foreign = np.array([z for z in elements if amounts[z] == 0])
    while True:
        count = min(int(generator.integers(1, 3)), len(held))
        out = generator.choice(held, count, replace=False)
        into = generator.choice(foreign, count, replace=False)
        other = amounts.copy()
        other[out] = 0
        other[into] = amounts[out]
        if frozenset(SYMBOLS[z] for z in np.flatnonzero(other)) not in known:
            return other


def fit_without(systems: frozenset[System]) -> LogPlausibility:
    """ln of the probability to exist, of fractions (n, 118), by a fit that knows nothing of these systems."""
    literature = Literature.of(superconductors())
    left_out = {"-".join(sorted(each)) for each in systems}
    kept = np.array([name not in left_out for name in system_names(literature.systems)])
    fitted = fit_plausibility(literature.only(kept[literature.system]))
    return lambda rows: fitted.log_probabilities(rows)[1]


def log_existence(drawn: Drawn, fit: Fit, seed: int) -> tuple[Floats, Floats]:
    """Of the superconductors and of the swaps, (n,) in nats each, each by the fit without its system."""
    different = sorted(set(drawn.systems), key=sorted)
    fold_of = dict(
        zip(different, np.random.default_rng(seed).permutation(len(different)) % FOLDS, strict=True)
    )
    folds = np.array([fold_of[system] for system in drawn.systems])
    found = np.full((2, len(folds)), np.nan)
    for fold in range(FOLDS):
        judge = fit(frozenset(system for system in different if fold_of[system] == fold))
        rows = folds == fold
        for place, amounts in enumerate((drawn.real, drawn.swapped)):
            found[place, rows] = judge(amounts[rows] / amounts[rows].sum(axis=1, keepdims=True))
    return found[0], found[1]


def verdicts(amounts: Floats, existence: Floats | None) -> dict[str, NDArray[np.bool_]]:
    """Of every screen but hydride, which is for a search of its own, and of the preset default: (n,) each. existence:
    (n,) ln of the probability of each.
    """
    spec = SearchSpec(**ASKED)
    result = given_result(amounts, load_predictors().following(spec.tc_predictor, spec.ef_predictor))
    rows = collect(result, spec)
    if existence is not None:
        rows = rows.append_column("existence", [np.exp(existence)])
    rows = apply_screens(with_hull(rows, amounts, EnergyHull.of()), spec.screens, ())
    found = {name: rows[name].fill_null(False).to_numpy() for name in SCREENS if name in rows.column_names}
    del found["hydride"]
    required = ScreensSpec().names
    if set(required) <= set(found):
        found[REQUIRED] = np.logical_and.reduce([found[name] for name in required])
    return found


def measure(drawn: Drawn, plausibility: tuple[Floats, Floats] | None, seed: int) -> dict[str, Any]:
    """What goes into the file."""
    real, swapped = (
        verdicts(amounts, None if plausibility is None else plausibility[place])
        for place, amounts in enumerate((drawn.real, drawn.swapped))
    )
    high = drawn.tc_k > HIGH_TC_K
    screens = {
        name: {
            "recall": round(float(real[name].mean()), 4),
            "recall_above_30_k": round(float(real[name][high].mean()), 4),
            "swaps": round(float(swapped[name].mean()), 4),
        }
        for name in real
    }
    n = len(drawn.tc_k)
    return {"superconductors": n, "swaps": n, "seed": seed, "folds": FOLDS, "screens": screens}


def table(measured: Mapping[str, Any]) -> str:
    """The same for a person."""
    lines = [
        "| screen | known superconductors | of these > 30 K | random swaps |",
        "| --- | --- | --- | --- |",
    ]
    for name, shares in measured["screens"].items():
        lines.append(f"| {name} | " + " | ".join(f"{100 * share:.1f} %" for share in shares.values()) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=3000, help="superconductors, and as many swaps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fit", action="store_true", help="fit plausibility, and judge by it")
    parser.add_argument("--write", action="store_true", help=f"write {FILE}")
    given = parser.parse_args()
    drawn = draw(given.rows, given.seed)
    plausibility = log_existence(drawn, fit_without, given.seed) if given.fit else None
    measured = measure(drawn, plausibility, given.seed)
    print(table(measured))
    if given.write:
        TARGET.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
