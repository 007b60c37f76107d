"""One search from its specification to ranked, screened candidates, in memory: the library's front door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.judging import JudgedRows, judged_formulas, judged_rows
from kiago_ray.models import Models, load_models
from kiago_ray.screening import (
    Ranking,
    Summary,
    summarise,
)
from kiago_ray.search import SearchSpec, SpecError, load_preset
from kiago_ray.storage.table import ranked

if TYPE_CHECKING:
    from kiago_ray.search.result import SearchResult
    from kiago_ray.search.stages import ProgressCallback, ShouldStop


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
    return _outcome(spec, judged_rows(spec, models, progress=progress, should_stop=should_stop))


def judge_formulas(amounts: NDArray[np.float64], spec: SearchSpec, models: Models) -> SearchOutcome:
    """What `propose` gives, of formulas that something else proposed, amounts (n, 118): `spec` names the base, the T_c
    predictor, the screens and the order; no step is taken. Raises SpecError as `propose` does.
    """
    return _outcome(spec, judged_formulas(amounts, spec, models))


def _outcome(spec: SearchSpec, rows: JudgedRows) -> SearchOutcome:
    ranking, statuses = Ranking.of(spec.screens), rows.result.status_counts()
    return SearchOutcome(
        spec=spec,
        result=rows.result,
        table=ranked(rows.table, ranking),
        summary=summarise(rows.candidates, rows.verdicts, statuses, rows.base, ranking=ranking),
    )
