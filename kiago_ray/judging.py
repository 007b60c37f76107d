"""Formulas judged: opinions, plausibility, neighbours and every screen's verdict, as the one table of columns.

Whoever has formulas, a search or a person with a list, gets the same columns by the same code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.data.tables import made_compounds
from kiago_ray.hull.energy_hull import MAX_FORMULAS, TOLD_FORMULAS, with_e_hull
from kiago_ray.models import Models
from kiago_ray.plausibility.prospects import around, informed
from kiago_ray.predictors.base import predict
from kiago_ray.screening import Ranking, SecondOpinions, apply_screens, available_screens, collect
from kiago_ray.search.run import TRAJECTORY_ROWS, given_result, run_search
from kiago_ray.storage.table import candidates_table

if TYPE_CHECKING:
    from kiago_ray.hull import EnergyHull
    from kiago_ray.plausibility.prospects import Prospects
    from kiago_ray.screening import BaseMaterial, TriedMaterials
    from kiago_ray.screening.candidates import Candidates
    from kiago_ray.screening.screens import Verdicts
    from kiago_ray.search import SearchSpec
    from kiago_ray.search.result import SearchResult
    from kiago_ray.search.stages import ProgressCallback, ShouldStop

Floats = NDArray[np.float64]


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
        device=models.device,
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
    log_plausibility, log_existence, reasons = _plausibility(result, base, models.prospects)
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
        base=None if base is None else fractions(parse(base.formula)),
        nearby_distance=judge.screens.nearby_distance,
        emd=emd,
    )
    if e_hull_ev_per_atom is not None:
        candidates = replace(candidates, e_hull_ev_per_atom=e_hull_ev_per_atom)
    elif models.hull is not None:
        candidates = _above_hull(result, candidates, judge, models.hull)
    verdicts = _verdicts(candidates, judge, judge.screens.names)
    table = candidates_table(result, candidates, verdicts, base=base, seed=seed, search=name)
    return JudgedRows(result, base, candidates, verdicts, table)


def _verdicts(candidates: Candidates, judge: SearchSpec, required: tuple[str, ...]) -> Verdicts:
    return apply_screens(candidates, available_screens(judge.screens), required)


def _above_hull(
    result: SearchResult, candidates: Candidates, judge: SearchSpec, hull: EnergyHull
) -> Candidates:
    """The candidates with the energy above the hull of the best that pass all other screens."""
    others = tuple(each for each in judge.screens.names if each != "near_hull")
    passed = _verdicts(candidates, judge, others).passed
    most = MAX_FORMULAS if "near_hull" in judge.screens.names else TOLD_FORMULAS
    return with_e_hull(candidates, result.amounts, passed, hull, ranking=Ranking.of(judge.screens), most=most)


def _plausibility(
    result: SearchResult, base: BaseMaterial | None, prospects: Prospects | None
) -> tuple[Floats | None, Floats | None, tuple[str | None, ...] | None]:
    """ln P of the rows' formulas and ln P that they exist in nats, (n,) each, NaN for rows without one, and why, n
    texts; None without prospects.
    """
    if prospects is None:
        return None, None, None
    total = result.amounts.sum(axis=1)
    found = np.flatnonzero(total > 0)
    rows = result.amounts[found] / total[found, None]
    log_p, log_exists = np.full((2, len(total)), np.nan)
    log_p[found], log_exists[found] = prospects.log_probabilities(rows)
    origin = None if base is None else fractions(parse(base.formula))
    reasons: list[str | None] = [None] * len(total)
    for at, row in zip(found.tolist(), rows, strict=True):
        reasons[at] = prospects.reasons.of(row, origin)
    return log_p, log_exists, tuple(reasons)


def _opinions(result: SearchResult, models: Models, threads: int) -> SecondOpinions:
    """What others say of the rows' formulas; NaN for rows without one."""
    total = result.amounts.sum(axis=1)
    found = total > 0
    columns: dict[str, Floats] = {}
    for name, values in vars(
        models.opinions(result.amounts[found] / total[found, None], threads=threads)
    ).items():
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
