"""From tables to `tc_ensemble.safetensors` with its model card: the ensemble, its spread, the extrapolation.

As in `recipes`, each split has its own fit and the *random* split's is saved. The spread is calibrated on one half
of the rows that each split holds out, by a hash of the formula, and its coverage measured on the other half.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.predictors.climbed.ensemble import (
    CENTRES,
    COMPONENTS,
    FREE,
    SCALE_K,
    BelievedTc,
    TcEnsemble,
    to_log,
)
from kiago_ray.predictors.climbed.features import TcFeatures
from kiago_ray.predictors.climbed.inference import LoweredEnsemble
from kiago_ray.predictors.weights import halved, save_network
from kiago_ray.training.augmentation import MadeUp, tree_labels
from kiago_ray.training.calibration import PERCENTILE, HeldOut, coverage, fit_extrapolation, fit_spread
from kiago_ray.training.evaluation import HIGH_TC_K, Split, folds, held_out, score
from kiago_ray.training.fit import Epoch, FitSettings, fit
from kiago_ray.training.recipes import (
    HELD_OUT,
    RunOptions,
    TrainingTable,
    at_zero_scores,
    comparisons,
    fresh_epoch,
    lesson,
    machine,
    rows_id,
)

Floats = NDArray[np.float32]

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
    return Taught(
        rows, tree_labels(seen_by_trees(known), tc_k, seen_by_trees(rows), seed=seed, trees=TEACHER_TREES)
    )


def sampler(
    train: TrainingTable, zero: Floats, taught: Taught, members: int
) -> Callable[[torch.Generator], Epoch]:
    """Epochs of all measured rows, each unseen by one member, and fresh samples of made-up rows and zeros."""
    fold = torch.from_numpy(folds(train.systems, FOLDS, salt=FOLD_SALT))
    weights = (fold[:, None] != torch.arange(members)).float()
    measured = torch.from_numpy(train.fractions), to_log(torch.from_numpy(train.values))
    made = torch.from_numpy(taught.fractions), to_log(torch.from_numpy(taught.tc_k))
    zeros = torch.from_numpy(zero), torch.zeros(len(zero))

    def sample(generator: torch.Generator) -> Epoch:
        epoch = fresh_epoch(measured, ((*zeros, NEGATIVES_AN_EPOCH), (*made, MADE_UP_AN_EPOCH)), generator)
        unfolded = torch.ones(len(epoch.targets) - len(weights), members)
        return replace(epoch, weights=torch.cat([weights, unfolded]))

    return sample


def network_for(train: TrainingTable, seed: int) -> TcEnsemble:
    """An untrained ensemble whose features are standardised on the training rows."""
    torch.manual_seed(seed)
    network = TcEnsemble()
    network.standardise(torch.from_numpy(train.fractions))
    return network


@torch.no_grad()
def seen_by_trees(fractions: Floats) -> Floats:
    """What the trees see: fractions and the smooth statistics and ratios."""
    features = TcFeatures()
    x = torch.from_numpy(np.ascontiguousarray(fractions, dtype=np.float32))
    return np.concatenate([fractions, features.described(x).numpy()], axis=1)


KIND = "tc_ensemble"
CALIBRATION_SALT = "kiago-ray calibration 1"
RANDOM_COMPOSITIONS = 2_000


def train_tc_ensemble(
    known: TrainingTable,
    non_superconductors: TrainingTable,
    literature: TrainingTable | None,
    settings: FitSettings,
    options: RunOptions,
    made_up_rows: MadeUp = MADE_UP,
) -> dict[str, Any]:
    """Fit the ensemble, write `tc_ensemble.safetensors` and its card to `options.out`, return the card.

    Tables as for `recipes.train_tc`. Both splits are fitted, whatever `options.splits` says: the spread needs them.
    """
    how = {**recipe(made_up_rows), "bfloat16": options.bfloat16}
    fits: dict[Split, tuple[BelievedTc, float]] = {}
    for split in ("random", "system"):
        fits[split] = _fit_split(known, non_superconductors, split, settings, options, how, made_up_rows)
    saved = fits["random"][0]
    fits["system"][0].extrapolation.unit.copy_(saved.extrapolation.unit)  # scores as they are served
    rows = {split: _held_out_rows(fits[split][0], known.pick(known.held_out(split))) for split in fits}
    halves = {split: held_out(_formulas(known, split), share=0.5, salt=CALIBRATION_SALT) for split in fits}
    saved.spread = fit_spread([rows[split].pick(halves[split]) for split in fits])
    splits = {
        split: {
            **_scores(fits[split][0], split, known, non_superconductors),
            "seconds": round(fits[split][1]),
            "spread": coverage(saved.spread, rows[split].pick(~halves[split])),
        }
        for split in fits
    }
    card = {
        "kind": KIND,
        "unit": "K",
        "members": saved.ensemble.members,
        "weights_count": sum(p.numel() for p in saved.parameters()),
        "settings": asdict(settings),
        "recipe": how,
        "held_out": HELD_OUT,
        "splits": splits,
        **({} if literature is None else {"literature": _literature(saved, literature)}),
        "spread": {
            "terms": [
                "1",
                "ln(1 + disagreement / K)",
                "ln(1 + softplus(T_c) / 10 K)",
                "extrapolation, at most 3",
            ],
            "coefficients": [round(float(c), 4) for c in saved.spread.coefficients],
            "calibrated_on": "one half of the held-out rows of both splits; coverage is the other half's",
        },
        "extrapolation": {
            "components": COMPONENTS,
            "centres": CENTRES,
            "flag": f"score above 1, the {PERCENTILE:g}th percentile of the random split's held-out superconductors",
            "free_of_charge_in_a_search_up_to": FREE,
        },
        "data": [
            s.to_dict() for t in (known, non_superconductors, literature) if t is not None for s in t.sources
        ],
        "licence_of_data": "CC BY 4.0",
        "trained": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(options),
    }
    save_network(saved, KIND, card, options.out)
    return card


def _fit_split(
    known: TrainingTable,
    non_superconductors: TrainingTable,
    split: Split,
    settings: FitSettings,
    options: RunOptions,
    recipe: Mapping[str, Any],
    made_up_rows: MadeUp,
) -> tuple[BelievedTc, float]:
    """The split's ensemble with halved weights and its extrapolation score; the spread isn't calibrated yet."""
    test_rows = known.held_out(split)
    train = known.pick(~test_rows)
    zero = non_superconductors.pick(~non_superconductors.held_out(split))
    taught = teach(train, zero.fractions, settings.seed, made_up_rows)
    network = network_for(train, settings.seed).to(options.device)
    network, seconds = fit(
        network,
        lambda ensemble, x: ensemble.log_tc(x),
        sampler(train, zero.fractions, taught, network.members),
        settings,
        checkpoint=options.out / "checkpoints" / f"{KIND}-{split}.safetensors",
        data_id=rows_id(train, zero, recipe=recipe),
        compile_network=options.compile_network,
        bfloat16=options.bfloat16,
        on_epoch=lambda report: options.on_epoch(split, report),
    )
    believed = BelievedTc()
    believed.ensemble = network.cpu()
    held = known.pick(known.held_out(split)).fractions
    believed.extrapolation = fit_extrapolation(train.fractions, held, seed=settings.seed)
    believed.load_state_dict(halved(believed.state_dict()))
    return believed.eval(), seconds


def _held_out_rows(network: BelievedTc, test: TrainingTable) -> HeldOut:
    """What the fit says of rows that it never saw."""
    mean, disagreement, extrapolation = LoweredEnsemble(network).opinions(test.fractions)
    return HeldOut(mean, disagreement, extrapolation, test.values.astype(np.float64))


def _formulas(known: TrainingTable, split: Split) -> list[str]:
    return known.pick(known.held_out(split)).formulas


def _scores(
    network: BelievedTc, split: Split, known: TrainingTable, non_superconductors: TrainingTable
) -> dict[str, Any]:
    test_rows = known.held_out(split)
    train, test = known.pick(~test_rows), known.pick(test_rows)
    zero = non_superconductors.pick(non_superconductors.held_out(split)).fractions
    lowered = LoweredEnsemble(network)
    mean, _, extrapolation = lowered.opinions(test.fractions)
    at_zero, _, zero_extrapolation = lowered.opinions(zero)
    at_zero = np.clip(at_zero, 0, None)
    _, _, random_extrapolation = lowered.opinions(random_compositions(RANDOM_COMPOSITIONS, seed=0))
    return {
        "train_rows": len(train.values),
        "ensemble": asdict(score(np.clip(mean, 0, None), test.values, high=HIGH_TC_K)),
        **comparisons(train, test, high=HIGH_TC_K),
        "held_out_non_superconductors": at_zero_scores(at_zero),
        "extrapolation": {
            "held_out_flagged": round(float((extrapolation > 1).mean()), 4),
            "random_flagged": round(float((random_extrapolation > 1).mean()), 4),
            "auc_against_random": round(_auc(extrapolation, random_extrapolation), 4),
            "auc_against_non_superconductors": round(_auc(extrapolation, zero_extrapolation), 4),
        },
    }


def _literature(network: BelievedTc, literature: TrainingTable) -> dict[str, Any]:
    mean, _, _ = LoweredEnsemble(network).opinions(literature.fractions)
    return asdict(score(np.clip(mean, 0, None), literature.values, high=HIGH_TC_K))


def random_compositions(count: int, *, seed: int) -> Floats:
    """Two to seven of the first 92 elements in random amounts, (count, 118)."""
    generator = np.random.default_rng(seed)
    rows = np.zeros((count, N_ELEMENTS), dtype=np.float32)
    for row in rows:
        held = generator.choice(92, generator.integers(2, 8), replace=False)
        row[held] = generator.dirichlet(np.ones(len(held)))
    return rows


def _auc(known: NDArray[np.float64], foreign: NDArray[np.float64]) -> float:
    """How well the score tells foreign compositions from known ones."""
    is_foreign = np.repeat([0, 1], [len(known), len(foreign)])
    return float(roc_auc_score(is_foreign, np.concatenate([known, foreign])))
