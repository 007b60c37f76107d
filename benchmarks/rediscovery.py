"""Would it have found what was found later? Models and bases from SuperCon's entries before a cut-off year.

    python benchmarks/rediscovery.py --data primary.tsv --non-superconductors ground_states.csv.gz

For each cut-off: the ensemble and the oracle are fitted to the entries that a journal printed before it (undated ones
are left out), bases are drawn from the chemical systems known then, each as likely, and every method proposes from the
same bases:

- default: the search of the preset `open`, the default then, from perturbed bases;
- near: the same, each row with the elements that its start has (`revive: start`);
- random: the same from random compositions;
- paper: the paper's search with the same networks' mean T_c, which favours it over its own ResNet-18;
- substitution: a base with one element for another. All swaps are looked at, some thousands, and the most trusted of
  those that pass are kept, as many as a search has candidates.

The searches have equal numbers of candidates; what is unique and passes is less, `paper`'s half. So what is found is
counted after fixed numbers of proposals too. All pass the same screens, are new to the literature of then, and are
ranked by the same trusted T_c, ties (most are 0) by T_c. Counted are the chemical systems in which a superconductor
was first reported later, and the later compositions nearer than --near (L1 in fractions) to a proposal and further
than that from all of before.

What isn't of then: E_f and the oxidation states; the rows that teach T_c = 0, materials known today in systems without
a superconductor then, among them a third of the systems to be found (MgB2 stands for 0 K before 2001), which holds
every method back alike; and our hindsight, for the features of the networks and the settings of `default` were chosen
on all of SuperCon. Finished parts are kept in --out and not done again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kiago_ray import load_predictors
from kiago_ray.api import judged_rows
from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.chemistry.formula import parse, parse_fractions, reduce_counts, write_integers
from kiago_ray.chemistry.neutrality import check
from kiago_ray.datasets.files import sha256
from kiago_ray.datasets.formation_energies import load_materials_project
from kiago_ray.datasets.neighbours import nearest
from kiago_ray.datasets.non_superconductors import non_superconductors
from kiago_ray.datasets.statistics import element_counts
from kiago_ray.datasets.supercon import HEADER_LINE, load_supercon, publication_year
from kiago_ray.datasets.table import chemical_system
from kiago_ray.machine import cpu_name
from kiago_ray.predictors import Predictors
from kiago_ray.predictors.base import predict
from kiago_ray.predictors.ensemble_recipe import SETTINGS
from kiago_ray.predictors.ensemble_training import train_tc_ensemble
from kiago_ray.predictors.lowered_ensemble import LoweredEnsemble
from kiago_ray.predictors.oracle import load_oracle
from kiago_ray.predictors.oracle_fit import OracleSettings
from kiago_ray.predictors.oracle_recipe import OracleOptions, train_oracle
from kiago_ray.predictors.precision import multiplies_bfloat16
from kiago_ray.predictors.recipes import RunOptions, TrainingTable
from kiago_ray.predictors.second_opinion import SecondOpinion
from kiago_ray.predictors.weights import load_network
from kiago_ray.screening import KnownMaterials, Ranking
from kiago_ray.screening.known import SAME_COMPOSITION
from kiago_ray.screening.trust import trusted_tc_k
from kiago_ray.search import load_preset
from kiago_ray.search.integers import project
from kiago_ray.storage.assemble import ranked

SCREENS = ("neutral", "pauling", "ef_negative", "few_elements")
METHODS: dict[str, dict[str, Any]] = {
    "default": {},
    "near": {"revive": "start"},
    "random": {"start": {"kind": "random"}},
    "paper": {"preset": "paper", "tc_predictor": "ensemble", "oxidation_set": "icsd24"},
    "substitution": {},
}
COLOURS = {
    "default": "#0072B2",
    "near": "#56B4E9",
    "random": "#E69F00",
    "paper": "#D55E00",
    "substitution": "#009E73",
}
FIRST = (100, 400)  # proposals after which it is counted
MOST_ELEMENTS = 9
MOST_ATOMS = 25


@dataclass(frozen=True)
class Then:
    """What was known at a cut-off, and the models that learnt from it."""

    known: KnownMaterials
    systems: frozenset[str]
    bases: list[str]
    frequencies: dict[str, NDArray[np.float64]]
    predictors: Predictors
    second: SecondOpinion


@dataclass(frozen=True)
class Later:
    """What a superconductor was first reported of at or after a cut-off: systems with the highest T_c in K, and
    compositions (m, 118)."""

    systems: dict[str, float]
    fractions: NDArray[np.float64]


def same_run(out: Path, identity: dict[str, Any]) -> None:
    """Keep what the parts in `out` rest on beside them. Ends the program where it is something else."""
    file = out / "identity.json"
    if file.exists() and json.loads(file.read_text()) != identity:
        raise SystemExit(f"{out} holds parts of other data, epochs or methods; choose another --out")
    file.write_text(json.dumps(identity, indent=2) + "\n")


def before(data: Path, cut_off: int, out: Path) -> Path:
    """SuperCon's file with the entries printed before the cut-off alone."""
    lines = data.read_text(encoding="utf-8").splitlines()
    journal = lines[HEADER_LINE - 1].split("\t").index("journal")
    kept = [
        line
        for line in lines[HEADER_LINE:]
        if (year := publication_year((line.split("\t") + [""] * journal)[journal])) and year < cut_off
    ]
    path = out / "before.tsv"
    path.write_text("\n".join([*lines[:HEADER_LINE], *kept]) + "\n", encoding="utf-8")
    return path


