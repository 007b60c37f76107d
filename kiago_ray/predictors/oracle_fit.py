"""Fitting the oracle's members, and predicting rows by trees that haven't seen them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, KFold

from kiago_ray.errors import InputError
from kiago_ray.predictors.oracle import INPUTS, KIND, Oracle, OracleKind
from kiago_ray.predictors.recipes import TrainingTable
from kiago_ray.predictors.splits import Split

CROSS_VALIDATION_FOLDS = 10
Fold = tuple[NDArray[np.intp], NDArray[np.intp]]


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


# Of other samples and folds than the reporting oracle: the two share their rows, not the accidents of a draw.
TUNING_SETTINGS = OracleSettings(most_rounds=600, rows_a_leaf=1, feature_share=0.5, seed=1, fold_seed=1)


@dataclass(frozen=True)
class Rows:
    """What trees of a kind learn from: `inputs` (N, columns), `tc_k` (N,) and `systems`, which are kept together."""

    inputs: NDArray[np.float64]
    tc_k: NDArray[np.float32]
    systems: list[str]
    kind: OracleKind = KIND

    @classmethod
    def of(cls, table: TrainingTable, kind: OracleKind = KIND) -> Rows:
        """Of a table of compositions."""
        return cls(INPUTS[kind].of(table.fractions), table.values, table.systems, kind)


def fit_members(known: Rows, zeros: Rows, settings: OracleSettings, threads: int = 1) -> Oracle:
    """An oracle of `settings.members` members: each leaves out another fold of the systems in `known` and takes
    another sample of `zeros`. All have as many rounds as make the squared error least over the folds left out, each
    row by the member that hasn't seen it. Raises InputError for fewer systems than members.
    """
    if len(set(known.systems)) < settings.members:
        raise InputError(
            f"{len(set(known.systems))} chemical systems don't make {settings.members} folds: use more data"
        )
    order = np.random.default_rng(settings.seed).permutation(len(zeros.tc_k))
    count = min(settings.non_superconductors_a_member, len(order) // settings.members)
    members, squared_error = [], np.zeros(settings.most_rounds)
    for k, (train, left_out) in enumerate(folds_by_system(known, settings.members, settings.fold_seed)):
        rows = _dataset(known, train, zeros, order[k * count : (k + 1) * count])
        curve: dict[str, dict[str, list[float]]] = {}
        members.append(
            lightgbm.train(
                settings.parameters(k, threads),
                rows,
                settings.most_rounds,
                valid_sets=[rows.create_valid(known.inputs[left_out], known.tc_k[left_out])],
                valid_names=["left out"],
                callbacks=[lightgbm.record_evaluation(curve)],
            )
        )
        squared_error += len(left_out) * np.array(curve["left out"]["l2"])
    for member in members:
        member.best_iteration = int(squared_error.argmin()) + 1
    return Oracle(tuple(members), known.kind)


def folds_by_system(rows: Rows, count: int, seed: int | None) -> Iterator[Fold]:
    """Rows to train on and rows left out, `count` times; no chemical system is in both."""
    drawn = GroupKFold(count, shuffle=seed is not None, random_state=seed)
    yield from drawn.split(rows.tc_k, groups=rows.systems)


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
    for train, test in _folds(rows, split, settings):
        member = lightgbm.train(settings.parameters(0, threads), _dataset(rows, train, zeros, some), rounds)
        predicted[test] = np.asarray(member.predict(rows.inputs[test], num_threads=threads))
    return predicted.clip(min=0)


def _folds(rows: Rows, split: Split, settings: OracleSettings) -> Iterator[Fold]:
    if split == "random":
        yield from KFold(CROSS_VALIDATION_FOLDS, shuffle=True, random_state=settings.seed).split(rows.tc_k)
    else:
        yield from folds_by_system(rows, CROSS_VALIDATION_FOLDS, settings.fold_seed)


def _dataset(known: Rows, train: NDArray[np.intp], zeros: Rows, some: NDArray[np.intp]) -> lightgbm.Dataset:
    return lightgbm.Dataset(
        np.concatenate([known.inputs[train], zeros.inputs[some]]),
        np.concatenate([known.tc_k[train], zeros.tc_k[some]]),
        feature_name=list(INPUTS[known.kind].names()),
    )
