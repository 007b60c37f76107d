"""How the ensemble behind T_c is fitted and judged: measured rows by folds, made-up rows labelled by trees.

Each member leaves out one fold of chemical systems among the measured rows. All learn from made-up rows too (see
`augmentation`), which carry the T_c of extremely randomised trees on the same training rows; here the trees see the
ensemble's own features beside the fractions. Few non-superconductors are enough to keep T_c low where there is none,
and more cost accuracy on superconductors of systems never seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from kiago_ray.predictors.augmentation import MadeUp, tree_labels
from kiago_ray.predictors.recipes import TrainingTable, fresh_epoch, lesson
from kiago_ray.predictors.splits import folds
from kiago_ray.predictors.tc_ensemble import SCALE_K, TcEnsemble, to_log
from kiago_ray.predictors.tc_features import TcFeatures
from kiago_ray.predictors.training import Epoch, FitSettings

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
