"""How the cells of experiments become our columns of a table: a measure for each kind of table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from kiago_ray.paper import plots
from kiago_ray.paper.experiments import (
    GUIDANCE_BASE,
    START_BASE,
    STARTS,
    Figures,
    Found,
    Lab,
    integer_materials,
)
from kiago_ray.paper.tables import (
    BASELINES,
    LABELS,
    METHODS,
    NOT_RUN,
    SEARCHES,
    Column,
    Declaration,
    Family,
    Panel,
    PaperTable,
    Value,
    comparison,
)
from kiago_ray.report.plots import TC
from kiago_ray.search.losses import integer_distance

Read = Callable[[Figures], float | None]
"""Takes a figure from a cell."""
Values = Mapping[str, Mapping[str, Value]]
"""Base → method → value."""

SCREENS = ("neutral", "pauling", "ef_negative", "few_elements")
FIG2, FIG2_ATOMS = {"Ca": 0.23, "Sr": 0.27, "O": 0.5}, 4
_WAYS = {"loss": "loss-based", "rounding": "rounding"}


@dataclass(frozen=True)
class Evidence:
    """What one table is read off. found: the cells of its experiments."""

    declared: Declaration
    found: Found
    lab: Lab

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that the table takes."""
        size = self.lab.size
        return {"all": size.seeds, "first": size.seeds[:1], "spread": size.spread_seeds}[self.declared.seeds]

    @property
    def family(self) -> Family | None:
        """The family of bases on which methods are compared; None in a table of something else."""
        families = comparison().families
        return next((families[name] for name in self.declared.experiments if name in families), None)

    @property
    def bases(self) -> dict[str, dict[str, int]]:
        """The family's bases with their sites, in the paper's order; of the spread those of its size alone."""
        bases = {} if self.family is None else self.family.bases
        few = self.lab.size.spread_bases if self.declared.seeds == "spread" else tuple(bases)
        return {base: sites for base, sites in bases.items() if base in few}

    def cell(self, base: str, method: str) -> Figures | None:
        """The cell of the first seed; None where it failed."""
        return self.found.get((base, method, self.seeds[0]))

    def best(self, base: str, method: str) -> dict[str, Any]:
        """The best row of the first seed's cell; {} where none passed."""
        rows = (self.cell(base, method) or {}).get("best")
        return dict(rows[0]) if rows else {}

    def mean(self, base: str, method: str, read: Read, seeds: Sequence[int] | None = None) -> Value:
        """The mean over seeds of what `read` takes from each cell; None where one has none, NOT_RUN where one
        failed.
        """
        cells = [self.found.get((base, method, seed)) for seed in (self.seeds if seeds is None else seeds)]
        values = [read(cell) for cell in cells if cell is not None]
        if len(values) < len(cells):
            return NOT_RUN
        known = [value for value in values if value is not None]
        return statistics.mean(known) if known and len(known) == len(values) else None

    def values(self, read: Read) -> dict[str, dict[str, Value]]:
        """The means of every base and method."""
        return {base: {each: self.mean(base, each, read) for each in METHODS} for base in self.bases}


def contest(evidence: Evidence) -> PaperTable:
    """T_c of the top formulas of every method, or its gain over the base's (Tables 2, 7 and 9)."""
    declared, k = evidence.declared, evidence.declared.top
    gain = declared.figure == "gain"
    raw, oracle = (evidence.values(top(k, column, gain=gain)) for column in ("tc_k", "tc_oracle_k"))
    what, mean, digits = ("ΔT_c", "ΔT_c", 1) if gain else ("T_c", "Mean T_c", 2)
    columns = [Column(method, LABELS[method], "ours", digits, gain) for method in METHODS]
    panels = [
        beside_paper(declared, f"By the search's model: {what} (K)", raw, digits=digits, sign=gain),
        Panel(f"The same formulas by the oracle: {what} (K)", "base", columns, oracle),
    ]
    if declared.show_bases:
        panels.append(_bases(evidence))
    symbol = f"{'Δ' if gain else ''}$T_{{\\mathrm{{c}}}}$ of the top {k}"
    caption = f"{mean} of the top {k} by the search's model: ours filled, the paper's hollow."
    drawn = [(caption, plots.dots(raw, declared.rows, f"{symbol} (K)"))]
    if gain:
        label = f"{symbol} by the oracle (K)"
        drawn.append(("The same formulas by the oracle.", plots.dots(oracle, {}, label)))
    verdicts, facts = contest_verdicts(raw, oracle, what)
    return PaperTable(panels, verdicts, drawn, {"ahead": facts})


