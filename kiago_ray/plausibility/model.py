"""Plausibility: the probability that a composition is made and reported; what searches have of it; and its fit.

P is the product of three. The first tells what was reported from what nobody would make (elements swapped at random,
amounts altered); the second, among the systems next to known ones, which were reported in the following years; the
third is the share of the relatives that are composed alike. The first two are logistic regressions: for each of the
last years before the literature's end their features are from what was known then, their examples from what came
after. Proposals that came true are few, so the regressions are strongly regularised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from kiago_ray.chemistry.elements import N_ELEMENTS, Floats, Ints, Mask
from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.data.compositions import KnownCompositions, folds, nearest
from kiago_ray.data.tables import made_compounds, superconductors
from kiago_ray.plausibility.features import CHARGE_NAMES, MAKE_UP_WIDTHS, PlausibilityFeatures
from kiago_ray.plausibility.literature import (
    Literature,
    Reasons,
    added_systems,
    elements_at_hand,
    known_vacancies,
    swapped_systems,
    system_names,
)
from kiago_ray.predictors.base import Predictors
from kiago_ray.predictors.weights import PLAUSIBILITY, WeightsError, folder_with, read_tensors, write_weights
from kiago_ray.search.problem import Substitutions, resolve
from kiago_ray.search.spec import SearchSpec

_PORTION = 0.2  # of its site that a substitute takes in the composition that stands for doping
_LOOKED_AT = 24  # substitutes of an element whose plausibility is worked out, those of highest odds
_MILDNESS = 0.5  # power of plausibility in the odds

MOST_DEVIATIONS = 5.0  # of a standardised feature; further out it counts as this
YEARS_BACK = (1, 2, 3, 4, 5, 6, 7)
PROPOSALS = 40_000  # systems next to known ones, of each kind
TWO_SWAPS = 0.5  # probability that two elements are swapped instead of one
FOLDS = 5
_TRIES = 10
_JITTER = 0.8  # of the logarithms of amounts
_SHARE = 0.4  # of the proposals that came to nothing that are learnt from
_STRENGTH = 0.003  # scikit-learn's C; the inverse of the regularisation
_FAR = 0.05  # L1 distance from all that was known, from which a composition is new
_KNOWN = 1500  # systems known then that are learnt from
_PER_SYSTEM = 3

Stored = TypeVar("Stored", Literature, "Logistic")


@dataclass(frozen=True)
class Logistic:
    """ln of the odds = intercept + Σ weight · (feature − mean) / deviation; arrays are (features,)."""

    mean: Floats
    deviation: Floats
    weight: Floats
    intercept: float

    def log_probability(self, features: Tensor) -> Tensor:
        """ln P of features (rows, features), (rows,)."""
        mean, deviation, weight = (
            torch.as_tensor(each, dtype=features.dtype, device=features.device)
            for each in (self.mean, self.deviation, self.weight)
        )
        standard = ((features - mean) / deviation).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)
        return nn.functional.logsigmoid(standard @ weight + self.intercept)


class Plausibility(nn.Module):
    """Fractions (rows, 118), every row summing to 1 → ln P in nats (rows,), a predictor. exists reads all features,
    reported those of systems, which come first.
    """

    def __init__(self, features: PlausibilityFeatures, exists: Logistic, reported: Logistic) -> None:
        super().__init__()
        self.features, self.exists, self.reported = features, exists, reported
        self.supported = nn.Buffer(torch.tensor(elements_at_hand()), persistent=False)

    def forward(self, fractions: Tensor) -> Tensor:
        return self._both(*self.features(fractions))[0]

    def _both(self, features: Tensor, agreement: Tensor) -> tuple[Tensor, Tensor]:
        """ln P and ln P to exist of features (rows, …) and ln of the agreement (rows,), (rows,) each."""
        exists = self.exists.log_probability(features)
        reported = self.reported.log_probability(features[:, : len(self.reported.weight)])
        return exists + reported + agreement, exists

    @torch.no_grad()
    def log_probabilities(self, fractions: NDArray[np.floating]) -> tuple[Floats, Floats]:
        """ln P of fractions (n, 118) in nats, and ln P that it exists, reported or not (`exists`); (n,) each."""
        parts = [self.features(rows) for rows in self.features.chunks(np.asarray(fractions))]
        log_p, log_exists = self._both(*(torch.cat(each) for each in zip(*parts, strict=True)))
        return log_p.double().numpy(), log_exists.double().numpy()

    def near(self, present: Mask) -> Plausibility:
        """A faster copy for the elements `present` (118,) alone, nearly equal there: `PlausibilityFeatures.near`."""
        return Plausibility(self.features.near(present), self.exists, self.reported)


@dataclass(frozen=True)
class Prospects:
    """What the past says of what can be made: plausibility, and what a family search is told of its base. odds: (118,
    118) of one element taking another's site (`literature.site_odds`). made: compounds that exist.
    """

    literature: Literature
    plausibility: Plausibility
    odds: Floats
    made: KnownCompositions

    def knowing(self, base: str | None) -> Prospects:
        """The same where the base's chemical system is known: who searches around it holds it. Raises FormulaError."""
        row = None if base is None else fractions(parse(base))
        if row is None or (row > 0).tobytes() in self.literature.known:
            return self
        literature, fitted = self.literature.with_one_more(row), self.plausibility
        features = PlausibilityFeatures(literature).to(fitted.supported.device)
        return replace(
            self, literature=literature, plausibility=Plausibility(features, fitted.exists, fitted.reported)
        )

    def around(self, base: str) -> Substitutions:
        """What takes whose place around a base: the odds known of elements anywhere, times the square root of how
        plausible the base is with the one for the other, wholly or in part, relative to the best; and the compounds
        near it that nobody tested. Raises FormulaError.
        """
        now, row = self.knowing(base), fractions(parse(base))
        held = np.flatnonzero(row)
        odds, partly = self.odds.copy(), np.full(self.odds.shape, -np.inf)
        odds[held] = 0
        a, c = now._likeliest(row)
        if len(a):
            rows = np.tile(row, (2, len(a), 1))
            at = np.arange(len(a))
            for kind, portion in enumerate((1.0, _PORTION)):
                rows[kind, at, c] = portion * row[a]
                rows[kind, at, a] -= portion * row[a]
            log_p = now.plausibility.log_probabilities(rows.reshape(-1, N_ELEMENTS))[0].reshape(2, -1)
            partly[a, c] = log_p[1]
            log_p = log_p.max(axis=0)
            odds[a, c] = self.odds[a, c] * np.exp(_MILDNESS * (log_p - log_p.max()))
            odds[held] /= max(odds[held].max(), 1e-12)
        near = self.made.held[held].sum(axis=0) >= len(held) - 1
        near &= self.made.held.sum(axis=0) <= len(held) + 1
        beside = self.made.fractions[near].toarray()
        untested = [made for made in beside if (made > 0).tobytes() not in now.literature.known]
        return Substitutions(
            odds=np.clip(odds, 0, 1),
            vacancies=known_vacancies(now.literature, row),
            made=np.array(untested).reshape(-1, N_ELEMENTS),
            partly=partly,
        )

    def _likeliest(self, base: Floats) -> Any:
        """Pairs (2, p) of an element of the base (118,) and another one: for each those of highest odds."""
        pairs = []
        for a in np.flatnonzero(base).tolist():
            odds = self.odds[a] * (base == 0)
            pairs += [(a, c) for c in np.argsort(-odds, kind="stable")[:_LOOKED_AT].tolist() if odds[c] > 0]
        return np.array(pairs, dtype=np.int64).reshape(-1, 2).T

    @cached_property
    def anywhere(self) -> Substitutions:
        """What takes whose place anywhere, whatever stands beside it; no vacancies, no compounds."""
        return Substitutions(np.clip(self.odds, 0, 1), np.zeros(N_ELEMENTS, dtype=np.bool_))

    @cached_property
    def reasons(self) -> Reasons:
        """Sentences on compositions."""
        return Reasons(self.literature)

    def log_probabilities(self, rows: Floats) -> tuple[Floats, Floats]:
        """ln P in nats of fractions (n, 118), which looks up nothing of a row itself, and ln P that it exists,
        reported or not; (n,) each. What is the same as a compound of `made` does exist: there the second is 0.
        """
        log_p, log_exists = self.plausibility.log_probabilities(rows)
        return log_p, np.where(self.made.nearest_same(rows) >= 0, 0.0, log_exists)


