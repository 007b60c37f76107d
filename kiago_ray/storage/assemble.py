"""From a search's rows and their verdicts to one table of every row, and to that of the unique formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kiago_ray.chemistry.balance import write_means, write_shares
from kiago_ray.chemistry.elements import SYMBOLS, WRITING_ORDER
from kiago_ray.chemistry.formula import write
from kiago_ray.screening.candidates import Candidates
from kiago_ray.screening.pareto import pareto_front
from kiago_ray.screening.rank import Ranking, Standing, order, unique
from kiago_ray.screening.screens import Verdicts
from kiago_ray.screening.summary import BaseMaterial
from kiago_ray.search.result import RowStatus
from kiago_ray.storage.columns import COLUMN_NAMES, schema

if TYPE_CHECKING:
    from kiago_ray.screening.known import KnownMaterials
    from kiago_ray.search.result import SearchResult

_START_DECIMALS = 4
_RANKED_BY = ("tc_k", "trusted_tc_k", "plausibility", "expected_improvement_k")
_MARKS = ("passed", "undoped", "gain", "new_system")
_OPINIONS = ("trusted_tc_k", "tc_k", "tc_std_k", "tc_oracle_k", "tc_oracle_std_k", "extrapolation")


def candidates_table(
    result: SearchResult,
    candidates: Candidates,
    verdicts: Verdicts,
    *,
    base: BaseMaterial | None,
    seed: int,
    search: str | None = None,
) -> Any:
    """Every row of a search in its own order, those without a formula too; `rank` and `pareto` are null (see
    `ranked`).

    search: its name within a campaign.
    """
    n = len(candidates.formulas)
    ok, materials = candidates.ok, candidates.materials
    atoms = candidates.counts.sum(axis=1)
    delta = candidates.tc_k - (np.nan if base is None else base.tc_predicted_k)
    e_hull = candidates.e_hull_ev_per_atom
    e_hull = np.full(n, np.nan) if e_hull is None else e_hull
    at = candidates.nearest.tolist()
    columns = {
        "rank": pa.nulls(n, pa.int32()),
        "formula": [text or None for text in candidates.formulas],
        "base": [None if base is None else base.formula] * n,
        "source": candidates.sources,
        "search": [search] * n,
        **_improvement(candidates),
        **{name: _numbers(getattr(candidates, name)) for name in _OPINIONS},
        "extrapolated": _where(candidates.extrapolated, ~np.isnan(candidates.extrapolation)),
        "tc_relaxed_k": _numbers(result.tc_relaxed_k),
        "delta_tc_k": _numbers(delta),
        "ef_ev_per_atom": _numbers(candidates.ef_ev_per_atom),
        "e_hull_ev_per_atom": _numbers(e_hull),
        "n_atoms": _where(atoms.astype(np.int32), atoms > 0),
        "n_elements": _where(candidates.n_elements.astype(np.int32), ok),
        **{
            name: _where(verdicts.by_screen[name], ok)
            for name in ("neutral", "pauling", "ef_negative", "few_elements", "balanced")
        },
        **{
            name: _where(verdicts.by_screen[name], ok)
            if name in verdicts.by_screen
            else pa.nulls(n, pa.bool_())
            for name in ("plausible", "neutral_mixed", "neutral_atoms", "hydride")
        },
        "near_hull": _where(
            verdicts.by_screen.get("near_hull", np.zeros(n, dtype=np.bool_)), ~np.isnan(e_hull)
        ),
        "passed": verdicts.passed,
        "pareto": pa.nulls(n, pa.bool_()),
        "alloy": _where(candidates.neutrality.alloy | candidates.neutrality.elemental, ok),
        **_charge(candidates),
        "known": candidates.known,
        "made": candidates.made,
        "tried": candidates.tried,
        "tried_nearby": candidates.tried_nearby,
        "tc_given_tried_k": _numbers(candidates.tc_given_tried_k),
        **_neighbour("nearest", materials, candidates.nearest),
        "nearest_reports": [None if materials is None or i < 0 else int(materials.reports[i]) for i in at],
        "nearest_reference": [
            None if materials is None or i < 0 else materials.reference[i] or None for i in at
        ],
        "nearest_distance": _numbers(candidates.nearest_distance),
        **_neighbour("nearest_emd", materials, candidates.nearest_emd),
        "nearest_emd": _numbers(candidates.nearest_emd_distance),
        "integer_distance": _numbers(result.distance),
        "status": [RowStatus(status).label for status in result.status.tolist()],
        "recoveries": result.recoveries.astype(np.int32),
        "seed": np.full(n, seed, dtype=np.int64),
        "row": result.rows.astype(np.int64),
        "start_formula": [_fractions_text(row) for row in result.start],
    }
    return pa.table({name: columns[name] for name in COLUMN_NAMES}, schema=schema())


def ranked(table: Any, ranking: Ranking | None = None) -> Any:
    """The unique formulas of a table of rows, best first, `rank` from 1, those on their Pareto front marked. Rows
    without a formula drop out.

    The table may hold several searches: a composition's lowest row of its lowest seed stands for it. By trusted T_c
    unless said otherwise.
    """
    formulas = [text or "" for text in table["formula"].to_pylist()]
    of_families = pc.is_valid(table["source"]).to_pylist()
    kept = unique(formulas, table["seed"].to_numpy(), table["row"].to_numpy(), of_families)
    best = table.take(pa.array(kept))
    best = best.take(pa.array(order(best["formula"].to_pylist(), standing(best), ranking)))
    ranks = pa.array(np.arange(1, len(best) + 1, dtype=np.int32))
    return _with(_with(best, "rank", ranks), "pareto", _front(best))


def standing(table: Any) -> Standing:
    """The rows of a table of candidates as ranking sees them."""
    numbers = {name: table[name].to_numpy() for name in _RANKED_BY}
    marks = {name: table[name].fill_null(False).to_numpy() for name in _MARKS}
    taken = pc.or_(pc.is_valid(table["known"]), pc.is_valid(table["tried"])).to_numpy()
    return Standing(**numbers, **marks, taken=taken)


def _front(table: Any) -> Any:
    """Whether each row is on the table's Pareto front; null where nobody has a say on its T_c."""
    names = ("trusted_tc_k", "ef_ev_per_atom", "extrapolation", "passed")
    trusted, ef, extrapolation, passed = (table[name].to_numpy() for name in names)
    return _where(pareto_front(trusted, ef, extrapolation, passed), ~np.isnan(trusted))


