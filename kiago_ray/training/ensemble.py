"""The recipe of the ensemble behind T_c: from tables to `tc_ensemble.safetensors` with its model card.

Each member leaves out one fold of chemical systems among the measured rows. All learn from made-up rows too (see
`augmentation`), which carry the T_c of extremely randomised trees on the same training rows; here the trees see the
ensemble's own features beside the fractions. Few non-superconductors are enough to keep T_c low where there is none,
and more cost accuracy on superconductors of systems never seen.

As in `recipes`, each split has its own fit and the *random* split's is saved. The spread is calibrated on one half
of the rows that each split holds out, by a hash of the formula, and its coverage measured on the other half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from kiago_ray.predictors.ensemble import (
    CENTRES,
    COMPONENTS,
    FREE,
    SCALE_K,
    CalibratedEnsemble,
    TcEnsemble,
    TcFeatures,
    to_log,
)
from kiago_ray.predictors.weights import halved, save_network
from kiago_ray.training.augmentation import MadeUp, tree_labels
from kiago_ray.training.calibration import PERCENTILE, HeldOut, coverage, fit_extrapolation, fit_spread
from kiago_ray.training.evaluation import (
    SPLITS,
    Split,
    TcTables,
    TrainingTable,
    folds,
    held_out,
    literature_scores,
    random_compositions,
    tc_scores,
)
from kiago_ray.training.fit import Epoch, FitSettings
from kiago_ray.training.recipes import (
    RunOptions,
    Sampler,
    fit_network,
    fresh_epoch,
    lesson,
    model_card,
    rows_id,
)

Floats = NDArray[np.float32]

KIND = "tc_ensemble"
SETTINGS = FitSettings(
    epochs=40,
    batch_rows=256,
    learning_rate=2e-3,
    weight_decay=0.02,
    average_decay=0.998,
    warmup_share=0.1,
    seed=0,
    huber_width=0.1,
)
MADE_UP = MadeUp(small_jitter=24_000, large_jitter=20_000, mixed=28_000, substituted=18_000, enriched=10_000)
MADE_UP_AN_EPOCH = 15_000
NEGATIVES_AN_EPOCH = 700
TEACHER_NEGATIVES = 2_500
TEACHER_TREES = 100
FOLDS = 20
FOLD_SALT = "kiago-ray fold 1"
CALIBRATION_SALT = "kiago-ray calibration 1"
RANDOM_COMPOSITIONS = 2_000


@dataclass(frozen=True)
class Taught:
    """Made-up compositions (M, 118) and their T_c in K (M,) by trees on the training rows."""

    fractions: Floats
    tc_k: Floats


def recipe(made: MadeUp = MADE_UP) -> dict[str, object]:
    """What the card says of a fit beside its settings."""
    return {
        "target": f"ln(1 + T_c / {SCALE_K:g} K)",
        "features": "amounts, statistics of element properties, valences and ratios (tc_features)",
        "folds": f"each member leaves out one of {FOLDS} folds of chemical systems of the measured rows",
        "loss": "Huber loss of the target",
        "non_superconductors_an_epoch": NEGATIVES_AN_EPOCH,
        "made_up_rows": asdict(made),
        "made_up_rows_an_epoch": MADE_UP_AN_EPOCH,
        "teacher": f"ExtraTrees, {TEACHER_TREES} trees, on fractions and features of the training rows and "
        f"{TEACHER_NEGATIVES} non-superconductors",
    }


def teach(train: TrainingTable, zero: Floats, seed: int, made: MadeUp = MADE_UP) -> Taught:
    """Made-up rows around the training rows, labelled by trees that saw no other row."""
    rows, known, tc_k = lesson(train, zero, made, TEACHER_NEGATIVES, seed)
    labels = tree_labels(seen_by_trees(known), tc_k, seen_by_trees(rows), seed=seed, trees=TEACHER_TREES)
    return Taught(rows, labels)


def sampler(train: TrainingTable, zero: Floats, taught: Taught, members: int) -> Sampler:
    """Epochs of all measured rows, each unseen by one member, and fresh samples of made-up rows and zeros."""
    fold = torch.from_numpy(folds(train.systems, FOLDS, salt=FOLD_SALT))
    weights = (fold[:, None] != torch.arange(members)).float()
    measured = torch.from_numpy(train.fractions), to_log(torch.from_numpy(train.values))
    parts = (
        (torch.from_numpy(zero), torch.zeros(len(zero)), NEGATIVES_AN_EPOCH),
        (torch.from_numpy(taught.fractions), to_log(torch.from_numpy(taught.tc_k)), MADE_UP_AN_EPOCH),
    )

    def sample(generator: torch.Generator) -> Epoch:
        epoch = fresh_epoch(measured, parts, generator)
        unfolded = torch.ones(len(epoch.targets) - len(weights), members)
        return replace(epoch, weights=torch.cat([weights, unfolded]))

    return sample


@torch.no_grad()
def seen_by_trees(fractions: Floats) -> Floats:
    """What the trees see: fractions and the smooth statistics and ratios."""
    x = torch.from_numpy(np.ascontiguousarray(fractions, dtype=np.float32))
    return np.concatenate([fractions, TcFeatures().described(x).numpy()], axis=1)


def train_tc_ensemble(
    tables: TcTables, settings: FitSettings, options: RunOptions, made_up_rows: MadeUp = MADE_UP
) -> dict[str, Any]:
    """Fit the ensemble, write `tc_ensemble.safetensors` and its card to `options.out`, return the card.

    Both splits are fitted, whatever `options.splits` says: the spread needs them.
    """
    about = {**recipe(made_up_rows), "bfloat16": options.bfloat16}
    fits = {split: _fit_split(tables, split, settings, options, about, made_up_rows) for split in SPLITS}
    saved = fits["random"][0]
    fits["system"][0].extrapolation.unit.copy_(saved.extrapolation.unit)  # scores as they are served
    tests = {split: tables.known.parts(split)[1] for split in SPLITS}
    rows = {split: _held_out_rows(fits[split][0], tests[split]) for split in SPLITS}
    halves = {split: held_out(tests[split].formulas, share=0.5, salt=CALIBRATION_SALT) for split in SPLITS}
    saved.spread = fit_spread([rows[split].pick(halves[split]) for split in SPLITS])
    card = model_card(
        KIND,
        "K",
        tables.tables,
        options.machine,
        members=saved.ensemble.members,
        weights_count=sum(p.numel() for p in saved.parameters()),
        settings=asdict(settings),
        recipe=about,
        splits={
            split: {
                **tc_scores("ensemble", partial(_tc_k, network), tables, split),
                "extrapolation": _extrapolation_scores(network, tables, split),
                "seconds": round(seconds),
                "spread": coverage(saved.spread, rows[split].pick(~halves[split])),
            }
            for split, (network, seconds) in fits.items()
        },
        **literature_scores(partial(_tc_k, saved), tables.literature),
        spread={
            "terms": [
                "1",
                "ln(1 + disagreement / K)",
                "ln(1 + softplus(T_c) / 10 K)",
                "extrapolation, at most 3",
            ],
            "coefficients": [round(float(c), 4) for c in saved.spread.coefficients],
            "calibrated_on": "one half of the held-out rows of both splits; coverage is the other half's",
        },
        extrapolation={
            "components": COMPONENTS,
            "centres": CENTRES,
            "flag": f"score above 1, the {PERCENTILE:g}th percentile of the random split's held-out superconductors",
            "free_of_charge_in_a_search_up_to": FREE,
        },
    )
    save_network(saved, KIND, card, options.out)
    return card


def _fit_split(
    tables: TcTables,
    split: Split,
    settings: FitSettings,
    options: RunOptions,
    about: Mapping[str, Any],
    made_up_rows: MadeUp,
) -> tuple[CalibratedEnsemble, float]:
    """The split's ensemble with halved weights and its extrapolation score; the spread isn't calibrated yet."""
    train, test = tables.known.parts(split)
    zero, _ = tables.non_superconductors.parts(split)
    taught = teach(train, zero.fractions, settings.seed, made_up_rows)
    torch.manual_seed(settings.seed)
    network = TcEnsemble()
    network.standardise(torch.from_numpy(train.fractions))
    network, seconds = fit_network(
        network,
        TcEnsemble.__call__,
        sampler(train, zero.fractions, taught, network.members),
        settings,
        options,
        name=f"{KIND}-{split}",
        data_id=rows_id(train, zero, recipe=about),
    )
    calibrated = CalibratedEnsemble()
    calibrated.ensemble = network.cpu()
    calibrated.extrapolation = fit_extrapolation(train.fractions, test.fractions, seed=settings.seed)
    calibrated.load_state_dict(halved(calibrated.state_dict()))
    return calibrated.eval(), seconds


def _tc_k(network: CalibratedEnsemble, rows: Floats) -> NDArray[np.float64]:
    """T_c in K, 0 or more, (N,)."""
    return np.clip(network.estimates(rows).tc_k, 0, None)


def _held_out_rows(network: CalibratedEnsemble, test: TrainingTable) -> HeldOut:
    """What the fit says of rows that it never saw."""
    found = network.estimates(test.fractions)
    measured = test.values.astype(np.float64)
    return HeldOut(found.tc_k, found.disagreement_k, found.extrapolation, measured)


def _extrapolation_scores(network: CalibratedEnsemble, tables: TcTables, split: Split) -> dict[str, float]:
    """How well the extrapolation score tells foreign compositions from superconductors that were held out."""
    random = random_compositions(RANDOM_COMPOSITIONS, seed=0)
    zeros = tables.non_superconductors.parts(split)[1].fractions
    known, foreign, zero = (
        network.estimates(rows).extrapolation
        for rows in (tables.known.parts(split)[1].fractions, random, zeros)
    )
    return {
        "held_out_flagged": round(float((known > 1).mean()), 4),
        "random_flagged": round(float((foreign > 1).mean()), 4),
        "auc_against_random": round(_auc(known, foreign), 4),
        "auc_against_non_superconductors": round(_auc(known, zero), 4),
    }


def _auc(known: NDArray[np.float64], foreign: NDArray[np.float64]) -> float:
    is_foreign = np.repeat([0, 1], [len(known), len(foreign)])
    return float(roc_auc_score(is_foreign, np.concatenate([known, foreign])))
