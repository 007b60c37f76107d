"""All that a search is run with and its rows are judged by: loaded once, by one function, and named by its hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import Any, cast

import numpy as np

from kiago_ray.chemistry.elements import INDEX, SYMBOLS, Floats, Mask
from kiago_ray.chemistry.formula import amounts_row, fractions, parse
from kiago_ray.data import NONE
from kiago_ray.data.tables import known_table, shipped_element_counts, tried_table
from kiago_ray.hull import EnergyHull
from kiago_ray.plausibility.model import Prospects, around, load_prospects
from kiago_ray.predictors.base import Predictors, predict
from kiago_ray.predictors.energy import EnergyEnsemble
from kiago_ray.predictors.ensemble import CalibratedEnsemble
from kiago_ray.predictors.oracle import Oracle, load_oracle
from kiago_ray.predictors.weights import (
    ENERGIES,
    ORACLE,
    folder_with,
    load_card,
    load_cards,
    load_predictors,
    version_of,
)
from kiago_ray.screening.candidates import Opinions
from kiago_ray.screening.known import BaseMaterial, KnownMaterials, TriedMaterials
from kiago_ray.search.problem import Substitutions, resolve
from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import SearchSpec


def search_frequencies() -> dict[str, Floats]:
    """The shipped element counts by data set, (118,) each, as `run_search` takes them."""
    return {name: amounts_row(source.counts) for name, source in shipped_element_counts().items()}


def check_hull(judge: SearchSpec, hull: EnergyHull | None) -> None:
    """Raise SpecError where a screen of `judge` needs a hull that isn't there, or the hull is of a file's energies."""
    if hull is None and "near_hull" in judge.screens.names:
        raise SpecError(
            "screens.names: near_hull needs competing phases, which --phases none and sweeps have none of: leave it "
            "out and put the result through `kiago hull --input top.csv`"
        )
    if hull is not None and hull.ef is None:
        raise SpecError(
            "hull: it has a file's energies alone, and candidates have none there; leave energies out"
        )


def _base_amounts(spec: SearchSpec, supported: Mask) -> dict[str, float]:
    """The base's amounts, {} without one. Raises SpecError where it holds an element that isn't supported."""
    amounts = {} if spec.base is None else parse(spec.base)
    unknown = [symbol for symbol in amounts if not supported[INDEX[symbol]]]
    if unknown:
        raise SpecError(f"base: the predictors don't know {', '.join(unknown)}; choose another base")
    return amounts


@dataclass(frozen=True)
class Models:
    """The models in hand; what is None or empty is asked nothing.

    predictors: what a search climbs. oracle: another T_c model that judges the outcome; it isn't among the predictors,
    so that no search can climb it. prospects: what can be made, which a search needs that keeps its base's sites.
    known: measured compositions to hold rows against. tried: samples that needn't be proposed again. hull: of the
    competing phases. frequencies: element counts (118,) by data set that starts are drawn by. cards: the model cards
    by kind. tables: SHA-256 of the tables `known`, `tried` and `phases`.
    """

    predictors: Predictors
    oracle: Oracle | None = None
    prospects: Prospects | None = None
    known: KnownMaterials | None = None
    tried: TriedMaterials | None = None
    hull: EnergyHull | None = None
    frequencies: Mapping[str, Floats] = field(default_factory=search_frequencies)
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """Where the predictors are, and with them the search."""
        return str(self.predictors.supported.device)

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of the weights by kind."""
        return {kind: card["sha256"] for kind, card in self.cards.items()}

    @property
    def version(self) -> str:
        """Twelve digits that change with any of the weights."""
        return version_of(self.hashes)

    @property
    def identity(self) -> dict[str, Any]:
        """What the models add to what makes a run's results the same."""
        used = {"known": self.known, "phases": self.hull, "tried": self.tried}
        tables = {name: self.tables[name] for name in self.tables if used[name] is not None}
        return {"weights": self.hashes, "known": None, **tables}

    @cached_property
    def foreign(self) -> frozenset[str]:
        """The symbols of the elements that the predictors don't know."""
        return frozenset(compress(SYMBOLS, (~self.predictors.supported).tolist()))

    def opinions_on(self, origin: Floats | None = None, threads: int = 1) -> Opinions:
        """What the ensemble, the oracle and the prospects say of compositions, whichever predictor of T_c the search
        followed. origin: (118,) fractions of the base, for the reasons. threads: for the oracle's trees.
        """

        def opinions(rows: Floats) -> dict[str, Any]:
            columns: dict[str, Any] = {}
            ensemble = self.predictors.named("ensemble")
            if isinstance(ensemble, CalibratedEnsemble):
                _, columns["tc_std_k"], _, columns["extrapolation"] = ensemble.estimates(rows)
            if self.oracle is not None:
                tc_k, spread = self.oracle.predict(rows, num_threads=threads)
                columns |= {"tc_oracle_k": tc_k, "tc_oracle_std_k": spread}
            if self.prospects is not None:
                columns["log_plausibility"], log_existence = self.prospects.log_probabilities(rows)
                columns["existence"] = np.exp(log_existence)
                columns["plausibility_reason"] = [self.prospects.reasons.of(row, origin) for row in rows]
            return columns

        return opinions

    def knowing(self, base: str | None) -> Models:
        """These models, whose prospects know that the base of a search exists."""
        return self if self.prospects is None else replace(self, prospects=self.prospects.knowing(base))

    def tried_by(self, tc_predictor: str) -> TriedMaterials | None:
        """The tried samples with what a predictor of T_c says of them; NaN where it doesn't know an element."""
        if self.tried is None:
            return None
        model = self.predictors.named(tc_predictor)
        rows, known = self.tried.compositions.fractions.toarray(), model.supported.cpu().numpy()
        able = ~(rows[:, ~known] > 0).any(axis=1)
        said = np.full(len(rows), np.nan)
        said[able] = predict(model, rows[able].astype(np.float32)).clip(min=0)
        return replace(self.tried, tc_predicted_k=said)

    def base(self, spec: SearchSpec) -> BaseMaterial | None:
        """The base of a search with its predictions and, where it is known, its measured T_c; None without a base.
        Raises SpecError where it holds an element that the predictors don't know.
        """
        amounts = _base_amounts(spec, self.predictors.supported.cpu().numpy())
        if spec.base is None:
            return None
        measured_k, pressure_gpa = None, None
        row, follow = fractions(amounts), self.predictors.following(spec.tc_predictor, spec.ef_predictor)
        tc_k, ef = (float(predict(each, row[None].astype(np.float32))[0]) for each in (follow.tc, follow.ef))
        if self.known is not None:
            _, *measured = self.known.measured(row[None])
            measured_k, pressure_gpa = (None if np.isnan(each[0]) else float(each[0]) for each in measured)
        return BaseMaterial(
            spec.base,
            max(tc_k, 0.0),
            ef,
            tc_measured_k=measured_k,
            tc_oracle_k=None if self.oracle is None else float(self.oracle.predict(row[None])[0][0]),
            measured_pressure_gpa=pressure_gpa or None,
        )

    def check(self, spec: SearchSpec, substitutions: Substitutions | None = None) -> None:
        """Raise SpecError where a search can't be run and judged with these models; nothing is run. substitutions: by
        default what replaces what around its base, which takes a tenth of a second to find.
        """
        supported = self.predictors.supported.cpu().numpy()
        resolve(spec, supported, around(spec, self.prospects) if substitutions is None else substitutions)
        _base_amounts(spec, supported)
        check_hull(spec, self.hull)