def _with(table: Any, name: str, values: Any) -> Any:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), values)


def _neighbour(prefix: str, known: KnownMaterials | None, index: NDArray[np.int64]) -> dict[str, Any]:
    """The columns on each row's neighbour, the one at `index` (n,) in `known`; null where that is -1."""
    formulas, tc_k, pressure_gpa = (
        ((), (), ()) if known is None else (known.formulas, known.tc_k, known.pressure_gpa)
    )
    at = index.tolist()
    return {
        f"{prefix}_known": [formulas[i] if i >= 0 else None for i in at],
        f"{prefix}_tc_k": _numbers(np.array([tc_k[i] if i >= 0 else np.nan for i in at])),
        f"{prefix}_pressure_gpa": _numbers(np.array([pressure_gpa[i] if i >= 0 else np.nan for i in at])),
    }


def _improvement(candidates: Candidates) -> dict[str, Any]:
    """The columns on plausibility and on what a row is better than."""
    materials, improvement = candidates.materials, candidates.expected_improvement_k
    at = candidates.best_nearby.tolist()
    return {
        "plausibility": _numbers(candidates.plausibility),
        "existence": _numbers(candidates.existence),
        "plausibility_reason": candidates.plausibility_reasons,
        "expected_improvement_k": _numbers(improvement),
        "gain": _where(candidates.gain, ~np.isnan(improvement)),
        "new_system": _where(candidates.new_system, candidates.ok & (materials is not None)),
        "best_nearby": [None if materials is None or i < 0 else materials.formulas[i] for i in at],
        "best_nearby_tc_k": _numbers(candidates.best_nearby_tc_k),
    }


def _charge(candidates: Candidates) -> dict[str, Any]:
    """The columns on charges: the likeliest states that balance each row, and what they tell."""
    balances, ok = candidates.balances, candidates.ok
    holes, nats = balances.holes_per_cu, balances.nats_per_atom
    return {
        "oxidation_states": [_states_text(candidates, row) for row in range(len(ok))],
        "charge_kind": pa.array(list(balances.kinds), mask=~ok),
        "charge_nats_per_atom": _numbers(np.where(np.isfinite(nats), nats, np.nan)),
        "mean_valences": [write_means(means) or None for means in balances.mean_valences],
        "holes_per_cu": _numbers(holes),
        "undoped": _where(balances.undoped_parent, ~np.isnan(holes)),
    }


def _states_text(candidates: Candidates, row: int) -> str | None:
    """The likeliest states; of a hydride without such each atom's own, if those were asked for."""
    if candidates.by_atoms is not None and not candidates.balances.assignments[row]:
        return write_shares(candidates.by_atoms[row]) or candidates.balances.certificates[row] or None
    return candidates.balances.certificates[row] or None


def _numbers(values: NDArray[Any]) -> Any:
    """float64 with null for what is not a number."""
    return pa.array(np.asarray(values, dtype=np.float64), from_pandas=True)


def _where(values: NDArray[Any], known: NDArray[np.bool_]) -> Any:
    """The values, null where they are not known."""
    return pa.array(values, mask=~known)


def _fractions_text(row: NDArray[Any]) -> str | None:
    rounded = np.round(np.asarray(row, dtype=np.float64), _START_DECIMALS)
    held = {SYMBOLS[z]: float(rounded[z]) for z in WRITING_ORDER if rounded[z] > 0}
    return write(held) if held else None
