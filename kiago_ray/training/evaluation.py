"""What a fit may see and how it is judged: tables, held-out sets that anyone can rebuild, scores, two yardsticks.

A composition is held out where the hash of its formula (random split) or of its chemical system (system split) falls
below the share. So a split is the same on any machine, and a composition that is added or dropped moves no other one,
as long as formulas are written alike. SuperCon comes in doping series: a random split puts near-twins on both sides,
the system split does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.metrics import mean_absolute_error, r2_score

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data.compositions import composition_keys, nearest
from kiago_ray.data.files import LoadReport
from kiago_ray.data.sources import load, non_superconductors
from kiago_ray.data.supercon import load_supercon
from kiago_ray.errors import InputError

Array = NDArray[np.floating]
Split = Literal["random", "system"]
SPLITS: tuple[Split, ...] = ("random", "system")

HELD_OUT_SHARE = 0.1
SALT = "kiago-ray 1"
HELD_OUT = {
    "share": HELD_OUT_SHARE,
    "rule": f"sha256('{SALT} SPLIT:KEY') below the share; KEY is the formula (random) or the system (system)",
}
HIGH_TC_K = 50.0
EXTRA_TREES = 100


def held_out(keys: Iterable[str], *, share: float, salt: str) -> NDArray[np.bool_]:
    """(N,) True where a key is held out: about `share` of all distinct keys, equal keys together."""
    if not 0 < share < 1:
        raise ValueError(f"a held-out share must lie between 0 and 1, not {share}")
    bound = int(share * 2**64)
    return np.array([_hash(f"{salt}:{key}") < bound for key in keys], dtype=np.bool_)


def folds(keys: Iterable[str], count: int, *, salt: str) -> NDArray[np.int64]:
    """(N,) which of `count` folds each key falls into, equal keys together."""
    return np.array([_hash(f"{salt}:{key}") % count for key in keys], dtype=np.int64)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@dataclass(frozen=True)
class TrainingTable:
    """Compositions with one measured or computed value each, and where they come from.

    `fractions` (N, 118) float32, `values` (N,) in the property's unit, `formulas` and `systems` the keys of the
    two splits.
    """

    formulas: list[str]
    systems: list[str]
    fractions: NDArray[np.float32]
    values: NDArray[np.float32]
    sources: tuple[LoadReport, ...] = ()

    @classmethod
    def of(cls, table: pd.DataFrame, column: str, *sources: LoadReport) -> TrainingTable:
        """From a loader's table and the name of its value column."""
        return cls(
            formulas=table["formula"].tolist(),
            systems=table["chemical_system"].tolist(),
            fractions=parse_fractions(table["formula"]).astype(np.float32),
            values=table[column].to_numpy(dtype=np.float32, copy=True),
            sources=sources,
        )

    def pick(self, rows: NDArray[np.bool_]) -> TrainingTable:
        """The rows where (N,) `rows` is True."""
        return replace(
            self,
            formulas=[f for f, keep in zip(self.formulas, rows, strict=True) if keep],
            systems=[s for s, keep in zip(self.systems, rows, strict=True) if keep],
            fractions=self.fractions[rows],
            values=self.values[rows],
        )

    def held_out(self, split: Split) -> NDArray[np.bool_]:
        """(N,) True for the rows that `split` keeps away from training."""
        keys = self.formulas if split == "random" else self.systems
        return held_out(keys, share=HELD_OUT_SHARE, salt=f"{SALT} {split}")

    def parts(self, split: Split) -> tuple[TrainingTable, TrainingTable]:
        """The rows that `split` trains on, and those that it holds out."""
        test = self.held_out(split)
        return self.pick(~test), self.pick(test)


@dataclass(frozen=True)
class TcTables:
    """What a model of T_c learns from, T_c in K: superconductors, and compositions that stand for 0 K.

    literature: compositions that no fit may see, so that the other tables don't hold them; a card has their score.
    """

    known: TrainingTable
    non_superconductors: TrainingTable
    literature: TrainingTable | None = None

    @classmethod
    def read(cls, supercon: Path, others: Path, held_back: Path | None = None) -> TcTables:
        """From SuperCon's primary.tsv, a table of the Materials Project or of COD, and one of SuperCon's form.

        Raises InputError for other files.
        """
        known, known_report = load_supercon(supercon)
        table, report = load(others)
        if report.kind not in ("materials_project", "cod"):
            raise InputError(
                f"--non-superconductors: {others} is a {report.kind} table; give Materials Project or COD"
            )
        # By system: a neighbour of known superconductors may well be one, and so is a wrong zero.
        zeros = non_superconductors(table, known, by="chemical_system")
        literature = None
        if held_back is not None:
            held, held_report = load_supercon(held_back)
            known, zeros = without(known, held), without(zeros, held)
            literature = TrainingTable.of(held, "tc_k", held_report)
        return cls(
            TrainingTable.of(known, "tc_k", known_report), TrainingTable.of(zeros, "tc_k", report), literature
        )

    @property
    def tables(self) -> list[TrainingTable]:
        """All of them that there are."""
        return [each for each in (self.known, self.non_superconductors, self.literature) if each is not None]


