"""What the T_c ensemble is worth over all rows of SuperCon, each predicted by networks that never saw it.

    python benchmarks/cross_validation.py --data primary.tsv --non-superconductors ground_states.csv.gz

Ten folds at random and ten by chemical system, the oracle's own (`oracle_fit`), each with the recipe of `kiago train
tc`: its own features, teacher, made-up rows and six networks, nothing of which sees the fold. Beside it stand
the teacher itself (ExtraTrees), boosted trees on its inputs, and means of these: how far any of them gets says
how much of T_c can be told from these rows at all. About ten CPU-minutes a fold; on a GPU all folds of a split are
fitted side by side (`--device cuda --together 10`), which changes results by the draws alone. Resumes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import lightgbm
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold, KFold

from kiago_ray.predictors.base import multiplies_bfloat16
from kiago_ray.predictors.ensemble import MEMBERS, SCALE, TcEnsemble
from kiago_ray.training.fit import RunOptions, fit
from kiago_ray.training.oracle import CROSS_VALIDATION_FOLDS, OracleSettings
from kiago_ray.training.recipes import ENSEMBLE_LESSON, ENSEMBLE_SETTINGS, member_weights
from kiago_ray.training.tables import SPLITS, Epoch, Split, TcTables, TrainingTable, score

Floats = NDArray[np.float32]
ROWS_AT_ONCE = 512
DRAWS = 1_000


@dataclass(frozen=True)
class Lesson:
    """What a fold's networks learn from, and what trees that learnt from the same say of the fold's rows."""

    train: TrainingTable
    taught: tuple[Floats, Floats]
    extra_trees_k: Floats
    boosted_k: Floats


def folds(known: TrainingTable, split: Split) -> list[NDArray[np.bool_]]:
    """Ten masks (N,) of the rows that are left out."""
    drawn = (
        KFold(CROSS_VALIDATION_FOLDS, shuffle=True, random_state=0).split(known.values)
        if split == "random"
        else GroupKFold(CROSS_VALIDATION_FOLDS).split(known.values, groups=known.systems)
    )
    return [np.isin(np.arange(len(known.values)), test) for _, test in drawn]


def lesson(known: TrainingTable, zeros: TrainingTable, left_out: NDArray[np.bool_]) -> Lesson:
    """The teacher's made-up rows with its labels, and what both kinds of trees say, of all rows but one fold."""
    train, test = known.pick(~left_out), known.pick(left_out)
    made, rows, values = ENSEMBLE_LESSON.rows(train, zeros, 0)
    inputs, asked = ENSEMBLE_LESSON.seen(rows), ENSEMBLE_LESSON.seen(test.fractions)
    extra = ExtraTreesRegressor(ENSEMBLE_LESSON.teacher_trees, random_state=0).fit(inputs, values)
    labels = extra.predict(ENSEMBLE_LESSON.seen(made)).astype(np.float32)
    settings = OracleSettings()
    boosted = lightgbm.train(
        settings.parameters(0, 1), lightgbm.Dataset(inputs, values), settings.most_rounds
    )
    return Lesson(
        train=train,
        taught=(made, labels),
        extra_trees_k=np.asarray(extra.predict(asked), dtype=np.float32),
        boosted_k=np.asarray(boosted.predict(asked), dtype=np.float32).clip(min=0),
    )


def fitted(lessons: list[Lesson], zeros: TrainingTable, name: str, asked: argparse.Namespace) -> TcEnsemble:
    """One network of six members a fold; a fold's rows count for its members alone."""

    def make() -> TcEnsemble:
        rows = np.concatenate([each.train.fractions for each in lessons])
        return TcEnsemble(members=MEMBERS * len(lessons)).standardise(torch.from_numpy(rows))

    samplers = [
        ENSEMBLE_LESSON.sampler(each.train, zeros, each.taught, member_weights(each.train, MEMBERS))
        for each in lessons
    ]

    def sample(generator: torch.Generator) -> Epoch:
        parts = [draw(generator) for draw in samplers]
        weights = torch.block_diag(*(part.weights for part in parts if part.weights is not None))
        return Epoch(
            torch.cat([part.fractions for part in parts]),
            torch.cat([part.targets for part in parts]),
            weights,
        )

    average, _ = fit(
        make,
        TcEnsemble.__call__,
        sample,
        replace(
            ENSEMBLE_SETTINGS, epochs=asked.epochs, batch_rows=ENSEMBLE_SETTINGS.batch_rows * len(lessons)
        ),
        RunOptions(
            out=asked.out,
            device=asked.device,
            bfloat16=multiplies_bfloat16(torch.device(asked.device)),
            on_step=print,
        ),
        name,
        ENSEMBLE_LESSON.about(),
    )
    return average


