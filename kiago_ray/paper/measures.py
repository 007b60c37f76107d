"""How the cells of experiments become our columns of a table: a measure for each kind of table. Those of figures come
first, then those of single formulas, which stand beside the paper's and known compounds (Tables 3, 8 and 11).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import getitem
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.models import Models
from kiago_ray.paper.experiments import (
    GUIDANCE_BASE,
    START_BASE,
    STARTS,
    Figures,
    Found,
    Lab,
    rightly_substituted,
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
    Values,
    changes_plot,
    comparison,
    dots,
    starts_plot,
)
from kiago_ray.predictors.base import predict
from kiago_ray.report.plots import TC
from kiago_ray.screening.known import KnownMaterials
from kiago_ray.search.losses import integer_distance

Read = Callable[[Figures], float | None]
"""Takes a figure from a cell."""
Row = Mapping[str, Value]

FIG2, FIG2_ATOMS = {"Ca": 0.23, "Sr": 0.27, "O": 0.5}, 4
_WAYS = ("loss", "rounding")
_HULL = "e_hull_ev_per_atom"


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

    def cell(self, base: str, method: str) -> Figures:
        """The cell of the first seed; {} where it failed."""
        return self.found.get((base, method, self.seeds[0]), {})

    def best(self, base: str, method: str) -> dict[str, Any]:
        """The best row of the first seed's cell; {} where none passed."""
        rows: list[dict[str, Any]] = self.cell(base, method).get("best", [])
        return rows[0] if rows else {}

    def mean(self, base: str, method: str, read: Read, seeds: Sequence[int] | None = None) -> Value:
        """The mean over seeds of what `read` takes; None where a cell has none, NOT_RUN where one failed."""
        seeds = self.seeds if seeds is None else seeds
        cells = [self.found[base, method, seed] for seed in seeds if (base, method, seed) in self.found]
        if len(cells) < len(seeds):
            return NOT_RUN
        values = [value for cell in cells if (value := read(cell)) is not None]
        return statistics.mean(values) if len(values) == len(cells) else None

    def values(self, read: Read) -> dict[str, dict[str, Value]]:
        """The means of every base and method."""
        return {base: {each: self.mean(base, each, read) for each in METHODS} for base in self.bases}

    def rows(self, methods: Sequence[str], row: Callable[[str, str], Row]) -> dict[str, Row]:
        """A row for each base and method, without those that are empty."""
        made = {f"{base}, {LABELS[each]}": row(base, each) for base in self.bases for each in methods}
        return {label: values for label, values in made.items() if values}

    def panel(self, at: int, rows: Mapping[str, Row], method: str = "") -> Panel:
        """A declared panel with its rows, where phases were given with ΔE_hull. method: in its title."""
        panel, hull = self.declared.panels[at], self.lab.models.hull is not None
        columns = tuple(column for column in panel.columns if hull or column.name != _HULL)
        title = panel.title.format(method=LABELS.get(method))
        return replace(panel, title=title, columns=columns, rows=rows)


def at(*path: str | int) -> Read:
    """Reads what stands in a cell at this path."""
    return lambda cell: cast("float | None", reduce(getitem, path, cast(Any, cell)))


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
    declared: Declaration,
    title: str,
    columns: Iterable[Column],
    rows: Values,
    *,
    head: str = "base",
    digits: int | None = 2,
    missing: Value = "",
) -> Panel:
    """Our columns with the paper's beside those that it has. digits: the paper's; None for as many as ours have."""
    shown: list[Column] = []
    for column in columns:
        beside = column.printed(column.digits if digits is None else digits)
        shown += [column, beside] if column.name in declared.columns else [column]
    printed = {
        label: {**row, **{f"{each}_paper": declared.value(label, each) for each in declared.columns}}
        for label, row in rows.items()
    }
    return Panel(title, head, tuple(shown), printed, missing)