def load_prospects(
    folder: Path | None = None, made: KnownCompositions | None = None, literature: Literature | None = None
) -> Prospects:
    """Plausibility with the weights of a folder, or the shipped ones where it holds none, over the literature beside
    these, else the given or shipped one. made: compounds that exist, by default the shipped. Raises WeightsError.
    """
    tensors, _, path = read_tensors(PLAUSIBILITY, folder_with(PLAUSIBILITY, folder))
    stored = {name: tensor.numpy() for name, tensor in tensors.items()}
    try:
        if "literature.year" in stored:
            literature = _read(Literature, stored, "literature")
        exists, reported = (_read(Logistic, stored, stage) for stage in ("exists", "reported"))
        odds = stored["odds"].astype(np.float64)
    except KeyError as error:
        raise WeightsError(f"{path} lacks {error}: train again or reinstall") from None
    literature = literature or Literature.of(superconductors())
    features = PlausibilityFeatures(literature)
    if len(reported.weight) != len(features.names):
        raise WeightsError(
            f"{path} reads {len(reported.weight)} features of systems, this version has {len(features.names)}"
        )
    made = made_compounds() if made is None else made
    return Prospects(literature, Plausibility(features, exists, reported), odds, made)


def save_plausibility(
    prospects: Prospects, card: dict[str, Any], folder: Path, *, with_literature: bool = False
) -> Path:
    """Write `plausibility.safetensors` and its card, and what was known where asked for; return the weights' path."""
    fitted = prospects.plausibility
    stored: dict[str, Any] = {"exists": fitted.exists, "reported": fitted.reported}
    if with_literature:
        stored["literature"] = prospects.literature
    tensors = {
        f"{name}.{each.name}": torch.tensor(np.atleast_1d(getattr(part, each.name)))
        for name, part in stored.items()
        for each in fields(part)
    }
    tensors["odds"] = torch.tensor(prospects.odds, dtype=torch.float32)
    return write_weights(save(tensors), dict(card), PLAUSIBILITY, folder)


