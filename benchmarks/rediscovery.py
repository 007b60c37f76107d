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
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from past import Floats, Later, Then, known_then, reported_later
from proposers import (
    NEIGHBOURS,
    PROPOSALS,
    SEARCHES,
    Rows,
    base_task,
    family_rows,
    judged,
    literature_task,
    of_neighbours,
    of_sources,
    plain_swaps,
    searched,
    spread,
    stored,
)
from sklearn.metrics import roc_auc_score

from kiago_ray import propose
from kiago_ray.chemistry.balance import likeliest_balance
from kiago_ray.data.compositions import KnownCompositions, nearest
from kiago_ray.data.files import sha256
from kiago_ray.data.sources import load_materials_project, load_supercon
from kiago_ray.data.tables import made
from kiago_ray.plausibility.literature import added_systems, elements_at_hand, swapped_systems
from kiago_ray.plausibility.model import swapped_at_random
from kiago_ray.search.sections import ScreensSpec
from kiago_ray.storage.run_directory import cpu_name

FIRST = (100, 400, 1000)
SAME_SYSTEM_DISTANCE, NEW_DISTANCE, BASE_DISTANCE = 0.2, 0.05, 0.5
DRAWS = 5
LISTED = 10  # rows
IN_ONE_SEARCH = 32  # bases
OFFSETS_K = (0.1, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
DEFAULTS = ("default", "default without family", "family only")
LITERATURE_ALONE = ("swap sum", "swap sum x P10", "plus one")
SWAPS = ("C-ES", "swaps at random", "swaps by odds")
METHODS = (*DEFAULTS, *SEARCHES, *SWAPS, *LITERATURE_ALONE)


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


def literature_rows(then: Then, method: str, out: Path, seed: int) -> Rows:
    """The first distinct systems of a method from all known ones, best first."""
    task, every, cores = literature_task(), list(range(len(then.formulas))), len(os.sched_getaffinity(0))
    if method in DEFAULTS:
        found = spread(partial(family_rows, then, task, seed), every, out / f"families-{seed}", cores)
        rows, log_p = Rows.joined(found), plausible(then, found, out / f"plausible-{seed}.npy")
        has = np.concatenate([of_sources(each, task, method) for each in found])
        rows, log_p, gain = judged(then, rows.at(has), task, log_p=log_p[has])
        np.savez(out / f"judged-{named(method)}-{seed}.npz", rows=rows.fractions, log_p=log_p, gain=gain)
    elif method in SEARCHES:
        rows = searched_in_parts(then, method, task.open_rows, every, out / f"{named(method)}-{seed}", seed)
        rows = Rows.of(rows.fractions, method, rows.key)
    elif method in LITERATURE_ALONE:
        next_to = added_systems if method == "plus one" else swapped_systems
        rows = of_neighbours(then, next_to(then.literature, elements_at_hand(), NEIGHBOURS), method)
    else:
        rows = Rows.joined(plain_swaps(then, method, task.swaps, seed, every))
    return distinct(then, rows)


def plausible(then: Then, found: list[Rows], file: Path) -> Floats:
    """ln P of all these rows, (n,), kept in a file."""
    if not file.exists():
        np.save(file, then.prospects.log_probabilities(Rows.joined(found).fractions)[0])
    log_p: Floats = np.load(file, allow_pickle=False)
    return log_p


def searched_in_parts(
    then: Then, method: str, number: int, bases: list[int], folder: Path, seed: int
) -> Rows:
    """`searched` in parts of bases, in several processes."""

    def work(start: int) -> Rows:
        return searched(then, method, number, seed, bases[start : start + IN_ONE_SEARCH])

    starts = range(0, len(bases), IN_ONE_SEARCH)
    return Rows.joined(spread(work, starts, folder, len(os.sched_getaffinity(0))))


def base_rows(then: Then, method: str, bases: list[int], out: Path, seed: int) -> list[Floats]:
    """The sixteen proposals of a method from each base."""
    task, cores = base_task(), len(os.sched_getaffinity(0))
    if method in DEFAULTS:
        found = spread(partial(family_rows, then, task, seed), bases, out / f"bases-{seed}", cores)
        return [
            sixteen(
                then,
                judged(then, rows.at(of_sources(rows, task, method)), task, then.bases[at])[0],
                spread=True,
            )
            for at, rows in zip(bases, found, strict=True)
        ]
    if method in SEARCHES:
        rows = searched_in_parts(
            then, method, task.open_rows, bases, out / f"bases-{named(method)}-{seed}", seed
        )
        return [sixteen(then, rows.at(rows.source == str(at)), spread=False) for at in bases]
    return [sixteen(then, rows, spread=False) for rows in plain_swaps(then, method, task.swaps, seed, bases)]


def named(method: str) -> str:
    return method.replace(" ", "_")


def literature_line(then: Then, later: Later, method: str, out: Path, seed: int) -> dict[str, Any]:
    rows = stored(
        out / f"literature-{named(method)}-{seed}.npz", partial(literature_rows, then, method, out, seed)
    )
    found = literature_hits(then, later, rows)
    found.to_csv(out / f"literature-{named(method)}-{seed}.csv", index=False)
    by_source = found.groupby("source")["hit"].agg(["size", "sum"])
    sources = {
        name: {"rows": int(row["size"]), "hits": int(row["sum"])} for name, row in by_source.iterrows()
    }
    head = {"cut_off": then.year, "task": "literature", "method": method}
    return {**head, **counted(found), "by_source": sources, "bases_hit": None}


def counted(found: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Hits among the first systems, those of T_c ≥ 10 K, and the gains."""
    masks = {
        "hits": found["hit"],
        "hits_10k": found["hit"] & (found["tc_k"] >= 10),
        "hits_gain": found["gain"],
    }
    return {name: {str(n): int(mask[:n].sum()) for n in FIRST} for name, mask in masks.items()}


def trade_lines(then: Then, later: Later, out: Path, seed: int) -> list[dict[str, Any]]:
    """What `default` finds in the literature with other offsets: plausibility against the promise of T_c."""
    with np.load(out / f"judged-default-{seed}.npz", allow_pickle=False) as kept:
        rows, log_p, gain = kept["rows"], kept["log_p"], kept["gain"]
    lines = []
    for offset_k in OFFSETS_K:
        ordered = distinct(then, Rows.of(rows, "default", log_p + np.log(gain + offset_k)))
        head = {"cut_off": then.year, "task": "trade", "method": "default", "offset_k": offset_k}
        lines.append({**head, **counted(literature_hits(then, later, ordered))})
    return lines


def base_line(then: Then, later: Later, method: str, out: Path, asked: argparse.Namespace) -> dict[str, Any]:
    head = {"cut_off": then.year, "task": "per base", "method": method}
    empty = {"hits": None, "hits_10k": None, "hits_gain": None, "by_source": None}
    if method in LITERATURE_ALONE:
        return {**head, **empty, "bases_hit": None}
    file = out / f"base-{named(method)}-{asked.bases}-{asked.seed}.json"
    if not file.exists():
        far = later.fractions[later.far]
        draws = drawn(then, later, asked.bases, asked.seed)
        every = sorted({at for draw in draws for at in draw})
        proposals = dict(zip(every, base_rows(then, method, every, out, asked.seed), strict=True))
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
    systems that nobody reported, and what share of both passes the screens of `default`, which compounds that were
    known to exist do.
    """
    known = then.systems | {row.tobytes() for row in later.fractions > 0}
    swaps = swapped_at_random(later.fractions, known, np.random.default_rng(seed))
    every = np.concatenate([later.fractions, swaps])
    real = np.arange(len(every)) < len(later.fractions)
    log_p, log_exists = then.prospects.plausibility.log_probabilities(every)
    limits = ScreensSpec()
    balanced = likeliest_balance(every).screened_nats <= limits.max_charge_nats
    there = then.prospects.made.nearest_same(every) >= 0
    passed = (there | (np.exp(log_exists) >= limits.min_existence)) & balanced
    soon = np.concatenate([later.year < then.year + 5, np.ones(len(swaps), dtype=np.bool_)])
    return {
        "cut_off": then.year,
        "task": "plausibility",
        "method": "default",
        "auc": float(roc_auc_score(real, log_exists)),
        "auc_five_years": float(roc_auc_score(real[soon], log_exists[soon])),
        "auc_reported": float(roc_auc_score(real, log_p)),
        "passed_later": float(passed[real].mean()),
        "passed_later_five_years": float(passed[real & soon].mean()),
        "passed_swaps": float(passed[~real].mean()),
        "later_above_four_fifths_of_swaps": float(
            (log_exists[real] > np.quantile(log_exists[~real], 0.8)).mean()
        ),
    }


def table_of(lines: list[dict[str, Any]], out: Path, seed: int) -> str:
    """Markdown: a row a cut-off and method with both tasks, then those of all cut-offs together; then plausibility."""
    text = [
        "| before | method | hits in the first 100 / 400 / 1,000 (95 %) | of these T_c ≥ 10 K | gains | bases of 64 |"
    ]
    text.append("| --- " * 6 + "|")
    bases = {(line["cut_off"], line["method"]): line["bases_hit"] for line in of_task(lines, "per base")}
    literature = of_task(lines, "literature")
    years = sorted({line["cut_off"] for line in literature})
    methods = list(dict.fromkeys(line["method"] for line in literature))
    for year in [*years, None]:
        for method in methods:
            mine = [x for x in literature if x["method"] == method and year in (None, x["cut_off"])]
            files = [out / str(x["cut_off"]) / f"literature-{named(method)}-{seed}.csv" for x in mine]
            hits = np.concatenate([pd.read_csv(file)["hit"].to_numpy(dtype=np.bool_) for file in files])
            low, high = interval(hits, seed)
            three = [
                " / ".join(str(sum(x[name][str(n)] for x in mine)) for n in FIRST)
                for name in ("hits", "hits_10k", "hits_gain")
            ]
            found = [value for x in mine if (value := bases.get((x["cut_off"], method))) is not None]
            cells = (year or "all", method, f"{three[0]} ({low:.0f} to {high:.0f})", *three[1:])
            text.append("| " + " | ".join(map(str, cells)) + f" | {f'{sum(found):.1f}' if found else '–'} |")
    text += [
        "",
        "| before | AUC, all later | AUC, within five years | pass: later | within five years | swaps |",
    ]
    text.append("| --- " * 6 + "|")
    for line in of_task(lines, "plausibility"):
        shares = [
            f"{100 * line[name]:.0f} %"
            for name in ("passed_later", "passed_later_five_years", "passed_swaps")
        ]
        scores = [f"{line[name]:.2f}" for name in ("auc", "auc_five_years")]
        text.append("| " + " | ".join([str(line["cut_off"]), *scores, *shares]) + " |")
    return "\n".join(text)


def of_task(lines: list[dict[str, Any]], task: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["task"] == task]


def plot(lines: list[dict[str, Any]], path: Path) -> None:
    """Hits with T_c ≥ 10 K among the first 1,000 systems and bases hit, by method, and what the offset trades."""
    figure = Figure(figsize=(14, 4.6), layout="constrained")
    literature, bases, trade = figure.subplots(1, 3)
    bars(literature, of_task(lines, "literature"), lambda line: line["hits_10k"]["1000"])
    literature.set_title("Later superconductors ≥ 10 K in the first 1,000 systems", fontsize=10)
    bars(
        bases, [x for x in of_task(lines, "per base") if x["bases_hit"] is not None], lambda x: x["bases_hit"]
    )
    bases.set_title("Bases of 64 with a hit in 16 proposals", fontsize=10)
    for name, first, label in (
        ("hits", 1000, "hits in 1,000"),
        ("hits_10k", 1000, "of these ≥ 10 K"),
        ("hits", 100, "hits in 100"),
        ("hits_gain", 1000, "gains in 1,000"),
    ):
        values = [
            sum(x[name][str(first)] for x in of_task(lines, "trade") if x["offset_k"] == k) for k in OFFSETS_K
        ]
        trade.semilogx(OFFSETS_K, values, "o-", label=label)
    trade.set_xlabel("improvement_offset_k (K)")
    trade.set_title("What the offset of the order trades, all cut-offs", fontsize=10)
    for panel in (literature, bases, trade):
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    figure.savefig(path, dpi=130)


def bars(panel: Axes, lines: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]) -> None:
    """A bar a method, stacked by cut-off."""
    names = list(dict.fromkeys(line["method"] for line in lines))
    left = np.zeros(len(names))
    years = sorted({line["cut_off"] for line in lines})
    for year, colour in zip(years, ("#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73"), strict=False):
        by_name = {line["method"]: value(line) for line in lines if line["cut_off"] == year}
        width = np.array([by_name.get(name, 0) for name in names], dtype=np.float64)
        panel.barh(names, width, left=left, color=colour, label=f"before {year}")
        left = left + width
    panel.invert_yaxis()


def made_then(cut_off: int) -> KnownCompositions:
    """Compounds that the Crystallography Open Database held in 2007; none before 2008."""
    if cut_off < 2008:
        return KnownCompositions.of([])
    table = made()
    return KnownCompositions.of(table["formula"][table["in_2007"]].tolist())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="SuperCon's primary.tsv")
    parser.add_argument("--non-superconductors", type=Path, required=True, help="ground_states.csv.gz")
    parser.add_argument("--cut-offs", default="1993,2001,2008")
    parser.add_argument("--bases", type=int, default=64, help="of a draw, for the task per base")
    parser.add_argument("--epochs", type=int, default=12, help="of the ensemble; the shipped one has 40")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--list", metavar="FORMULA", help="also print the first ten rows of `default` from this base"
    )
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--out", type=Path, default=Path("runs/rediscovery"))
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    methods = [name.strip() for name in asked.methods.split(",")]
    if unknown := [name for name in methods if name not in METHODS]:
        raise SystemExit(f"--methods: there is no method {unknown[0]!r}; choose from {', '.join(METHODS)}")
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
        for line in lines_of(then, reported_later(whole, then), methods, out, asked):
            print(json.dumps(line), flush=True)
            lines.append(line)
    text = f"{asked.bases} bases, seed {asked.seed}, {asked.epochs} epochs, {cpu_name()}\n\n"
    (asked.out / "rediscovery.md").write_text(text + table_of(lines, asked.out, asked.seed) + "\n")
    if "default" in methods:
        plot(lines, asked.out / "rediscovery.png")


def lines_of(
    then: Then, later: Later, methods: list[str], out: Path, asked: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """The lines of one cut-off."""
    torch.set_num_threads(1)  # whole processes share the work, which the threads of a forked one would block
    yield plausibility_line(then, later, asked.seed)
    for method in methods:
        yield literature_line(then, later, method, out, asked.seed)
        yield base_line(then, later, method, out, asked)
    if "default" in methods:
        yield from trade_lines(then, later, out, asked.seed)
    if asked.list is not None:
        yield list_line(then, asked.list, asked.seed)


def list_line(then: Then, base: str, seed: int) -> dict[str, Any]:
    """The first rows of a whole search of `default` from a base, by what was known then."""
    found = propose(base, models=then.models, overrides={"seed": seed})
    columns = [
        "formula",
        "source",
        "plausibility",
        "expected_improvement_k",
        "tc_k",
        "tc_std_k",
        "tc_oracle_k",
    ]
    rows = found.table.select(columns).slice(0, LISTED).to_pylist()
    return {"cut_off": then.year, "task": "list", "method": "default", "base": base, "rows": rows}


if __name__ == "__main__":
    main()
