"""What a fit learns from: compositions with a value each and made-up rows; what it is worth on rows that it never saw.

A composition is held out where the hash of its formula (random split) or of its chemical system (system split) falls
below the share: the same on any machine, whatever other compositions there are. SuperCon comes in doping series: a
random split puts near-twins on both sides, the system split does not.

A network fitted to 11,000 compositions alone is free to say anything a small step away from them, where a search goes.
So each epoch also holds made-up rows of the kinds that a search visits, with T_c from extremely randomised trees that
were fitted to the *same training rows*: trees fall back to averages away from data, and the network learns that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import compress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.metrics import mean_absolute_error, r2_score
from torch import Tensor

from kiago_ray.chemistry.elements import N_ELEMENTS, Mask
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data.compositions import held_out, nearest
from kiago_ray.data.files import LoadReport
from kiago_ray.data.sources import load, load_supercon, non_superconductors, without
from kiago_ray.errors import InputError
from kiago_ray.predictors.base import LogScale
from kiago_ray.predictors.ensemble import TcFeatures

Array = NDArray[np.floating]
Floats = NDArray[np.float32]
Split = Literal["random", "system"]
SPLITS: tuple[Split, ...] = ("random", "system")
Predict = Callable[[Floats], Array]  # values (N,) of fractions (N, 118)

HIGH_TC_K = 50.0
EXTRA_TREES = 100
HELD_OUT_SHARE = 0.1
SALT = "kiago-ray 1"
HELD_OUT = {
    "share": HELD_OUT_SHARE,
    "rule": f"sha256('{SALT} SPLIT:KEY') below the share; KEY is the formula (random) or the system (system)",
}


@dataclass(frozen=True)
class TrainingTable:
    """Compositions, fractions (N, 118), with a value each, (N,) in the property's unit, and where they come from;
    `formulas` and `systems` are the keys of the two splits.
    """

    formulas: list[str]
    systems: list[str]
    fractions: Floats
    values: Floats
    sources: tuple[LoadReport, ...] = ()

    @classmethod
    def of(cls, table: pd.DataFrame, column: str, *sources: LoadReport) -> TrainingTable:
        """From a loader's table and the name of its value column."""
        formulas, systems = table["formula"].tolist(), table["chemical_system"].tolist()
        fractions = parse_fractions(formulas).astype(np.float32)
        return cls(formulas, systems, fractions, table[column].to_numpy(np.float32, copy=True), sources)

    def pick(self, rows: Mask) -> TrainingTable:
        """The rows where (N,) `rows` is True."""
        formulas, systems = (list(compress(keys, rows)) for keys in (self.formulas, self.systems))
        return TrainingTable(formulas, systems, self.fractions[rows], self.values[rows], self.sources)

    def held_out(self, split: Split) -> Mask:
        """(N,) True for the rows that `split` keeps away from training."""
        keys = self.formulas if split == "random" else self.systems
        return held_out(keys, share=HELD_OUT_SHARE, salt=f"{SALT} {split}")

    def parts(self, split: Split) -> tuple[TrainingTable, TrainingTable]:
        """The rows that `split` trains on, and those that it holds out."""
        test = self.held_out(split)
        return self.pick(~test), self.pick(test)

    def yardsticks(self, fractions: Floats) -> dict[str, Array]:
        """Values (M,) of fractions (M, 118), by the nearest of these rows and by trees that are fitted to them."""
        neighbours, _ = nearest(fractions.astype(np.float64), self.fractions.astype(np.float64))
        trees = tree_labels(self.fractions, self.values, fractions, seed=0, trees=EXTRA_TREES)
        return {"nearest_neighbour": self.values[neighbours], "extra_trees": trees}

    def scores(
        self, name: str, predict: Predict, split: Split, *, high: float | None = None
    ) -> dict[str, Any]:
        """What a split's fit is worth on the rows that the split holds out, as `name`, beside two yardsticks that are
        fitted to the split's training rows."""
        train, test = self.parts(split)
        found = {name: predict(test.fractions), **train.yardsticks(test.fractions)}
        scores = {each: score(values, test.values, high=high) for each, values in found.items()}
        return {"train_rows": len(train.values), **scores}


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
        if (kind := report.kind) not in ("materials_project", "cod"):
            raise InputError(
                f"--non-superconductors: {others} is a {kind} table; give Materials Project or COD"
            )
        # By system: a neighbour of known superconductors may well be one, and so is a wrong zero.
        zeros = non_superconductors(table, known, by="chemical_system")
        literature = None
        if held_back is not None:
            held, held_report = load_supercon(held_back)
            known, zeros = without(known, held), without(zeros, held)
            literature = TrainingTable.of(held, "tc_k", held_report)
        superconductors = TrainingTable.of(known, "tc_k", known_report)
        return cls(superconductors, TrainingTable.of(zeros, "tc_k", report), literature)

    @property
    def sources(self) -> list[LoadReport]:
        """Those of all tables."""
        tables = (self.known, self.non_superconductors, self.literature)
        return [source for table in tables if table is not None for source in table.sources]

    def train(self, split: Split) -> tuple[TrainingTable, TrainingTable]:
        """The superconductors and the non-superconductors that `split` trains on."""
        return self.known.parts(split)[0], self.non_superconductors.parts(split)[0]

    def scores(self, name: str, predict: Predict, split: Split) -> dict[str, Any]:
        """Scores of the superconductors' table, and what the fit says of non-superconductors that were held out. Here
        and in `literature_scores` a prediction below 0 K counts as 0 K.
        """
        at_zero = predict(self.non_superconductors.parts(split)[1].fractions).clip(0)
        zeros = rounded(mean_tc_k=at_zero.mean(), share_above_10_k=(at_zero > 10).mean())
        return {
            **self.known.scores(name, lambda rows: predict(rows).clip(0), split, high=HIGH_TC_K),
            "held_out_non_superconductors": {"rows": len(at_zero), **zeros},
        }

    def literature_scores(self, predict: Predict) -> dict[str, Any]:
        """A card's `literature`, where there is some: scores of T_c on compositions that no fit has seen."""
        if self.literature is None:
            return {}
        tc_k = predict(self.literature.fractions).clip(0)
        return {"literature": score(tc_k, self.literature.values, high=HIGH_TC_K)}


