"""Tables 9 to 11: hydrides (section 3.6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiago_ray.chemistry.formula import parse
from kiago_ray.paper import notes
from kiago_ray.paper.cells import Figures
from kiago_ray.paper.compare import beside_paper, by_method, contest, paper_values, thin, values_of
from kiago_ray.paper.plots import dots
from kiago_ray.paper.published import published
from kiago_ray.paper.sizes import Size
from kiago_ray.paper.tables import Column, Found, Panel, PaperTable, Value, rate, top_mean
from kiago_ray.paper.tasks import HYDRIDES, LABELS, SEARCHES, ours_words

TOP = 5
SHOWN = 8  # proposals of each search in Table 11
RELATED = (
    "KIAGO here is the preset `hydride`, which has section 3.6's settings: at least 40 % hydrogen, "
    "two or three elements, at most 15 atoms, starts nearer to the base."
)


def table9(found: Found, size: Size) -> PaperTable:
    """Mean T_c of the top 5 hydrides."""
    raw, oracle = (
        values_of(found, HYDRIDES, size.seeds, top_mean(TOP, column)) for column in ("tc_k", "tc_oracle_k")
    )
    verdicts, facts = contest(raw, oracle, what="T_c")
    return PaperTable(
        name="table9",
        title=published()["table9"].title,
        size=size.words("hydrides"),
        panels=(
            beside_paper("table9", "By the search's model: T_c (K)", raw, digits=2),
            by_method("The same formulas by the oracle: T_c (K)", oracle, digits=2),
        ),
        verdicts=verdicts,
        notes=(
            RELATED,
            ours_words("hydrides"),
            "Screens: neutral with a valence for each atom, at least 40 % hydrogen, two or three "
            "elements, at most 15 atoms, E_f < 0. The paper doesn't say whether E_f < 0 is asked of hydrides.",
            *filter(None, [thin(found, HYDRIDES, size.seeds, TOP)]),
            "A formula whose amounts aren't whole has no number of atoms and fails, so SuperDiff has "
            "few that pass; the paper doesn't say how it counted them.",
            notes.PREDICTORS,
            notes.ORACLE,
            "SuperCon says nothing of pressure, under which most hydrides superconduct.",
        ),
        plots=(
            (
                "Mean T_c of the top 5 by the search's model: ours filled, the paper's hollow.",
                dots(raw, paper_values("table9"), "$T_{\\mathrm{c}}$ of the top 5 (K)"),
            ),
        ),
        facts={"ahead": facts},
    )


def table10(found: Found, size: Size) -> PaperTable:
    """Share of proposals of the hydrides' form."""
    values = values_of(found, HYDRIDES, size.seeds, rate("hydride_rows"))
    verdicts = []
    for method in (*SEARCHES, "substitution"):
        below = [
            f"{base} {value:.2f}"
            for base in HYDRIDES
            if isinstance(value := values[base][method], float) and value < 1
        ]
        verdicts.append(
            f"{LABELS[method]}: "
            + (f"below 1.00 on {', '.join(below)}." if below else "1.00 on every base that was run.")
        )
    return PaperTable(
        name="table10",
        title=published()["table10"].title,
        size=size.words("hydrides"),
        panels=(beside_paper("table10", "Share of rows", values, digits=2),),
        verdicts=tuple(verdicts),
        notes=(
            "Rows count, repeated ones too. Amounts that aren't whole count as they are written: a "
            "SuperDiff sample passes if they add up to 15 at most.",
            RELATED,
            ours_words("hydrides"),
            notes.SUPERDIFF,
        ),
    )


def table11(
    found: Found, size: Size, models: Figures, similar: Mapping[str, Mapping[str, Any]], source: str
) -> PaperTable:
    """Hydrides proposed, with known compounds of the same elements.

    models: formula → tc_k and tc_oracle_k. similar: formula → formula, tc_k and pressure_gpa of the best known
    compound of its elements. source: of those.
    """
    panels = []
    for method in SEARCHES:
        rows = [
            (
                row["formula"],
                (
                    base,
                    row["tc_k"],
                    row["tc_oracle_k"],
                    *_similar(similar.get(row["formula"])),
                    *_reported(row["formula"]),
                ),
            )
            for base, row in best_hydrides(found, size, method)
        ]
        panels.append(
            Panel(
                f"Proposed by {LABELS[method]}",
                "formula",
                (
                    Column("base", "base", ""),
                    Column("tc_k", "T_c (K)", "ours", 2),
                    Column("tc_oracle_k", "oracle (K)", "ours", 2),
                    Column("similar", "known, same elements", ""),
                    Column("similar_tc_k", "measured (K)"),
                    Column("reported", "in the paper's references", ""),
                    Column("reported_tc", "T_c (K)", "paper"),
                ),
                tuple(rows),
            )
        )
    printed = tuple(
        (
            formula,
            (
                row["tc_k"],
                *(models.get(formula, {}).get(name, "") for name in ("tc_k", "tc_oracle_k")),
                *(row[name] for name in ("dataset", "dataset_tc_k", "refs", "refs_tc")),
            ),
        )
        for formula, row in published()["table11"].rows.items()
    )
    panels.append(
        Panel(
            "The paper's, by its model and by ours",
            "formula",
            (
                Column("paper_tc_k", "T_c (K), paper", "paper", 1),
                Column("tc_k", "T_c (K)", "ours", 2),
                Column("tc_oracle_k", "oracle (K)", "ours", 2),
                Column("dataset", "similar in SuperCon", "paper"),
                Column("dataset_tc_k", "its T_c (K)", "paper", 1),
                Column("refs", "similar in its references", "paper"),
                Column("refs_tc", "T_c (K)", "paper"),
            ),
            printed,
        )
    )
    return PaperTable(
        name="table11",
        title=published()["table11"].title,
        size=size.words("hydrides", seeds=size.seeds[:1], searches=True),
        panels=tuple(panels),
        notes=(
            f"Each search's {SHOWN} best over all bases, each formula once. Known compounds: "
            f"{source}; of those with the same elements, the one with the highest T_c.",
            notes.PREDICTORS,
        ),
    )


def best_hydrides(found: Found, size: Size, method: str) -> list[tuple[str, dict[str, Any]]]:
    """A search's best rows over all bases, each formula once, with its base."""
    rows: dict[str, tuple[str, dict[str, Any]]] = {}
    for base in HYDRIDES:
        for row in found.get((base, method, size.seeds[0]), {}).get("best", []):
            rows.setdefault(row["formula"], (base, row))
    return sorted(rows.values(), key=lambda each: (-each[1]["tc_k"], each[1]["formula"]))[:SHOWN]


def _similar(known: Mapping[str, Any] | None) -> tuple[Value, Value]:
    if known is None:
        return "", ""
    pressure = known.get("pressure_gpa")
    return str(known["formula"]) + (f" ({pressure:g} GPa)" if pressure else ""), known["tc_k"]


def _reported(formula: str) -> tuple[Value, Value]:
    """What the paper's references have of the same elements."""
    for printed, row in published()["table11"].rows.items():
        if set(parse(printed)) == set(parse(formula)) and row["refs"]:
            return row["refs"], row["refs_tc"]
    return "", ""