def known_then(data: Path, others: pd.DataFrame, cut_off: int, asked: argparse.Namespace, out: Path) -> Then:
    """Fit what isn't fitted yet, and draw the bases."""
    table, report = load_supercon(before(data, cut_off, out))
    zeros = non_superconductors(others, table, by="chemical_system")
    known, zero = TrainingTable.of(table, "tc_k", report), TrainingTable.of(zeros, "tc_k")
    weights = out / "weights"
    weights.mkdir(exist_ok=True)
    if not (weights / "tc_ensemble.json").exists():
        print(f"{cut_off}: fitting the ensemble to {len(table)} compositions", flush=True)
        options = RunOptions(out=weights, bfloat16=multiplies_bfloat16(torch.device("cpu")))
        train_tc_ensemble(known, zero, None, replace(SETTINGS, epochs=asked.epochs), options)
    if not (weights / "tc_oracle.json").exists():
        print(f"{cut_off}: fitting the oracle", flush=True)
        train_oracle(known, zero, None, OracleSettings(), OracleOptions(out=weights))
    ensemble = LoweredEnsemble(load_network("tc_ensemble", weights))
    predictors = Predictors(tc=ensemble, ef=load_predictors().ef, others={"ensemble": ensemble})
    counts = {"supercon": element_counts(table), "non_superconductors": element_counts(zeros)}
    return Then(
        known=KnownMaterials.from_table(table, f"SuperCon before {cut_off}"),
        systems=frozenset(table["chemical_system"]),
        bases=drawn(table, set(predictors.unknown_elements()), asked.bases, asked.seed),
        frequencies={name: each.astype(np.float64) for name, each in counts.items()},
        predictors=predictors,
        second=SecondOpinion(ensemble, load_oracle(weights)),
    )


def drawn(table: pd.DataFrame, unknown: set[str], count: int, seed: int) -> list[str]:
    """The composition of highest T_c of as many chemical systems, each system as likely as any other."""
    best = table.sort_values(["tc_k", "formula"], ascending=[False, True]).drop_duplicates("chemical_system")
    usable = [formula for formula in sorted(best["formula"]) if not unknown & set(parse(formula))]
    return np.random.default_rng(seed).choice(usable, count, replace=False).tolist()


def reported_later(whole: pd.DataFrame, then: Then, cut_off: int, near: float) -> Later:
    """From SuperCon as it is now. Systems with an undated composition count as known then."""
    undated = set(whole.loc[whole["year"].isna(), "chemical_system"])
    later = whole[(whole["year"] >= cut_off) & (whole["tc_k"] > 0)]
    new = later[~later["chemical_system"].isin(then.systems | undated)]
    rows = parse_fractions(later["formula"].tolist())
    return Later(
        systems=new.groupby("chemical_system")["tc_k"].max().to_dict(),
        fractions=rows[nearest(rows, then.known.fractions)[1] > near],
    )


