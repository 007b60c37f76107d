"""Plausibility as searches have it: the fit that ships, what replaces what around a base, and a term of the loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from kiago_ray.chemistry.elements import N_ELEMENTS, Floats
from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.data.compositions import KnownCompositions
from kiago_ray.data.tables import made_compounds, superconductors
from kiago_ray.plausibility.features import PlausibilityFeatures
from kiago_ray.plausibility.literature import Literature
from kiago_ray.plausibility.model import Logistic, Plausibility
from kiago_ray.plausibility.substitution import Reasons, known_vacancies, site_odds
from kiago_ray.predictors.base import Predictors
from kiago_ray.predictors.weights import (
    PLAUSIBILITY,
    WeightsError,
    folder_with,
    read_tensors,
    shipped_weights,
    write_weights,
)
from kiago_ray.search.problem import Substitutions, resolve
from kiago_ray.search.spec import SearchSpec

_PORTION = 0.2  # of its site that a substitute takes in the composition that stands for doping
_LOOKED_AT = 24  # substitutes of an element whose plausibility is worked out, those of highest odds
_MILDNESS = 0.5  # power of plausibility in the odds
_STAGES = ("exists", "reported")
_PARTS = ("mean", "deviation", "weight", "intercept")
_LITERATURE = ("fractions", "tc_k", "reports", "first_year", "system", "systems")


@dataclass(frozen=True)
class Prospects:
    """What the past says of what can be made: plausibility, and what a family search is told of its base.

    odds: (118, 118) of one element taking another's site (`substitution.site_odds`). made: compounds that exist.
    """

    literature: Literature
    plausibility: Plausibility
    odds: Floats
    made: KnownCompositions

    def knowing(self, base: str | None) -> Prospects:
        """The same where the chemical system of the base is known: who searches around a compound holds it, reported
        or not. Raises FormulaError.
        """
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
        """ln P in nats of fractions (n, 118), and ln P that it exists, reported or not; (n,) each.

        P looks up nothing of a row itself. What is the same as a compound of `made` does exist, so there the second is
        0, whatever its relatives say.
        """
        log_p, log_exists = self.plausibility.log_probabilities(rows)
        return log_p, np.where(self.made.nearest_same(rows) >= 0, 0.0, log_exists)


def load_prospects(folder: Path | None = None) -> Prospects:
    """Plausibility with the weights of a folder, or the shipped ones where it holds none. Raises WeightsError."""
    return read_plausibility(folder_with(PLAUSIBILITY, folder) or shipped_weights(), made_compounds())


def read_plausibility(
    folder: Path, made: KnownCompositions, literature: Literature | None = None
) -> Prospects:
    """Plausibility with the weights of a folder, over the literature that it holds, else that given, else that which
    ships. made: compounds that exist. Raises WeightsError.
    """
    tensors, _, path = read_tensors(PLAUSIBILITY, folder)
    try:
        stored = {name: tensor.numpy() for name, tensor in tensors.items()}
        if "literature.year" in stored:
            arrays = {name: stored[f"literature.{name}"] for name in _LITERATURE}
            literature = Literature(int(stored["literature.year"][0]), **arrays)
        exists, reported = (_logistic(stored, stage) for stage in _STAGES)
        odds = stored["odds"].astype(np.float64)
    except KeyError as error:
        raise WeightsError(f"{path} lacks {error}: train again or reinstall") from None
    literature = literature or Literature.of(superconductors())
    features = PlausibilityFeatures(literature)
    if len(reported.weight) != len(features.names):
        raise WeightsError(
            f"{path} reads {len(reported.weight)} features of systems, this version has {len(features.names)}"
        )
    return Prospects(literature, Plausibility(features, exists, reported), odds, made)


def _logistic(stored: dict[str, Any], stage: str) -> Logistic:
    mean, deviation, weight, intercept = (stored[f"{stage}.{part}"] for part in _PARTS)
    return Logistic(mean, deviation, weight, float(intercept[0]))


def prospects_of(literature: Literature, plausibility: Plausibility, made: KnownCompositions) -> Prospects:
    """The same of a literature of one's own."""
    return Prospects(literature, plausibility, site_odds(literature), made)


def save_plausibility(
    prospects: Prospects, card: dict[str, Any], folder: Path, *, with_literature: bool = False
) -> Path:
    """Write `plausibility.safetensors` and its card; return the weights' path. with_literature: what was known goes
    along, where it isn't what ships.
    """
    tensors = {"odds": torch.tensor(prospects.odds, dtype=torch.float32)}
    if with_literature:
        known = prospects.literature
        tensors |= {f"literature.{name}": torch.tensor(getattr(known, name)) for name in _LITERATURE}
        tensors["literature.year"] = torch.tensor([known.year])
    for stage in _STAGES:
        logistic: Logistic = getattr(prospects.plausibility, stage)
        for part in _PARTS:
            values = np.atleast_1d(getattr(logistic, part))
            tensors[f"{stage}.{part}"] = torch.tensor(values, dtype=torch.float64)
    return write_weights(save(tensors), dict(card), PLAUSIBILITY, folder)


def around(spec: SearchSpec, prospects: Prospects | None) -> Substitutions | None:
    """What takes the place of what around the base of a family search; None for any other search."""
    if prospects is None or not spec.family.enabled or spec.base is None:
        return None
    return prospects.around(spec.base)


def informed(
    spec: SearchSpec, predictors: Predictors, prospects: Prospects | None, substitutions: Substitutions | None
) -> Predictors:
    """The predictors of a search with plausibility, where its loss has it: that of compositions of the elements
    that the search can reach, which is nearly the same there and faster (`Plausibility.near`).
    """
    if prospects is None or spec.plausibility_weight <= 0:
        return predictors
    problem, plausibility = (
        resolve(spec, predictors.supported.cpu().numpy(), substitutions),
        prospects.plausibility,
    )
    if problem.family is not None:
        sites = problem.family.sites
        reached = {z for site in sites for z in (*site.own, *site.substitutes) if z < N_ELEMENTS}
        plausibility = plausibility.near(sorted(reached))
    return replace(predictors, plausibility=plausibility.on(predictors.supported.device))
