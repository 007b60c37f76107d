"""From a search's rows and their verdicts to one table of every row, and to that of the unique formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import SYMBOLS, WRITING_ORDER
from kiago_ray.chemistry.formula import write
from kiago_ray.chemistry.oxidation import write_states
from kiago_ray.screening.candidates import Candidates
from kiago_ray.screening.rank import order, unique
from kiago_ray.screening.screens import Verdicts
from kiago_ray.screening.summary import BaseMaterial
from kiago_ray.search.status import RowStatus
from kiago_ray.storage.columns import COLUMN_NAMES, schema

if TYPE_CHECKING:
    from kiago_ray.search.result import SearchResult

_START_DECIMALS = 4


def candidates_table(
    result: SearchResult,
    candidates: Candidates,
    verdicts: Verdicts,
    *,
    base: BaseMaterial | None,
    seed: int,
    search: str | None = None,
) -> Any:
    """Every row of a search in its own order, those without a formula too; `rank` is null (see `ranked`).

    search: its name within a campaign.
    """
    n = len(candidates.formulas)
    ok, known = candidates.ok, candidates.known
    known_formulas, known_tc_k = ((), ()) if known is None else (known.formulas, known.tc_k)
    atoms = candidates.counts.sum(axis=1)
    delta = candidates.tc_k - (np.nan if base is None else base.tc_predicted_k)
    novel = verdicts.by_screen.get("novel")
    columns = {
        "rank": pa.nulls(n, pa.int32()),
        "formula": [text or None for text in candidates.formulas],
        "base": [None if base is None else base.formula] * n,
        "search": [search] * n,
        "tc_k": _numbers(candidates.tc_k),
        "tc_relaxed_k": _numbers(result.tc_relaxed_k),
        "delta_tc_k": _numbers(delta),
        "ef_ev_per_atom": _numbers(candidates.ef_ev_per_atom),
        "n_atoms": _where(atoms.astype(np.int32), atoms > 0),
        "n_elements": _where(candidates.n_elements.astype(np.int32), ok),
        **{
            name: _where(verdicts.by_screen[name], ok)
            for name in ("neutral", "pauling", "ef_negative", "few_elements")
        },
        "novel": pa.nulls(n, pa.bool_()) if novel is None else _where(novel, ok),
        "passed": verdicts.passed,
        "alloy": _where(candidates.neutrality.alloy | candidates.neutrality.elemental, ok),
        "oxidation_states": [
            write_states(amounts, states) or None
            for amounts, states in zip(result.amounts, candidates.neutrality.states, strict=True)
        ],
        "nearest_known": [known_formulas[i] if i >= 0 else None for i in candidates.nearest],
        "nearest_distance": _numbers(candidates.nearest_distance),
        "nearest_tc_k": [known_tc_k[i] if i >= 0 else None for i in candidates.nearest],
        "integer_distance": _numbers(result.distance),
        "status": [RowStatus(status).label for status in result.status.tolist()],
        "recoveries": result.recoveries.astype(np.int32),
        "seed": np.full(n, seed, dtype=np.int64),
        "row": result.rows.astype(np.int64),
        "start_formula": [_fractions_text(row) for row in result.start],
    }
    return pa.table({name: columns[name] for name in COLUMN_NAMES}, schema=schema())


def ranked(table: Any) -> Any:
    """The unique formulas of a table of rows, best first, `rank` from 1. Rows without a formula drop out.

    The table may hold several searches: a formula's lowest row of its lowest seed stands for it.
    """
    formulas = [text or "" for text in table["formula"].to_pylist()]
    kept = unique(formulas, table["seed"].to_numpy(), table["row"].to_numpy())
    best = table.take(pa.array(kept))
    tc_k = best["tc_k"].to_numpy()
    passed = best["passed"].to_numpy()
    best = best.take(pa.array(order(best["formula"].to_pylist(), passed, tc_k)))
    ranks = pa.array(np.arange(1, len(best) + 1, dtype=np.int32))
    at = best.schema.get_field_index("rank")
    return best.set_column(at, best.schema.field(at), ranks)


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
