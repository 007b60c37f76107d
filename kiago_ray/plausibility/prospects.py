"""Plausibility as searches have it: the fit that ships, what replaces what around a base, and a term of the loss."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from scipy.sparse import csr_matrix

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.data.compositions import chemical_system
from kiago_ray.data.identity import KnownCompositions
from kiago_ray.data.tables import made_compounds, superconductors
from kiago_ray.plausibility.doping import known_vacancies, site_odds
from kiago_ray.plausibility.features import PlausibilityFeatures
from kiago_ray.plausibility.fit import fit_plausibility
from kiago_ray.plausibility.literature import Floats, Literature, element_sets
from kiago_ray.plausibility.model import Logistic, Plausibility
from kiago_ray.plausibility.reasons import Reasons
from kiago_ray.predictors.base import Predictors
from kiago_ray.predictors.weights import (
    ENDING,
    PLAUSIBILITY,
    WeightsError,
    folder_with,
    read_weights,
    shipped_weights,
    write_weights,
)
from kiago_ray.search.family import Substitutions
from kiago_ray.search.problem import resolve
from kiago_ray.search.spec import SearchSpec

if TYPE_CHECKING:
    import pandas as pd

_PORTION = 0.2  # of its site that a substitute takes in the composition that stands for doping
_LOOKED_AT = 24  # substitutes of an element whose plausibility is worked out, those of highest odds
_MILDNESS = 0.5  # power of plausibility in the odds


def substitutions_around(
    base: Floats, literature: Literature, odds: Floats, plausibility: Plausibility, made: Floats
) -> Substitutions:
    """Odds (118, 118) as they are around the base (118,) in fractions: those known of elements anywhere (see
    `doping.site_odds`), times the square root of how plausible the base is with the one for the other, wholly or in
    part, relative to the best. made: (m, 118) compounds that exist; those near the base are passed on.
    """
    held = np.flatnonzero(base)
    pairs = [(a, c) for a in held.tolist() for c in _likeliest(odds[a] * (base == 0))]
    here = odds.copy()
    here[held] = 0
    partly = np.full(odds.shape, -np.inf)
    if pairs:
        a, c = np.array(pairs).T
        rows = np.tile(base, (2, len(pairs), 1))
        at = np.arange(len(pairs))
        for kind, portion in enumerate((1.0, _PORTION)):
            rows[kind, at, c] = portion * base[a]
            rows[kind, at, a] -= portion * base[a]
        log_p = plausibility.log_probability(rows.reshape(-1, N_ELEMENTS)).reshape(2, -1)
        partly[a, c] = log_p[1]
        log_p = log_p.max(axis=0)
        here[a, c] = odds[a, c] * np.exp(_MILDNESS * (log_p - log_p.max()))
        here[held] /= max(here[held].max(), 1e-12)
    near = (made[:, held] > 0).sum(axis=1) >= len(held) - 1
    near &= (made > 0).sum(axis=1) <= len(held) + 1
    known = {(row > 0).tobytes() for row in literature.systems}
    untested = [row for row in made[near] if (row > 0).tobytes() not in known]
    return Substitutions(
        odds=np.clip(here, 0, 1),
        vacancies=known_vacancies(literature, base),
        made=np.array(untested).reshape(-1, N_ELEMENTS),
        partly=partly,
    )


def _likeliest(odds: Floats) -> list[int]:
    """The elements of highest odds (118,), those of none left out."""
    order = np.argsort(-odds, kind="stable")[:_LOOKED_AT]
    return [int(z) for z in order if odds[z] > 0]


_PARTS = ("mean", "deviation", "weight")
_LITERATURE = ("fractions", "tc_k", "reports", "first_year", "system", "systems")


@dataclass(frozen=True)
class Prospects:
    """What the past says of what can be made: plausibility, and what a family search is told of its base.

    odds: (118, 118) of one element taking another's site. made: (m, 118) compounds that exist.
    """

    literature: Literature
    plausibility: Plausibility
    odds: Floats
    made: Floats

    def knowing(self, base: str | None) -> Prospects:
        """The same where the chemical system of the base is known: who searches around a compound holds it, reported
        or not. Raises FormulaError.
        """
        if base is None:
            return self
        row = fractions(parse(base))
        if ((row > 0) == self.literature.systems).all(axis=1).any():
            return self
        literature, fitted = self.literature.with_one_more(row), self.plausibility
        features = PlausibilityFeatures(literature).to(fitted.supported.device)
        return replace(
            self, literature=literature, plausibility=Plausibility(features, fitted.exists, fitted.reported)
        )

    def around(self, base: str) -> Substitutions:
        """What takes whose place around a base. Raises FormulaError."""
        now, row = self.knowing(base), fractions(parse(base))
        return substitutions_around(row, now.literature, now.odds, now.plausibility, now.made)

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
        return log_p, np.where(self.compounds.nearest_same(rows) >= 0, 0.0, log_exists)

    @cached_property
    def compounds(self) -> KnownCompositions:
        """`made`, to be looked up."""
        nothing = np.zeros(len(self.made), dtype=np.bool_)
        return KnownCompositions(("",) * len(self.made), csr_matrix(self.made), nothing)


def shipped_literature() -> Literature:
    """The known superconductors that ship, those of stated oxygen."""
    return literature_of(superconductors())


def literature_of(table: pd.DataFrame, year: int | None = None) -> Literature:
    """Of a table as `knowledge.superconductors` gives it, of what was known before `year`, by default all. Raises
    ValueError where it holds no superconductor of stated oxygen with a date.
    """
    stated = table[(table["oxygen"] == "stated") & (table["tc_k"] > 0)] if "oxygen" in table else table
    stated = stated.rename(columns={"year_first": "year"})
    if stated["year"].isna().all():
        raise ValueError("there is no dated superconductor of stated oxygen among these")
    systems = [chemical_system(parse(formula)) for formula in stated["formula"]]
    year = int(stated["year"].max()) + 1 if year is None else year
    return Literature.of(stated.assign(chemical_system=systems), year)


def fit_without(systems: Collection[frozenset[str]]) -> Callable[[Floats], Floats]:
    """The logarithm of the probability to exist, of fractions (n, 118), by a fit that knows nothing of some chemical
    systems, each a set of symbols.
    """
    literature = shipped_literature()
    left_out = {sets.tobytes() for sets in element_sets(["-".join(sorted(each)) for each in systems])}
    kept = np.array([row.tobytes() not in left_out for row in literature.systems])[literature.system]
    fitted = fit_plausibility(literature.only(kept))
    return lambda rows: fitted.log_probabilities(rows)[1]


def made_fractions() -> Floats:
    """Compounds that exist: COD's, and the Materials Project's stable ones, (m, 118)."""
    rows: Floats = made_compounds().fractions.toarray()
    return rows


def load_prospects(folder: Path | None = None) -> Prospects:
    """Plausibility with the weights of a folder, or the shipped ones where it holds none. Raises WeightsError."""
    return read_plausibility(folder_with(PLAUSIBILITY, folder) or shipped_weights(), made_fractions())


def read_plausibility(folder: Path, made: Floats, literature: Literature | None = None) -> Prospects:
    """Plausibility with the weights of a folder, over the literature that it holds, else that given, else that which
    ships. made: (m, 118) compounds that exist. Raises WeightsError.
    """
    content, _, path = read_weights(PLAUSIBILITY, folder)
    try:
        stored = load(content)
    except SafetensorError as error:
        raise WeightsError(f"{path} can't be read ({error}): reinstall or train again") from None
    if "literature.year" in stored:
        literature = _literature(stored, path)
    literature = literature or shipped_literature()
    features = PlausibilityFeatures(literature)
    exists, reported = (_logistic(stored, name, path) for name in ("exists", "reported"))
    if len(reported.weight) != len(features.names):
        raise WeightsError(
            f"{path} reads {len(reported.weight)} features of systems, this version has {len(features.names)}"
        )
    plausibility = Plausibility(features, exists, reported)
    return Prospects(literature, plausibility, stored["odds"].double().numpy(), made)


def prospects_of(literature: Literature, plausibility: Plausibility, made: Floats) -> Prospects:
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
        arrays = {name: getattr(prospects.literature, name) for name in _LITERATURE}
        tensors |= {f"literature.{name}": torch.tensor(array) for name, array in arrays.items()}
        tensors["literature.year"] = torch.tensor([prospects.literature.year])
    for name in ("exists", "reported"):
        stage: Logistic = getattr(prospects.plausibility, name)
        for part in _PARTS:
            tensors[f"{name}.{part}"] = torch.tensor(getattr(stage, part), dtype=torch.float64)
        tensors[f"{name}.intercept"] = torch.tensor([stage.intercept], dtype=torch.float64)
    return write_weights(save(tensors), {**card}, PLAUSIBILITY, ENDING, folder)


def _literature(stored: dict[str, torch.Tensor], path: Path) -> Literature:
    try:
        arrays = {name: stored[f"literature.{name}"].numpy() for name in _LITERATURE}
    except KeyError as error:
        raise WeightsError(f"{path} lacks {error}: train again") from None
    return Literature(int(stored["literature.year"]), **arrays)


def _logistic(stored: dict[str, torch.Tensor], name: str, path: Path) -> Logistic:
    try:
        parts = {part: np.asarray(stored[f"{name}.{part}"]) for part in _PARTS}
        intercept = float(stored[f"{name}.intercept"])
    except KeyError as error:
        raise WeightsError(f"{path} lacks {error}: train again or reinstall") from None
    return Logistic(**parts, intercept=intercept)


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
    if problem.family is None:
        return replace(predictors, plausibility=prospects.plausibility)
    sites = problem.family.family.sites
    reached = {z for site in sites for z in (*site.own, *site.substitutes) if z < N_ELEMENTS}
    device = predictors.supported.device
    return replace(predictors, plausibility=prospects.plausibility.near(sorted(reached)).to(device))
