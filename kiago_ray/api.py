"""The library's front door: a search from its specification to ranked candidates, and formulas judged, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from kiago_ray.chemistry.elements import N_ELEMENTS, Floats
from kiago_ray.chemistry.formula import FormulaError, amounts_row, fractions, parse
from kiago_ray.chemistry.series import Change, series_of
from kiago_ray.data.names import read
from kiago_ray.data.tables import made_compounds
from kiago_ray.hull import with_hull
from kiago_ray.models import Models, check_hull, load_models
from kiago_ray.plausibility.model import around, informed
from kiago_ray.progress import SearchView, interactive, watching
from kiago_ray.screening.candidates import collect, ranked
from kiago_ray.screening.known import BaseMaterial
from kiago_ray.screening.scans import Scan, planned_rows
from kiago_ray.screening.screens import Summary, apply_screens, summarise
from kiago_ray.search.result import RowStatus, SearchResult
from kiago_ray.search.run import given_result, run_search
from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import SearchSpec, load_preset
from kiago_ray.search.stages import ProgressCallback, ShouldStop
from kiago_ray.storage.table import PREDICTED, candidates_table

AT_ONCE = 4096  # formulas that are scored together; bounds memory


@dataclass(frozen=True)
class SearchOutcome:
    """What came of a search. `table`: a pyarrow table of the unique formulas, best first."""

    spec: SearchSpec
    result: SearchResult
    table: Any
    summary: Summary


def propose(
    base: str | None = None,
    *,
    preset: str = "default",
    overrides: Mapping[str, Any] | None = None,
    spec: SearchSpec | None = None,
    models: Models | None = None,
    progress: ProgressCallback | bool | None = None,
    should_stop: ShouldStop | None = None,
) -> SearchOutcome:
    """Propose compositions around `base` with a higher T_c, screened and ranked.

    Give either a whole `spec` or a preset with `overrides` (nested or dotted keys). models: by default what ships
    (`load_models()`), with the known superconductors and the competing phases. progress: called with each step; True
    shows how far it is and the time left, as a notebook and Python's prompt do by themselves, and False nothing.
    Raises SpecError for a search that can't run, WeightsError where what ships can't be loaded.
    """
    if spec is None:
        spec = load_preset(preset, {**(overrides or {}), **({} if base is None else {"base": base})})
    elif base is not None or overrides:
        raise SpecError("give a whole specification, or a base and overrides, not both")
    models = models or load_models()
    shown = interactive() if progress is None else progress is True
    view = SearchView()
    callback = view if shown else progress if callable(progress) else None
    with watching(view) if shown else nullcontext():
        return judged_rows(spec, models, progress=callback, should_stop=should_stop).outcome(spec)


@dataclass(frozen=True)
class JudgedRows:
    """Rows of a search as a pyarrow table with every screen's verdict, in their order, and their base."""

    result: SearchResult
    base: BaseMaterial | None
    table: Any

    def outcome(self, spec: SearchSpec) -> SearchOutcome:
        """What the rows come to, ranked as `spec` says, by whose screens they were judged."""
        table = ranked(self.table, spec.screens)
        summary = summarise(
            table,
            rows=len(self.table),
            statuses=self.result.status_counts(),
            required=spec.screens.names,
            base=self.base,
            ranked_by=spec.screens.rank_by,
        )
        return SearchOutcome(spec, self.result, table, summary)


def judged_rows(
    spec: SearchSpec,
    models: Models,
    *,
    name: str | None = None,
    judge: SearchSpec | None = None,
    **options: Any,
) -> JudgedRows:
    """Run a search and judge what came of it by its screens.

    name: of the search within a campaign, for the table. judge: whose screens and oxidation states count, else the
    search's own. options: of `run_search`, such as `rows`, `progress` and `should_stop`. Raises SpecError for a search
    that these models can't run or judge.
    """
    check_hull(judge or spec, models.hull)
    base, models = models.base(spec), models.knowing(spec.base)
    substitutions = around(spec, models.prospects)
    predictors = informed(spec, models.predictors, models.prospects, substitutions)
    result = run_search(spec, predictors, models.frequencies, substitutions=substitutions, **options)
    return judged(result, judge or spec, models, base=base, seed=spec.seed, name=name)


def judged_formulas(
    amounts: Floats, judge: SearchSpec, models: Models, *, name: str | None = None
) -> JudgedRows:
    """Formulas that something else proposed, amounts (n, 118), as rows of a search: scored by the T_c predictor that
    `judge` names, judged by its screens. Amounts needn't be whole (see `screening.candidates.collect`). Raises
    SpecError as `judged_rows` does.
    """
    check_hull(judge, models.hull)
    base, models = models.base(judge), models.knowing(judge.base)
    result = given_result(amounts, models.predictors.following(judge.tc_predictor, judge.ef_predictor))
    return judged(result, judge, models, base=base, seed=judge.seed, name=name)