def top(k: int, column: str, *, gain: bool) -> Read:
    """Reads the mean in K of the best k by T_c of the search's model, in `column` (tc_k or tc_oracle_k), less the
    base's if it is the gain that counts; None where none passed.
    """

    def read(cell: Figures) -> float | None:
        values = [row[column] for row in cell["best"][:k]]
        base = cell["base"][column] if gain else 0.0
        if not values or None in values or base is None:
            return None
        return float(statistics.mean(values) - base)

    return read


def beside_paper(
    declared: Declaration, title: str, values: Values, *, digits: int, sign: bool = False
) -> Panel:
    """A column a method, and the paper's beside it where it has one."""
    columns: list[Column] = []
    for method in METHODS:
        column = Column(method, LABELS[method], "ours", digits, sign)
        columns += [column, column.printed(2)] if method in declared.columns else [column]
    return Panel(
        title, "base", columns, {base: {**row, **declared.printed(base)} for base, row in values.items()}
    )


def _bases(evidence: Evidence) -> Panel:
    """T_c of the bases in K by both models and as measured."""
    columns = [Column("model", "ResNet-18"), Column("oracle", "oracle"), Column("measured", "measured")]
    fields = ("tc_k", "tc_oracle_k", "tc_measured_k")

    def read(field: str) -> Read:
        return lambda cell: cell["base"][field]

    rows = {
        base: {
            column.name: evidence.mean(base, "kiago", read(field))
            for column, field in zip(columns, fields, strict=True)
        }
        for base in evidence.bases
    }
    return Panel("T_c of the bases (K)", "base", columns, rows)


def above(row: Mapping[str, Value], mine: str, other: str) -> bool | None:
    """Whether `mine` is higher than `other` in a row of method → value; None where one of them wasn't run. N/A, where
    nothing passed, loses to any number; two N/A are no win.
    """
    one, two = row[mine], row[other]
    if isinstance(one, str) or isinstance(two, str):
        return None
    return one is not None and (two is None or one > two)


def contest_verdicts(
    raw: Values, oracle: Values, what: str
) -> tuple[list[str], dict[str, dict[str, list[int]]]]:
    """Who is ahead of which baseline, in sentences, and as numbers: search → baseline, or "all" three at once
    → [by the search's model, by the oracle, of how many bases].
    """
    lines: list[str] = []
    facts: dict[str, dict[str, list[int]]] = {}
    rivals: dict[str, Sequence[str]] = {**{other: (other,) for other in BASELINES}, "all": BASELINES}
    for mine in SEARCHES:
        facts[mine] = {name: _ahead(raw, oracle, mine, others) for name, others in rivals.items()}
        parts = [
            f"above {'all three' if name == 'all' else LABELS[name] + chr(39) + 's'} on {higher} of {compared} bases "
            f"by the search's model and {by_oracle} by the oracle"
            for name, (higher, by_oracle, compared) in facts[mine].items()
            if compared
        ]
        if parts:
            lines.append(f"{LABELS[mine]}: {what} is {'; '.join(parts)}.")
        against = disagreements(raw, oracle, mine)
        if against:
            lines.append(f"The oracle disagrees for {LABELS[mine]}: {'; '.join(against)}.")
    empty = {other: sum(row.get(other, "") is None for row in raw.values()) for other in BASELINES}
    counts = [f"{LABELS[other]} on {count}" for other, count in empty.items() if count]
    if counts:
        lines.append(f"Nothing passes for {', '.join(counts)} of {len(raw)} bases, which counts as behind.")
    return lines, facts


