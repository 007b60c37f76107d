"""One search from its specification to ranked, screened candidates, in memory: the library's front door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.datasets.statistics import load_element_counts
from kiago_ray.hull.best_rows import MAX_FORMULAS, TOLD_FORMULAS, with_e_hull
from kiago_ray.knowledge.existing import made_compounds
from kiago_ray.plausibility.shipped import Prospects, load_prospects
from kiago_ray.plausibility.steering import around, informed
from kiago_ray.predictors import Predictors, load_predictors
from kiago_ray.predictors.base import predict
from kiago_ray.predictors.second_opinion import SecondOpinion, load_second_opinion
from kiago_ray.screening import (
    BaseMaterial,
    KnownMaterials,
    Ranking,
    SecondOpinions,
    Summary,
    TriedMaterials,
    apply_screens,
    available_screens,
    check_phases,
    collect,
    summarise,
)
from kiago_ray.search import SearchSpec, SpecError, load_preset, run_search
from kiago_ray.search.given import given_result
from kiago_ray.search.run import TRAJECTORY_ROWS
from kiago_ray.storage.assemble import candidates_table, ranked

if TYPE_CHECKING:
    from kiago_ray.hull import EnergyHull
    from kiago_ray.screening.candidates import Candidates
    from kiago_ray.screening.screens import Verdicts
    from kiago_ray.search import ProgressCallback, SearchResult, ShouldStop


@dataclass(frozen=True)
class JudgedRows:
    """Rows of a search with every screen's verdict. `table`: a pyarrow table of all of them, in their order."""

    result: SearchResult
    candidates: Candidates
    verdicts: Verdicts
    table: Any


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
    predictors: Predictors | None = None,
    second: SecondOpinion | None = None,
    known: KnownMaterials | Literal["none"] | None = None,
    tried: TriedMaterials | None = None,
    hull: EnergyHull | None = None,
    prospects: Prospects | None = None,
    device: str = "cpu",
    progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> SearchOutcome:
    """Propose compositions around `base` with a higher T_c, screened and ranked.

    Give either a whole `spec` or a preset with `overrides` (nested or dotted keys). `known` adds the nearest
    measured composition to every row, and known compositions are listed after new ones; by default the known are
    `KnownMaterials.shipped()`, and "none" holds the rows against none. Those of `tried` are listed last too, and
    re-weigh what is near to them (`screening.failures`). `second` gives other models' opinions, by default the shipped
    ones'; `hull` gives the best rows their energy above it, and is of the same formation energies as `predictors`;
    `prospects` says what is plausible and what takes the place of what, by default the shipped. Raises SpecError for a
    search that can't run, WeightsError where what ships can't be loaded.
    """
    if spec is None:
        spec = load_preset(preset, {**(overrides or {}), **({} if base is None else {"base": base})})
    elif base is not None or overrides:
        raise SpecError("give a whole specification, or a base and overrides, not both")
    predictors = predictors or load_predictors(device=device)
    second = second or load_second_opinion(predictors)
    materials = _materials(known)
    material = base_material(spec, predictors, materials, second)
    rows = judged_rows(
        spec,
        predictors,
        material,
        second=second,
        known=materials,
        tried=tried,
        hull=hull,
        prospects=prospects or load_prospects(),
        device=device,
        progress=progress,
        should_stop=should_stop,
    )
    return _outcome(spec, rows, material)


def judge_formulas(
    amounts: NDArray[np.float64],
    spec: SearchSpec,
    predictors: Predictors,
    *,
    second: SecondOpinion | None = None,
    known: KnownMaterials | Literal["none"] | None = None,
    tried: TriedMaterials | None = None,
    hull: EnergyHull | None = None,
    prospects: Prospects | None = None,
) -> SearchOutcome:
    """What `propose` gives, of formulas that something else proposed, amounts (n, 118): `spec` names the base, the T_c
    predictor, the screens and the order; no step is taken. Raises SpecError as `propose` does.
    """
    second = second or load_second_opinion(predictors)
    materials = _materials(known)
    material = base_material(spec, predictors, materials, second)
    rows = judged_formulas(
        amounts,
        spec,
        predictors,
        material,
        second=second,
        known=materials,
        tried=tried,
        hull=hull,
        prospects=prospects or load_prospects(),
    )
    return _outcome(spec, rows, material)


