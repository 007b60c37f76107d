"""The library's front door: a search from its specification to ranked candidates, and formulas judged, in memory.

Whoever has formulas, a search or a person with a list, gets the same columns by the same code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import N_ELEMENTS, Floats
from kiago_ray.chemistry.formula import FormulaError, amounts_row, fractions, parse
from kiago_ray.data.tables import made_compounds
from kiago_ray.hull.energy_hull import MAX_FORMULAS, TOLD_FORMULAS, with_e_hull
from kiago_ray.models import Models, load_models
from kiago_ray.plausibility.prospects import Prospects, around, informed
from kiago_ray.predictors.base import predict
from kiago_ray.screening.candidates import Candidates, SecondOpinions, collect
from kiago_ray.screening.known import TriedMaterials
from kiago_ray.screening.rank import Ranking
from kiago_ray.screening.screens import Verdicts, apply_screens, available_screens
from kiago_ray.screening.summary import BaseMaterial, Summary, summarise
from kiago_ray.search.result import RowStatus, SearchResult
from kiago_ray.search.run import TRAJECTORY_ROWS, given_result, run_search
from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import SearchSpec, load_preset
from kiago_ray.search.stages import ProgressCallback, ShouldStop
from kiago_ray.storage.table import PREDICTED, candidates_table, ranked, schema

HULL_FORMULAS = MAX_FORMULAS  # of one request for scores
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
    progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> SearchOutcome:
    """Propose compositions around `base` with a higher T_c, screened and ranked.

    Give either a whole `spec` or a preset with `overrides` (nested or dotted keys). models: by default what ships
    (`load_models()`), with the known superconductors and without competing phases. Raises SpecError for a search that
    can't run, WeightsError where what ships can't be loaded.
    """
    if spec is None:
        spec = load_preset(preset, {**(overrides or {}), **({} if base is None else {"base": base})})
    elif base is not None or overrides:
        raise SpecError("give a whole specification, or a base and overrides, not both")
    models = models or load_models()
    return judged_rows(spec, models, progress=progress, should_stop=should_stop).outcome(spec)


@dataclass(frozen=True)
class JudgedRows:
    """Rows of a search with every screen's verdict. base: the material they started from. table: a pyarrow table of
    all rows, in their order.
    """

    result: SearchResult
    base: BaseMaterial | None
    candidates: Candidates
    verdicts: Verdicts
    table: Any

    def outcome(self, spec: SearchSpec) -> SearchOutcome:
        """What the rows come to, ranked as `spec` says, the search or the judge of these rows."""
        ranking = Ranking.of(spec.screens)
        table = ranked(self.table, ranking)
        summary = summarise(
            table,
            rows=len(self.table),
            statuses=self.result.status_counts(),
            required=self.verdicts.required,
            base=self.base,
            ranked_by=ranking.by,
        )
        return SearchOutcome(spec, self.result, table, summary)


def judged_rows(
    spec: SearchSpec,
    models: Models,
    *,
    name: str | None = None,
    rows: range | None = None,
    shard_rows: int | None = None,
    trajectory_rows: int = TRAJECTORY_ROWS,
    judge: SearchSpec | None = None,
    progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> JudgedRows:
    """Run a search, or its rows `rows`, and judge what came of it by its screens (see `run_search`).

    name: of the search within a campaign, for the table. judge: whose screens and oxidation states count, else the
    search's own. Raises SpecError for a search that these models can't run or judge.
    """
    judge = judge or spec
    models.check_hull(judge)
    base = models.base(spec)
    prospects = None if models.prospects is None else models.prospects.knowing(spec.base)
    substitutions = around(spec, prospects)
    result = run_search(
        spec,
        informed(spec, models.predictors, prospects, substitutions),
        models.frequencies,
        rows=rows,
        shard_rows=shard_rows,
        trajectory_rows=trajectory_rows,
        progress=progress,
        should_stop=should_stop,
        substitutions=substitutions,
    )
    return judged(result, judge, replace(models, prospects=prospects), base=base, seed=spec.seed, name=name)


def judged_formulas(
    amounts: Floats, judge: SearchSpec, models: Models, *, name: str | None = None
) -> JudgedRows:
    """Formulas that something else proposed, amounts (n, 118), as rows of a search: scored by the T_c predictor that
    `judge` names, judged by its screens. Amounts needn't be whole (see `screening.candidates.collect`). Raises
    SpecError as `judged_rows` does.
    """
    models.check_hull(judge)
    base = models.base(judge)
    if models.prospects is not None:
        models = replace(models, prospects=models.prospects.knowing(judge.base))
    result = given_result(amounts, models.predictors.following(judge.tc_predictor))
    return judged(result, judge, models, base=base, seed=judge.seed, name=name)


def judged(
    result: SearchResult,
    judge: SearchSpec,
    models: Models,
    *,
    base: BaseMaterial | None,
    seed: int,
    name: str | None = None,
    e_hull_ev_per_atom: Floats | None = None,
    emd: bool = True,
    threads: int = 1,
) -> JudgedRows:
    """The n rows of `result` with the verdicts of every screen of `judge`, and as a table.

    e_hull_ev_per_atom: energy above the hull (n,), where it was worked out already; else the best rows get theirs.
    emd: whether the nearest known is looked for by element mover's distance too. threads: for the oracle's trees.
    """
    origin = None if base is None else fractions(parse(base.formula))
    log_plausibility, log_existence, reasons = _plausibility(result, origin, models.prospects)
    candidates = collect(
        result,
        oxidation_set=judge.oxidation_set,
        known=models.known,
        made=made_compounds(),
        tried=_predicted(models, judge),
        mixed_valence=judge.charge.mixed_valence,
        by_atoms=bool({"neutral_atoms", "hydride"} & set(judge.screens.names)),
        opinions=_opinions(result, models, threads),
        log_plausibility=log_plausibility,
        log_existence=log_existence,
        plausibility_reasons=reasons,
        base=origin,
        nearby_distance=judge.screens.nearby_distance,
        emd=emd,
    )
    screens, required = available_screens(judge.screens), judge.screens.names
    if e_hull_ev_per_atom is not None:
        candidates = replace(candidates, e_hull_ev_per_atom=e_hull_ev_per_atom)
    elif models.hull is not None:  # of the best that pass all other screens
        others = tuple(each for each in required if each != "near_hull")
        passed = apply_screens(candidates, screens, others).passed
        most, ranking = TOLD_FORMULAS if others == required else MAX_FORMULAS, Ranking.of(judge.screens)
        candidates = with_e_hull(candidates, result.amounts, passed, models.hull, ranking=ranking, most=most)
    verdicts = apply_screens(candidates, screens, required)
    table = candidates_table(result, candidates, verdicts, base=base, seed=seed, search=name)
    return JudgedRows(result, base, candidates, verdicts, table)


def _plausibility(
    result: SearchResult, origin: Floats | None, prospects: Prospects | None
) -> tuple[Floats | None, Floats | None, tuple[str | None, ...] | None]:
    """ln P of the rows' formulas and ln P that they exist in nats, (n,) each, NaN for rows without one, and why, n
    texts; None without prospects. origin: the base's fractions (118,).
    """
    if prospects is None:
        return None, None, None
    total = result.amounts.sum(axis=1)
    found = np.flatnonzero(total > 0)
    rows = result.amounts[found] / total[found, None]
    log_p, log_exists = np.full((2, len(total)), np.nan)
    log_p[found], log_exists[found] = prospects.log_probabilities(rows)
    reasons: list[str | None] = [None] * len(total)
    for at, row in zip(found.tolist(), rows, strict=True):
        reasons[at] = prospects.reasons.of(row, origin)
    return log_p, log_exists, tuple(reasons)


def _opinions(result: SearchResult, models: Models, threads: int) -> SecondOpinions:
    """What others say of the rows' formulas; NaN for rows without one."""
    total = result.amounts.sum(axis=1)
    found = total > 0
    columns: dict[str, Floats] = {}
    opinions = models.opinions(result.amounts[found] / total[found, None], threads=threads)
    for name, values in vars(opinions).items():
        if values is not None:
            columns[name] = np.full(len(total), np.nan)
            columns[name][found] = values
    return SecondOpinions(**columns)