def contest(evidence: Evidence) -> PaperTable:
    """T_c of the top formulas of every method, or its gain over the base's (Tables 2, 7 and 9)."""
    declared, k = evidence.declared, evidence.declared.top
    gain = declared.figure == "gain"
    raw, oracle = (evidence.values(top(k, column, gain=gain)) for column in ("tc_k", "tc_oracle_k"))
    what, digits = ("ΔT_c", 1) if gain else ("T_c", 2)
    columns = tuple(Column(method, LABELS[method], digits=digits, sign=gain) for method in METHODS)
    panels = [
        beside_paper(declared, f"By the search's model: {what} (K)", columns, raw),
        Panel(f"The same formulas by the oracle: {what} (K)", "base", columns, oracle),
    ]
    if declared.panels:
        fields = {"model": "tc_k", "oracle": "tc_oracle_k", "measured": "tc_measured_k"}
        reads = {name: at("base", field) for name, field in fields.items()}
        bases = {b: {n: evidence.mean(b, "kiago", read) for n, read in reads.items()} for b in evidence.bases}
        panels.append(evidence.panel(0, bases))
    symbol = f"{'Δ' if gain else ''}$T_{{\\mathrm{{c}}}}$ of the top {k}"
    drawn = [dots(raw, declared.rows, f"{symbol} (K)")]
    if gain:
        drawn.append(dots(oracle, {}, f"{symbol} by the oracle (K)"))
    verdicts, facts = contest_verdicts(raw, oracle, what)
    return PaperTable(panels, verdicts, drawn, {"ahead": facts})


def contest_verdicts(
    raw: Values, oracle: Values, what: str
) -> tuple[list[str], dict[str, dict[str, list[int]]]]:
    """Who is ahead of which baseline, in sentences, and as numbers: search → baseline, or "all" three at once
    → [by the search's model, by the oracle, of how many bases].
    """
    lines: list[str] = []
    facts: dict[str, dict[str, list[int]]] = {}
    baselines: list[str] = list(BASELINES)
    rivals = {other: [other] for other in baselines} | {"all": baselines}
    ours, trees = _standing(raw), _standing(oracle)
    for mine in SEARCHES:
        higher, by_oracle = (each[baselines].lt(each[mine], axis=0) for each in (ours, trees))
        run = ours[baselines].notna().mul(ours[mine].notna(), axis=0)
        parts, facts[mine] = [], {}
        for name, others in rivals.items():
            bases = run[others].all(axis=1)
            won = [int(each.loc[bases, others].all(axis=1).sum()) for each in (higher, by_oracle)]
            facts[mine][name] = [*won, int(bases.sum())]
            if bases.any():
                rival = "all three" if name == "all" else f"{LABELS[name]}'s"
                parts.append(
                    f"above {rival} on {won[0]} of {bases.sum()} bases by the search's model "
                    f"and {won[1]} by the oracle"
                )
        if parts:
            lines.append(f"{LABELS[mine]}: {what} is {'; '.join(parts)}.")
        against = [
            f"{base} against {', '.join(LABELS[other] for other in baselines if differs[other])}"
            for base, differs in (higher != by_oracle).iterrows()
            if differs.any()
        ]
        if against:
            lines.append(f"The oracle disagrees for {LABELS[mine]}: {'; '.join(against)}.")
    empty = {other: int((ours[other] == -math.inf).sum()) for other in baselines}
    counts = [f"{LABELS[other]} on {count}" for other, count in empty.items() if count]
    if counts:
        lines.append(f"Nothing passes for {', '.join(counts)} of {len(raw)} bases, which counts as behind.")
    return lines, facts


def _standing(values: Values) -> pd.DataFrame:
    """Base × method as numbers: −∞, behind any number, where nothing passed; NaN where it wasn't run."""
    numbers = [
        [
            -math.inf if (value := row[each]) is None else math.nan if value == NOT_RUN else value
            for each in METHODS
        ]
        for row in values.values()
    ]
    return pd.DataFrame(numbers, index=list(values), columns=list(METHODS), dtype=float)


def rates(evidence: Evidence) -> PaperTable:
    """A share of each method's rows (Tables 5, 6 and 10)."""
    values = evidence.values(at(evidence.declared.figure))
    verdicts = []
    for method in (*SEARCHES, "substitution"):
        below = [
            f"{base} {value:.2f}"
            for base, row in values.items()
            if isinstance(value := row[method], float) and value < 1
        ]
        words = f"below 1.00 on {', '.join(below)}." if below else "1.00 on every base that was run."
        verdicts.append(f"{LABELS[method]}: {words}")
    columns = [Column(method, LABELS[method], digits=2) for method in METHODS]
    return PaperTable([beside_paper(evidence.declared, "Share of rows", columns, values)], verdicts)