def load_models(
    weights: Path | str | None = None,
    *,
    known: str | None = None,
    tried: str | None = None,
    phases: Path | str | None = None,
    device: str = "cpu",
) -> Models:
    """The models that ship, or those of a folder that `kiago train` wrote, and the tables that are named.

    known: a file's path, `supercon`, `landmarks` or `none`; None for the shipped superconductors. tried: a file's
    path, `shipped` or `none`; None for none. phases: a file's path or `none`; None for the shipped ones. Raises
    WeightsError, DataError.
    """
    folder = None if weights is None else Path(weights)
    measured, outcomes = known_table(known), tried_table(tried)
    predictors = load_predictors(folder, device=device)
    hull = None
    if phases != NONE:
        ensemble = cast(EnergyEnsemble, predictors.energies["ensemble"])
        hull = EnergyHull.by(ensemble, load_card(ENERGIES, folder_with(ENERGIES, folder))["sha256"], phases)
    tables = {"known": measured, "phases": None if hull is None else hull.phases.report, "tried": outcomes}
    return Models(
        predictors=predictors,
        oracle=load_oracle(folder_with(ORACLE, folder)),
        prospects=load_prospects(folder),
        known=None if measured is None else KnownMaterials.from_table(measured.table, measured.source),
        tried=None if outcomes is None else TriedMaterials.from_table(outcomes.table, outcomes.source),
        hull=hull,
        cards=load_cards(folder),
        tables={name: table.sha256 for name, table in tables.items() if table is not None},
    )