def _materials(known: KnownMaterials | Literal["none"] | None) -> KnownMaterials | None:
    """What the rows are held against."""
    if known is None:
        return KnownMaterials.shipped()
    return None if isinstance(known, str) else known


def _outcome(spec: SearchSpec, rows: JudgedRows, material: BaseMaterial | None) -> SearchOutcome:
    ranking, statuses = Ranking.of(spec.screens), rows.result.status_counts()
    return SearchOutcome(
        spec=spec,
        result=rows.result,
        table=ranked(rows.table, ranking),
        summary=summarise(rows.candidates, rows.verdicts, statuses, material, ranking=ranking),
    )


def judged_rows(
    spec: SearchSpec,
    predictors: Predictors,
    base: BaseMaterial | None,
    *,
    name: str | None = None,
    rows: range | None = None,
    shard_rows: int | None = None,
    trajectory_rows: int = TRAJECTORY_ROWS,
    judge: SearchSpec | None = None,
    second: SecondOpinion | None = None,
    known: KnownMaterials | None = None,
    tried: TriedMaterials | None = None,
    hull: EnergyHull | None = None,
    frequencies: Mapping[str, NDArray[np.float64]] | None = None,
    prospects: Prospects | None = None,
    device: str = "cpu",
    progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
) -> JudgedRows:
    """Run a search, or its rows `rows`, and judge what came of it by its screens (see `run_search`).

    base: from `base_material`. name: of the search within a campaign, for the table. frequencies: element counts that
    starts are drawn by, else the shipped ones. judge: whose screens and oxidation states count, else the search's own.
    hull, prospects: see `propose`; without prospects nothing is said of plausibility, and a family can't be searched.
    Raises SpecError where a hull isn't of predicted energies, and where there is none to judge by.
    """
    judge = judge or spec
    _check_hull(judge, hull)
    tried = _predicted(tried, judge, predictors)
    substitutions = around(spec, prospects)
    result = run_search(
        spec,
        informed(spec, predictors, prospects, substitutions),
        search_frequencies() if frequencies is None else frequencies,
        rows=rows,
        shard_rows=shard_rows,
        trajectory_rows=trajectory_rows,
        device=device,
        progress=progress,
        should_stop=should_stop,
        substitutions=substitutions,
    )
    return judged(
        result,
        judge,
        base,
        seed=spec.seed,
        name=name,
        second=second,
        known=known,
        tried=tried,
        hull=hull,
        prospects=prospects,
    )


def judged_formulas(
    amounts: NDArray[np.float64],
    judge: SearchSpec,
    predictors: Predictors,
    base: BaseMaterial | None,
    *,
    name: str | None = None,
    second: SecondOpinion | None = None,
    known: KnownMaterials | None = None,
    tried: TriedMaterials | None = None,
    hull: EnergyHull | None = None,
    prospects: Prospects | None = None,
) -> JudgedRows:
    """Formulas that something else proposed, amounts (n, 118), as rows of a search: scored by the T_c predictor that
    `judge` names, judged by its screens. Amounts needn't be whole (see `screening.candidates.collect`). Raises
    SpecError as `judged_rows` does.
    """
    _check_hull(judge, hull)
    tried = _predicted(tried, judge, predictors)
    result = given_result(amounts, predictors.following(judge.tc_predictor))
    return judged(
        result,
        judge,
        base,
        seed=judge.seed,
        name=name,
        second=second,
        known=known,
        tried=tried,
        hull=hull,
        prospects=prospects,
    )


