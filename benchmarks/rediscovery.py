"""Would it have found what was found later? Searches by what was in print before a year, against what came after.

    python benchmarks/rediscovery.py --data primary.tsv --non-superconductors ground_states.csv.gz --cut-offs 1993,2001

For each cut-off the T_c models, plausibility, odds and screens are fitted to the entries of SuperCon that a journal
printed before it; undated ones have no part in anything. The Crystallography Open Database's list of 2007, which
ships, is known from 2008 on, nothing of it or of the Materials Project before. Two tasks:

- literature: from all known systems, the first 100, 400 and 1,000 distinct chemical systems without a superconductor
  then, each with its best row. A hit is a system that was reported later, with a composition within L1 0.2 of the row.
- per base: --bases systems, drawn among those with a later composition within L1 0.5 of their composition of highest
  T_c, 16 proposals each, five draws pooled. Counted are bases with a proposal within L1 0.05 of a composition that was
  reported later and lay further than that from all of before.

Methods: `default` (the literature campaign's order for the first task), `default without family` (its other sources
alone), `family only`, `open` (the former default), `paper` with the networks' mean T_c, `random starts`, `C-ES`,
`swaps at random`, `swaps by odds`, `swap sum` (Σ over parents of weight × odds), `swap sum x P10` (times the
probability of 10 K), `plus one` (one element more). One JSON object a line for each method and task; a table and
a plot go to --out, where finished parts are kept.

What isn't of then: E_f and oxidation states; the rows that teach T_c = 0, materials known today in systems without a
superconductor then, which holds every method back alike; our hindsight in the features.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from past import Floats, Later, Then, known_then, reported_later
from scipy.special import ndtr
from sklearn.metrics import roc_auc_score

from kiago_ray import knowledge
from kiago_ray.baselines.substitution import ExchangeError, exchange
from kiago_ray.chemistry.balance import likeliest_balance
from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import write
from kiago_ray.datasets.files import sha256
from kiago_ray.datasets.formation_energies import load_materials_project
from kiago_ray.datasets.neighbours import nearest
from kiago_ray.datasets.supercon import load_supercon
from kiago_ray.knowledge.plain_formulas import sparse_fractions
from kiago_ray.machine import cpu_name
from kiago_ray.plausibility.alterations import elements_at_hand, swapped_at_random
from kiago_ray.plausibility.neighbours import Neighbours, added_systems, swapped_systems
from kiago_ray.plausibility.odds import swap_odds
from kiago_ray.plausibility.steering import around, informed
from kiago_ray.screening.improvement import best_nearby, expected_improvement_k
from kiago_ray.screening.screens import MAX_CHARGE_NATS, MIN_EXISTENCE
from kiago_ray.screening.trust import trusted_tc_k
from kiago_ray.search import SpecError, load_preset, run_search
from kiago_ray.search.start import perturbed_row, row_generator

FIRST = (100, 400, 1000)
SAME_SYSTEM_DISTANCE, NEW_DISTANCE, BASE_DISTANCE = 0.2, 0.05, 0.5
PROPOSALS, DRAWS = 16, 5
LITERATURE_OFFSET_K = 30.0  # as campaigns/literature.yaml has it
JUDGED = 8_000  # rows, most plausible first, of which an improvement is worked out
FAMILY_ROWS = {"literature": 24, "per base": 48}
FAMILY_STEPS = {"literature": [6, 6], "per base": [10, 10]}
OPEN_ROWS, OPEN_STEPS = {"literature": 4, "per base": 24}, [40, 40]
ALL_SOURCES = {"family": 0.4, "swap": 0.35, "made": 0.05, "plus_one": 0.2}
SOURCES = {
    "default": ALL_SOURCES,
    "default without family": {**ALL_SOURCES, "family": 0.0},
    "family only": {"family": 1.0, "swap": 0.0, "made": 0.0, "plus_one": 0.0},
}
SEARCHES: dict[str, dict[str, Any]] = {
    "open": {"preset": "open"},
    "paper": {"preset": "paper", "tc_predictor": "ensemble", "oxidation_set": "icsd24"},
    "random starts": {"preset": "open"},
}
METHODS = (
    *SOURCES,
    *SEARCHES,
    *("C-ES", "swaps at random", "swaps by odds", "swap sum", "swap sum x P10", "plus one"),
)
BASELINES = ("swap sum", "swap sum x P10", "plus one")
LITERATURE_ALONE = ("swap sum", "swap sum x P10", "plus one")


@dataclass(frozen=True)
class Rows:
    """n proposals: fractions (n, 118), key (n,) to sort by, falling, and where each comes from."""

    fractions: Floats
    key: Floats
    source: NDArray[np.str_]

    @classmethod
    def none(cls) -> Rows:
        return cls(np.zeros((0, N_ELEMENTS)), np.zeros(0), np.zeros(0, dtype=np.str_))

    def best_first(self) -> Rows:
        order = np.argsort(-self.key, kind="stable")
        return Rows(self.fractions[order], self.key[order], self.source[order])


def joined(parts: list[Rows]) -> Rows:
    if not parts:
        return Rows.none()
    return Rows(
        np.concatenate([part.fractions for part in parts]),
        np.concatenate([part.key for part in parts]),
        np.concatenate([part.source for part in parts]),
    )


# --- what each method proposes -------------------------------------------------------------------------------------


def family_rows(then: Then, base: str, method: str, task: str, seed: int) -> Rows:
    """What a family search of `default` proposes from one base, not yet judged."""
    spec = load_preset(
        "default",
        {
            "base": base,
            "candidates": FAMILY_ROWS[task],
            "steps": FAMILY_STEPS[task] if SOURCES[method]["family"] else [1, 0],
            "sources": SOURCES[method],
            "seed": seed,
            "precision": "float32",
        },
    )
    try:
        substitutions = around(spec, then.prospects)
        predictors = informed(spec, then.predictors, then.prospects, substitutions)
        found = run_search(spec, predictors, then.frequencies, trajectory_rows=0, substitutions=substitutions)
    except SpecError:  # nothing is known to replace anything of this base
        return Rows.none()
    total = found.amounts.sum(axis=1)
    kept = total > 0
    rows = found.amounts[kept] / total[kept, None]
    assert found.source is not None
    return Rows(rows, np.zeros(len(rows)), found.source[kept].astype(np.str_))


def searched(then: Then, bases: list[int], method: str, task: str, seed: int) -> Rows:
    """What searches over all elements propose from these bases, by trusted T_c; all bases run as rows of one."""
    number = OPEN_ROWS[task]
    spec = load_preset("default", {**SEARCHES[method], "steps": OPEN_STEPS})
    allowed = then.predictors.supported.numpy()
    weights = then.frequencies["supercon"]
    starts = []
    for at in bases:
        for row in range(number):
            rng = row_generator(seed, f"{then.formulas[at]} {method}", row)
            if method == "random starts":
                chosen = rng.choice(np.flatnonzero(allowed), 4, replace=False)
                start = np.zeros(N_ELEMENTS)
                start[chosen] = 1 - rng.random(4)
            else:
                start = perturbed_row(rng, then.bases[at], allowed, weights, spec.start)
            starts.append(start / start.sum())
    formulas = [formula_of(start) for start in starts]
    spec = replace_start(spec, formulas)
    found = run_search(spec, then.predictors, then.frequencies, trajectory_rows=0)
    total = found.amounts.sum(axis=1)
    kept = total > 0
    rows = found.amounts[kept] / total[kept, None]
    return Rows(rows, trusted(then, rows), np.full(len(rows), method))


def replace_start(spec: Any, formulas: list[str]) -> Any:
    """The search with these formulas as its rows, and no base."""
    start = spec.start.model_copy(update={"kind": "rows", "rows": tuple(formulas)})
    return spec.model_copy(update={"base": None, "start": start})


def formula_of(row: Floats) -> str:
    return write({SYMBOLS[z]: round(float(row[z]), 6) for z in np.flatnonzero(row > 1e-6)})


def trusted(then: Then, rows: Floats) -> Floats:
    tc, std, extrapolation = then.second.ensemble.beliefs(rows)  # type: ignore[union-attr]
    return trusted_tc_k(tc, std, then.second.of(rows).tc_oracle_k, extrapolation)


def swapped(base: Floats, elements: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.int64]]:
    """The base with one element for another, (n, 118), and which for which (n, 2)."""
    pairs = [(a, c) for a in np.flatnonzero(base) for c in np.flatnonzero(elements & (base == 0))]
    rows = np.tile(base, (len(pairs), 1))
    for row, (a, c) in zip(rows, pairs, strict=True):
        row[c], row[a] = row[a], 0
    return rows, np.array(pairs).reshape(-1, 2)


def plain_swaps(then: Then, bases: list[int], method: str, number: int, seed: int) -> list[Rows]:
    """For each base its whole swaps: at random, by odds, or by the states of its elements (C-ES)."""
    odds, elements, parts = swap_odds(then.literature.systems), elements_at_hand(), []
    supported = then.predictors.supported.numpy()
    for at in bases:
        rng = np.random.default_rng([seed, at])
        if method == "C-ES":
            try:
                rows = exchange(then.formulas[at], supported).rows(number, seed)
            except ExchangeError:
                parts.append(Rows.none())
                continue
            rows = np.unique(rows / rows.sum(axis=1, keepdims=True), axis=0)
            parts.append(Rows(rows, trusted(then, rows), np.full(len(rows), method)))
            continue
        rows, pairs = swapped(then.bases[at], elements & supported)
        key = rng.random(len(rows))
        if method == "swaps by odds":
            key = odds[pairs[:, 0], pairs[:, 1]] + 1e-9 * key
        best = np.argsort(-key, kind="stable")[:number]
        parts.append(Rows(rows[best], key[best], np.full(len(best), method)))
    return parts


def of_neighbours(then: Then, found: Neighbours, method: str) -> Rows:
    """Systems next to known ones, with the most supported parent's best composition changed accordingly."""
    rows = then_best(then)[found.parent].copy()
    at = np.arange(len(rows))
    portion = np.where(found.added, 0.2, 1.0)
    rows[at, found.new] = portion * rows[at, found.lost]
    rows[at, found.lost] -= rows[at, found.new]
    key = found.support
    if method == "swap sum x P10":
        tc, std, _ = then.second.ensemble.beliefs(rows)  # type: ignore[union-attr]
        key = key * (1 - ndtr((10 - tc) / std))
    return Rows(rows, key, np.full(len(rows), method))