def _read(kind: type[Stored], stored: Mapping[str, Any], name: str) -> Stored:
    """What `save_plausibility` stored under this name: arrays, and numbers as arrays of one."""
    values = {}
    for each in fields(kind):
        read = stored[f"{name}.{each.name}"]
        values[each.name] = read[0].item() if each.type in ("int", "float") else read
    return kind(**values)


def around(spec: SearchSpec, prospects: Prospects | None) -> Substitutions | None:
    """What takes the place of what around the base of a family search; None for any other search."""
    if prospects is None or not spec.family.enabled or spec.base is None:
        return None
    return prospects.around(spec.base)


def informed(
    spec: SearchSpec, predictors: Predictors, prospects: Prospects | None, substitutions: Substitutions | None
) -> Predictors:
    """The predictors, with the plausibility of the elements that a search can reach (`near`) if its loss has it."""
    if prospects is None or spec.plausibility_weight <= 0:
        return predictors
    problem = resolve(spec, predictors.supported.cpu().numpy(), substitutions)
    sites = () if problem.family is None else problem.family.sites
    reached = {z for site in sites for z in (*site.own, *site.substitutes)}
    present = np.isin(np.arange(N_ELEMENTS), sorted(reached or range(N_ELEMENTS)))  # a vacancy is no element
    near = prospects.plausibility.near(present)
    return replace(predictors, plausibility=near.to(predictors.supported.device))