def pass_rates(evidence: Evidence) -> PaperTable:
    """The share of unique formulas that pass each screen (S.6)."""

    def share(cell: Figures, name: str) -> float | None:
        """The rows, the part of them that is unique, or the part of the unique ones that passes a screen."""
        if name == "rows":
            return cast(int, cell["rows"])
        if name == "unique":
            return float(cell["unique"] / cell["rows"])
        passed = cell["passed"] if name == "passed" else cell["screens"].get(name, 0)
        return float(passed / cell["unique"]) if cell["unique"] else None

    reads = {column.name: partial(share, name=column.name) for column in evidence.declared.panels[0].columns}
    rows = evidence.rows(
        METHODS, lambda base, method: {n: evidence.mean(base, method, read) for n, read in reads.items()}
    )
    drawn = dots(evidence.values(reads["passed"]), {}, "passed (share)")
    return PaperTable([evidence.panel(0, rows)], drawn=[drawn])


def spread(evidence: Evidence) -> PaperTable:
    """How much the gain of the top formulas varies over seeds, and T_c at the end of Fig. 3's runs (S.4)."""
    signed = {**{str(seed): f"seed {seed}" for seed in evidence.seeds}, "mean": "mean"}
    columns = *(Column(*each, sign=True) for each in signed.items()), Column("spread", "standard deviation")

    def row(base: str, method: str, read: Read) -> dict[str, Value]:
        values = {str(seed): evidence.mean(base, method, read, [seed]) for seed in evidence.seeds}
        numbers = [value for value in values.values() if isinstance(value, float | int)]
        if len(numbers) < len(values):
            return {**values, "mean": None, "spread": None}
        deviation = statistics.stdev(numbers) if len(numbers) > 1 else ""
        return {**values, "mean": statistics.mean(numbers), "spread": deviation}

    k = evidence.declared.top
    gains = evidence.rows(SEARCHES, partial(row, read=top(k, "tc_k", gain=True)))
    ends = {label: row(START_BASE, kind, at("mean", -1)) for kind, label in STARTS.items()}
    title, ends_title = (
        f"ΔT_c of the top {k} by the search's model (K)",
        "Fig. 3's runs: mean T_c after the last step (K)",
    )
    return PaperTable(
        [Panel(title, "base, search", columns, gains), Panel(ends_title, "start", columns, ends)]
    )


def starts(evidence: Evidence) -> PaperTable:
    """T_c over the first stage by the kind of start (Fig. 3)."""
    cells = {kind: cell for kind in STARTS if (cell := evidence.cell(START_BASE, kind))}
    ends = {kind: cell["mean"][-1] for kind, cell in cells.items()}
    rows, verdicts, drawn = {}, [], []
    for kind, cell in cells.items():
        last = {"last": ends[kind], "median": cell["p50"][-1], "p90": cell["p90"][-1]}
        rows[STARTS[kind]] = {**cell, "first": cell["mean"][0], **last}
    if len(ends) == len(STARTS):
        existing, random = ends.values()
        verdicts.append(
            f"Starts from {START_BASE} end {'higher' if existing > random else 'lower'} than random ones: "
            f"{existing:.1f} against {random:.1f} K on average. The paper says higher."
        )
    if cells:
        drawn.append(starts_plot({STARTS[kind]: cell for kind, cell in cells.items()}))
    return PaperTable([evidence.panel(0, rows)], verdicts, drawn, ends)


def conversions(evidence: Evidence) -> PaperTable:
    """Mean change of T_c from converting to integers (Table 1)."""
    declared, pairs = evidence.declared, [(method, way) for method in SEARCHES for way in _WAYS]
    ours, oracle = (
        {
            limit: {f"{method}_{way}": mean_change(evidence, method, limit, way, by) for method, way in pairs}
            for limit in declared.rows
        }
        for by in ("", "_oracle")
    )
    better, changes = {}, pd.DataFrame(ours, dtype=float).T
    for method in SEARCHES:
        loss, rounding = (changes[f"{method}_{way}"] for way in _WAYS)
        better[method] = [int((loss > rounding).sum()), int((loss + rounding).notna().sum())]
    printed = {limit: {f"paper_{way}": declared.value(limit, way) for way in _WAYS} for limit in ours}
    beside = evidence.panel(0, {limit: {**row, **printed[limit]} for limit, row in ours.items()})
    verdicts = [
        f"{LABELS[method]}: the loss-based conversion is better than rounding at {higher} of {compared} limits."
        for method, (higher, compared) in better.items()
        if compared
    ]
    axes = ("most atoms of a formula", f"mean change of {TC} (K)")
    drawn = [changes_plot(beside, axes)]
    rows = sum(cell["rows"] for cell in evidence.found.values()) // len(SEARCHES)
    words = {"rows": f"{rows:,}", "materials": ", ".join(comparison().integers)}
    return PaperTable([beside, evidence.panel(1, oracle)], verdicts, drawn, {"better": better}, words)