def then_best(then: Then) -> Floats:
    """Of each system of the literature the composition of highest T_c, (s, 118)."""
    order = np.lexsort((-then.literature.tc_k, then.literature.system))
    first = np.unique(then.literature.system[order], return_index=True)[1]
    return then.literature.fractions[order[first]]


def judged(
    then: Then, rows: Rows, offset_k: float, most: int | None = None, base: Floats | None = None
) -> Rows:
    """The rows that pass the existence screen, ordered by plausibility × (expected improvement + offset)."""
    if not len(rows.key):
        return rows
    fractions, first = np.unique(np.round(rows.fractions, 6), axis=0, return_index=True)
    fractions, source = rows.fractions[first], rows.source[first]
    log_p, _ = then.prospects.log_probabilities(fractions)
    kept = np.argsort(-log_p, kind="stable")[:most]
    fractions, source, log_p = fractions[kept], source[kept], log_p[kept]
    tc, std, _ = then.second.ensemble.beliefs(fractions)  # type: ignore[union-attr]
    expected = np.fmin(tc, then.second.of(fractions).tc_oracle_k)
    best, _ = best_nearby(fractions, then.known, base=base)
    gain = expected_improvement_k(expected, std, np.nan_to_num(best, nan=0.0))
    return Rows(fractions, log_p + np.log(gain + offset_k), source).best_first()


