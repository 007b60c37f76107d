"""How an oracle is trained and judged: from tables to `tc_oracle.txt.gz`, or `tc_tuning_oracle.txt.gz`, with its card.

As in `recipes`, each split has its own fit, and the *random* split's is the one that is saved: no member of it has
seen a row that this split holds out. The settings were chosen by cross-validation over chemical systems within the
rows that neither split holds out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import lightgbm
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.model_selection import GroupKFold, KFold

from kiago_ray.chemistry.elements import ELEMNET_INDEX, Floats
from kiago_ray.errors import InputError
from kiago_ray.predictors.oracle import INPUTS, Oracle, save_oracle
from kiago_ray.predictors.weights import ORACLE, OracleKind, load_card
from kiago_ray.training.fit import RunOptions, model_card
from kiago_ray.training.tables import (
    HIGH_TC_K,
    SPLITS,
    Predict,
    Split,
    TcTables,
    TrainingTable,
    random_compositions,
    rounded,
    score,
)

CROSS_VALIDATION_FOLDS = 10
RANDOM_COMPOSITIONS = 10_000


@dataclass(frozen=True, kw_only=True)
class OracleSettings:
    """LightGBM's parameters by the names of what they are, and how many members see what.

    fold_seed: draws the folds by chemical system; None takes those of scikit-learn, which are alike in size.
    """

    members: int = 5
    most_rounds: int = 800
    learning_rate: float = 0.05
    leaves: int = 63
    rows_a_leaf: int = 5
    feature_share: float = 0.3
    row_share: float = 0.8
    non_superconductors_a_member: int = 2_000
    seed: int = 0
    fold_seed: int | None = None

    def parameters(self, member: int) -> dict[str, Any]:
        """For `lightgbm.train`."""
        return {
            "objective": "regression",
            "learning_rate": self.learning_rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": self.rows_a_leaf,
            "feature_fraction": self.feature_share,
            "bagging_fraction": self.row_share,
            "bagging_freq": 1,
            "seed": self.seed * self.members + member,
            "num_threads": torch.get_num_threads(),
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }


# Of other samples and folds than the reporting oracle: the two share their rows, not the accidents of a draw.
TUNING_SETTINGS = OracleSettings(most_rounds=600, rows_a_leaf=1, feature_share=0.5, seed=1, fold_seed=1)

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class OracleFit:
    """What trees of a kind learn from, and how: T_c in K of compositions, and compositions that stand for 0 K."""

    known: TrainingTable
    zeros: TrainingTable
    settings: OracleSettings
    kind: OracleKind = ORACLE

    @cached_property
    def inputs(self) -> Floats:
        """What the trees read of each known composition, (N, columns)."""
        return INPUTS[self.kind].of(self.known.fractions)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The zeros in the order in which members take them."""
        return np.random.default_rng(self.settings.seed).permutation(len(self.zeros.values))

    def members(self) -> Oracle:
        """Each member leaves out another fold of the systems and takes another sample of the zeros. All have as many
        rounds as make the squared error least over the folds left out, each row by the member that hasn't seen it.
        Raises InputError for fewer systems than members.
        """
        settings, systems = self.settings, len(set(self.known.systems))
        if systems < settings.members:
            raise InputError(f"{systems} chemical systems don't make {settings.members} folds: use more data")
        count = min(settings.non_superconductors_a_member, len(self.order) // settings.members)
        members, squared_error = [], np.zeros(settings.most_rounds)
        for k, (train, left_out) in enumerate(self.folds("system", settings.members)):
            rows = self.dataset(train, self.order[k * count : (k + 1) * count])
            unseen = rows.create_valid(self.inputs[left_out], self.known.values[left_out])
            curve: dict[str, dict[str, list[float]]] = {}
            how: dict[str, Any] = {"valid_sets": [unseen], "callbacks": [lightgbm.record_evaluation(curve)]}
            members.append(lightgbm.train(settings.parameters(k), rows, settings.most_rounds, **how))
            squared_error += len(left_out) * np.array(curve["valid_0"]["l2"])
        for member in members:
            member.best_iteration = int(squared_error.argmin()) + 1
        return Oracle(tuple(members), self.kind)

    def cross_validated(self, split: Split, rounds: int) -> Floats:
        """T_c in K (N,) of each known row, from one member that saw the nine tenths without it and some of the zeros;
        `rounds` is fixed, as no fold is left to stop on.
        """
        some = self.order[: self.settings.non_superconductors_a_member]
        predicted, threads = np.empty(len(self.known.values)), torch.get_num_threads()
        for train, test in self.folds(split, CROSS_VALIDATION_FOLDS):
            member = lightgbm.train(self.settings.parameters(0), self.dataset(train, some), rounds)
            predicted[test] = np.asarray(member.predict(self.inputs[test], num_threads=threads))
        return predicted.clip(min=0)

    def folds(self, split: Split, count: int) -> Iterator[tuple[Rows, Rows]]:
        """Rows to train on and rows left out, in folds by row (random) or by chemical system."""
        seed, fold_seed = self.settings.seed, self.settings.fold_seed
        if split == "random":
            return iter(KFold(count, shuffle=True, random_state=seed).split(self.inputs))
        drawn = GroupKFold(count, shuffle=fold_seed is not None, random_state=fold_seed)
        return iter(drawn.split(self.inputs, groups=self.known.systems))

    def dataset(self, train: Rows, some: NDArray[np.int64]) -> lightgbm.Dataset:
        """These known rows, and some of the zeros."""
        of, names = INPUTS[self.kind].of, INPUTS[self.kind].names()
        rows = np.concatenate([self.inputs[train], of(self.zeros.fractions[some])])
        tc_k = np.concatenate([self.known.values[train], self.zeros.values[some]])
        return lightgbm.Dataset(rows, tc_k, feature_name=list(names))


def train_oracle(
    tables: TcTables, settings: OracleSettings, options: RunOptions, kind: OracleKind = ORACLE
) -> dict[str, Any]:
    """Fit an oracle, write `KIND.txt.gz` and `KIND.json`, KIND being its kind, to `options.out`, return the card.

    Every member sees its own sample of the non-superconductors. What a kind can't do is on its shipped card, and the
    new card says it too. Raises InputError for too few rows.
    """
    limits = load_card(kind)["limits"]  # first, so that a fit isn't lost for want of them
    oracles, splits = {}, {}
    for split in SPLITS:
        started = time.perf_counter()
        oracles[split] = oracle = OracleFit(*tables.train(split), settings, kind).members()
        seconds = round(time.perf_counter() - started)
        options.on_step(f"{split} split: {settings.members} members, {seconds} s")
        splits[split] = {
            "seconds": seconds,
            **tables.scores("oracle", _tc_k(oracle), split),
            "rounds": oracle.members[0].best_iteration,
            "spread": _coverage(oracle, tables.known.parts(split)[1]),
        }
    saved, drawn = oracles["random"], "" if settings.fold_seed is None else ", drawn by fold_seed"
    whole = OracleFit(tables.known, tables.non_superconductors, settings, kind)
    rounds = saved.members[0].best_iteration
    validated: dict[str, Any] = {"folds": CROSS_VALIDATION_FOLDS, "rounds": rounds}
    for split in SPLITS:
        validated[split] = score(whole.cross_validated(split, rounds), tables.known.values, high=HIGH_TC_K)
        options.on_step(f"{split} split: cross-validation in {CROSS_VALIDATION_FOLDS} folds")
    card = model_card(
        kind,
        "K",
        tables.sources,
        settings,
        options,
        model="mean of gradient-boosted regression trees (LightGBM), each clipped at 0 K",
        recipe={
            "target": "T_c in K",
            "inputs": list(INPUTS[kind].names()),
            "folds": "member k leaves out the k-th of as many folds by chemical system of the training rows"
            f"{drawn}; all have the rounds that make the squared error over the folds left out least",
        },
        splits=splits,
        **tables.literature_scores(_tc_k(saved)),
        cross_validation=validated,
        random_compositions=_far_from_data(saved, tables.known),
        limits=limits,
        lightgbm=lightgbm.__version__,
    )
    return save_oracle(saved.members, card, options.out)


def _tc_k(oracle: Oracle) -> Predict:
    return lambda rows: oracle.predict(rows, num_threads=torch.get_num_threads())[0]


def _coverage(oracle: Oracle, test: TrainingTable) -> dict[str, float]:
    """How often the true value lies within one and two deviations of the mean, and whether they rank the errors."""
    mean, spread = oracle.predict(test.fractions, num_threads=torch.get_num_threads())
    error = np.abs(mean - test.values)
    return rounded(
        mean_k=spread.mean(),
        rank_correlation_with_error=spearmanr(spread, error).statistic,
        share_within_1=(error <= spread).mean(),
        share_within_2=(error <= 2 * spread).mean(),
    )


def _far_from_data(oracle: Oracle, known: TrainingTable) -> dict[str, float]:
    """What the oracle says of random compositions, whose T_c nobody knows and which few would expect to be high."""
    rows = random_compositions(RANDOM_COMPOSITIONS, ELEMNET_INDEX, seed=0)
    threads = torch.get_num_threads()
    mean, spread = oracle.predict(rows, num_threads=threads)
    _, at_known = oracle.predict(known.fractions, num_threads=threads)
    return {"rows": len(rows)} | rounded(
        mean_tc_k=mean.mean(),
        highest_tc_k=mean.max(),
        share_above_50_k=(mean > HIGH_TC_K).mean(),
        mean_spread_k=spread.mean(),
        mean_spread_of_known_k=at_known.mean(),
    )
