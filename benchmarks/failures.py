"""Whether failures teach: half of a survey's chemical systems given, the other half ranked, with and without.

    python benchmarks/failures.py --data primary.tsv --tried tried.csv [--seed 0 --draws 20] --out runs/failures

--data is SuperCon's file, --tried a CSV file with formula and tc_k, 0 where none was found (`shipped`: the survey of
2009). In each draw a random half of the chemical systems is given; of the other half's systems SuperCon's rows and the
zeros are left out of everything. Boosted trees on the statistics of a composition are refitted without them: T_c, and
the probability that it is above 0, for which compounds of the Crystallography Open Database whose chemical systems
SuperCon lacks count as 0. Both rank the other half as they are, and re-weighed by the given half (see
`screening.known`).

The settings, distance, ℓ and λ, are those with the highest sum of the two AUCs, means over five draws of their own;
all that is reported is of the --draws that follow. Draws share the survey's systems, so an interval's bootstrap draws
systems too. Two controls tell what it is that helps: outcomes shuffled among the given samples, and failures alone.
Writes `failures.json` into --out and prints the table that `failures.md` holds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from kiago_ray.chemistry.formula import sparse_fractions
from kiago_ray.data.compositions import cumulative
from kiago_ray.data.sources import load_supercon
from kiago_ray.data.tables import made, tried_table
from kiago_ray.predictors.oracle import composition_statistics
from kiago_ray.screening.known import LENGTH, PRIOR_WEIGHT, log_odds, residuals_k, tc_shift_k

CHOOSING_DRAWS = 5
ZEROS = 6_000
BOOTSTRAP = 1_000
LENGTHS: Mapping[str, tuple[float, ...]] = {
    "L1": (0.05, 0.1, 0.2, 0.3, 0.5, 1.0),
    "element mover's": (0.3, 0.5, 1.0, 1.5, 2.0, 4.0),
}
# A smaller λ would give one sample that is far away the whole say.
PRIOR_WEIGHTS = (0.1, 0.3, 1.0, 3.0)
TREES = {
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 5,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "verbosity": -1,
    "deterministic": True,
    "force_row_wise": True,
}
ROUNDS = {"regression": 250, "binary": 150}
FIGURES = {
    "auc_tc": "AUC by T_c",
    "auc_probability": "AUC by probability",
    "spearman_tc": "Spearman by T_c",
    "spearman_probability": "Spearman by probability",
}

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Setting = tuple[str, float, float]


@dataclass(frozen=True)
class Table:
    """n compositions: fractions (n, 118), T_c (n,) in K, chemical systems (n,)."""

    fractions: Floats
    tc_k: Floats
    systems: NDArray[np.str_]

    @classmethod
    def of(cls, formulas: list[str], tc_k: Floats) -> Table:
        """Of canonical formulas."""
        fractions = sparse_fractions(formulas).toarray()
        systems = ["-".join(map(str, np.flatnonzero(row))) for row in fractions]
        return cls(fractions, np.asarray(tc_k, dtype=np.float64), np.array(systems, dtype=np.str_))


@dataclass(frozen=True)
class Draw:
    """given: (t,) which samples are. tc_k, log_odds: (t,) what the models that lack the others say of all."""

    given: Mask
    tc_k: Floats
    log_odds: Floats


def training_rows(data: Path) -> Table:
    """SuperCon's compositions, and zeros from chemical systems that it lacks."""
    found, _ = load_supercon(data, undetermined_oxygen=True)
    found = found[found["oxygen"] != "any"]
    known = Table.of(found["formula"].tolist(), found["tc_k"].to_numpy())
    formulas = made()["formula"].to_numpy(dtype=object)
    some = np.random.default_rng(0).choice(len(formulas), ZEROS, replace=False)
    zeros = Table.of(formulas[some].tolist(), np.zeros(ZEROS))
    foreign = ~np.isin(zeros.systems, known.systems)
    return Table(
        np.concatenate([known.fractions, zeros.fractions[foreign]]),
        np.concatenate([known.tc_k, zeros.tc_k[foreign]]),
        np.concatenate([known.systems, zeros.systems[foreign]]),
    )