# --- what is counted -----------------------------------------------------------------------------------------------


def distinct(then: Then, rows: Rows) -> Rows:
    """The first row of each chemical system without a superconductor then, best first."""
    ordered, known, seen, kept = rows.best_first(), then.systems, set(), []
    for at, row in enumerate(ordered.fractions):
        system = (row > 0).tobytes()
        if system not in known and system not in seen:
            seen.add(system)
            kept.append(at)
        if len(kept) == FIRST[-1]:
            break
    return Rows(ordered.fractions[kept], ordered.key[kept], ordered.source[kept])


def literature_hits(then: Then, later: Later, rows: Rows) -> pd.DataFrame:
    """For each of the first distinct systems whether it came true, its later T_c in K, and whether that is a gain."""
    there = later.fractions[later.new]
    tc_k = later.tc_k[later.new]
    by_system: dict[bytes, list[int]] = {}
    for at, row in enumerate(there > 0):
        by_system.setdefault(row.tobytes(), []).append(at)
    known = then.literature.systems.astype(np.float32)
    size, highest = known.sum(axis=1), then.literature.highest_tc_k
    found = []
    for row, source in zip(rows.fractions, rows.source, strict=True):
        same = by_system.get((row > 0).tobytes(), [])
        hit = bool(len(same)) and float(np.abs(there[same] - row).sum(axis=1).min()) <= SAME_SYSTEM_DISTANCE
        best = float(tc_k[same].max()) if hit else 0.0
        shared = known @ (row > 0).astype(np.float32)
        elements = int((row > 0).sum())
        parents = (shared == elements - 1) & ((size == elements) | (size == elements - 1))
        gain = hit and best > float(highest[parents].max(initial=0.0))
        found.append((hit, best, gain, str(source)))
    return pd.DataFrame(found, columns=["hit", "tc_k", "gain", "source"])