def mean_change(evidence: Evidence, method: str, limit: str, way: str, by: str = "") -> float | None:
    """Mean change of T_c in K over rows, materials and seeds; None without any. by: "_oracle" for the oracle's."""
    changes = [cell["changes"][limit] for (_, each, _), cell in evidence.found.items() if each == method]
    weights, values = ([change[way + what] for change in changes] for what in ("_rows", by))
    if not sum(weights) or None in values:
        return None
    return float(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))


def integer_loss(evidence: Evidence) -> PaperTable:
    """|x − n/4| of one composition, exactly, and L_int^4 by the search's own loss (eq. 10, Fig. 2)."""
    declared = evidence.declared
    x = torch.tensor(list(FIG2.values()), dtype=torch.float64)
    loss = float(integer_distance(x, torch.tensor(float(FIG2_ATOMS)), "l1"))
    grid = {
        f"{n / FIG2_ATOMS:.2f}": {symbol: abs(amount - n / FIG2_ATOMS) for symbol, amount in FIG2.items()}
        for n in range(FIG2_ATOMS + 1)
    }
    equal = bool((pd.DataFrame(grid).sub(pd.DataFrame(declared.rows)).abs() < 1e-9).all(axis=None))
    columns = [Column(symbol, label, digits=2) for symbol, label in declared.columns.items()]
    verdicts = [
        f"L_int^4 = {loss:.2f}, by the search's own loss: the sum of the least in each column (0.02 + 0.02 + 0.00).",
        "Every number is equal." if equal else "Numbers differ.",
    ]
    title = "|x − c| for each integer-compatible value c"
    panel = beside_paper(declared, title, columns, grid, head="c")
    return PaperTable([panel], verdicts, facts={"loss": loss, "equal": equal})


def causes(evidence: Evidence) -> PaperTable:
    """T_c gained and lost by denoising, ILVR and guidance, over the guidance's weight (Table 4)."""
    declared, title, head = evidence.declared, "Changes of T_c over all steps (K)", "guidance weight"
    rows = {weight: evidence.cell(GUIDANCE_BASE, weight) for weight in declared.rows}
    cells = {weight: cell for weight, cell in rows.items() if cell}
    columns = [
        Column(part, label, digits=2 if part == "passed" else 1, sign=part != "passed")
        for part, label in declared.columns.items()
    ]
    panel = beside_paper(declared, title, columns, rows, head=head, digits=None, missing=NOT_RUN)
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
    axes = (head, f"change of {TC} over all steps (K)")
    drawn = changes_plot(panel, axes, symmetric_log=True)
    return PaperTable([panel], verdicts, [drawn], words={"base": GUIDANCE_BASE})


def samples(evidence: Evidence) -> PaperTable:
    """The best proposal of every method from every base, and the paper's samples by our models (Table 3)."""
    ours, printed = evidence.rows(METHODS, evidence.best), evidence.declared.rows.values()
    models = evidence.lab.predicted([str(row["formula"]) for row in (*printed, *ours.values())])
    paper = {
        f"{row['formula']} ({LABELS[str(row['method'])]})": {
            **models.get(str(row["formula"]), {}),
            "paper_tc_k": row["tc_k"],
        }
        for row in printed
    }
    best = {label: {**models.get(str(row["formula"]), {}), **row} for label, row in ours.items()}
    return PaperTable([evidence.panel(0, best), evidence.panel(1, paper)])


