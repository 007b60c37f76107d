"""Tables 2 and 3, the spread over seeds (S.4) and the pass rates of every screen (S.6): section 3.4."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from kiago_ray.paper import notes
from kiago_ray.paper.cells import Figures
from kiago_ray.paper.compare import Read, beside_paper, by_method, contest, paper_values, thin, values_of
from kiago_ray.paper.plots import dots
from kiago_ray.paper.published import printed_hull, published
from kiago_ray.paper.sizes import Size
from kiago_ray.paper.tables import Column, Found, Panel, PaperTable, Value, over_seeds, top_delta
from kiago_ray.paper.tasks import LABELS, MATERIALS, METHODS, SEARCHES, ours_words

TOP = 30
SCREENS = ("neutral", "pauling", "ef_negative", "few_elements")


def table2(found: Found, size: Size) -> PaperTable:
    """ΔT_c of the top 30 from existing superconductors."""
    raw, oracle = (
        values_of(found, MATERIALS, size.seeds, top_delta(TOP, column)) for column in ("tc_k", "tc_oracle_k")
    )
    verdicts, facts = contest(raw, oracle)
    bases = values_of(found, MATERIALS, size.seeds, lambda cell: cell["base"]["tc_k"], ("kiago",))
    trees = values_of(found, MATERIALS, size.seeds, lambda cell: cell["base"]["tc_oracle_k"], ("kiago",))
    measured = values_of(found, MATERIALS, size.seeds, lambda cell: cell["base"]["tc_measured_k"], ("kiago",))
    return PaperTable(
        name="table2",
        title=published()["table2"].title,
        size=size.words("materials"),
        panels=(
            beside_paper("table2", "By the search's model: ΔT_c (K)", raw, digits=1, sign=True),
            by_method("The same formulas by the oracle: ΔT_c (K)", oracle, digits=1, sign=True),
            Panel(
                "T_c of the bases (K)",
                "base",
                (Column("model", "ResNet-18"), Column("oracle", "oracle"), Column("measured", "measured")),
                tuple(
                    (base, (bases[base]["kiago"], trees[base]["kiago"], measured[base]["kiago"]))
                    for base in MATERIALS
                ),
            ),
        ),
        verdicts=verdicts,
        notes=(
            ours_words("materials"),
            *filter(None, [thin(found, MATERIALS, size.seeds, TOP)]),
            notes.SCREENS,
            notes.PREDICTORS,
            notes.ORACLE,
            notes.SUPERDIFF,
            notes.GUIDANCE,
            notes.SUBSTITUTION,
            notes.START,
            notes.SEED,
        ),
        plots=(
            (
                "ΔT_c of the top 30 by the search's model: ours filled, the paper's hollow.",
                dots(raw, paper_values("table2"), "Δ$T_{\\mathrm{c}}$ of the top 30 (K)"),
            ),
            (
                "The same formulas by the oracle.",
                dots(oracle, {}, "Δ$T_{\\mathrm{c}}$ of the top 30 by the oracle (K)"),
            ),
        ),
        facts={"ahead": facts},
    )


def table3(found: Found, size: Size, models: Figures | None) -> PaperTable:
    """The best proposal of every method from every base, and the paper's samples by our models.

    models: formula → tc_k, tc_oracle_k, ef_ev_per_atom and, with competing phases, e_hull_ev_per_atom.
    """
    known = models or {}
    hull = any("e_hull_ev_per_atom" in row for row in known.values())
    rows = []
    for base in MATERIALS:
        for method in METHODS:
            cell = found.get((base, method, size.seeds[0]))
            if cell is not None and cell["best"]:
                best = cell["best"][0]
                formula = best["formula"]
                values: list[Value] = [formula, best["tc_k"], best["tc_oracle_k"], best["ef_ev_per_atom"]]
                rows.append((f"{base}, {LABELS[method]}", (*values, *_hull(known, formula, hull))))
    printed = []
    for sample in published()["table3"].rows.values():
        formula = str(sample["formula"])
        mine = known.get(formula, {})
        printed.append(
            (
                f"{formula} ({LABELS[str(sample['method'])]})",
                (
                    sample["tc_k"],
                    *(mine.get(each, "") for each in ("tc_k", "tc_oracle_k", "ef_ev_per_atom")),
                    *_hull(known, formula, hull),
                ),
            )
        )
    ef = Column("ef_ev_per_atom", "E_f (eV/atom)", "ours", 3)
    energy = (Column("e_hull_ev_per_atom", "ΔE_hull (eV/atom)", "ours", 3),) if hull else ()
    return PaperTable(
        name="table3",
        title=published()["table3"].title,
        size=size.words("materials", seeds=size.seeds[:1]),
        panels=(
            Panel(
                "Ours: the best from each base that passes",
                "base, method",
                (
                    Column("formula", "formula", ""),
                    Column("tc_k", "T_c (K)"),
                    Column("tc_oracle_k", "oracle (K)"),
                    ef,
                    *energy,
                ),
                tuple(rows),
            ),
            Panel(
                "The paper's samples by our models",
                "sample (method)",
                (
                    Column("paper_tc_k", "T_c (K), paper", "paper", 2),
                    Column("tc_k", "T_c (K)"),
                    Column("tc_oracle_k", "oracle (K)"),
                    ef,
                    *energy,
                ),
                tuple(printed),
            ),
        ),
        notes=(
            "The paper prints samples that its authors picked; ours are the first by T_c from each base.",
            _hull_words(hull, printed_hull(("Ca5Cu4Sr5O11", "MgCa4Cu4Ba3TlO10"))),
            notes.PREDICTORS,
        ),
    )


def _hull(known: Figures, formula: str, asked: bool) -> tuple[Value, ...]:
    return (known.get(formula, {}).get("e_hull_ev_per_atom", ""),) if asked else ()


def _hull_words(hull: bool, paper: str) -> str:
    if not hull:
        return f"ΔE_hull needs competing phases: give --phases FILE. The paper has {paper}."
    return (
        "ΔE_hull is by ElemNet's energies against the phases of --phases alone. The paper has "
        f"{paper}, against the Materials Project and Alexandria."
    )


def screens(found: Found, size: Size) -> PaperTable:
    """Every screen's pass rate, of unique formulas (S.6)."""
    columns = (
        Column("rows", "rows", "", 0),
        Column("unique", "unique", "ours", 3),
        *(Column(name, name.replace("_", " "), "ours", 3) for name in SCREENS),
        Column("passed", "all", "ours", 3),
    )
    rows = []
    for base in MATERIALS:
        for method in METHODS:
            reads: list[Read] = [lambda cell: cell["rows"], lambda cell: cell["unique"] / cell["rows"]]
            reads += [_screen(name) for name in (*SCREENS, None)]
            values = tuple(over_seeds(found, base, method, size.seeds, each) for each in reads)
            rows.append((f"{base}, {LABELS[method]}", values))
    passed = values_of(found, MATERIALS, size.seeds, _screen(None))
    return PaperTable(
        name="screens",
        title="Pass rates of every screen",
        size=size.words("materials"),
        panels=(Panel("", "base, method", columns, tuple(rows)),),
        notes=(
            "`unique` is a share of all rows, the others of the unique formulas, each screen on its "
            "own; `all` is those that pass every one.",
            "The supplement isn't at hand, so there are no printed figures here, but for what the "
            "text says: some SuperDiff runs leave nothing.",
            notes.SCREENS,
            notes.SUPERDIFF,
        ),
        plots=(("Share of unique formulas that pass every screen.", dots(passed, {}, "passed (share)")),),
    )