def drawn(then: Then, later: Later, number: int, seed: int) -> list[list[int]]:
    """Five draws of bases, each of another chemical system, among those that something was reported near later."""
    near = np.flatnonzero(nearest(then.bases, later.fractions)[1] <= BASE_DISTANCE)
    return [
        np.random.default_rng([seed, draw]).choice(near, min(number, len(near)), replace=False).tolist()
        for draw in range(DRAWS)
    ]


def sixteen(then: Then, rows: Rows, *, spread: bool) -> Floats:
    """The first proposals that aren't known; spread: none within NEW_DISTANCE of another or of what is known."""
    ordered = rows.best_first()
    fractions = ordered.fractions[:400]
    if not len(fractions):
        return fractions
    far = nearest(fractions, then.literature.fractions)[1]
    kept: list[int] = []
    for at, row in enumerate(fractions):
        if far[at] <= (NEW_DISTANCE if spread else 1e-6):
            continue
        if spread and kept and float(np.abs(fractions[kept] - row).sum(axis=1).min()) < NEW_DISTANCE:
            continue
        kept.append(at)
        if len(kept) == PROPOSALS:
            break
    return fractions[kept]


# --- the two tasks -------------------------------------------------------------------------------------------------


def literature_rows(then: Then, method: str, seed: int) -> Rows:
    """All proposals of a method from all known systems, as it orders them."""
    every = list(range(len(then.formulas)))
    if method in SOURCES:
        parts = [family_rows(then, then.formulas[at], method, "literature", seed) for at in every]
        return judged(then, joined(parts), LITERATURE_OFFSET_K, JUDGED)
    if method in SEARCHES:
        return searched(then, every, method, "literature", seed)
    if method in ("swap sum", "swap sum x P10"):
        return of_neighbours(then, swapped_systems(then.literature, elements_at_hand(), 30_000), method)
    if method == "plus one":
        return of_neighbours(then, added_systems(then.literature, elements_at_hand(), 30_000), method)
    return joined(plain_swaps(then, every, method, 8, seed))


def base_rows(then: Then, bases: list[int], method: str, seed: int) -> list[Floats]:
    """The sixteen proposals of a method from each base."""
    if method in SOURCES:
        parts, offset_k = [], load_preset("default").screens.improvement_offset_k
        for at in bases:
            rows = family_rows(then, then.formulas[at], method, "per base", seed)
            rows = judged(then, rows, offset_k, base=then.bases[at])
            parts.append(sixteen(then, rows, spread=True))
        return parts
    if method in SEARCHES:
        return [sixteen(then, searched(then, [at], method, "per base", seed), spread=False) for at in bases]
    return [
        sixteen(then, rows, spread=False) for rows in plain_swaps(then, bases, method, 4 * PROPOSALS, seed)
    ]


def kept_rows(file: Path, make: Callable[[], Rows]) -> Rows:
    """The rows in a file, made where it isn't there yet."""
    if not file.exists():
        rows = make()
        with file.with_suffix(".part").open("wb") as part:
            np.savez_compressed(part, fractions=rows.fractions, key=rows.key, source=rows.source)
        file.with_suffix(".part").replace(file)
    with np.load(file, allow_pickle=False) as stored:
        return Rows(stored["fractions"], stored["key"], stored["source"])


