"""Tables of single formulas: the best proposals beside the paper's and known compounds (Tables 3, 8 and 11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import parse
from kiago_ray.paper.experiments import rightly_substituted
from kiago_ray.paper.measures import Evidence
from kiago_ray.paper.tables import LABELS, METHODS, SEARCHES, Column, Panel, PaperTable, Value
from kiago_ray.predictors.base import Predictors, predict
from kiago_ray.screening.known import KnownMaterials

TC, ORACLE = Column("tc_k", "T_c (K)"), Column("tc_oracle_k", "oracle (K)")
EF = Column("ef_ev_per_atom", "E_f (eV/atom)", "ours", 3)
E_HULL = Column("e_hull_ev_per_atom", "ΔE_hull (eV/atom)", "ours", 3)
Rows = dict[str, dict[str, Value]]


def samples(evidence: Evidence) -> PaperTable:
    """The best proposal of every method from every base, and the paper's samples by our models (Table 3)."""
    best = {
        f"{base}, {LABELS[method]}": row
        for base in evidence.bases
        for method in METHODS
        if (row := evidence.best(base, method))
    }
    printed = evidence.declared.rows.values()
    models = evidence.lab.predicted([str(row["formula"]) for row in (*printed, *best.values())])
    ours = {label: {**models.get(row["formula"], {}), **row} for label, row in best.items()}
    paper = {
        f"{row['formula']} ({LABELS[str(row['method'])]})": {
            **models.get(str(row["formula"]), {}),
            "paper_tc_k": row["tc_k"],
        }
        for row in printed
    }
    formula, printed_tc = Column("formula", "formula", ""), Column("paper_tc_k", "T_c (K), paper", "paper", 2)
    columns = [TC, ORACLE, EF, *_hull(evidence)]
    return PaperTable(
        [
            Panel("Ours: the best from each base that passes", "base, method", [formula, *columns], ours),
            Panel("The paper's samples by our models", "sample (method)", [printed_tc, *columns], paper),
        ]
    )


def substitutions(evidence: Evidence) -> PaperTable:
    """The best substituted proposal of each search against the best known compound with the same substitution
    (Table 8).
    """
    lab, bases = evidence.lab, evidence.bases
    printed = [str(row[name]) for row in evidence.declared.rows.values() for name in ("proposed", "best")]
    best = {(base, method): evidence.best(base, method) for method in SEARCHES for base in bases}
    models = lab.predicted([*printed, *(row["formula"] for row in best.values() if row)])
    known = best_substituted(lab.models.known, lab.predictors, bases)
    columns = [
        Column("base_tc_k", "T_c of the base (K)"),
        Column("proposed", "proposed", ""),
        Column("proposed_tc_k", "T_c (K)"),
        Column("proposed_tc_oracle_k", "oracle (K)"),
        *_hull(evidence),
        Column("best", "best known", ""),
        Column("best_tc_k", "T_c (K)"),
        Column("best_tc_measured_k", "measured (K)"),
    ]
    panels, ahead = [], {}
    for method in SEARCHES:
        rows: Rows = {}
        for base, sites in bases.items():
            row, rival = best[base, method], known.get(base, {})
            cell = evidence.cell(base, method)
            label = ", ".join([base, *(f"{element}{state}+" for element, state in sites.items())])
            rows[label] = {
                "base_tc_k": "" if cell is None else cell["base"]["tc_k"],
                "e_hull_ev_per_atom": models.get(row.get("formula", ""), {}).get("e_hull_ev_per_atom", ""),
                "proposed": row.get("formula"),
                "best": rival.get("formula"),
                **{f"proposed_{name}": row.get(name) for name in ("tc_k", "tc_oracle_k")},
                **{f"best_{name}": rival.get(name) for name in ("tc_k", "tc_measured_k")},
            }
        pairs = [(best[base, method]["tc_k"], known[base]["tc_k"]) for base in known if best[base, method]]
        ahead[method] = [sum(mine > rival for mine, rival in pairs), len(pairs)]
        panels.append(Panel(f"{LABELS[method]} against the best known", "base, site", columns, rows))
    verdicts = [
        f"{LABELS[method]} proposes a higher T_c, by the search's model, than the best known on "
        f"{higher} of {compared} bases that have one."
        for method, (higher, compared) in ahead.items()
    ]
    return PaperTable([*panels, _printed_substitutions(evidence, models)], verdicts, facts={"ahead": ahead})


def _printed_substitutions(evidence: Evidence, models: Mapping[str, Mapping[str, float]]) -> Panel:
    """The paper's own formulas of Table 8, with our models' T_c."""
    columns = [
        Column("proposed", "proposed", ""),
        Column("proposed_paper_tc_k", "T_c (K), paper", "paper", 2),
        Column("proposed_tc_k", "T_c (K)"),
        Column("proposed_tc_oracle_k", "oracle (K)"),
        *_hull(evidence),
        Column("best", "best in SuperCon", ""),
        Column("best_paper_tc_k", "T_c (K), paper", "paper", 2),
        Column("best_tc_k", "T_c (K)"),
    ]
    rows: Rows = {}
    for base, printed in evidence.declared.rows.items():
        proposed, best = (models.get(str(printed[name]), {}) for name in ("proposed", "best"))
        rows[base] = {
            "e_hull_ev_per_atom": proposed.get("e_hull_ev_per_atom", ""),
            **{name: printed[name] for name in ("proposed", "best")},
            **{f"{name}_paper_tc_k": printed[f"{name}_tc_k"] for name in ("proposed", "best")},
            **{f"proposed_{name}": value for name, value in proposed.items()},
            **{f"best_{name}": value for name, value in best.items()},
        }
    return Panel("The paper's, by its model and by ours", "base", columns, rows)