def judged(
    result: SearchResult,
    judge: SearchSpec,
    models: Models,
    *,
    base: BaseMaterial | None,
    seed: int,
    name: str | None = None,
    emd: bool = True,
    threads: int = 1,
) -> JudgedRows:
    """The n rows of `result` with the verdicts of every screen of `judge`. emd: whether the nearest known is looked
    for by element mover's distance too. threads: for the oracle's trees.
    """
    rows = collect(
        result,
        judge,
        known=models.known,
        made=made_compounds(),
        tried=models.tried_by(judge.tc_predictor),
        opinions=models.opinions_on(None if base is None else fractions(parse(base.formula)), threads),
        base=base,
        seed=seed,
        search=name,
        emd=emd,
    )
    if models.hull is not None:
        rows = with_hull(rows, result.amounts, models.hull)
    return JudgedRows(result, base, candidates_table(apply_screens(rows, judge.screens)))


def score(formulas: Sequence[object], models: Models, *, threads: int = 1) -> Any:
    """What the models say of n formulas, in their order, judged by the screens of `default`: an Arrow table of their
    columns PREDICTED, and `error`, why one has none of them, else null. threads: for the oracle's trees.
    """
    starts = range(0, max(len(formulas), 1), AT_ONCE)
    return pa.concat_tables([_score(formulas[at : at + AT_ONCE], models, threads) for at in starts])


def _score(formulas: Sequence[object], models: Models, threads: int) -> Any:
    amounts = np.zeros((len(formulas), N_ELEMENTS))
    errors: list[str | None] = [None] * len(formulas)
    for row, text in enumerate(formulas):
        try:
            amounts[row] = read_formula(text if isinstance(text, str) else "", models)
        except FormulaError as error:
            errors[row] = str(error).encode(errors="replace").decode()  # Arrow takes no half of a character
    good = np.flatnonzero([error is None for error in errors])
    rows = score_amounts(amounts[good], models, threads=threads)
    ok = rows.result.status == RowStatus.OK
    for row in good[~ok].tolist():
        errors[row] = "its predictions are no finite numbers"
    place = np.full(len(formulas), -1)
    place[good[ok]] = np.flatnonzero(ok)
    table = rows.table.select(PREDICTED).take(pa.array(place, mask=place < 0))
    return table.append_column("error", [pa.array(errors, pa.string())])


def scan(formula: str, *changes: Change, models: Models | None = None, threads: int = 1) -> Scan:
    """Scan doping series of a formula: `scan("La2CuO4", ("La", "Sr,Ba", "0:0.3:0.01"))` is a curve for each dopant.
    Two changes are a map, and "vacant" leaves places empty: `("O", "vacant", "0:1:0.05")`. x counts atoms of the
    formula as written. Raises FormulaError and SeriesError, which name the value.
    """
    models = models or load_models()
    planned = planned_scan(formula, changes, models)
    return planned.scored(score(planned.formulas, models, threads=threads))


def planned_scan(formula: str, changes: Sequence[Change], models: Models) -> Scan:
    """The scan before it is scored, with the known compositions of its series. Raises as `scan` does."""
    read(formula)  # YBCO names no series
    series = series_of(formula, changes)
    for each in series:
        read_formula(
            each.formula([max(doping.x) / 2 for doping in each.dopings]), models
        )  # of known elements
    return Scan(series, planned_rows(series, models.known))


def read_formula(formula: str, models: Models) -> Floats:
    """The amounts (118,) of a formula. Raises FormulaError, also for an element that the predictors don't know."""
    amounts = read(formula)
    unknown = [symbol for symbol in amounts if symbol in models.foreign]
    if unknown:
        raise FormulaError("unknown element", f"the predictors don't know {', '.join(unknown)}")
    return amounts_row(amounts)


def score_amounts(amounts: Floats, models: Models, *, threads: int = 1) -> JudgedRows:
    """Amounts (n, 118) of elements that the predictors know, as rows of a search without a base, and without their
    neighbours by element mover's distance.
    """
    judge = _default()
    result = given_result(amounts, models.predictors.following(judge.tc_predictor, judge.ef_predictor))
    # What was tried re-weighs proposals, not what a person asks about.
    told = replace(models, tried=None)
    return judged(result, judge, told, base=None, seed=judge.seed, emd=False, threads=threads)


@cache
def _default() -> SearchSpec:
    """The preset whose screens decide which formulas pass."""
    return load_preset("default")