def literature_line(then: Then, later: Later, method: str, out: Path, seed: int) -> dict[str, Any]:
    rows = kept_rows(
        out / f"literature-{method.replace(' ', '_')}-{seed}.npz",
        lambda: distinct(then, literature_rows(then, method, seed)),
    )
    found = literature_hits(then, later, rows)
    found.to_csv(out / f"literature-{method.replace(' ', '_')}-{seed}.csv", index=False)
    masks = {
        "hits": found["hit"],
        "hits_10k": found["hit"] & (found["tc_k"] >= 10),
        "hits_gain": found["gain"],
    }
    counts = {name: {str(first): int(mask[:first].sum()) for first in FIRST} for name, mask in masks.items()}
    first = found[: FIRST[-1]]
    by_source = first.groupby("source")["hit"].agg(["size", "sum"])
    sources = {
        name: {"rows": int(row["size"]), "hits": int(row["sum"])} for name, row in by_source.iterrows()
    }
    head = {"cut_off": then.year, "task": "literature", "method": method}
    return {**head, **counts, "by_source": sources, "bases_hit": None}


def base_line(then: Then, later: Later, method: str, out: Path, asked: argparse.Namespace) -> dict[str, Any]:
    head = {"cut_off": then.year, "task": "per base", "method": method}
    empty = {"hits": None, "hits_10k": None, "hits_gain": None, "by_source": None}
    if method in LITERATURE_ALONE:
        return {**head, **empty, "bases_hit": None}
    file = out / f"base-{method.replace(' ', '_')}-{asked.bases}-{asked.seed}.json"
    if not file.exists():
        far = later.fractions[later.far]
        draws = drawn(then, later, asked.bases, asked.seed)
        every = sorted({at for draw in draws for at in draw})
        proposals = dict(zip(every, base_rows(then, every, method, asked.seed), strict=True))
        hit = {
            at: bool(len(rows) and len(far) and nearest(rows, far)[1].min() <= NEW_DISTANCE)
            for at, rows in proposals.items()
        }
        file.write_text(json.dumps([[hit[at] for at in draw] for draw in draws]) + "\n")
    draws = json.loads(file.read_text())
    return {**head, **empty, "bases_hit": sum(map(sum, draws)) / len(draws)}


# --- what comes of it ----------------------------------------------------------------------------------------------


def interval(values: NDArray[np.bool_], seed: int) -> tuple[float, float]:
    """The 95 % interval of a count by bootstrap over its systems or bases."""
    rng = np.random.default_rng(seed)
    counts = rng.choice(values, (1000, len(values))).sum(axis=1) if len(values) else np.zeros(1)
    return float(np.quantile(counts, 0.025)), float(np.quantile(counts, 0.975))


def plausibility_line(then: Then, later: Later, seed: int) -> dict[str, Any]:
    """How the fit of then tells what was reported later from the same with one or two elements swapped at random, for
    systems that nobody reported, and what share of both passes the screens of `default`.
    """
    known = then.systems | {row.tobytes() for row in later.fractions > 0}
    swaps = swapped_at_random(later.fractions, known, np.random.default_rng(seed))
    every = np.concatenate([later.fractions, swaps])
    real = np.arange(len(every)) < len(later.fractions)
    log_p, log_exists = then.prospects.log_probabilities(every)
    passed = (np.exp(log_exists) >= MIN_EXISTENCE) & likeliest_balance(every).likely(MAX_CHARGE_NATS)
    soon = np.concatenate([later.year < then.year + 5, np.ones(len(swaps), dtype=np.bool_)])
    head = {"cut_off": then.year, "task": "plausibility", "method": "default"}
    return {
        **head,
        "auc": float(roc_auc_score(real, log_p)),
        "auc_five_years": float(roc_auc_score(real[soon], log_p[soon])),
        "passed_later": float(passed[real].mean()),
        "passed_later_five_years": float(passed[real & soon].mean()),
        "passed_swaps": float(passed[~real].mean()),
    }