def without(table: pd.DataFrame, held: pd.DataFrame) -> pd.DataFrame:
    """`table` less every composition that `held` has: those never enter a fit."""
    keys = set(composition_keys(held))
    return table[[key not in keys for key in composition_keys(table)]]


@dataclass(frozen=True)
class Scores:
    """`mae` and the biases (mean of predicted − true) in the property's unit; `bias_high` over true > 50 K."""

    rows: int
    mae: float
    r2: float
    bias: float
    bias_high: float | None = None


def score(predicted: Array, true: Array, *, high: float | None = None) -> Scores:
    """Scores of (N,) predictions; `high` is the true value above which `bias_high` is taken."""
    if len(true) < 2:
        raise InputError(
            f"{len(true)} held-out rows are too few for a score: use more data or a larger share"
        )
    error = np.asarray(predicted, dtype=np.float64) - np.asarray(true, dtype=np.float64)
    above = error[true > high] if high is not None else error[:0]
    return Scores(
        rows=len(true),
        mae=round(float(mean_absolute_error(true, predicted)), 4),
        r2=round(float(r2_score(true, predicted)), 4),
        bias=round(float(error.mean()), 4),
        bias_high=round(float(above.mean()), 4) if len(above) else None,
    )


def tc_scores(
    name: str, predict: Callable[[NDArray[np.float32]], Array], tables: TcTables, split: Split
) -> dict[str, Any]:
    """What a split's fit is worth on the rows that the split holds out, beside the yardsticks.

    predict: T_c in K, 0 or more, (N,), of fractions (N, 118). name: what the card calls its scores.
    """
    train, test = tables.known.parts(split)
    at_zero = predict(tables.non_superconductors.parts(split)[1].fractions)
    return {
        "train_rows": len(train.values),
        name: asdict(score(predict(test.fractions), test.values, high=HIGH_TC_K)),
        **comparisons(train, test, high=HIGH_TC_K),
        "held_out_non_superconductors": {
            "rows": len(at_zero),
            "mean_tc_k": round(float(at_zero.mean()), 3),
            "share_above_10_k": round(float((at_zero > 10).mean()), 4),
        },
    }


def literature_scores(
    predict: Callable[[NDArray[np.float32]], Array], literature: TrainingTable | None
) -> dict[str, Any]:
    """A card's `literature`, where there is some: scores on compositions that no fit has seen; see `tc_scores`."""
    if literature is None:
        return {}
    scores = score(predict(literature.fractions), literature.values, high=HIGH_TC_K)
    return {"literature": asdict(scores)}


def comparisons(train: TrainingTable, test: TrainingTable, *, high: float | None = None) -> dict[str, Any]:
    """Scores of 1-nearest neighbour and ExtraTrees on the same split."""
    rows = train.fractions, train.values, test.fractions
    return {
        "nearest_neighbour": asdict(score(nearest_neighbour(*rows), test.values, high=high)),
        "extra_trees": asdict(score(extra_trees(*rows), test.values, high=high)),
    }


def nearest_neighbour(train: Array, train_values: Array, test: Array) -> Array:
    """The value of the nearest training composition (L1 on fractions): (N,)."""
    index, _ = nearest(test.astype(np.float64), train.astype(np.float64))
    return np.asarray(train_values[index])


def extra_trees(train: Array, train_values: Array, test: Array, *, seed: int = 0) -> Array:
    """Predictions (N,) of extremely randomised trees on plain fractions, fitted to the training rows."""
    model = ExtraTreesRegressor(EXTRA_TREES, random_state=seed, n_jobs=-1)
    return np.asarray(model.fit(train, train_values).predict(test))


def random_compositions(count: int, elements: Sequence[int] = range(92), *, seed: int) -> NDArray[np.float32]:
    """(count, 118): two to seven of these elements (columns, by default H to U), drawn evenly, in random amounts."""
    generator = np.random.default_rng(seed)
    rows = np.zeros((count, N_ELEMENTS), dtype=np.float32)
    for row in rows:
        held = generator.choice(np.asarray(elements), size=generator.integers(2, 8), replace=False)
        row[held] = generator.dirichlet(np.ones(len(held)))
    return rows