def hydrides(evidence: Evidence) -> PaperTable:
    """Hydrides that each search proposes over all bases, with known compounds of the same elements (Table 11)."""
    shown = {method: _best_of_all(evidence, method) for method in SEARCHES}
    known = same_elements(evidence.lab.models.known, (formula for rows in shown.values() for formula in rows))
    columns = [
        Column("base", "base", ""),
        replace(TC, digits=2),
        replace(ORACLE, digits=2),
        Column("similar", "known, same elements", ""),
        Column("similar_tc_k", "measured (K)"),
        Column("reported", "in the paper's references", ""),
        Column("reported_tc", "T_c (K)", "paper"),
    ]
    panels = []
    for method, best in shown.items():
        rows = {
            formula: {**row, **_similar(known.get(formula)), **_reported(evidence, formula)}
            for formula, row in best.items()
        }
        panels.append(Panel(f"Proposed by {LABELS[method]}", "formula", columns, rows))
    return PaperTable([*panels, _printed_hydrides(evidence)])


def _best_of_all(evidence: Evidence, method: str) -> dict[str, dict[str, Any]]:
    """A search's best rows over all bases by formula, each with its base."""
    found: dict[str, dict[str, Any]] = {}
    for base in evidence.bases:
        for row in (evidence.cell(base, method) or {}).get("best", []):
            found.setdefault(row["formula"], {"base": base, **row})
    best = sorted(found.values(), key=lambda row: (-row["tc_k"], row["formula"]))
    return {row["formula"]: row for row in best[: evidence.declared.top]}


def _similar(known: Mapping[str, Any] | None) -> dict[str, Value]:
    if known is None:
        return {}
    pressure = f" ({known['pressure_gpa']:g} GPa)" if known.get("pressure_gpa") else ""
    return {"similar": f"{known['formula']}{pressure}", "similar_tc_k": known["tc_k"]}


def _reported(evidence: Evidence, formula: str) -> dict[str, Value]:
    """What the paper's references have of the same elements."""
    for printed, row in evidence.declared.rows.items():
        if set(parse(printed)) == set(parse(formula)) and row["refs"]:
            return {"reported": row["refs"], "reported_tc": row["refs_tc"]}
    return {}


def _printed_hydrides(evidence: Evidence) -> Panel:
    """The paper's own hydrides of Table 11, with our models' T_c."""
    columns = [
        Column("paper_tc_k", "T_c (K), paper", "paper", 1),
        replace(TC, digits=2),
        replace(ORACLE, digits=2),
        Column("dataset", "similar in SuperCon", "paper"),
        Column("dataset_tc_k", "its T_c (K)", "paper", 1),
        Column("refs", "similar in its references", "paper"),
        Column("refs_tc", "T_c (K)", "paper"),
    ]
    models = evidence.lab.predicted(list(evidence.declared.rows))
    rows = {
        formula: {**row, "tc_k": "", **models.get(formula, {}), "paper_tc_k": row["tc_k"]}
        for formula, row in evidence.declared.rows.items()
    }
    return Panel("The paper's, by its model and by ours", "formula", columns, rows)


def _hull(evidence: Evidence) -> list[Column]:
    return [] if evidence.lab.models.hull is None else [E_HULL]


def best_substituted(
    known: KnownMaterials | None, predictors: Predictors, bases: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, Any]]:
    """For each base with its site the known compound that is rightly substituted and has the highest T_c by the
    ResNet-18: formula, tc_k and tc_measured_k. Bases without any are left out; the base itself is none.
    """
    if known is None:
        return {}
    supported = predictors.supported.cpu().numpy()
    predictable = ~(known.fractions[:, ~supported] > 0).any(axis=1)
    found = {}
    for base, sites in bases.items():
        (element,) = sites
        rows = np.flatnonzero(rightly_substituted(known.fractions, base, element) & predictable)
        if len(rows):
            tc_k = predict(predictors.following("resnet18").tc, known.fractions[rows].astype(np.float32))
            best = int(rows[tc_k.argmax()])
            found[base] = {
                "formula": known.formulas[best],
                "tc_k": max(float(tc_k.max()), 0.0),
                "tc_measured_k": float(known.tc_k[best]),
            }
    return found


def same_elements(known: KnownMaterials | None, formulas: Iterable[str]) -> dict[str, dict[str, Any]]:
    """For each formula the known compound of the same elements with the highest measured T_c: formula, tc_k and
    pressure_gpa (None where it isn't known). Formulas without any are left out.
    """
    if known is None:
        return {}
    held = known.fractions > 0
    found = {}
    for formula in formulas:
        wanted = np.zeros(held.shape[1], dtype=np.bool_)
        wanted[[INDEX[symbol] for symbol in parse(formula)]] = True
        rows = np.flatnonzero((held == wanted).all(axis=1))
        if len(rows):
            best = int(rows[known.tc_k[rows].argmax()])
            pressure = float(known.pressure_gpa[best])
            found[formula] = {
                "formula": known.formulas[best],
                "tc_k": float(known.tc_k[best]),
                "pressure_gpa": pressure if np.isfinite(pressure) else None,
            }
    return found
