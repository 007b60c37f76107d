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
from kiago_ray.screening import Ranking, SecondOpinions, apply_screens, available_screens, collect
from kiago_ray.storage.table import candidates_table

if TYPE_CHECKING:
    from kiago_ray.hull import EnergyHull
    from kiago_ray.plausibility.shipped import Prospects
    from kiago_ray.predictors.oracle.opinions import SecondOpinion
    from kiago_ray.screening import BaseMaterial, KnownMaterials, TriedMaterials
    from kiago_ray.screening.candidates import Candidates
    from kiago_ray.screening.screens import Verdicts
    from kiago_ray.search import SearchResult, SearchSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class JudgedRows:
    """Rows of a search with every screen's verdict. `table`: a pyarrow table of all of them, in their order."""

    result: SearchResult
    candidates: Candidates
    verdicts: Verdicts
    table: Any


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
    e_hull_ev_per_atom: Floats | None = None,
    prospects: Prospects | None = None,
    emd: bool = True,
    threads: int = 1,
) -> JudgedRows:
    """The n rows of `result` with the verdicts of every screen of `judge`, and as a table.

    hull: gives the best rows their energy above it; or e_hull_ev_per_atom: that energy (n,), where it was worked out
    already. emd: whether the nearest known is looked for by element mover's distance too. threads: for the oracle's
    trees.
    """
    log_plausibility, log_existence, reasons = _prospects(result, base, prospects)
    candidates = collect(
        result,
        oxidation_set=judge.oxidation_set,
        known=known,
        made=made_compounds(),
        tried=tried,
        mixed_valence=judge.charge.mixed_valence,
        by_atoms=bool({"neutral_atoms", "hydride"} & set(judge.screens.names)),
        opinions=None if second is None else _opinions(result, second, threads),
        log_plausibility=log_plausibility,
        log_existence=log_existence,
        plausibility_reasons=reasons,
        base=None if base is None else fractions(parse(base.formula)),
        nearby_distance=judge.screens.nearby_distance,
        emd=emd,
    )
    if hull is not None:
        candidates = _above_hull(result, candidates, judge, hull)
    elif e_hull_ev_per_atom is not None:
        candidates = replace(candidates, e_hull_ev_per_atom=e_hull_ev_per_atom)
    verdicts = _verdicts(candidates, judge, judge.screens.names)
    table = candidates_table(result, candidates, verdicts, base=base, seed=seed, search=name)
    return JudgedRows(result, candidates, verdicts, table)


def _verdicts(candidates: Candidates, judge: SearchSpec, required: tuple[str, ...]) -> Verdicts:
    screens = available_screens(
        max_elements=judge.screens.max_elements,
        max_e_hull_ev_per_atom=judge.screens.max_e_hull_ev_per_atom,
        max_charge_nats=judge.screens.max_charge_nats,
        min_existence=judge.screens.min_existence,
    )
    return apply_screens(candidates, screens, required)


def _above_hull(
    result: SearchResult, candidates: Candidates, judge: SearchSpec, hull: EnergyHull
) -> Candidates:
    """The candidates with the energy above the hull of the best that pass all other screens."""
    others = tuple(each for each in judge.screens.names if each != "near_hull")
    passed = _verdicts(candidates, judge, others).passed
    most = MAX_FORMULAS if "near_hull" in judge.screens.names else TOLD_FORMULAS
    return with_e_hull(candidates, result.amounts, passed, hull, ranking=Ranking.of(judge.screens), most=most)


def _prospects(
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


def _opinions(result: SearchResult, second: SecondOpinion, threads: int) -> SecondOpinions:
    """What others say of the rows' formulas; NaN for rows without one."""
    total = result.amounts.sum(axis=1)
    found = total > 0
    opinions = second.of(result.amounts[found] / total[found, None], threads=threads)
    columns = {name: np.full(len(total), np.nan) for name in vars(opinions)}
    for name, values in vars(opinions).items():
        columns[name][found] = values
    return SecondOpinions(**columns)