def searched(method: str, then: Then, candidates: int, seed: int) -> pd.DataFrame:
    """Formulas that pass and are new to then, with their trusted T_c, from a search around each base."""
    parts = []
    for base in then.bases:
        spec = load_preset(
            "open",
            {
                **METHODS[method],
                "base": base,
                "candidates": candidates,
                "seed": seed,
                "screens": {"names": SCREENS, "rank_by": "trusted"},
            },
        )
        found = judged_rows(
            spec,
            then.predictors,
            None,
            second=then.second,
            known=then.known,
            frequencies=then.frequencies,
            trajectory_rows=0,
        )
        table = ranked(found.table, Ranking("trusted"))
        table = table.filter(
            pc.and_(table["passed"], pc.greater(table["nearest_distance"], SAME_COMPOSITION))
        )
        parts.append(table.select(["formula", "trusted_tc_k", "tc_k"]).to_pandas())
    return pd.concat(parts)


def substituted(then: Then, budget: int) -> pd.DataFrame:
    """The same of the bases with one element for another, as many as the budget, the most trusted first.

    As integer formulas, the nearest ones of bases with fractions: the charges of no other can be checked.
    """
    totals = tuple(range(1, MOST_ATOMS + 1))
    bases = project(parse_fractions(then.bases), totals, np.zeros(N_ELEMENTS), may_grow=False).counts[:, 0]
    elements = np.flatnonzero(then.predictors.supported.numpy())
    swapped = []
    for base in bases:
        for old in np.flatnonzero(base):
            for new in elements[base[elements] == 0]:
                other = base.copy()
                other[new], other[old] = other[old], 0
                swapped.append(other)
    counts = np.unique(reduce_counts(np.array(swapped)), axis=0)
    formulas = [write_integers(row) for row in counts]
    rows = counts / counts.sum(axis=1, keepdims=True)
    single = rows.astype(np.float32)
    tc, std, extrapolation = then.second.ensemble.beliefs(single)  # type: ignore[union-attr]
    opinions = then.second.of(single)
    good = (
        check(counts).pauling
        & ((counts > 0).sum(axis=1) <= MOST_ELEMENTS)
        & (predict(then.predictors.ef, single) < 0)
        & (nearest(rows, then.known.fractions)[1] > SAME_COMPOSITION)
    )
    trusted = trusted_tc_k(tc, std, opinions.tc_oracle_k, extrapolation)
    table = pd.DataFrame({"formula": formulas, "trusted_tc_k": trusted, "tc_k": tc})[good]
    return table.sort_values(["trusted_tc_k", "tc_k"], ascending=False).head(budget)


def counted(proposals: pd.DataFrame, then: Then, later: Later, near: float) -> dict[str, Any]:
    """Of unique proposals, most trusted first: what they hit, and after how many proposals each system was."""
    best = proposals.sort_values(["trusted_tc_k", "tc_k", "formula"], ascending=[False, False, True])
    formulas = best.drop_duplicates("formula")["formula"].tolist()
    systems = [chemical_system(parse(formula)) for formula in formulas]
    first: dict[str, int] = {}
    for rank, system in enumerate(systems, start=1):
        if system in later.systems:
            first.setdefault(system, rank)
    distance = np.full(len(later.fractions), np.inf)
    if formulas:
        distance = nearest(later.fractions, parse_fractions(formulas))[1]
    return {
        "proposals": len(formulas),
        "new_systems_proposed": len(set(systems) - then.systems),
        "trusted": int((best.drop_duplicates("formula")["trusted_tc_k"] > 0).sum()),
        "systems_found": len(first),
        "found_in_first": [sum(rank <= most for rank in first.values()) for most in FIRST],
        "compositions_found": int((distance <= near).sum()),
        "found": {system: [rank, later.systems[system]] for system, rank in first.items()},
    }


