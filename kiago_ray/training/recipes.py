"""The recipes of the shipped networks, from tables to weights with a card: T_c's two predictors, E_f's ElemNet.

Each is fitted twice, once a split. The weights of the *random* split's fit are the ones that are saved, so the
card's held-out scores are those of the very weights; the *system* split's fit only gives its scores.

Each member of the ensemble leaves out one fold of chemical systems among the measured rows. Few non-superconductors
are enough to keep its T_c low where there is none, and more cost accuracy on superconductors of systems never seen.
Its spread is calibrated on one half of the rows that each split holds out, by a hash of the formula, and the coverage
measured on the other half.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from torch import Tensor

from kiago_ray.chemistry.elements import Mask
from kiago_ray.data.compositions import folds, held_out
from kiago_ray.errors import InputError
from kiago_ray.predictors import ensemble, resnet18
from kiago_ray.predictors.base import predict
from kiago_ray.predictors.ensemble import (
    CENTRES,
    COMPONENTS,
    LEAST_STD_K,
    CalibratedEnsemble,
    Extrapolation,
    Spread,
    TcEnsemble,
    spread_terms,
)
from kiago_ray.predictors.inference import ElemNet
from kiago_ray.predictors.resnet18 import TcResNet
from kiago_ray.predictors.weights import halved
from kiago_ray.training.fit import (
    FitSettings,
    Predict,
    RunOptions,
    fit,
    literature_scores,
    rows_id,
    save_with_card,
    split_scores,
    tc_scores,
)
from kiago_ray.training.tables import (
    LARGE_JITTER,
    SMALL_JITTER,
    SPLITS,
    Floats,
    Lesson,
    MadeUp,
    Split,
    TcTables,
    TrainingTable,
    random_compositions,
)

Doubles = NDArray[np.float64]


TC_SETTINGS = FitSettings(epochs=80, learning_rate=3e-3, warmup_share=0.15)
TC_LESSON = Lesson(
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
SOFTNESS = 0.15  # of ln σ, over which an error counts as half covered


def train_tc(
    tables: TcTables, settings: FitSettings, options: RunOptions, lesson: Lesson = TC_LESSON
) -> dict[str, Any]:
    """Fit the T_c network, write `tc.safetensors` and `tc.json` to `options.out`, return the card.

    Compositions that stand for 0 K regularise it, and so do made-up rows: each epoch sees a fresh sample of both
    beside all training rows.
    """
    recipe = {
        "target": f"ln(1 + T_c / {resnet18.SCALE.scale_k:g} K)",
        "loss": "mean absolute error of the target",
        "waves_of_the_amount": list(resnet18.WAVES),
        **lesson.about(),
        "made_up_jitters": [SMALL_JITTER, LARGE_JITTER],
        "bfloat16": options.bfloat16,
    }
    fits, splits = {}, {}
    for split in options.splits:
        train, zero = tables.train(split)
        network, seconds = fit(
            TcResNet,
            TcResNet.log_tc,
            lesson.sampler(train, zero, lesson.taught(train, zero, settings.seed), resnet18.SCALE.log),
            settings,
            options,
            name=f"tc-{split}",
            data_id=rows_id(train, zero, recipe=recipe),
        )
        fits[split] = network, _halve(network, tables.known.parts(split)[1])
        splits[split] = {"seconds": round(seconds), **tc_scores("resnet18", _tc_k(network), tables, split)}
    saved, cost = fits["random"]
    figures = {
        "splits": splits,
        "half_precision_storage": cost,
        **literature_scores(_tc_k(saved), tables.literature),
    }
    return save_with_card(saved, "tc", "K", tables.sources, settings, options, recipe=recipe, **figures)


def train_ef(known: TrainingTable, settings: FitSettings, options: RunOptions) -> dict[str, Any]:
    """Fit ElemNet, write `ef.safetensors` and `ef.json` to `options.out`, return the card."""
    recipe = {
        "target": "E_f in eV/atom",
        "loss": "mean absolute error of the target",
        "bfloat16": options.bfloat16,
    }
    fits, splits = {}, {}
    for split in options.splits:
        train, test = known.parts(split)
        network, seconds = fit(
            ElemNet,
            ElemNet.__call__,
            train.sampler(),
            settings,
            options,
            name=f"ef-{split}",
            data_id=rows_id(train, recipe=recipe),
        )
        fits[split] = network, _halve(network, test)
        scores = split_scores("elemnet", partial(predict, network), known, split)
        splits[split] = {"seconds": round(seconds), **scores}
    saved, cost = fits["random"]
    figures = {"recipe": recipe, "splits": splits, "half_precision_storage": cost}
    return save_with_card(saved, "ef", "eV/atom", known.sources, settings, options, **figures)


def _tc_k(network: TcResNet | CalibratedEnsemble) -> Predict:
    """T_c in K, 0 or more."""
    return lambda rows: np.clip(predict(network, rows), 0, None)


def _halve(network: TcResNet | ElemNet, test: TrainingTable) -> dict[str, float]:
    """Give a network the matrices that its file will have, in half precision; return what that changes its
    predictions by.
    """
    single = predict(network, test.fractions)
    network.load_state_dict(halved(network.state_dict()))
    return {"mean_absolute_change": float(np.abs(predict(network, test.fractions) - single).mean())}


def train_tc_ensemble(
    tables: TcTables, settings: FitSettings, options: RunOptions, lesson: Lesson = ENSEMBLE_LESSON
) -> dict[str, Any]:
    """Fit the ensemble, write `tc_ensemble.safetensors` and its card to `options.out`, return the card.

    Both splits are fitted, whatever `options.splits` says: the spread needs them.
    """
    recipe = {
        "target": f"ln(1 + T_c / {ensemble.SCALE.scale_k:g} K)",
        "features": "amounts, statistics of element properties, valences and ratios (tc_features)",
        "folds": f"each member leaves out one of {FOLDS} folds of chemical systems of the measured rows",
        "loss": "Huber loss of the target",
        **lesson.about(),
        "bfloat16": options.bfloat16,
    }
    fits = {split: _fit_ensemble(tables, split, settings, options, recipe, lesson) for split in SPLITS}
    saved = fits["random"][0]
    fits["system"][0].extrapolation.unit.copy_(saved.extrapolation.unit)  # scores as they are served
    tests = {split: tables.known.parts(split)[1] for split in SPLITS}
    rows = {split: HeldOut.of(fits[split][0], tests[split]) for split in SPLITS}
    halves = {split: held_out(tests[split].formulas, share=0.5, salt=CALIBRATION_SALT) for split in SPLITS}
    saved.spread = fit_spread([rows[split].pick(halves[split]) for split in SPLITS])
    splits = {
        split: {
            **tc_scores("ensemble", _tc_k(network), tables, split),
            "extrapolation": _extrapolation_scores(network, tables, split),
            "seconds": round(seconds),
            "spread": coverage(saved.spread, rows[split].pick(~halves[split])),
        }
        for split, (network, seconds) in fits.items()
    }
    return save_with_card(
        saved,
        "tc_ensemble",
        "K",
        tables.sources,
        settings,
        options,
        members=saved.ensemble.members,
        recipe=recipe,
        splits=splits,
        **literature_scores(_tc_k(saved), tables.literature),
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
            "free_of_charge_in_a_search_up_to": ensemble.FREE,
        },
    )


def member_weights(train: TrainingTable, members: int) -> Tensor:
    """(rows, members): 0 where a row's chemical system is in the fold that a member leaves out, else 1."""
    fold = torch.from_numpy(folds(train.systems, FOLDS, salt=FOLD_SALT))
    return (fold[:, None] != torch.arange(members)).float()