def judged(
    result: SearchResult,
    judge: SearchSpec,
    base: BaseMaterial | None,
    *,
    seed: int,
    name: str | None = None,
    second: SecondOpinion | None = None,
    known: KnownMaterials | None = None,
    tried: TriedMaterials | None = None,
    hull: EnergyHull | None = None,
    prospects: Prospects | None = None,
) -> JudgedRows:
    """The rows of `result` with the verdicts of every screen of `judge`, and as a table."""
    log_plausibility, log_existence, reasons = _prospects(result, base, prospects)
    candidates = collect(
        result,
        oxidation_set=judge.oxidation_set,
        known=known,
        made=made_compounds(),
        tried=tried,
        mixed_valence=judge.charge.mixed_valence,
        by_atoms=bool({"neutral_atoms", "hydride"} & set(judge.screens.names)),
        opinions=None if second is None else _opinions(result, second),
        log_plausibility=log_plausibility,
        log_existence=log_existence,
        plausibility_reasons=reasons,
        base=None if base is None else fractions(parse(base.formula)),
        nearby_distance=judge.screens.nearby_distance,
    )
    screens = available_screens(
        max_elements=judge.screens.max_elements,
        max_e_hull_ev_per_atom=judge.screens.max_e_hull_ev_per_atom,
        max_charge_nats=judge.screens.max_charge_nats,
        min_existence=judge.screens.min_existence,
    )
    if hull is not None:
        others = [each for each in judge.screens.names if each != "near_hull"]
        passed = apply_screens(candidates, screens, others).passed
        most = MAX_FORMULAS if "near_hull" in judge.screens.names else TOLD_FORMULAS
        candidates = with_e_hull(
            candidates, result.amounts, passed, hull, ranking=Ranking.of(judge.screens), most=most
        )
    verdicts = apply_screens(candidates, screens, judge.screens.names)
    table = candidates_table(result, candidates, verdicts, base=base, seed=seed, search=name)
    return JudgedRows(result, candidates, verdicts, table)


def _prospects(
    result: SearchResult, base: BaseMaterial | None, prospects: Prospects | None
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, tuple[str | None, ...] | None]:
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


def _predicted(
    tried: TriedMaterials | None, judge: SearchSpec, predictors: Predictors
) -> TriedMaterials | None:
    """The samples with what the T_c predictor says of them; NaN for those with an element that it doesn't know."""
    if tried is None:
        return None
    model = predictors.named(judge.tc_predictor)
    known = model.supported.cpu().numpy()

    def tc_k(fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        values = np.full(len(fractions), np.nan)
        able = ~(fractions[:, ~known] > 0).any(axis=1)
        values[able] = predict(model, fractions[able].astype(np.float32)).clip(min=0)
        return values

    return tried.predicted(tc_k)


def _check_hull(judge: SearchSpec, hull: EnergyHull | None) -> None:
    check_phases(judge.screens.names, hull is not None)
    if hull is not None and hull.ef is None:
        raise SpecError(
            "hull: its energies are a file's, those of candidates are predicted; give one of ElemNet's"
        )


def _opinions(result: SearchResult, second: SecondOpinion) -> SecondOpinions:
    """What others say of the rows' formulas; NaN for rows without one."""
    total = result.amounts.sum(axis=1)
    found = total > 0
    opinions = second.of(result.amounts[found] / total[found, None])
    columns = {name: np.full(len(total), np.nan) for name in vars(opinions)}
    for name, values in vars(opinions).items():
        columns[name][found] = values
    return SecondOpinions(**columns)


def search_frequencies() -> dict[str, NDArray[np.float64]]:
    """The shipped element counts by data set, (118,) each, as `run_search` takes them."""
    counts = load_element_counts()
    return {
        "supercon": counts.supercon.counts.astype(np.float64),
        "non_superconductors": counts.non_superconductors.counts.astype(np.float64),
    }


def base_material(
    spec: SearchSpec,
    predictors: Predictors,
    known: KnownMaterials | None = None,
    second: SecondOpinion | None = None,
) -> BaseMaterial | None:
    """The base with its predictions, the oracle's of `second` and, where `known` has it, its measured T_c.

    Raises SpecError where it holds an element that the predictors don't know.
    """
    if spec.base is None:
        return None
    amounts = parse(spec.base)
    foreign = predictors.unknown_elements()
    unknown = [symbol for symbol in amounts if symbol in foreign]
    if unknown:
        raise SpecError(
            f"base: the predictors don't know {', '.join(unknown)} (nor any of {', '.join(foreign)}); "
            "choose another base"
        )
    row = fractions(amounts)
    tc_k, ef = (
        float(predict(each, row[None].astype(np.float32))[0])
        for each in (predictors.named(spec.tc_predictor), predictors.ef)
    )
    return BaseMaterial(
        spec.base,
        max(tc_k, 0.0),
        ef,
        tc_measured_k=None if known is None else known.measured_tc_k(row),
        tc_oracle_k=None if second is None else float(second.oracle.predict(row[None])[0][0]),
    )
