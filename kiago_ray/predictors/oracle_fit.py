"""Fitting the oracle's members, and predicting rows by trees that haven't seen them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, KFold

from kiago_ray.predictors.composition_statistics import composition_statistics, statistic_names
from kiago_ray.predictors.oracle import Oracle
from kiago_ray.predictors.recipes import TrainingTable
from kiago_ray.predictors.splits import Split
from kiago_ray.predictors.training import TrainingError

CROSS_VALIDATION_FOLDS = 10


@dataclass(frozen=True, kw_only=True)
class OracleSettings:
    """LightGBM's parameters by the names of what they are, and how many members see what."""

    members: int = 5
    most_rounds: int = 800
    learning_rate: float = 0.05
    leaves: int = 63
    rows_a_leaf: int = 5
    feature_share: float = 0.3
    row_share: float = 0.8
    non_superconductors_a_member: int = 2_000
    seed: int = 0

    def parameters(self, member: int, threads: int) -> dict[str, Any]:
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
            "num_threads": threads,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }


@dataclass(frozen=True)
class Rows:
    """What trees learn from: `statistics` (N, columns), `tc_k` (N,) and `systems`, which are kept together."""

    statistics: NDArray[np.float64]
    tc_k: NDArray[np.float32]
    systems: list[str]

    @classmethod
    def of(cls, table: TrainingTable) -> Rows:
        """Of a table of compositions."""
        return cls(composition_statistics(table.fractions), table.values, table.systems)


def fit_members(known: Rows, zeros: Rows, settings: OracleSettings, threads: int = 1) -> Oracle:
    """An oracle of `settings.members` members: each leaves out another fold of the systems in `known` and takes
    another sample of `zeros`. All have as many rounds as make the squared error least over the folds left out, each
    row by the member that hasn't seen it. Raises TrainingError for fewer systems than members.
    """
    if len(set(known.systems)) < settings.members:
        raise TrainingError(
            f"{len(set(known.systems))} chemical systems don't make {settings.members} folds: use more data"
        )
    order = np.random.default_rng(settings.seed).permutation(len(zeros.tc_k))
    count = min(settings.non_superconductors_a_member, len(order) // settings.members)
    folds = GroupKFold(settings.members).split(known.tc_k, groups=known.systems)
    members, squared_error = [], np.zeros(settings.most_rounds)
    for k, (train, left_out) in enumerate(folds):
        rows = _dataset(known, train, zeros, order[k * count : (k + 1) * count])
        curve: dict[str, dict[str, list[float]]] = {}
        members.append(
            lightgbm.train(
                settings.parameters(k, threads),
                rows,
                settings.most_rounds,
                valid_sets=[rows.create_valid(known.statistics[left_out], known.tc_k[left_out])],
                valid_names=["left out"],
                callbacks=[lightgbm.record_evaluation(curve)],
            )
        )
        squared_error += len(left_out) * np.array(curve["left out"]["l2"])
    for member in members:
        member.best_iteration = int(squared_error.argmin()) + 1
    return Oracle(tuple(members))


def cross_validated(
    rows: Rows,
    zeros: Rows,
    split: Split,
    settings: OracleSettings,
    rounds: int,
    threads: int = 1,
) -> NDArray[np.float64]:
    """T_c in K (N,) of each of `rows`, from one member that saw the nine tenths without it and some of `zeros`.

    Folds are drawn by row (random) or by chemical system; `rounds` is fixed, as no fold is left to stop on.
    """
    order = np.random.default_rng(settings.seed).permutation(len(zeros.tc_k))
    some = order[: settings.non_superconductors_a_member]
    predicted = np.empty(len(rows.tc_k))
    for train, test in _folds(rows, split, settings.seed):
        member = lightgbm.train(settings.parameters(0, threads), _dataset(rows, train, zeros, some), rounds)
        predicted[test] = np.asarray(member.predict(rows.statistics[test], num_threads=threads))
    return predicted.clip(min=0)


def _folds(rows: Rows, split: Split, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    if split == "random":
        yield from KFold(CROSS_VALIDATION_FOLDS, shuffle=True, random_state=seed).split(rows.tc_k)
    else:
        yield from GroupKFold(CROSS_VALIDATION_FOLDS).split(rows.tc_k, groups=rows.systems)


def _dataset(known: Rows, train: NDArray[np.intp], zeros: Rows, some: NDArray[np.intp]) -> lightgbm.Dataset:
    return lightgbm.Dataset(
        np.concatenate([known.statistics[train], zeros.statistics[some]]),
        np.concatenate([known.tc_k[train], zeros.tc_k[some]]),
        feature_name=list(statistic_names()),
    )