def _fit_ensemble(
    tables: TcTables,
    split: Split,
    settings: FitSettings,
    options: RunOptions,
    recipe: dict[str, Any],
    lesson: Lesson,
) -> tuple[CalibratedEnsemble, float]:
    """The split's ensemble with halved weights and its extrapolation score; the spread isn't calibrated yet."""
    train, zero = tables.train(split)

    def make() -> TcEnsemble:
        network = TcEnsemble()
        network.standardise(torch.from_numpy(train.fractions))
        return network

    taught = lesson.taught(train, zero, settings.seed)
    weights = member_weights(train, ensemble.MEMBERS)
    network, seconds = fit(
        make,
        TcEnsemble.__call__,
        lesson.sampler(train, zero, taught, ensemble.SCALE.log, weights),
        settings,
        options,
        name=f"tc_ensemble-{split}",
        data_id=rows_id(train, zero, recipe=recipe),
    )
    calibrated = CalibratedEnsemble()
    calibrated.ensemble = network.cpu()
    test = tables.known.parts(split)[1]
    calibrated.extrapolation = fit_extrapolation(train.fractions, test.fractions, seed=settings.seed)
    calibrated.load_state_dict(halved(calibrated.state_dict()))
    return calibrated.eval(), seconds


def _extrapolation_scores(network: CalibratedEnsemble, tables: TcTables, split: Split) -> dict[str, float]:
    """How well the extrapolation score tells foreign compositions from superconductors that were held out."""
    tests = (each.parts(split)[1].fractions for each in (tables.known, tables.non_superconductors))
    rows = (*tests, random_compositions(RANDOM_COMPOSITIONS, seed=0))
    known, zero, foreign = (network.estimates(each).extrapolation for each in rows)

    def auc(others: Doubles) -> float:
        is_other = np.repeat([0, 1], [len(known), len(others)])
        return round(float(roc_auc_score(is_other, np.concatenate([known, others]))), 4)

    return {
        "held_out_flagged": round(float((known > 1).mean()), 4),
        "random_flagged": round(float((foreign > 1).mean()), 4),
        "auc_against_random": auc(foreign),
        "auc_against_non_superconductors": auc(zero),
    }