def score(predicted: Array, true: Array, *, high: float | None = None) -> dict[str, Any]:
    """Scores of (N,) predictions: their number as `rows`, `r2`, and in the property's unit `mae`, the `bias` (mean of
    predicted − true) and, over true values above `high`, `bias_high`. Raises InputError for fewer than two.
    """
    if len(true) < 2:
        raise InputError(f"{len(true)} held-out rows are too few for a score: use more data")
    error = np.asarray(predicted, dtype=np.float64) - np.asarray(true, dtype=np.float64)
    above = error[true > (np.inf if high is None else high)]
    mae, r2 = mean_absolute_error(true, predicted), r2_score(true, predicted)
    bias_high = rounded(bias_high=above.mean()) if len(above) else {"bias_high": None}
    return {"rows": len(true), **rounded(mae=mae, r2=r2, bias=error.mean()), **bias_high}


def rounded(**figures: float) -> dict[str, float]:
    """Figures as cards have them, with four digits."""
    return {name: round(float(value), 4) for name, value in figures.items()}


def tree_labels(train: Array, train_values: Array, test: Array, *, seed: int, trees: int) -> Array:
    """Predictions (N,) of extremely randomised trees fitted to the training rows."""
    model = ExtraTreesRegressor(trees, random_state=seed, n_jobs=-1).fit(train, train_values)
    return np.asarray(model.predict(test))