def substitutions(evidence: Evidence) -> PaperTable:
    """The best substituted proposal of each search, the best known compound, the paper's by our models (Table 8)."""
    lab, bases, declared = evidence.lab, evidence.bases, evidence.declared
    best = {(base, method): evidence.best(base, method) for method in SEARCHES for base in bases}
    formulas = [str(row[name]) for row in declared.rows.values() for name in ("proposed", "best")]
    models = lab.predicted([*formulas, *(row["formula"] for row in best.values() if row)])
    known = {base: best_substituted(lab.models, base, *sites) for base, sites in bases.items()}
    panels, ahead = [], {}
    for method in SEARCHES:
        rows: dict[str, Row] = {}
        for base, sites in bases.items():
            row, rival, cell = best[base, method], known[base], evidence.cell(base, method)
            label = ", ".join([base, *(f"{element}{state}+" for element, state in sites.items())])
            rows[label] = {
                "base_tc_k": cell["base"]["tc_k"] if cell else "",
                **models.get(row.get("formula", ""), {}),
                "proposed": row.get("formula"),
                "best": rival.get("formula"),
                **{f"proposed_{name}": row.get(name) for name in ("tc_k", "tc_oracle_k")},
                **{f"best_{name}": rival.get(name) for name in ("tc_k", "tc_measured_k")},
            }
        both = [base for base in bases if known[base] and best[base, method]]
        ahead[method] = [sum(best[base, method]["tc_k"] > known[base]["tc_k"] for base in both), len(both)]
        panels.append(evidence.panel(0, rows, method))
    verdicts = [
        f"{LABELS[method]} proposes a higher T_c, by the search's model, than the best known on "
        f"{higher} of {compared} bases that have one."
        for method, (higher, compared) in ahead.items()
    ]
    papers: dict[str, Row] = {}
    for base, printed in declared.rows.items():
        shown = {**printed, **models.get(str(printed["proposed"]), {})}
        for name in ("proposed", "best"):
            ours: Row = {"tc_k": "", **models.get(str(printed[name]), {})}
            shown |= {f"{name}_{column}": value for column, value in ours.items()}
            shown[f"{name}_paper_tc_k"] = printed[f"{name}_tc_k"]
        papers[base] = shown
    return PaperTable([*panels, evidence.panel(1, papers)], verdicts, facts={"ahead": ahead})


def best_substituted(models: Models, base: str, element: str) -> dict[str, Any]:
    """The known compound in which others rightly stand for an element of the base and which has the highest T_c by the
    ResNet-18: formula, tc_k and tc_measured_k; {} where there is none. The base itself is none.
    """
    if (known := models.known) is None:
        return {}
    predictable = ~(known.fractions[:, ~models.predictors.supported.cpu().numpy()] > 0).any(axis=1)
    rows = np.flatnonzero(rightly_substituted(known.fractions, base, element) & predictable)
    if not len(rows):
        return {}
    tc_k = predict(models.predictors.following("resnet18").tc, known.fractions[rows].astype(np.float32))
    best = int(rows[tc_k.argmax()])
    figures = {"tc_k": max(float(tc_k.max()), 0.0), "tc_measured_k": float(known.tc_k[best])}
    return {"formula": known.formulas[best], **figures}


def hydrides(evidence: Evidence) -> PaperTable:
    """Each search's hydrides beside known compounds of the same elements; the paper's by our models (Table 11)."""
    declared, panels = evidence.declared, []
    for method in SEARCHES:
        found: dict[str, dict[str, Any]] = {}
        for base in evidence.bases:
            for row in evidence.cell(base, method).get("best", []):
                found.setdefault(row["formula"], {"base": base, **row})
        best = sorted(found.values(), key=lambda row: (-row["tc_k"], row["formula"]))[: declared.top]
        rows = {
            row["formula"]: {
                **row,
                **same_elements(evidence.lab.models.known, row["formula"]),
                **_reported(declared, row["formula"]),
            }
            for row in best
        }
        panels.append(evidence.panel(0, rows, method))
    models = evidence.lab.predicted(list(declared.rows))
    papers = {
        formula: {**row, "tc_k": "", **models.get(formula, {}), "paper_tc_k": row["tc_k"]}
        for formula, row in declared.rows.items()
    }
    return PaperTable([*panels, evidence.panel(1, papers)])


def _reported(declared: Declaration, formula: str) -> Row:
    """What the paper's references have of the same elements."""
    for printed, row in declared.rows.items():
        if set(parse(printed)) == set(parse(formula)) and row["refs"]:
            return {"reported": row["refs"], "reported_tc": row["refs_tc"]}
    return {}


def same_elements(known: KnownMaterials | None, formula: str) -> Row:
    """The known compound of the same elements with the highest measured T_c: `similar`, with the pressure where there
    was one, and `similar_tc_k`; {} where there is none.
    """
    if known is None:
        return {}
    rows = np.flatnonzero(((known.fractions > 0) == (fractions(parse(formula)) > 0)).all(axis=1))
    if not len(rows):
        return {}
    best = int(rows[known.tc_k[rows].argmax()])
    pressure = f" ({known.pressure_gpa[best]:g} GPa)" if known.pressure_gpa[best] > 0 else ""
    return {"similar": f"{known.formulas[best]}{pressure}", "similar_tc_k": float(known.tc_k[best])}


MEASURES: Mapping[str, Callable[[Evidence], PaperTable]] = {
    each.__name__: each
    for each in (
        *(causes, contest, conversions, integer_loss, pass_rates, rates, spread, starts),
        *(hydrides, samples, substitutions),
    )
}
"""How a declaration's table is made of its cells."""