def draws(rows: Table, tried: Table, seeds: range, threads: int) -> Iterator[Draw]:
    """A refit a seed."""
    inputs, asked = composition_statistics(rows.fractions), composition_statistics(tried.fractions)
    systems = np.unique(tried.systems)
    for seed in seeds:
        shuffled = np.random.default_rng(seed).permutation(systems)
        given, scored = np.split(shuffled, [len(systems) // 2])
        kept = ~np.isin(rows.systems, scored)
        said = {}
        for objective, targets in (("regression", rows.tc_k), ("binary", rows.tc_k > 0)):
            data = lightgbm.Dataset(inputs[kept], targets[kept].astype(np.float64))
            settings = {**TREES, "objective": objective, "seed": seed, "num_threads": threads}
            trees = lightgbm.train(settings, data, ROUNDS[objective])
            said[objective] = np.asarray(trees.predict(asked, raw_score=True), dtype=np.float64)
        yield Draw(np.isin(tried.systems, given), said["regression"].clip(min=0), said["binary"])


def distances(tried: Table) -> dict[str, Floats]:
    """(t, t) between samples, by the name of the distance."""
    cumulated = cumulative(tried.fractions)
    return {
        "L1": cdist(tried.fractions, tried.fractions, metric="cityblock"),
        "element mover's": cdist(cumulated, cumulated, metric="cityblock"),
    }


def scores(
    draw: Draw, tried: Table, apart: Mapping[str, Floats], setting: Setting | None, told: Mask | None = None
) -> dict[str, Floats]:
    """What ranks the scored half, by T_c and by probability; as the models say it without a setting. told: (t,) the
    samples that are given, by default all of the other half.
    """
    scored, given = ~draw.given, draw.given if told is None else told
    plain = {"tc": draw.tc_k[scored], "probability": draw.log_odds[scored]}
    if setting is None:
        return plain
    name, length, weight = setting
    kernel = np.exp(-apart[name][np.ix_(scored, given)] / length)
    unknown = np.full(int(given.sum()), np.nan)
    residual_k = residuals_k(tried.tc_k[given], unknown, draw.tc_k[given])
    return {
        "tc": np.maximum(0, plain["tc"] + tc_shift_k(kernel, residual_k, weight)),
        "probability": plain["probability"] + log_odds(kernel, tried.tc_k[given] > 0, weight),
    }


def auc(ranks_by: Floats, positive: Mask) -> float:
    """The chance that a superconductor ranks above one that is none, ties counting half."""
    many = int(positive.sum())
    above = rankdata(ranks_by)[positive].sum() - many * (many + 1) / 2
    return float(above / (many * (len(positive) - many)))


def spearman(one: Floats, other: Floats) -> float:
    """Spearman's rank correlation."""
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def figures(ranks_by: Mapping[str, Floats], tc_k: Floats) -> dict[str, float]:
    """FIGURES of a ranking of samples with measured T_c (n,)."""
    return {
        **{f"auc_{name}": auc(values, tc_k > 0) for name, values in ranks_by.items()},
        **{f"spearman_{name}": spearman(values, tc_k) for name, values in ranks_by.items()},
    }


def chosen(
    every: list[Draw], tried: Table, apart: Mapping[str, Floats]
) -> tuple[Setting, list[dict[str, Any]]]:
    """The setting with the highest sum of both AUCs, and what each has."""
    listed: list[dict[str, Any]] = []
    for name, lengths in LENGTHS.items():
        for setting in ((name, length, weight) for length in lengths for weight in PRIOR_WEIGHTS):
            each = [figures(scores(d, tried, apart, setting), tried.tc_k[~d.given]) for d in every]
            means = {key: float(np.mean([one[key] for one in each])) for key in FIGURES}
            listed.append({"setting": setting, **means})
    best = max(listed, key=lambda one: one["auc_tc"] + one["auc_probability"])
    return best["setting"], listed


def compared(
    every: list[Draw], tried: Table, apart: Mapping[str, Floats], setting: Setting, rng: np.random.Generator
) -> dict[str, Any]:
    """Each figure's mean over the draws without and with what was tried and under both controls, the difference that
    it makes with its 95 % interval, and in how many draws it helps. The bootstrap draws draws and systems.
    """
    variants = [_variants(draw, tried, apart, setting, rng) for draw in every]
    names = list(variants[0])
    points = [
        {name: figures(ranks[name], tried.tc_k[~draw.given]) for name in names}
        for draw, ranks in zip(every, variants, strict=True)
    ]
    again = [_resampled(every, variants, tried, rng) for _ in range(BOOTSTRAP)]
    table: dict[str, Any] = {}
    for key in FIGURES:
        gains = np.array([one["with"][key] - one["without"][key] for one in points])
        low, high = np.percentile([one[key] for one in again], [2.5, 97.5])
        table[key] = {
            **{name: float(np.mean([one[name][key] for one in points])) for name in names},
            "difference": float(gains.mean()),
            "interval": [float(low), float(high)],
            "draws_better": int((gains > 0).sum()),
        }
    return table


def _variants(
    draw: Draw, tried: Table, apart: Mapping[str, Floats], setting: Setting, rng: np.random.Generator
) -> dict[str, dict[str, Floats]]:
    """What ranks the scored half without and with what was tried, and under the controls."""
    shuffled = tried.tc_k.copy()
    shuffled[draw.given] = rng.permutation(shuffled[draw.given])
    return {
        "without": scores(draw, tried, apart, None),
        "with": scores(draw, tried, apart, setting),
        "failures alone": scores(draw, tried, apart, setting, draw.given & (tried.tc_k == 0)),
        "shuffled": scores(draw, replace(tried, tc_k=shuffled), apart, setting),
    }


def _resampled(
    every: list[Draw],
    variants: list[dict[str, dict[str, Floats]]],
    tried: Table,
    rng: np.random.Generator,
) -> dict[str, float]:
    """The mean difference that what was tried makes, of draws and systems drawn with replacement: a system that is
    drawn twice counts twice in every draw, as the draws share them.
    """
    systems, place = np.unique(tried.systems, return_inverse=True)
    times = np.bincount(rng.integers(len(systems), size=len(systems)), minlength=len(systems))[place]
    gains: list[dict[str, float]] = []
    for at in rng.integers(len(every), size=len(every)).tolist():
        scored = np.flatnonzero(~every[at].given)
        rows = np.repeat(np.arange(len(scored)), times[scored])
        tc_k = tried.tc_k[scored][rows]
        if not 0 < (tc_k > 0).sum() < len(tc_k):
            continue
        without, with_it = (
            figures({name: values[rows] for name, values in variants[at][kind].items()}, tc_k)
            for kind in ("without", "with")
        )
        gains.append({key: with_it[key] - without[key] for key in FIGURES})
    return {key: float(np.mean([gain[key] for gain in gains])) for key in FIGURES}


def written(table: Mapping[str, Any], count: int) -> str:
    """The table of `failures.md`."""
    lines = [
        f"| | without | with | difference (95 %) | draws of {count} better | failures alone | outcomes shuffled |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key, title in FIGURES.items():
        row = table[key]
        low, high = row["interval"]
        lines.append(
            f"| {title} | {row['without']:.3f} | {row['with']:.3f} | {row['difference']:+.3f} ({low:+.3f} to "
            f"{high:+.3f}) | {row['draws_better']} | {row['failures alone']:.3f} | {row['shuffled']:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Refit, choose, compare, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tried", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    found = tried_table(asked.tried)
    if found is None:
        parser.error("--tried: none; name a file, or shipped")
    tried = Table.of(found.table["formula"].tolist(), found.table["tc_k"].to_numpy())
    reported = asked.seed + CHOOSING_DRAWS
    seeds = range(asked.seed, reported + asked.draws)
    every = list(draws(training_rows(asked.data), tried, seeds, asked.threads))
    apart = distances(tried)
    setting, listed = chosen(every[:CHOOSING_DRAWS], tried, apart)
    table = compared(every[CHOOSING_DRAWS:], tried, apart, setting, np.random.default_rng(asked.seed))
    asked.out.mkdir(parents=True, exist_ok=True)
    kept = {"setting": setting, "settings": listed, "seeds": [reported, seeds.stop - 1], "figures": table}
    (asked.out / "failures.json").write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    name, length, weight = setting
    ships = setting == ("element mover's", LENGTH, PRIOR_WEIGHT)
    print(f"{len(tried.tc_k)} samples, {int((tried.tc_k > 0).sum())} of them superconduct, ", end="")
    print(f"in {len(set(tried.systems))} chemical systems; reported are seeds {reported} to {seeds.stop - 1}")
    print(f"chosen: {name} distance, ℓ = {length:g}, λ = {weight:g}{' (as it ships)' if ships else ''}\n")
    print(written(table, asked.draws))


if __name__ == "__main__":
    main()