def table_of(results: dict[int, dict[str, Any]]) -> str:
    """Markdown, a row a cut-off and method."""
    head = (
        *(
            "before",
            "method",
            "proposals",
            "trusted T_c above 0",
            "distinct systems, new then",
            "systems found",
        ),
        *(f"in the first {most}" for most in FIRST),
        *("compositions found", "found, by T_c measured later"),
    )
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for cut_off, of_methods in results.items():
        for method, found in of_methods["methods"].items():
            best = sorted(found["found"].items(), key=lambda item: -item[1][1])[:5]
            cells = (
                cut_off,
                method,
                found["proposals"],
                found["trusted"],
                found["new_systems_proposed"],
                f"{found['systems_found']} of {of_methods['systems']}",
                *found["found_in_first"],
                f"{found['compositions_found']} of {of_methods['compositions']}",
                ", ".join(f"{system} ({tc_k:g} K)" for system, (_, tc_k) in best) or "–",
            )
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def plot(results: dict[int, dict[str, Any]], path: Path) -> None:
    """Systems found against proposals, most trusted first; a panel a cut-off."""
    figure = Figure(figsize=(4.2 * len(results), 3.6), layout="constrained")
    panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for axes, (cut_off, of_methods) in zip(panels, results.items(), strict=True):
        for method, found in of_methods["methods"].items():
            ranks = sorted(rank for rank, _ in found["found"].values())
            axes.step(
                [0, *ranks, found["proposals"]],
                [0, *range(1, len(ranks) + 1), len(ranks)],
                where="post",
                color=COLOURS[method],
                label=method,
            )
        axes.set_title(f"known before {cut_off}", fontsize=10)
        axes.set_xlabel("proposals, in their order")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("chemical systems reported later")
    panels[0].yaxis.get_major_locator().set_params(integer=True)
    panels[0].legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Do what is missing, then print and write the table and the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="SuperCon's primary.tsv")
    parser.add_argument(
        "--non-superconductors", type=Path, required=True, help="Materials Project's ground states"
    )
    parser.add_argument("--cut-offs", default="1993,2001,2008")
    parser.add_argument("--bases", type=int, default=16)
    parser.add_argument("--candidates", type=int, default=64, help="of each base")
    parser.add_argument("--epochs", type=int, default=20, help="of the ensemble; the shipped one has 40")
    parser.add_argument("--near", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/rediscovery"))
    asked = parser.parse_args()
    whole, _ = load_supercon(asked.data)
    others, _ = load_materials_project(asked.non_superconductors)
    files = [sha256(asked.data), sha256(asked.non_superconductors)]
    results: dict[int, dict[str, Any]] = {}
    for cut_off in map(int, asked.cut_offs.split(",")):
        out = asked.out / str(cut_off)
        out.mkdir(parents=True, exist_ok=True)
        same_run(out, {"epochs": asked.epochs, "methods": METHODS, "files": files})
        then = known_then(asked.data, others, cut_off, asked, out)
        later = reported_later(whole, then, cut_off, asked.near)
        results[cut_off] = {
            "systems": len(later.systems),
            "compositions": len(later.fractions),
            "methods": {},
        }
        for method in METHODS:
            file = out / f"{method}-{asked.bases}x{asked.candidates}-{asked.seed}.csv"
            if not file.exists():
                if method == "substitution":
                    proposals = substituted(then, asked.bases * asked.candidates)
                else:
                    proposals = searched(method, then, asked.candidates, asked.seed)
                proposals.to_csv(file.with_suffix(".part"), index=False)
                file.with_suffix(".part").replace(file)
            proposals = pd.read_csv(file, keep_default_na=False)  # a formula NaN is sodium and nitrogen
            found = counted(proposals, then, later, asked.near)
            results[cut_off]["methods"][method] = found
            print(f"{cut_off} {method}: {json.dumps(found)}", flush=True)
    text = (
        f"{asked.bases} bases × {asked.candidates} candidates, seed {asked.seed}, {asked.epochs} epochs, near "
        f"{asked.near:g}, {cpu_name()}\n\n{table_of(results)}\n"
    )
    (asked.out / "rediscovery.md").write_text(text, encoding="utf-8")
    plot(results, asked.out / "rediscovery.png")
    print(text)


if __name__ == "__main__":
    main()
