"""One search from its specification to ranked, screened candidates, in memory: the library's front door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.data.element_counts import load_element_counts
from kiago_ray.judging import JudgedRows, judged
from kiago_ray.plausibility.shipped import Prospects, load_prospects
from kiago_ray.plausibility.steering import around, informed
from kiago_ray.predictors import Predictors, load_predictors
from kiago_ray.predictors.base import predict
from kiago_ray.predictors.oracle.opinions import SecondOpinion, load_second_opinion
from kiago_ray.screening import (
    BaseMaterial,
    KnownMaterials,
    Ranking,
    Summary,
    TriedMaterials,
    check_phases,
    summarise,
)
from kiago_ray.search import SearchSpec, SpecError, load_preset, run_search
from kiago_ray.search.external_formulas import given_result
from kiago_ray.search.run import TRAJECTORY_ROWS
from kiago_ray.storage.table import ranked

if TYPE_CHECKING:
    from kiago_ray.hull import EnergyHull
    from kiago_ray.search import ProgressCallback, SearchResult, ShouldStop


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
    prospects = None if prospects is None else prospects.knowing(spec.base)
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
    prospects = None if prospects is None else prospects.knowing(judge.base)
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
