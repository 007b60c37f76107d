"""Plausibility as searches have it: the fit that ships, what replaces what around a base, and a term of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import save

from kiago_ray.chemistry.elements import N_ELEMENTS, Floats
from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.data.compositions import KnownCompositions
from kiago_ray.data.tables import made_compounds, superconductors
from kiago_ray.plausibility.features import PlausibilityFeatures
from kiago_ray.plausibility.literature import Literature, Reasons, known_vacancies
from kiago_ray.plausibility.model import Logistic, Plausibility
from kiago_ray.predictors.base import Predictors
from kiago_ray.predictors.weights import PLAUSIBILITY, WeightsError, folder_with, read_tensors, write_weights
from kiago_ray.search.problem import Substitutions, resolve
from kiago_ray.search.spec import SearchSpec

_PORTION = 0.2  # of its site that a substitute takes in the composition that stands for doping
_LOOKED_AT = 24  # substitutes of an element whose plausibility is worked out, those of highest odds
_MILDNESS = 0.5  # power of plausibility in the odds

Stored = TypeVar("Stored", Literature, Logistic)


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
        """ln P in nats of fractions (n, 118), and ln P that it exists, reported or not; (n,) each. P looks up nothing
        of a row itself. What is the same as a compound of `made` does exist, so there the second is 0, whatever its
        relatives say.
        """
        log_p, log_exists = self.plausibility.log_probabilities(rows)
        return log_p, np.where(self.made.nearest_same(rows) >= 0, 0.0, log_exists)


def load_prospects(
    folder: Path | None = None, made: KnownCompositions | None = None, literature: Literature | None = None
) -> Prospects:
    """Plausibility with the weights of a folder, or the shipped ones where it holds none; over the literature that
    stands with these, else that given, else that which ships. made: compounds that exist, by default those that ship.
    Raises WeightsError.
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
    """The predictors of a search with plausibility, where its loss has it: that of compositions of the elements
    that the search can reach, which is nearly the same there and faster (`Plausibility.near`).
    """
    if prospects is None or spec.plausibility_weight <= 0:
        return predictors
    problem = resolve(spec, predictors.supported.cpu().numpy(), substitutions)
    sites = () if problem.family is None else problem.family.sites
    reached = {z for site in sites for z in (*site.own, *site.substitutes) if z < N_ELEMENTS}
    near = prospects.plausibility.near(sorted(reached or range(N_ELEMENTS)))
    return replace(predictors, plausibility=near.to(predictors.supported.device))