def swapped_at_random(
    fractions: Floats, known: AbstractSet[bytes], rng: np.random.Generator, two: float = TWO_SWAPS
) -> Floats:
    """Rows of fractions (n, 118) with one or two elements swapped for others, each as likely, (≤ n, 118). A swap that
    gives a known system, whose set of elements is in `known`, is drawn again, and left out after ten.
    """
    others = np.flatnonzero(elements_at_hand())
    swapped = []
    for row in fractions:
        held = np.flatnonzero(row)
        free = others[row[others] == 0]
        for _ in range(_TRIES):
            number = 1 + (rng.random() < two and len(held) > 1)
            old = rng.choice(held, number, replace=False)
            new = rng.choice(free, number, replace=False)
            other = row.copy()
            other[new], other[old] = row[old], 0
            if (other > 0).tobytes() not in known:
                swapped.append(other)
                break
    return np.array(swapped).reshape(-1, N_ELEMENTS)


def amounts_altered(fractions: Floats, rng: np.random.Generator) -> Floats:
    """Rows of fractions (n, 118) with their amounts exchanged among their elements, or each multiplied at random."""
    altered = np.zeros_like(fractions)
    for row, given in enumerate(fractions):
        held = np.flatnonzero(given)
        if rng.random() < 0.5 and len(held) > 1:
            altered[row, held] = given[rng.permutation(held)]
        else:
            altered[row, held] = given[held] * np.exp(rng.normal(0, _JITTER, len(held)))
    return np.asarray(altered / altered.sum(axis=1, keepdims=True))


Examples = list[tuple[Floats, Any, Any]]
"""Fractions (n, 118) or features (n, f) of each kind of examples, whether they are real, and their weights: of all
alike, or (n,)."""


@torch.no_grad()
def read(
    features: PlausibilityFeatures, part: Callable[[Tensor], Sequence[Any]], examples: Examples
) -> Examples:
    """The features that `part` gives first, in the place of the fractions."""
    return [
        (torch.cat([part(rows)[0] for rows in features.chunks(fractions)]).double().numpy(), real, weight)
        for fractions, real, weight in examples
        if len(fractions)
    ]


def fitted(examples: Examples) -> Logistic:
    """The regression that tells real examples by their features from the others."""
    features = np.concatenate([each for each, _, _ in examples])
    real, weight = (
        np.concatenate([np.broadcast_to(each[at], len(each[0])) for each in examples]) for at in (1, 2)
    )
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-6
    standard = np.clip((features - mean) / deviation, -MOST_DEVIATIONS, MOST_DEVIATIONS)
    model = LogisticRegression(C=_STRENGTH, max_iter=400)
    model.fit(standard, real, sample_weight=weight.astype(np.float64))
    return Logistic(mean, deviation, model.coef_[0], float(model.intercept_[0]))


def fit_plausibility(literature: Literature, *, seed: int = 0) -> Plausibility:
    """Plausibility as of the end of `literature`, learnt from it alone. About two minutes on one core. Raises
    ValueError where nothing was first reported in the years that it learns from.
    """
    proposals, alterations = Examples(), Examples()
    for back in YEARS_BACK:
        then = literature.before(literature.year - back)
        if len(then.systems) == len(literature.systems):
            continue
        rng = np.random.default_rng([seed, then.year])
        features = PlausibilityFeatures(then)
        proposals += read(features, features.of_systems, proposed(then, literature, rng))
        alterations += read(features, features, altered(then, literature, rng))
    if not proposals:
        raise ValueError(f"nothing was first reported in the {YEARS_BACK[-1]} years before {literature.year}")
    return Plausibility(PlausibilityFeatures(literature), fitted(alterations), fitted(proposals))


