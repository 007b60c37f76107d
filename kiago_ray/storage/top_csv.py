"""top.csv: what a person opens first. The best rows, with as many digits as mean something."""

from __future__ import annotations

import csv
import io
from typing import Any

TOP_ROWS = 100

_WHERE_KNOWN = (
    "search",
    "source",
    "plausibility",
    "existence",
    "plausibility_reason",
    "plausible",
    "expected_improvement_k",
    "gain",
    "best_nearby",
    "best_nearby_tc_k",
    "e_hull_ev_per_atom",
    "near_hull",
    "tried",
    "tried_nearby",
    "tc_given_tried_k",
    "mean_valences",
    "holes_per_cu",
    "undoped",
)  # left out where no row has one

# Column → decimals, in the order of the file; None for what is not a decimal number.
_LAYOUT: dict[str, int | None] = {
    "rank": None,
    "passed": None,
    "formula": None,
    "base": None,
    "source": None,
    "plausibility": 5,
    "existence": 3,
    "expected_improvement_k": 1,
    "gain": None,
    "best_nearby": None,
    "best_nearby_tc_k": 1,
    "trusted_tc_k": 1,
    "tc_k": 1,
    "tc_std_k": 1,
    "tc_oracle_k": 1,
    "tc_oracle_std_k": 1,
    "delta_tc_k": 1,
    "ef_ev_per_atom": 3,
    "e_hull_ev_per_atom": 3,
    "extrapolation": 2,
    "extrapolated": None,
    "pareto": None,
    "known": None,
    "made": None,
    "tried": None,
    "tried_nearby": None,
    "tc_given_tried_k": 1,
    "nearest_known": None,
    "nearest_distance": 3,
    "nearest_tc_k": 1,
    "nearest_pressure_gpa": 1,
    "nearest_reports": None,
    "nearest_reference": None,
    "plausibility_reason": None,
    "oxidation_states": None,
    "mean_valences": None,
    "holes_per_cu": 3,
    "undoped": None,
    "charge_nats_per_atom": 3,
    "balanced": None,
    "plausible": None,
    "neutral": None,
    "pauling": None,
    "ef_negative": None,
    "few_elements": None,
    "near_hull": None,
    "alloy": None,
    "n_elements": None,
    "n_atoms": None,
    "search": None,
    "seed": None,
    "row": None,
}


def top_csv(table: Any, rows: int = TOP_ROWS) -> str:
    """The first `rows` of a ranked table that passed; where none did, the first `rows`, with passed "no".

    Comma-separated with a header; yes and no for verdicts, an empty field for what is not known. The column
    `search` is there for a campaign's table alone, `e_hull_ev_per_atom` and `near_hull` where phases were given,
    `tried`, `tried_nearby` and `tc_given_tried_k` where what was tried says something of a row, what tells of
    plausibility and improvement where it was worked out, `holes_per_cu` and
    `undoped` where there is a cuprate.
    """
    head = table.slice(0, rows)  # in a ranked table those that passed come first
    passed = head.filter(head["passed"])
    absent = [name for name in _WHERE_KNOWN if head[name].null_count == len(head)]
    layout = {name: decimals for name, decimals in _LAYOUT.items() if name not in absent}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(layout)
    for row in (passed if len(passed) else head).to_pylist():
        writer.writerow([_cell(row[name], decimals) for name, decimals in layout.items()])
    return text.getvalue()


def _cell(value: Any, decimals: int | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if decimals is None else f"{value:z.{decimals}f}"  # z: no -0.0