def random_compositions(count: int, elements: Sequence[int] = range(92), *, seed: int) -> Floats:
    """(count, 118): two to seven of these elements (columns, by default H to U), drawn evenly, in random amounts."""
    generator = np.random.default_rng(seed)
    rows = np.zeros((count, N_ELEMENTS), dtype=np.float32)
    for row in rows:
        held = generator.choice(np.asarray(elements), size=generator.integers(2, 8), replace=False)
        row[held] = generator.dirichlet(np.ones(len(held)))
    return rows


PARTNERS = 40
SMALL_JITTER, LARGE_JITTER = 0.03, 0.15  # standard deviation of ln(amount)
MAX_ADDED_RATIO = 0.3  # the paper's start adds as much (section 3.2)


@dataclass(frozen=True)
class MadeUp:
    """Rows of each kind to make."""

    small_jitter: int
    large_jitter: int
    mixed: int
    substituted: int
    enriched: int

    def rows(self, known: Floats, generator: np.random.Generator) -> Floats:
        """Compositions (sum of counts, 118) made from known ones (N, 118); every row sums to 1."""
        held = (known > 0).sum(0)
        frequencies = held / held.sum()

        def picked(count: int) -> Floats:
            return known[generator.integers(len(known), size=count)]

        rows = [
            _jittered(picked(self.small_jitter), SMALL_JITTER, generator),
            _jittered(picked(self.large_jitter), LARGE_JITTER, generator),
            _mixed(known, self.mixed, generator),
            _substituted(picked(self.substituted), frequencies, generator),
            _enriched(picked(self.enriched), frequencies, generator),
        ]
        everything = np.concatenate(rows)
        return np.asarray(everything / everything.sum(1, keepdims=True), dtype=np.float32)


def _jittered(rows: Floats, width: float, generator: np.random.Generator) -> Array:
    """Every amount off by a random factor."""
    return np.asarray(rows * np.exp(width * generator.standard_normal(rows.shape, dtype=np.float32)))


def _mixed(known: Floats, count: int, generator: np.random.Generator) -> Array:
    """Mixtures of two rows: the second is, of 40 at random, the one most like the first in its elements."""
    first = generator.integers(len(known), size=count)
    choice = generator.integers(len(known), size=(count, PARTNERS))
    holds = known > 0
    second = np.empty(count, dtype=np.int64)
    for row in range(count):
        mine, theirs = holds[first[row]], holds[choice[row]]
        likeness = (mine & theirs).sum(1) - 0.3 * (mine ^ theirs).sum(1)
        second[row] = choice[row, likeness.argmax()]
    share = generator.random((count, 1), dtype=np.float32)
    return share * known[first] + (1 - share) * known[second]


def _substituted(rows: Floats, frequencies: Array, generator: np.random.Generator) -> Floats:
    """One element, in half of the rows only a part of it, replaced by another one drawn by frequency."""
    count = len(rows)
    incoming = generator.choice(N_ELEMENTS, size=count, p=frequencies)
    shares = np.where(generator.random(count) < 0.5, 1.0, generator.random(count)).astype(np.float32)
    for row, element, share in zip(rows, incoming, shares, strict=True):
        outgoing = generator.choice(np.flatnonzero(row))
        moved = share * row[outgoing]
        row[outgoing] -= moved
        row[element] += moved
    return rows


def _enriched(rows: Floats, frequencies: Array, generator: np.random.Generator) -> Floats:
    """One to three elements added, as a search's start does."""
    for row in rows:
        added = generator.choice(N_ELEMENTS, size=generator.integers(1, 4), p=frequencies)
        np.add.at(row, added, MAX_ADDED_RATIO * generator.random(len(added), dtype=np.float32))
    return rows


@dataclass(frozen=True)
class Epoch:
    """The rows of one epoch: fractions (rows, 118), targets (rows,) on the network's own scale, and for an ensemble,
    which predicts (rows, members), their weights (rows, members).
    """

    fractions: Tensor
    targets: Tensor
    weights: Tensor | None = None