def _ahead(raw: Values, oracle: Values, mine: str, others: Sequence[str]) -> list[int]:
    """On how many bases `mine` is above each of `others`, by the search's model and by the oracle, and of how many."""
    bases = [base for base in raw if all(above(raw[base], mine, other) is not None for other in others)]
    counts = [
        sum(all(above(values[base], mine, other) for other in others) for base in bases)
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
            if bool(above(raw[base], mine, other)) != bool(above(oracle[base], mine, other))
        ]
        if others:
            found.append(f"{base} against {', '.join(others)}")
    return found


def rates(evidence: Evidence) -> PaperTable:
    """A share of each method's rows (Tables 5, 6 and 10)."""
    values = evidence.values(lambda cell: cell.get(evidence.declared.figure))
    verdicts = []
    for method in (*SEARCHES, "substitution"):
        below = [
            f"{base} {value:.2f}"
            for base, row in values.items()
            if isinstance(value := row[method], float) and value < 1
        ]
        words = f"below 1.00 on {', '.join(below)}." if below else "1.00 on every base that was run."
        verdicts.append(f"{LABELS[method]}: {words}")
    return PaperTable([beside_paper(evidence.declared, "Share of rows", values, digits=2)], verdicts)


def pass_rates(evidence: Evidence) -> PaperTable:
    """The share of unique formulas that pass each screen (S.6)."""

    def share(name: str) -> Read:
        def read(cell: Figures) -> float | None:
            part = cell["passed"] if name == "passed" else cell["screens"].get(name, 0)
            return part / cell["unique"] if cell["unique"] else None

        return read

    reads: dict[str, Read] = {
        "rows": lambda cell: cell["rows"],
        "unique": lambda cell: cell["unique"] / cell["rows"],
        **{name: share(name) for name in (*SCREENS, "passed")},
    }
    columns = [
        Column("rows", "rows", "", 0),
        *(Column(name, name.replace("_", " "), "ours", 3) for name in ("unique", *SCREENS)),
        Column("passed", "all", "ours", 3),
    ]
    rows = {
        f"{base}, {LABELS[method]}": {name: evidence.mean(base, method, read) for name, read in reads.items()}
        for base in evidence.bases
        for method in METHODS
    }
    drawn = plots.dots(evidence.values(share("passed")), {}, "passed (share)")
    caption = "Share of unique formulas that pass every screen."
    return PaperTable([Panel("", "base, method", columns, rows)], plots=[(caption, drawn)])


def spread(evidence: Evidence) -> PaperTable:
    """How much the gain of the top formulas varies over seeds, and T_c at the end of Fig. 3's runs (S.4)."""
    columns = [Column(str(seed), f"seed {seed}", "ours", 1, True) for seed in evidence.seeds]
    columns += [Column("mean", "mean", "ours", 1, True), Column("spread", "standard deviation", "ours", 1)]

    def row(base: str, method: str, read: Read) -> dict[str, Value]:
        values = {str(seed): evidence.mean(base, method, read, [seed]) for seed in evidence.seeds}
        numbers = [value for value in values.values() if isinstance(value, float | int)]
        mean, deviation = None, None
        if len(numbers) == len(values):
            mean = statistics.mean(numbers)
            deviation = statistics.stdev(numbers) if len(numbers) > 1 else ""
        return {**values, "mean": mean, "spread": deviation}

    k = evidence.declared.top
    gain = top(k, "tc_k", gain=True)
    gains = {
        f"{base}, {LABELS[method]}": row(base, method, gain) for base in evidence.bases for method in SEARCHES
    }
    ends = {label: row(START_BASE, kind, lambda cell: cell["mean"][-1]) for kind, label in STARTS.items()}
    return PaperTable(
        [
            Panel(f"ΔT_c of the top {k} by the search's model (K)", "base, search", columns, gains),
            Panel("Fig. 3's runs: mean T_c after the last step (K)", "start", columns, ends),
        ]
    )