@dataclass(frozen=True)
class HeldOut:
    """Held-out rows of one split: what the ensemble says of them, and the measured T_c in K; each (N,)."""

    mean_k: Doubles
    disagreement_k: Doubles
    extrapolation: Doubles
    measured_k: Doubles

    @classmethod
    def of(cls, network: CalibratedEnsemble, test: TrainingTable) -> HeldOut:
        """Of rows that the network never saw."""
        said = network.estimates(test.fractions)
        return cls(said.tc_k, said.disagreement_k, said.extrapolation, test.values.astype(np.float64))

    def pick(self, rows: Mask) -> HeldOut:
        """The rows where (N,) `rows` is True."""
        return HeldOut(*(each[rows] for each in vars(self).values()))

    def said(self) -> tuple[Tensor, ...]:
        """What a spread is made of, each (N,)."""
        return tuple(map(torch.from_numpy, (self.mean_k, self.disagreement_k, self.extrapolation)))

    def errors(self) -> Doubles:
        """|measured − predicted| in K, predictions clipped at 0 as they are reported."""
        return np.abs(self.measured_k - np.clip(self.mean_k, 0, None))


def fit_spread(splits: list[HeldOut]) -> Spread:
    """Coefficients for which 68.3 % of each split's errors lie within σ and 95.4 % within 2σ, as far as four can.

    The pinball loss of ln|error| at these quantiles, every split weighing the same: unlike a likelihood it asks for
    exactly these shares, whatever the tails. What a split as a whole is off by costs extra, so that none is served at
    the expense of the other.
    """
    parts = [
        (spread_terms(*each.said()).numpy(), np.log(np.maximum(each.errors() - LEAST_STD_K, 1e-3)))
        for each in splits
    ]

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
    best = minimize(loss, np.array([0.0, 1.0, 0.0, 0.0]), method="Nelder-Mead", options=options)
    spread = Spread()
    spread.coefficients.copy_(torch.from_numpy(best.x))
    return spread


def coverage(spread: Spread, rows: HeldOut) -> dict[str, float]:
    """Shares of errors within 1σ and 2σ, and the mean σ in K."""
    std, errors = spread(*rows.said()).numpy(), rows.errors()
    return {
        "within_1_sigma": round(float((errors <= std).mean()), 4),
        "within_2_sigma": round(float((errors <= 2 * std).mean()), 4),
        "mean_std_k": round(float(std.mean()), 3),
    }


@torch.no_grad()
def fit_extrapolation(known: Floats, test: Floats, *, seed: int) -> Extrapolation:
    """Fit components and centres to known superconductors (N, 118), the unit to held-out ones (M, 118).

    Raises InputError for fewer known ones than there are components.
    """
    if len(known) < COMPONENTS:
        raise InputError(
            f"{len(known)} known superconductors don't span {COMPONENTS} components: use more data"
        )
    network = Extrapolation()
    described = network.features.described(torch.from_numpy(known)).double().numpy()
    mean, scale = described.mean(axis=0), described.std(axis=0) + LEAST_SCALE
    principal = PCA(COMPONENTS, whiten=True, random_state=seed).fit((described - mean) / scale)
    whitened = principal.components_ / np.sqrt(principal.explained_variance_)[:, None]
    points = (described - mean) / scale @ whitened.T
    clusters = KMeans(min(CENTRES, len(points)), n_init=1, max_iter=30, random_state=seed).fit(points)
    centres = np.resize(clusters.cluster_centers_, (CENTRES, COMPONENTS))  # over again where there are fewer
    network.centre.copy_(torch.from_numpy(mean))
    network.projection.copy_(torch.from_numpy((whitened / scale).T))
    network.centres.copy_(torch.from_numpy(centres))
    distances = network.distance(torch.from_numpy(test)).numpy()
    network.unit.fill_(float(np.percentile(distances, PERCENTILE)))
    return network.eval()