def proposed(then: Literature, later: Literature, rng: np.random.Generator) -> Examples:
    """Systems next to those known then: real where they were reported until the end of `later`."""
    hands = elements_at_hand()
    kinds = (swapped_systems(then, hands, PROPOSALS), added_systems(then, hands, PROPOSALS))
    systems = np.unique(np.concatenate([kind.systems for kind in kinds]), axis=0)
    real = np.array([row.tobytes() in later.known for row in systems], dtype=np.bool_)
    kept = real | (rng.random(len(real)) < _SHARE)
    systems, real = systems[kept], real[kept]
    return [(systems / systems.sum(axis=1, keepdims=True), real, np.where(real, 1.0, 1 / _SHARE))]


def altered(then: Literature, later: Literature, rng: np.random.Generator) -> Examples:
    """Compositions reported later, and known then, against the same with other elements or other amounts."""
    since = np.flatnonzero(later.first_year >= then.year)
    since = since[nearest(later.fractions[since], then.fractions)[1] > _FAR] if len(since) else since
    since = _few(rng.permutation(since), later.system)
    new = np.array(
        [later.systems[at].tobytes() not in then.known for at in later.system[since]], dtype=np.bool_
    )
    of_system = np.bincount(later.system[since])[later.system[since]]
    before = _few(rng.permutation(len(then.fractions)), then.system, most=1)[:_KNOWN]
    found, old = later.fractions[since], then.fractions[before]
    examples: Examples = [(found, True, np.where(new, 1.0, 0.3) / of_system), (old, True, 0.5)]
    each = 10.0 / np.maximum(of_system.mean() if len(of_system) else 1.0, 1.0)
    for rows, weight in ((found, each), (old, 5.0)):
        examples.append((swapped_at_random(rows, later.known, rng), False, weight))
        examples.append((amounts_altered(rows, rng), False, weight / 4))
    return examples


def _few(order: Ints, system: Ints, most: int = _PER_SYSTEM) -> Ints:
    """Of these compositions, in their order, the first `most` of each system."""
    mine = system[order]
    return order[pd.Series(mine).groupby(mine).cumcount().to_numpy() < most]


def train_plausibility(
    literature: Literature, *, seed: int, on_step: Callable[[str], None]
) -> tuple[Plausibility, dict[str, Any]]:
    """Plausibility fitted to all of a literature, and its card: what it rests on, and how good it is. The score is of
    another fit, which leaves out a fifth of the chemical systems: the area under the ROC curve, of ln P and of ln P to
    exist, between a composition of each system left out and the same with elements swapped at random. About four
    minutes on one core. Raises ValueError as `fit_plausibility` does.
    """
    held = folds(system_names(literature.systems), FOLDS, salt=PLAUSIBILITY) == 0
    on_step(f"fitting to {(~held).sum():,} of {len(held):,} chemical systems, to score it on the others")
    partial = fit_plausibility(literature.only(~held[literature.system]), seed=seed)
    _, one_each = np.unique(literature.system, return_index=True)
    real = literature.fractions[one_each[held]]
    swaps = swapped_at_random(real, literature.known, np.random.default_rng(seed))
    log_p, log_exists = partial.log_probabilities(np.concatenate([real, swaps]))
    is_real = np.arange(len(log_p)) < len(real)
    on_step(f"fitting to all {len(held):,} chemical systems")
    whole = fit_plausibility(literature, seed=seed)
    make_up = [f"made_up_alike_{width:g}" for width in MAKE_UP_WIDTHS]
    names = [*whole.features.names, *make_up, *CHARGE_NAMES]
    return whole, {
        "kind": PLAUSIBILITY,
        "network": "two logistic regressions, times the share of relatives that are composed alike",
        "year": literature.year,
        "compositions": len(literature.fractions),
        "systems": len(literature.systems),
        "seed": seed,
        "features": names,
        "element_statistics": len(whole.exists.weight) - len(names),
        "held_out": {
            "split": f"a fold of {FOLDS} by chemical system",
            "against": "one or two elements swapped at random",
            "systems": int(held.sum()),
            "auc": round(float(roc_auc_score(is_real, log_p)), 4),
            "auc_exists": round(float(roc_auc_score(is_real, log_exists)), 4),
        },
    }