def starts(evidence: Evidence) -> PaperTable:
    """T_c over the first stage by the kind of start (Fig. 3)."""
    cells = {kind: cell for kind in STARTS if (cell := evidence.cell(START_BASE, kind)) is not None}
    columns = [
        Column("first", "mean, first"),
        Column("last", "mean, last"),
        Column("median", "median, last"),
        Column("p90", "9th decile, last"),
        Column("best", "best, last"),
        Column("zero", "share at 0 K, last", "ours", 2),
    ]
    ends = {kind: cell["mean"][-1] for kind, cell in cells.items()}
    rows = {
        STARTS[kind]: {
            **cell,
            "first": cell["mean"][0],
            "last": ends[kind],
            "median": cell["p50"][-1],
            "p90": cell["p90"][-1],
        }
        for kind, cell in cells.items()
    }
    verdicts = []
    if len(ends) == len(STARTS):
        existing, random = ends.values()
        verdicts.append(
            f"Starts from {START_BASE} end {'higher' if existing > random else 'lower'} than random ones: "
            f"{existing:.1f} against {random:.1f} K on average. The paper says higher."
        )
    caption = "T_c over the steps: single rows, median, mean and middle 80 %."
    drawn = plots.starts_plot({STARTS[kind]: cell for kind, cell in cells.items()}) if cells else b""
    return PaperTable(
        [Panel("Predicted T_c (K)", "start", columns, rows)],
        verdicts,
        [(caption, drawn)] if cells else [],
        ends,
    )


def conversions(evidence: Evidence) -> PaperTable:
    """Mean change of T_c from converting to integers (Table 1)."""
    declared, pairs = evidence.declared, [(method, way) for method in SEARCHES for way in _WAYS]
    ours, oracle = (
        {
            limit: {
                f"{method}_{way}": mean_change(evidence, method, limit, way + by) for method, way in pairs
            }
            for limit in declared.rows
        }
        for by in ("", "_oracle")
    )
    better = {}
    for method in SEARCHES:
        both = [(row[f"{method}_loss"], row[f"{method}_rounding"]) for row in ours.values()]
        known = [(loss, rounding) for loss, rounding in both if loss is not None and rounding is not None]
        better[method] = [sum(loss > rounding for loss, rounding in known), len(known)]
    columns = [Column(f"{m}_{way}", f"{LABELS[m]}, {_WAYS[way]}", "ours", 2, True) for m, way in pairs]
    paper = [Column(f"paper_{way}", f"{label}, paper", "paper", 2, True) for way, label in _WAYS.items()]
    beside = {
        limit: {**row, **{f"paper_{way}": declared.value(limit, way) for way in _WAYS}}
        for limit, row in ours.items()
    }
    series = {c.label: [row[c.name] for row in beside.values()] for c in (*columns, *paper)}
    verdicts = [
        f"{LABELS[method]}: the loss-based conversion is better than rounding at {higher} of {compared} limits."
        for method, (higher, compared) in better.items()
        if compared
    ]
    change = "mean change of T_c (K)"
    rows = sum(cell["rows"] for cell in evidence.found.values()) // len(SEARCHES)
    return PaperTable(
        [
            Panel(f"By the search's own model: {change}", "most atoms", [*columns, *paper], beside),
            Panel(f"By the oracle: {change}", "most atoms", columns, oracle),
        ],
        verdicts,
        [
            (
                "Mean change of T_c from converting to integers.",
                plots.lines_plot(list(ours), series, ("most atoms of a formula", f"mean change of {TC} (K)")),
            )
        ],
        {"better": better},
        {"rows": f"{rows:,}", "materials": ", ".join(integer_materials())},
    )