def _screen(name: str | None) -> Read:
    """The share of unique formulas that pass a screen, or all of them."""

    def read(cell: Figures) -> float | None:
        part = cell["passed"] if name is None else cell["screens"].get(name, 0)
        return part / cell["unique"] if cell["unique"] else None

    return read


def seeds(found: Found, size: Size, bases: Sequence[str], starts: dict[int, dict[str, float]]) -> PaperTable:
    """How much ΔT_c of the top 30 varies over seeds (S.4), and T_c at the end of Fig. 3's runs.

    starts: seed → start ("existing", "random") → mean T_c in K.
    """
    columns = [Column(str(seed), f"seed {seed}", "ours", 1, True) for seed in size.spread_seeds]
    columns += [Column("mean", "mean", "ours", 1, True), Column("spread", "standard deviation", "ours", 1)]
    rows = []
    for base in bases:
        for method in SEARCHES:
            read = top_delta(TOP, "tc_k")
            values = [over_seeds(found, base, method, [seed], read) for seed in size.spread_seeds]
            rows.append((f"{base}, {LABELS[method]}", (*values, *_spread(values))))
    ends = []
    for kind, label in (("existing", "from LaNiAsO with noise"), ("random", "from random compositions")):
        values = [starts.get(seed, {}).get(kind, "not run") for seed in size.spread_seeds]
        ends.append((label, (*values, *_spread(values))))
    return PaperTable(
        name="seeds",
        title="Spread over random seeds",
        size=size.words("materials", seeds=size.spread_seeds, searches=True),
        panels=(
            Panel(
                "ΔT_c of the top 30 by the search's model (K)", "base, search", tuple(columns), tuple(rows)
            ),
            Panel("Fig. 3's runs: mean T_c after the last step (K)", "start", tuple(columns), tuple(ends)),
        ),
        notes=(
            "The supplement isn't at hand, so there are no printed figures here.",
            "The standard deviation is over the seeds shown, with so few an estimate.",
        ),
    )


def _spread(values: Sequence[Value]) -> tuple[Value, Value]:
    numbers = [value for value in values if isinstance(value, float | int)]
    if len(numbers) != len(values) or len(numbers) < 2:
        return (numbers[0], "") if len(numbers) == len(values) == 1 else (None, None)
    return statistics.mean(numbers), statistics.stdev(numbers)
