"""Recipes of shipped networks, from tables to weights with a card: T_c's two predictors and the paper's ElemNet.

Each is fitted once a split. The *random* split's weights are saved, so the card's held-out scores are those of the
very weights; the *system* split's fit only gives its scores. The ensemble's spread is calibrated on one half of the
rows that each split holds out, and measured on the other half.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from torch import Tensor

from kiago_ray.data.compositions import folds, held_out
from kiago_ray.errors import InputError
from kiago_ray.predictors import ensemble, networks
from kiago_ray.predictors.base import WAVES, predict
from kiago_ray.predictors.ensemble import CalibratedEnsemble, Extrapolation, Spread, TcEnsemble
from kiago_ray.predictors.networks import ElemNet, TcResNet
from kiago_ray.predictors.weights import halved, save_network
from kiago_ray.training.fit import FitSettings, RunOptions, fit, model_card
from kiago_ray.training.tables import (
    SPLITS,
    Epoch,
    Floats,
    Lesson,
    MadeUp,
    Predict,
    Split,
    TcTables,
    TrainingTable,
    random_compositions,
    rounded,
)

Doubles = NDArray[np.float64]
Network = TypeVar("Network", TcResNet, ElemNet, CalibratedEnsemble)

TC_SETTINGS = FitSettings(epochs=80, learning_rate=3e-3, warmup_share=0.15)
TC_LESSON = Lesson(
    scale=networks.SCALE,
    made=MadeUp(small_jitter=50_000, large_jitter=40_000, mixed=60_000, substituted=40_000, enriched=20_000),
    made_an_epoch=14_000,
    zeros_an_epoch=2_000,
    teacher_zeros=12_000,
    teacher_trees=200,
)
EF_SETTINGS = FitSettings(
    epochs=50, batch_rows=512, learning_rate=1.5e-3, weight_decay=0.01, average_decay=0.999
)
ENSEMBLE_SETTINGS = FitSettings(epochs=40, learning_rate=2e-3, huber_width=0.1)
ENSEMBLE_LESSON = Lesson(
    scale=ensemble.SCALE,
    made=MadeUp(small_jitter=24_000, large_jitter=20_000, mixed=28_000, substituted=18_000, enriched=10_000),
    made_an_epoch=15_000,
    zeros_an_epoch=700,
    teacher_zeros=2_500,
    teacher_trees=100,
    features=True,
)
FOLDS, FOLD_SALT = 20, "kiago-ray fold 1"
CALIBRATION_SALT = "kiago-ray calibration 1"
RANDOM_COMPOSITIONS = 2_000
PERCENTILE = 95.0
LEAST_SCALE = 1e-3  # of a feature that hardly varies
NORMAL_SHARES = ((0.683, 1.0), (0.954, 2.0))  # of a normal distribution within 1σ and 2σ
COVERAGE_WEIGHT = 1000.0
SPREAD_TERMS = ("1", "ln(1 + disagreement / K)", "ln(1 + softplus(T_c) / 10 K)", "extrapolation, at most 3")
SOFTNESS = 0.15  # of ln σ, over which an error counts as half covered


def train_tc(
    tables: TcTables, settings: FitSettings, options: RunOptions, lesson: Lesson = TC_LESSON
) -> dict[str, Any]:
    """Fit the ResNet-18, write `tc.safetensors` and `tc.json` to `options.out`, return the card."""
    loss, waves = "mean absolute error of the target", list(WAVES)
    recipe = {"loss": loss, "waves_of_the_amount": waves, **lesson.about(), "bfloat16": options.bfloat16}

    def fitted(split: Split) -> tuple[TcResNet, int]:
        train, zero = tables.train(split)
        sampler = lesson.sampler(train, zero, lesson.taught(train, zero, settings.seed))
        return fit(
            TcResNet, TcResNet.log_tc, sampler, settings, options, f"tc-{split}", recipe | _of_rows(zero)
        )

    fits, figures = _fitted(fitted, partial(tables.scores, "resnet18"), tables.known, options)
    figures |= tables.literature_scores(partial(predict, fits["random"]))
    card = model_card("tc", "K", tables.sources, settings, options, recipe=recipe, **figures)
    return save_network(fits["random"], "tc", card, options.out)


def train_ef(known: TrainingTable, settings: FitSettings, options: RunOptions) -> dict[str, Any]:
    """Fit ElemNet, write `ef.safetensors` and `ef.json` to `options.out`, return the card."""
    loss = "mean absolute error of the target"
    recipe = {"target": "E_f in eV/atom", "loss": loss, "bfloat16": options.bfloat16}

    def fitted(split: Split) -> tuple[ElemNet, int]:
        train, _ = known.parts(split)
        epoch = Epoch(torch.from_numpy(train.fractions), torch.from_numpy(train.values))
        return fit(ElemNet, ElemNet.__call__, lambda _: epoch, settings, options, f"ef-{split}", recipe)

    fits, figures = _fitted(fitted, partial(known.scores, "elemnet"), known, options)
    card = model_card("ef", "eV/atom", known.sources, settings, options, recipe=recipe, **figures)
    return save_network(fits["random"], "ef", card, options.out)


def _of_rows(table: TrainingTable) -> dict[str, str]:
    """What tells a recipe with other rows of T_c = 0, of which an epoch sees a sample alone."""
    return {"zeros_sha256": hashlib.sha256(table.fractions.tobytes()).hexdigest()}


def _fitted(
    fitted: Callable[[Split], tuple[Network, int]],
    scores: Callable[[Predict, Split], dict[str, Any]],
    known: TrainingTable,
    options: RunOptions,
) -> tuple[dict[Split, Network], dict[str, Any]]:
    """The splits' networks, with matrices in half precision, as the file of the random split's will have them, and a
    card's figures: scores by split, and what half precision changes.
    """
    fits, splits, changes = {}, {}, {}
    for split in options.splits:
        fits[split], seconds = fitted(split)
        ask, test = partial(predict, fits[split]), known.parts(split)[1].fractions
        single = ask(test)
        fits[split].load_state_dict(halved(fits[split].state_dict()))
        changes[split] = float(np.abs(ask(test) - single).mean())
        splits[split] = {"seconds": seconds, **scores(ask, split)}
    cost = {"mean_absolute_change": changes["random"]}
    return fits, {"splits": splits, "half_precision_storage": cost}


def train_tc_ensemble(
    tables: TcTables, settings: FitSettings, options: RunOptions, lesson: Lesson = ENSEMBLE_LESSON
) -> dict[str, Any]:
    """Fit the ensemble on both splits, which its spread needs, write `tc_ensemble.safetensors` and its card to
    `options.out`, return the card.
    """
    recipe = {
        "features": "amounts, statistics of element properties, valences and ratios (tc_features)",
        "folds": f"each member leaves out one of {FOLDS} folds of chemical systems of the measured rows",
        "loss": "Huber loss of the target",
        **lesson.about(),
        "bfloat16": options.bfloat16,
    }

    def fitted(split: Split) -> tuple[CalibratedEnsemble, int]:
        train, zero = tables.train(split)
        taught = lesson.taught(train, zero, settings.seed)
        sampler = lesson.sampler(train, zero, taught, member_weights(train, ensemble.MEMBERS))
        known, name = torch.from_numpy(train.fractions), f"tc_ensemble-{split}"
        make, about = lambda: TcEnsemble().standardise(known), recipe | _of_rows(zero)
        network, seconds = fit(make, TcEnsemble.__call__, sampler, settings, options, name, about)
        calibrated, test = CalibratedEnsemble(), tables.known.parts(split)[1]
        calibrated.ensemble = network.cpu()
        calibrated.extrapolation = fit_extrapolation(train.fractions, test.fractions, seed=settings.seed)
        return calibrated.eval(), seconds

    options = replace(options, splits=SPLITS)
    fits, figures = _fitted(fitted, partial(tables.scores, "ensemble"), tables.known, options)
    saved = fits["random"]
    fits["system"].extrapolation.unit.copy_(saved.extrapolation.unit)  # scores as they are served
    halves = {split: _halves(network, tables.known.parts(split)[1]) for split, network in fits.items()}
    saved.spread = fit_spread([calibrating for calibrating, _ in halves.values()])
    for split, network in fits.items():
        figures["splits"][split] |= {
            "extrapolation": _extrapolation_scores(network, tables, split),
            "spread": coverage(saved.spread, halves[split][1]),
        }
    figures |= {
        "members": ensemble.MEMBERS,
        "recipe": recipe,
        "spread": {
            "terms": list(SPREAD_TERMS),
            "coefficients": [round(float(c), 4) for c in saved.spread.coefficients],
            "calibrated_on": "one half of the held-out rows of both splits; coverage is the other half's",
        },
        "extrapolation": {
            "components": ensemble.COMPONENTS,
            "centres": ensemble.CENTRES,
            "flag": f"score above 1, the {PERCENTILE:g}th percentile of the random split's held-out superconductors",
            "free_of_charge_in_a_search_up_to": ensemble.FREE,
        },
        **tables.literature_scores(partial(predict, saved)),
    }
    card = model_card("tc_ensemble", "K", tables.sources, settings, options, **figures)
    return save_network(saved, "tc_ensemble", card, options.out)


def member_weights(train: TrainingTable, members: int) -> Tensor:
    """(rows, members): 0 where a row's chemical system is in the fold that a member leaves out, else 1."""
    fold = torch.from_numpy(folds(train.systems, FOLDS, salt=FOLD_SALT))
    return (fold[:, None] != torch.arange(members)).float()


