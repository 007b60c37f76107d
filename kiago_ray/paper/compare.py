"""Panels of methods × bases, ours beside the paper's, and in words who is ahead of whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kiago_ray.paper.cells import Figures
from kiago_ray.paper.published import published
from kiago_ray.paper.tables import Column, Found, Panel, Value, over_seeds, wins
from kiago_ray.paper.tasks import BASELINES, LABELS, METHODS, SEARCHES

Read = Callable[[Figures], float | None]
Values = Mapping[str, Mapping[str, Value]]
"""Base → method → value."""


def values_of(
    found: Found, bases: Sequence[str], seeds: Sequence[int], read: Read, methods: Sequence[str] = METHODS
) -> dict[str, dict[str, Value]]:
    """What `read` takes from each base's and method's cells, as means over seeds."""
    return {base: {each: over_seeds(found, base, each, seeds, read) for each in methods} for base in bases}


def beside_paper(
    table_name: str, title: str, values: Values, *, digits: int, sign: bool = False, head: str = "base"
) -> Panel:
    """A column a method, and the paper's beside it where it has one."""
    table = published()[table_name]
    columns: list[Column] = []
    for method in METHODS:
        columns.append(Column(method, LABELS[method], "ours", digits, sign))
        if method in table.columns:
            columns.append(Column(f"{method}_paper", f"{LABELS[method]}, paper", "paper", 2, sign))
    rows = []
    for base, row in values.items():
        cells: list[Value] = []
        for column in columns:
            name = column.name.removesuffix("_paper")
            cells.append(table.value(base, name) if column.source == "paper" else row[name])
        rows.append((base, tuple(cells)))
    return Panel(title, head, tuple(columns), tuple(rows))


def by_method(title: str, values: Values, *, digits: int, sign: bool = False, head: str = "base") -> Panel:
    """A column a method, ours alone."""
    methods = list(next(iter(values.values())))
    columns = tuple(Column(each, LABELS.get(each, each), "ours", digits, sign) for each in methods)
    return Panel(title, head, columns, tuple((base, tuple(row.values())) for base, row in values.items()))


def contest(
    raw: Values, oracle: Values, *, what: str = "ΔT_c"
) -> tuple[tuple[str, ...], dict[str, dict[str, list[int]]]]:
    """Who is ahead of which baseline, in sentences, and as numbers: search → baseline, or "all" three at once
    → [by the search's model, by the oracle, of how many bases].
    """
    lines: list[str] = []
    facts: dict[str, dict[str, list[int]]] = {}
    for mine in SEARCHES:
        facts[mine] = {other: _ahead(raw, oracle, mine, (other,)) for other in BASELINES}
        facts[mine]["all"] = _ahead(raw, oracle, mine, BASELINES)
        names: dict[str, str] = {other: f"{LABELS[other]}'s" for other in BASELINES}
        names["all"] = "all three"
        parts = [
            f"above {names[other]} on {higher} of {compared} bases by the search's model and {by_oracle} by the oracle"
            for other, (higher, by_oracle, compared) in facts[mine].items()
            if compared
        ]
        if parts:
            lines.append(f"{LABELS[mine]}: {what} is {'; '.join(parts)}.")
        against = disagreements(raw, oracle, mine)
        if against:
            lines.append(f"The oracle disagrees for {LABELS[mine]}: " + "; ".join(against) + ".")
    empty = {other: sum(row.get(other, "") is None for row in raw.values()) for other in BASELINES}
    told = [f"{LABELS[other]} on {count}" for other, count in empty.items() if count]
    if told:
        lines.append(f"Nothing passes for {', '.join(told)} of {len(raw)} bases, which counts as behind.")
    return tuple(lines), facts


def _ahead(raw: Values, oracle: Values, mine: str, others: Sequence[str]) -> list[int]:
    """On how many bases `mine` is above each of `others`, by the search's model and by the oracle, and of how many."""
    bases = [base for base in raw if all(wins({base: raw[base]}, mine, other)[1] for other in others)]
    counts = [
        sum(all(wins({base: values[base]}, mine, other)[0] for other in others) for base in bases)
        for values in (raw, oracle)
    ]
    return [*counts, len(bases)]


def disagreements(raw: Values, oracle: Values, mine: str) -> list[str]:
    """Where `mine` is ahead of a baseline by one of the two and not by the other."""
    found = []
    for base in raw:
        others = [
            LABELS[other]
            for other in BASELINES
            if wins({base: raw[base]}, mine, other)[0] != wins({base: oracle[base]}, mine, other)[0]
        ]
        if others:
            found.append(f"{base} against {', '.join(others)}")
    return found


def thin(found: Found, bases: Sequence[str], seeds: Sequence[int], k: int) -> str:
    """Which cells had fewer than k formulas that passed; "" where none had."""
    few = []
    for base in bases:
        counts = []
        for method in METHODS:
            passed = [found[base, method, seed]["passed"] for seed in seeds if (base, method, seed) in found]
            if passed and min(passed) < k:
                counts.append(f"{LABELS[method]} {min(passed)}")
        if counts:
            few.append(f"{base} ({', '.join(counts)})")
    if not few:
        return ""
    return f"Fewer than {k} formulas passed, so that means are of these alone: {'; '.join(few)}."


def paper_values(name: str) -> dict[str, dict[str, Value]]:
    """A table of the paper as `values_of` has ours."""
    return {base: dict(row) for base, row in published()[name].rows.items()}