def _predicted(models: Models, judge: SearchSpec) -> TriedMaterials | None:
    """The tried samples with what the T_c predictor says of them; NaN where one holds an element that it doesn't
    know.
    """
    if models.tried is None:
        return None
    model = models.predictors.named(judge.tc_predictor)
    known = model.supported.cpu().numpy()

    def tc_k(rows: Floats) -> Floats:
        values = np.full(len(rows), np.nan)
        able = ~(rows[:, ~known] > 0).any(axis=1)
        values[able] = predict(model, rows[able].astype(np.float32)).clip(min=0)
        return values

    return models.tried.predicted(tc_k)


@dataclass(frozen=True)
class Scores:
    """Of n formulas: `table`, a pyarrow table of their columns (storage.table.PREDICTED), and `errors`: why one has
    none and is null in all of them, None where it has.
    """

    formulas: tuple[str, ...]
    table: Any
    errors: tuple[str | None, ...]

    def part(self, rows: slice) -> Scores:
        """Those of some neighbouring formulas."""
        start, end, _ = rows.indices(len(self.formulas))
        return Scores(self.formulas[rows], self.table.slice(start, max(end - start, 0)), self.errors[rows])


def joined(parts: Sequence[Scores]) -> Scores:
    """Scores one after another."""
    empty = schema().empty_table().select(PREDICTED)
    return Scores(
        tuple(formula for part in parts for formula in part.formulas),
        pa.concat_tables([empty, *(part.table for part in parts)]).combine_chunks(),
        tuple(error for part in parts for error in part.errors),
    )