Sampler = Callable[[torch.Generator], Epoch]
Taught = tuple[Floats, Floats]  # made-up compositions (M, 118) and their T_c in K (M,)


@dataclass(frozen=True)
class Lesson:
    """What a network of T_c learns beside the measured rows, on its scale. made: the made-up rows, whose T_c a teacher
    gives, trees on the training rows and some non-superconductors; features: whether it sees the ensemble's features.
    """

    scale: LogScale
    made: MadeUp
    made_an_epoch: int
    zeros_an_epoch: int
    teacher_zeros: int
    teacher_trees: int
    features: bool = False

    def about(self) -> dict[str, Any]:
        """What a card says of it."""
        seen = "fractions and features of " if self.features else ""
        return {
            "target": f"ln(1 + T_c / {self.scale.scale_k:g} K)",
            "non_superconductors_an_epoch": self.zeros_an_epoch,
            "made_up_rows": asdict(self.made),
            "made_up_jitters": [SMALL_JITTER, LARGE_JITTER],
            "made_up_rows_an_epoch": self.made_an_epoch,
            "teacher": f"ExtraTrees, {self.teacher_trees} trees, on {seen}the training rows and {self.teacher_zeros} "
            "non-superconductors",
        }

    def rows(self, train: TrainingTable, zero: TrainingTable, seed: int) -> tuple[Floats, Floats, Floats]:
        """Made-up compositions (M, 118), and what the teacher learns from: compositions (N, 118), T_c in K (N,)."""
        generator = np.random.default_rng(seed)
        made = self.made.rows(train.fractions, generator)
        some = zero.fractions[generator.permutation(len(zero.fractions))[: self.teacher_zeros]]
        rows = np.concatenate([train.fractions, some])
        return made, rows, np.concatenate([train.values, np.zeros(len(some), dtype=np.float32)])

    @torch.no_grad()
    def seen(self, fractions: Floats) -> Floats:
        """What the teacher sees of fractions (N, 118): those, and the smooth statistics and ratios."""
        if not self.features:
            return fractions
        x = torch.from_numpy(np.ascontiguousarray(fractions, dtype=np.float32))
        return np.concatenate([fractions, TcFeatures().described(x).numpy()], axis=1)

    def taught(self, train: TrainingTable, zero: TrainingTable, seed: int) -> Taught:
        """Made-up compositions (M, 118) and their T_c in K (M,) by trees that saw no row but the training's."""
        made, rows, tc_k = self.rows(train, zero, seed)
        labels = tree_labels(self.seen(rows), tc_k, self.seen(made), seed=seed, trees=self.teacher_trees)
        return made, labels.astype(np.float32)

    def sampler(
        self, train: TrainingTable, zero: TrainingTable, taught: Taught, weights: Tensor | None = None
    ) -> Sampler:
        """Epochs of all measured rows and fresh samples of zeros and of the made-up rows. weights: (rows, members) of
        the measured rows; all others weigh 1 for every member.
        """
        made, labels = taught
        measured, zeros = len(train.values), len(zero.values)
        fractions = torch.from_numpy(np.concatenate([train.fractions, zero.fractions, made]))
        values = np.concatenate([train.values, np.zeros(zeros, dtype=np.float32), labels])
        targets = self.scale.log(torch.from_numpy(values))
        if weights is not None:
            weights = torch.cat([weights, torch.ones(zeros + len(made), weights.shape[1])])

        def sample(generator: torch.Generator) -> Epoch:
            some_zeros = measured + torch.randperm(zeros, generator=generator)[: self.zeros_an_epoch]
            some_made = torch.randperm(len(made), generator=generator)[: self.made_an_epoch]
            pick = torch.cat([torch.arange(measured), some_zeros, measured + zeros + some_made])
            return Epoch(fractions[pick], targets[pick], None if weights is None else weights[pick])

        return sample