def table_of(lines: list[dict[str, Any]], out: Path, seed: int) -> str:
    """Markdown: literature, then per base, a row a cut-off and method."""
    text = [
        "| before | method | hits 100 / 400 / 1,000 (95 % of the last) | T_c ≥ 10 K | gains | bases of 64 |"
    ]
    text.append("| --- " * 6 + "|")
    bases = {
        (line["cut_off"], line["method"]): line["bases_hit"] for line in lines if line["task"] == "per base"
    }
    for line in lines:
        if line["task"] != "literature":
            continue
        file = out / str(line["cut_off"]) / f"literature-{line['method'].replace(' ', '_')}-{seed}.csv"
        low, high = interval(pd.read_csv(file)["hit"].to_numpy(dtype=np.bool_), seed)
        three = [
            " / ".join(str(line[name][str(n)]) for n in FIRST) for name in ("hits", "hits_10k", "hits_gain")
        ]
        base = bases.get((line["cut_off"], line["method"]))
        cells = (line["cut_off"], line["method"], f"{three[0]} ({low:.0f} to {high:.0f})", *three[1:])
        text.append("| " + " | ".join(map(str, cells)) + f" | {'–' if base is None else f'{base:.1f}'} |")
    return "\n".join(text)


def plot(lines: list[dict[str, Any]], path: Path) -> None:
    """Hits with T_c ≥ 10 K among the first 1,000 systems, and bases hit, by method; a panel a task."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, 2)
    years = sorted({line["cut_off"] for line in lines})
    for panel, task, title in zip(
        panels,
        ("literature", "per base"),
        ("Later superconductors ≥ 10 K in the first 1,000 systems", "Bases of 64 with a hit in 16 proposals"),
        strict=True,
    ):
        names = [m for m in METHODS if task == "literature" or m not in LITERATURE_ALONE]
        left = np.zeros(len(names))
        for year, colour in zip(years, ("#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73"), strict=False):
            values = []
            for name in names:
                line = next(x for x in lines if (x["cut_off"], x["task"], x["method"]) == (year, task, name))
                values.append(line["hits_10k"]["1000"] if task == "literature" else line["bases_hit"])
            panel.barh(names, values, left=left, color=colour, label=f"before {year}")
            left = left + np.array(values, dtype=float)
        panel.invert_yaxis()
        panel.set_title(title, fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    figure.savefig(path, dpi=130)


def made_then(cut_off: int) -> Floats:
    """Compounds that the Crystallography Open Database held in 2007; none before 2008."""
    if cut_off < 2008:
        return np.zeros((0, N_ELEMENTS))
    table = knowledge.made()
    rows: Floats = sparse_fractions(table["formula"][table["in_2007"]].tolist()).toarray()
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="SuperCon's primary.tsv")
    parser.add_argument("--non-superconductors", type=Path, required=True, help="ground_states.csv.gz")
    parser.add_argument("--cut-offs", default="1993,2001,2008")
    parser.add_argument("--bases", type=int, default=64, help="of a draw, for the task per base")
    parser.add_argument("--epochs", type=int, default=12, help="of the ensemble; the shipped one has 40")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--out", type=Path, default=Path("runs/rediscovery"))
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    methods = [name.strip() for name in asked.methods.split(",")]
    if unknown := [name for name in methods if name not in METHODS]:
        raise SystemExit(f"--methods: there is no method {unknown[0]!r}; choose from {', '.join(METHODS)}")
    torch.set_num_threads(max(1, torch.get_num_threads()))
    whole, _ = load_supercon(asked.data)
    others, _ = load_materials_project(asked.non_superconductors)
    identity = {"epochs": asked.epochs, "files": [sha256(asked.data), sha256(asked.non_superconductors)]}
    lines: list[dict[str, Any]] = []
    for cut_off in map(int, asked.cut_offs.split(",")):
        out = asked.out / str(cut_off)
        out.mkdir(parents=True, exist_ok=True)
        file = out / "identity.json"
        if file.exists() and json.loads(file.read_text()) != identity:
            raise SystemExit(f"{out} holds parts of other data or epochs; choose another --out")
        file.write_text(json.dumps(identity) + "\n")
        then = known_then(asked.data, others, made_then(cut_off), cut_off, asked, out)
        later = reported_later(whole, then)
        print(json.dumps(plausibility_line(then, later, asked.seed)), flush=True)
        for method in methods:
            for line in (
                literature_line(then, later, method, out, asked.seed),
                base_line(then, later, method, out, asked),
            ):
                print(json.dumps(line), flush=True)
                lines.append(line)
    if methods == list(METHODS):
        text = f"{asked.bases} bases, seed {asked.seed}, {asked.epochs} epochs, {cpu_name()}\n\n"
        (asked.out / "rediscovery.md").write_text(text + table_of(lines, asked.out, asked.seed) + "\n")
        plot(lines, asked.out / "rediscovery.png")


if __name__ == "__main__":
    main()