def _extrapolation_scores(network: CalibratedEnsemble, tables: TcTables, split: Split) -> dict[str, float]:
    """How well the extrapolation score tells foreign compositions from superconductors that were held out."""
    tests = (each.parts(split)[1].fractions for each in (tables.known, tables.non_superconductors))
    rows = (*tests, random_compositions(RANDOM_COMPOSITIONS, seed=0))
    known, zero, foreign = (network.estimates(each).extrapolation for each in rows)

    def auc(others: Doubles) -> float:
        is_other = np.repeat([0, 1], [len(known), len(others)])
        return float(roc_auc_score(is_other, np.concatenate([known, others])))

    return rounded(
        held_out_flagged=(known > 1).mean(),
        random_flagged=(foreign > 1).mean(),
        auc_against_random=auc(foreign),
        auc_against_non_superconductors=auc(zero),
    )


class HeldOut(NamedTuple):
    """Held-out rows of one split: the terms of ln σ (N, terms), and by how much the property is wrong (N,), in its
    unit. Predictions of T_c below 0 K count as 0 K, as they are reported.
    """

    terms: Doubles
    errors: Doubles


def _halves(network: CalibratedEnsemble, test: TrainingTable) -> tuple[HeldOut, HeldOut]:
    """Rows that the network never saw, one half to calibrate its spread on and one to measure the coverage on."""
    mean, _, *rest = network.estimates(test.fractions)
    terms = Spread.terms(*map(torch.from_numpy, (mean, *rest))).numpy()
    errors = np.abs(test.values.astype(np.float64) - mean.clip(0))
    half = held_out(test.formulas, share=0.5, salt=CALIBRATION_SALT)
    return HeldOut(terms[half], errors[half]), HeldOut(terms[~half], errors[~half])