def score(
    formulas: Sequence[object], models: Models, *, near: NDArray[np.bool_] | None = None, threads: int = 1
) -> Scores:
    """What the models say of each formula, in their order, judged by the screens of `default`; one that can't be read,
    or isn't text, gets an error.

    near: (n,) which ones get their energy above the hull, milliseconds each; by default the first HULL_FORMULAS.
    threads: for the oracle's trees.
    """
    near = np.arange(len(formulas)) < HULL_FORMULAS if near is None else near
    pieces = [slice(start, start + AT_ONCE) for start in range(0, len(formulas), AT_ONCE)]
    return joined([_score(formulas[piece], models, near[piece], threads) for piece in pieces])


def _score(formulas: Sequence[object], models: Models, near: NDArray[np.bool_], threads: int) -> Scores:
    texts = tuple(text if isinstance(text, str) else "" for text in formulas)
    amounts = np.zeros((len(formulas), N_ELEMENTS))
    errors: list[str | None] = [None] * len(formulas)
    for row, text in enumerate(texts):
        try:
            amounts[row] = read_formula(text, models)
        except FormulaError as error:
            errors[row] = str(error)
    good = np.flatnonzero([error is None for error in errors])
    rows = score_amounts(amounts[good], models, near=near[good], threads=threads)
    for row in good[~rows.candidates.ok].tolist():
        errors[row] = "its predictions are no finite numbers"
    place = np.full(len(formulas), -1)
    place[good[rows.candidates.ok]] = np.flatnonzero(rows.candidates.ok)
    table = rows.table.select(PREDICTED).take(pa.array(place, mask=place < 0))
    return Scores(texts, table, tuple(errors))


def read_formula(formula: str, models: Models) -> Floats:
    """The amounts (118,) of a formula. Raises FormulaError, also for an element that the predictors don't know."""
    amounts = parse(formula)
    unknown = [symbol for symbol in amounts if symbol in models.foreign]
    if unknown:
        raise FormulaError("unknown element", f"the predictors don't know {', '.join(unknown)}")
    return amounts_row(amounts)


def score_amounts(
    amounts: Floats, models: Models, *, near: NDArray[np.bool_] | None = None, threads: int = 1
) -> JudgedRows:
    """Amounts (n, 118) of elements that the predictors know, as rows of a search without a base, and without their
    neighbours by element mover's distance. near: (n,) as in `score`, by default all.
    """
    result = given_result(amounts, models.predictors)
    e_hull = None
    if models.hull is not None:
        e_hull = np.full(len(amounts), np.nan)
        asked = np.flatnonzero((result.status == RowStatus.OK) & (True if near is None else near))
        e_hull[asked] = models.hull.e_hull(amounts[asked], result.ef_ev_per_atom[asked].astype(np.float64))
    judge = _default()
    # What was tried re-weighs proposals, not what a person asks about.
    models = replace(models, tried=None)
    return judged(
        result,
        judge,
        models,
        base=None,
        seed=judge.seed,
        e_hull_ev_per_atom=e_hull,
        emd=False,
        threads=threads,
    )


@cache
def _default() -> SearchSpec:
    """The preset whose screens decide which formulas pass."""
    return load_preset("default")
