"""What trust costs and gains: `open` against `paper` and `reference` at equal budget, on the bases of Table 2.

    python benchmarks/trust.py --known primary.tsv [--candidates 512] [--seeds 0,1,2] [--out runs/trust]

One JSON file a search is kept in --out, so that a stopped run goes on where it was. Figures are of the best 30 that
pass, each preset in its own order. The oracle has no part in a search but for the order of `open`. The judge, a
random forest on the fractions of SuperCon's compositions, has no part in search or order; but it learns from the same
rows as everybody here, and the networks learnt from a relative of it (extremely randomised trees), so that it shares
their misconceptions more than a measurement would. Prints a table and writes `trust.md` for what it was asked.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from sklearn.ensemble import RandomForestRegressor

from kiago_ray import propose
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data.tables import known_table
from kiago_ray.models import Models, load_models
from kiago_ray.predictors.weights import weights_hashes
from kiago_ray.screening.known import KnownMaterials
from kiago_ray.storage.run_directory import cpu_name

BASES = (
    "LaNiAsO",
    "SrFe1.88Ni0.12As2",
    "Sr4V2Fe2As2O6",
    "LaPt2B2C",
    "HgBa2Ca2Cu3O8",
    "CeBi2O3",
    "Bi2Sr2CuO6",
    "TlSr2CaCu2O7",
)
PRESETS = ("open", "paper", "reference")
TOP = 30
TREES = 200
FEWEST_KNOWN = 1_000
FIGURES = {
    "pass": ("passed everything (% of unique)", "{:.1f}"),
    "delta_oracle": ("oracle ΔT_c (K)", "{:+.1f}"),
    "gap": ("exploitation gap (K)", "{:+.1f}"),
    "delta_judge": ("judge's ΔT_c (K)", "{:+.1f}"),
    "delta_raw": ("ΔT_c by the search's model (K)", "{:+.1f}"),
    "trusted": ("trusted T_c (K)", "{:.1f}"),
    "distance": ("median L1 to the nearest known", "{:.3f}"),
    "systems": ("chemical systems", "{:.0f}"),
    "known": ("known compositions", "{:.0f}"),
    "seconds": ("wall clock (s)", "{:.0f}"),
}


def figures(
    base: str,
    preset: str,
    seed: int,
    candidates: int,
    models: Models,
    judge: RandomForestRegressor,
) -> dict[str, float | None]:
    """The figures of one search."""
    began = time.perf_counter()
    outcome = propose(
        base,
        preset=preset,
        overrides={"candidates": candidates, "seed": seed},
        models=models,
    )
    best = next(each for each in outcome.summary.top if each.k == TOP)
    share = outcome.summary.passed_fraction
    passed = outcome.table.filter(outcome.table["passed"])["formula"].to_pylist()[:TOP]
    judged = judge.predict(parse_fractions([base, *passed]))
    return {
        "pass": None if share is None else 100 * share,
        "delta_oracle": best.delta_tc_oracle_k,
        "gap": best.gap_k,
        "delta_judge": float(judged[1:].mean() - judged[0]) if passed else None,
        "delta_raw": best.delta_tc_k,
        "trusted": best.mean_trusted_tc_k,
        "distance": best.median_nearest_distance,
        "systems": best.chemical_systems,
        "known": best.known,
        "seconds": time.perf_counter() - began,
    }


def same_run(out: Path, identity: dict[str, Any]) -> None:
    """Keep what results in `out` rest on beside them. Ends the program where it is something else."""
    file = out / "identity.json"
    if file.exists() and json.loads(file.read_text()) != identity:
        raise SystemExit(f"{out} holds results of other data, weights or candidates; choose another --out")
    file.write_text(json.dumps(identity, indent=2) + "\n")


def mean(values: list[float | None]) -> float | None:
    """Over seeds; None where one is unknown."""
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known and len(known) == len(values) else None


def table(results: dict[tuple[str, str], dict[str, float | None]]) -> str:
    """Markdown: a row a base and preset, then the median over bases of each preset."""
    lines = [
        "| base | preset | " + " | ".join(label for label, _ in FIGURES.values()) + " |",
        "| --- " * (len(FIGURES) + 2) + "|",
    ]
    rows = [(base, preset, found) for (base, preset), found in results.items()]
    for preset in PRESETS:
        of_preset = [found for (_, name), found in results.items() if name == preset]
        if of_preset:
            medians = {
                name: statistics.median(known)
                if (known := [each[name] for each in of_preset if each[name] is not None])
                else None
                for name in FIGURES
            }
            rows.append(("median", preset, medians))
    for base, preset, found in rows:
        cells = [
            "–" if found[name] is None else form.format(found[name]) for name, (_, form) in FIGURES.items()
        ]
        lines.append(f"| {base} | {preset} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdicts(results: dict[tuple[str, str], dict[str, float | None]]) -> list[str]:
    """The comparisons of `open` with each other preset that was run."""
    lines = []
    for other in PRESETS[1:]:
        pairs = [
            (results[base, "open"], results[base, other])
            for base in BASES
            if (base, "open") in results and (base, other) in results
        ]
        for name, whose in (("delta_oracle", "oracle's"), ("delta_judge", "judge's")):
            gains = [
                (mine[name], theirs[name])
                for mine, theirs in pairs
                if mine[name] is not None and theirs[name] is not None
            ]
            if not gains:
                continue
            medians = [statistics.median(values) for values in zip(*gains, strict=True)]
            lines.append(
                f"- {whose} ΔT_c of the best {TOP} against `{other}`: higher on {sum(a > b for a, b in gains)} of "
                f"{len(gains)} bases; median {medians[0]:+.1f} K against {medians[1]:+.1f} K"
            )
    return lines


def main() -> None:
    """Run what is missing, then print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--known", default=None, help="primary.tsv, supercon or landmarks")
    parser.add_argument("--candidates", type=int, default=512)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--bases", default=",".join(BASES))
    parser.add_argument("--out", type=Path, default=Path("runs/trust"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    read = known_table(asked.known)
    if read is None or len(read.table) < FEWEST_KNOWN:
        parser.error("--known: leave it out or give SuperCon's primary.tsv; the judge needs it")
    same_run(asked.out, {"candidates": asked.candidates, "known": read.sha256, **weights_hashes()})
    models = load_models(known=asked.known)
    stated = KnownMaterials.from_table(read.table[read.table["oxygen"] == "stated"], read.source)
    judge = RandomForestRegressor(TREES, max_features=0.5, random_state=0).fit(stated.fractions, stated.tc_k)
    results: dict[tuple[str, str], dict[str, float | None]] = {}
    for base in asked.bases.split(","):
        for preset in asked.presets.split(","):
            seeds = []
            for seed in map(int, asked.seeds.split(",")):
                file = asked.out / f"{base}-{preset}-{asked.candidates}-{seed}.json"
                if not file.exists():
                    found = figures(base, preset, seed, asked.candidates, models, judge)
                    part = file.with_suffix(".part")
                    part.write_text(json.dumps(found))
                    part.replace(file)
                    print(f"{base} {preset} seed {seed}: {found}", flush=True)
                seeds.append(json.loads(file.read_text()))
            results[base, preset] = {name: mean([each[name] for each in seeds]) for name in FIGURES}
    text = "\n".join(
        [
            f"{asked.candidates} candidates, seeds {asked.seeds}, {cpu_name()}; known: {read.source}",
            "",
            table(results),
            "",
            *verdicts(results),
        ]
    )
    (asked.out / "trust.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