def mean_change(evidence: Evidence, method: str, limit: str, column: str) -> float | None:
    """Mean change of T_c in K over all rows of all materials and seeds; None where no row was converted."""
    cells = [cell for (_, each, _), cell in evidence.found.items() if each == method]
    changes = [cell["changes"][limit] for cell in cells]
    weights = [change[f"{column.removesuffix('_oracle')}_rows"] for change in changes]
    values = [change[column] for change in changes]
    if not sum(weights) or None in values:
        return None
    return float(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))


def integer_loss(evidence: Evidence) -> PaperTable:
    """The integer loss of one composition, exactly: |x − n/4| by n/4 and element, and L_int^4 by the search's own loss
    (eq. 10, Fig. 2).
    """
    declared = evidence.declared
    x = torch.tensor(list(FIG2.values()), dtype=torch.float64)
    loss = float(integer_distance(x, torch.tensor(float(FIG2_ATOMS)), "l1"))
    grid = {
        f"{n / FIG2_ATOMS:.2f}": {symbol: abs(amount - n / FIG2_ATOMS) for symbol, amount in FIG2.items()}
        for n in range(FIG2_ATOMS + 1)
    }
    equal = all(
        abs(value - float(declared.value(step, symbol) or 0)) < 1e-9
        for step, row in grid.items()
        for symbol, value in row.items()
    )
    columns = [Column(symbol, label, "ours", 2) for symbol, label in declared.columns.items()]
    rows = {step: {**row, **declared.printed(step)} for step, row in grid.items()}
    verdicts = [
        f"L_int^4 = {loss:.2f}, by the search's own loss: the sum of the least in each column (0.02 + 0.02 + 0.00).",
        "Every number is equal." if equal else "Numbers differ.",
    ]
    title = "|x − c| for each integer-compatible value c"
    pairs = [each for column in columns for each in (column, column.printed(2))]
    return PaperTable([Panel(title, "c", pairs, rows)], verdicts, facts={"loss": loss, "equal": equal})


def causes(evidence: Evidence) -> PaperTable:
    """T_c gained and lost by denoising, ILVR and guidance, over the guidance's weight (Table 4)."""
    declared = evidence.declared
    cells = {
        weight: cell for weight in declared.rows if (cell := evidence.cell(GUIDANCE_BASE, weight)) is not None
    }
    columns: list[Column] = []
    for part, label in declared.columns.items():
        digits, sign = (2, False) if part == "passed" else (1, True)
        column = Column(part, label, "ours", digits, sign)
        columns += [column, column.printed(digits)]
    rows = {weight: {**cells.get(weight, {}), **declared.printed(weight)} for weight in declared.rows}
    series = {
        shown: [row.get(name) for row in rows.values()]
        for part, label in declared.columns.items()
        if part != "passed"
        for name, shown in ((part, label), (f"{part}_paper", f"{label}, paper"))
    }
    verdicts = []
    weights = [weight for weight in cells if float(weight) > 0]
    if len(weights) > 1:
        most = cells[max(weights, key=float)]
        sums = [cell["sum"] for cell in cells.values()]
        verdicts = [
            f"At weight {max(weights, key=float)} guidance adds {most['guide']:+.0f} K and ILVR and denoising "
            f"{most['ilvr'] + most['denoise']:+.0f} K. The paper's point is that they undo what guidance adds.",
            f"Sums lie between {min(sums):.0f} and {max(sums):.0f} K over all weights; "
            "the paper's between 122 and 144 K.",
        ]
    axes = ("guidance weight", f"change of {TC} over all steps (K)")
    drawn = plots.lines_plot(list(rows), series, axes, symmetric_log=True)
    return PaperTable(
        [Panel("Changes of T_c over all steps (K)", "guidance weight", columns, rows, NOT_RUN)],
        verdicts,
        [("Changes of T_c by cause: ours filled, the paper's hollow.", drawn)],
        words={"base": GUIDANCE_BASE},
    )