@torch.no_grad()
def predicted(network: TcEnsemble, fractions: Floats) -> Floats:
    """T_c in K of every fold's six members' mean, clipped at 0, (N, folds)."""
    device = network.centre.device
    parts = []
    for start in range(0, len(fractions), ROWS_AT_ONCE):
        rows = torch.from_numpy(fractions[start : start + ROWS_AT_ONCE]).to(device)
        members = SCALE.tc_k(network(rows))
        parts.append(members.reshape(len(rows), -1, MEMBERS).mean(dim=2).clamp(min=0).cpu())
    return torch.cat(parts).numpy()


def cross_validated(
    known: TrainingTable, zeros: TrainingTable, split: Split, asked: argparse.Namespace
) -> dict[str, Floats]:
    """T_c in K (N,) of all rows by each model."""
    masks = folds(known, split)
    found = {name: np.empty(len(known.values), np.float32) for name in ("ensemble", "extra_trees", "boosted")}
    for first in range(0, len(masks), asked.together):
        group = masks[first : first + asked.together]
        lessons = joblib.Parallel(n_jobs=min(len(group), joblib.cpu_count()))(
            joblib.delayed(lesson)(known, zeros, mask) for mask in group
        )
        network = fitted(lessons, zeros, f"{split}-{first}", asked)
        of_folds = predicted(network, known.fractions)
        for number, (mask, each) in enumerate(zip(group, lessons, strict=True)):
            found["ensemble"][mask] = of_folds[mask, number]
            found["extra_trees"][mask] = each.extra_trees_k
            found["boosted"][mask] = each.boosted_k
    trees = (found["extra_trees"] + found["boosted"]) / 2
    return {**found, "mean of both trees": trees, "mean of all three": (found["ensemble"] + 2 * trees) / 3}


def scores(known: TrainingTable, tc_k: Floats, split: Split) -> dict[str, object]:
    """The score, a 95 % interval of R² over 1,000 draws of the rows (or systems), and how much a few rows decide."""
    groups = np.unique(known.systems if split == "system" else known.formulas, return_inverse=True)[1]
    generator = np.random.default_rng(0)
    square = (known.values.astype(np.float64) - tc_k) ** 2
    count = groups.max() + 1
    drawn = []
    for _ in range(DRAWS):
        times = np.bincount(generator.integers(count, size=count), minlength=count)[groups]
        drawn.append(r2_score(known.values, tc_k, sample_weight=times))
    worst = np.sort(square)[::-1][: len(square) // 100]
    return {
        **score(tc_k, known.values),
        "r2_95_percent": [round(float(each), 4) for each in np.quantile(drawn, (0.025, 0.975))],
        "squared_error_in_the_worst_1_percent": round(float(worst.sum() / square.sum()), 3),
    }


def main() -> None:
    """Fit what isn't fitted yet and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--non-superconductors", type=Path, required=True)
    parser.add_argument("--held-back", type=Path, default=Path("tests/data/literature_tc.tsv"))
    parser.add_argument("--splits", default=",".join(SPLITS))
    parser.add_argument("--epochs", type=int, default=ENSEMBLE_SETTINGS.epochs)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--together", type=int, default=1, help="folds fitted side by side")
    parser.add_argument("--out", type=Path, default=Path("runs/cross_validation"))
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    tables = TcTables.read(asked.data, asked.non_superconductors, asked.held_back)
    known, zeros = tables.known, tables.non_superconductors
    results = {}
    for split in SPLITS:
        if split in asked.splits.split(","):
            models = cross_validated(known, zeros, split, asked)
            results[split] = {name: scores(known, tc_k, split) for name, tc_k in models.items()}
            print(split, json.dumps(results[split], indent=1), flush=True)
    (asked.out / "scores.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
