"""How plausibility is fitted, and what it is worth on chemical systems that the fit never saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.plausibility.charges import CHARGE_NAMES
from kiago_ray.plausibility.features import MAKE_UP_WIDTHS
from kiago_ray.plausibility.fit import fit_plausibility, swapped_at_random
from kiago_ray.plausibility.literature import Floats, Literature, Mask
from kiago_ray.plausibility.model import Plausibility
from kiago_ray.plausibility.prospects import Prospects, prospects_of
from kiago_ray.predictors.weights import PLAUSIBILITY
from kiago_ray.training.evaluation import folds

FOLDS = 5
_SALT = "plausibility"


def train_plausibility(
    literature: Literature,
    made: Floats,
    *,
    seed: int = 0,
    on_step: Callable[[str], None] = lambda text: None,
) -> tuple[Prospects, dict[str, Any]]:
    """Prospects by a fit to all of a literature, and their card: what they rest on, and how well a fit without a fifth
    of the chemical systems tells those from random swaps. made: (m, 118) compounds that exist. About four minutes on
    one core. Raises ValueError as `fit_plausibility` does.
    """
    held = folds(names_of(literature), FOLDS, salt=_SALT) == 0
    on_step(f"fitting to {(~held).sum():,} of {len(held):,} chemical systems, to score it on the others")
    partial = fit_plausibility(literature.only(~held[literature.system]), seed=seed)
    scores = held_out_scores(partial, literature, held, seed)
    on_step(f"fitting to all {len(held):,} chemical systems")
    whole = fit_plausibility(literature, seed=seed)
    make_up = [f"made_up_alike_{width:g}" for width in MAKE_UP_WIDTHS]
    names = [*whole.features.names, *make_up, *CHARGE_NAMES]
    card = {
        "kind": PLAUSIBILITY,
        "network": "two logistic regressions, times the share of relatives that are composed alike",
        "year": literature.year,
        "compositions": len(literature.fractions),
        "systems": len(literature.systems),
        "seed": seed,
        "features": names,
        "element_statistics": len(whole.exists.weight) - len(names),
        "held_out": scores,
    }
    return prospects_of(literature, whole, made), card


def held_out_scores(
    plausibility: Plausibility, literature: Literature, held: Mask, seed: int = 0
) -> dict[str, Any]:
    """The area under the ROC curve of ln P and of ln P to exist, between a composition of each system of `held` (s,),
    and the same with one or two elements swapped at random for a system that isn't known.
    """
    rng = np.random.default_rng(seed)
    _, one_each = np.unique(literature.system, return_index=True)
    real = literature.fractions[one_each[held]]
    swaps = swapped_at_random(real, {row.tobytes() for row in literature.systems}, rng)
    log_p, log_exists = plausibility.log_probabilities(np.concatenate([real, swaps]))
    is_real = np.arange(len(log_p)) < len(real)
    return {
        "split": f"a fold of {FOLDS} by chemical system",
        "against": "one or two elements swapped at random",
        "systems": int(held.sum()),
        "auc": round(float(roc_auc_score(is_real, log_p)), 4),
        "auc_exists": round(float(roc_auc_score(is_real, log_exists)), 4),
    }


def names_of(literature: Literature) -> list[str]:
    """The chemical systems, such as "As-La-Ni-O"."""
    return ["-".join(sorted(SYMBOLS[z] for z in np.flatnonzero(row))) for row in literature.systems]