def fit_spread(splits: list[HeldOut]) -> Spread:
    """The spread of T_c, fitted by `fit_quantiles`."""
    found = fit_quantiles(splits, np.array([0.0, 1.0, 0.0, 0.0]), ensemble.LEAST_STD_K)
    spread = Spread()
    spread.coefficients.copy_(torch.from_numpy(found))
    return spread


def fit_quantiles(splits: list[HeldOut], start: Doubles, least: float) -> Doubles:
    """Coefficients of ln(σ − least) for which 68.3 % of each split's errors lie within σ and 95.4 % within 2σ, as far
    as so many can.

    They minimise the pinball loss of ln|error| at these quantiles, which asks for exactly these shares, whatever the
    tails. What a split as a whole is off by costs extra, so that neither is served at the other's expense.
    """
    parts = [(terms, np.log(np.maximum(errors - least, LEAST_SCALE))) for terms, errors in splits]

    def loss(coefficients: Doubles) -> float:
        total = 0.0
        for terms, log_error in parts:
            log_std = terms @ coefficients
            for share, factor in NORMAL_SHARES:
                over = log_error - log_std - np.log(factor)
                covered = expit(-over / SOFTNESS).mean()
                pinball = np.maximum(share * over, (share - 1) * over).mean()
                total += float(pinball + COVERAGE_WEIGHT * (covered - share) ** 2)
        return total

    options = {"maxiter": 8000, "xatol": 1e-4, "fatol": 1e-7}
    best = minimize(loss, start, method="Nelder-Mead", options=options)
    return np.asarray(best.x)


def coverage(spread: Spread, rows: HeldOut) -> dict[str, float]:
    """Shares of errors within 1σ and 2σ, and the mean σ in K."""
    std = spread(torch.from_numpy(rows.terms)).numpy()
    return rounded(**covered(rows.errors, std), mean_std_k=std.mean())


def covered(errors: Doubles, std: Doubles) -> dict[str, float]:
    """Which shares of errors (N,) lie within 1σ and 2σ, (N,) in the same unit."""
    return {f"within_{factor}_sigma": float((errors <= factor * std).mean()) for factor in (1, 2)}


@torch.no_grad()
def fit_extrapolation(known: Floats, test: Floats, *, seed: int) -> Extrapolation:
    """Fit components and centres to known superconductors (N, 118), the unit to held-out ones (M, 118). Raises
    InputError for fewer known ones than there are components.
    """
    network = Extrapolation()
    count, components = network.centres.shape
    if len(known) < components:
        raise InputError(
            f"{len(known)} known superconductors don't span {components} components: use more data"
        )
    described = network.features.described(torch.from_numpy(known)).double().numpy()
    mean, scale = described.mean(axis=0), described.std(axis=0) + LEAST_SCALE
    principal = PCA(components, whiten=True, random_state=seed).fit((described - mean) / scale)
    whitened = principal.components_ / np.sqrt(principal.explained_variance_)[:, None]
    points = (described - mean) / scale @ whitened.T
    clusters = KMeans(min(count, len(points)), n_init=1, max_iter=30, random_state=seed).fit(points)
    centres = np.resize(clusters.cluster_centers_, (count, components))  # over again where there are fewer
    network.centre.copy_(torch.from_numpy(mean))
    network.projection.copy_(torch.from_numpy((whitened / scale).T))
    network.centres.copy_(torch.from_numpy(centres))
    distances = network.distance(torch.from_numpy(test)).numpy()
    network.unit.fill_(float(np.percentile(distances, PERCENTILE)))
    return network.eval()
