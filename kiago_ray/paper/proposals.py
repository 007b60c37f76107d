"""Tables of single formulas: the best proposals beside the paper's and known compounds (Tables 3, 8 and 11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.paper.experiments import rightly_substituted
from kiago_ray.paper.measures import Evidence, Row
from kiago_ray.paper.tables import LABELS, METHODS, SEARCHES, Declaration, PaperTable
from kiago_ray.predictors.base import Predictors, predict
from kiago_ray.screening.known import KnownMaterials


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
    printed = [str(row[name]) for row in declared.rows.values() for name in ("proposed", "best")]
    best = {(base, method): evidence.best(base, method) for method in SEARCHES for base in bases}
    models = lab.predicted([*printed, *(row["formula"] for row in best.values() if row)])
    known = best_substituted(lab.models.known, lab.models.predictors, bases)
    panels, ahead = [], {}
    for method in SEARCHES:
        rows: dict[str, Row] = {}
        for base, sites in bases.items():
            row, rival, cell = best[base, method], known.get(base, {}), evidence.cell(base, method)
            label = ", ".join([base, *(f"{element}{state}+" for element, state in sites.items())])
            rows[label] = {
                "base_tc_k": cell["base"]["tc_k"] if cell else "",
                **models.get(row.get("formula", ""), {}),
                "proposed": row.get("formula"),
                "best": rival.get("formula"),
                **{f"proposed_{name}": row.get(name) for name in ("tc_k", "tc_oracle_k")},
                **{f"best_{name}": rival.get(name) for name in ("tc_k", "tc_measured_k")},
            }
        pairs = [(best[base, method]["tc_k"], known[base]["tc_k"]) for base in known if best[base, method]]
        ahead[method] = [sum(mine > rival for mine, rival in pairs), len(pairs)]
        panels.append(evidence.panel(0, rows, method))
    verdicts = [
        f"{LABELS[method]} proposes a higher T_c, by the search's model, than the best known on "
        f"{higher} of {compared} bases that have one."
        for method, (higher, compared) in ahead.items()
    ]
    papers: dict[str, Row] = {}
    for base, figures in declared.rows.items():
        of = {name: models.get(str(figures[name]), {}) for name in ("proposed", "best")}
        papers[base] = {
            **figures,
            **of["proposed"],
            **{f"{name}_paper_tc_k": figures[f"{name}_tc_k"] for name in of},
            **{f"{name}_tc_k": "" for name in of},
            **{f"{name}_{column}": value for name in of for column, value in of[name].items()},
        }
    return PaperTable([*panels, evidence.panel(1, papers)], verdicts, facts={"ahead": ahead})


def best_substituted(
    known: KnownMaterials | None, predictors: Predictors, bases: Mapping[str, Mapping[str, int]]
) -> dict[str, dict[str, Any]]:
    """For each base with its site the known compound that is rightly substituted and has the highest T_c by the
    ResNet-18: formula, tc_k and tc_measured_k. Bases without any are left out; the base itself is none.
    """
    if known is None:
        return {}
    predictable = ~(known.fractions[:, ~predictors.supported.cpu().numpy()] > 0).any(axis=1)
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


def hydrides(evidence: Evidence) -> PaperTable:
    """Each search's hydrides beside known compounds of the same elements; the paper's by our models (Table 11)."""
    declared, panels = evidence.declared, []
    for method in SEARCHES:
        found: dict[str, dict[str, Any]] = {}
        for base in evidence.bases:
            for row in evidence.cell(base, method).get("best", []):
                found.setdefault(row["formula"], {"base": base, **row})
        best = sorted(found.values(), key=lambda row: (-row["tc_k"], row["formula"]))[: declared.top]
        similar = same_elements(evidence.lab.models.known, (row["formula"] for row in best))
        rows = {
            row["formula"]: {**row, **similar.get(row["formula"], {}), **_reported(declared, row["formula"])}
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


def same_elements(known: KnownMaterials | None, formulas: Iterable[str]) -> dict[str, Row]:
    """For each formula the known compound of the same elements with the highest measured T_c: `similar`, with the
    pressure where there was one, and `similar_tc_k`. Formulas without any are left out.
    """
    found: dict[str, Row] = {}
    for formula in formulas if known is not None else ():
        assert known is not None
        rows = np.flatnonzero(((known.fractions > 0) == (fractions(parse(formula)) > 0)).all(axis=1))
        if len(rows):
            best = int(rows[known.tc_k[rows].argmax()])
            pressure = f" ({known.pressure_gpa[best]:g} GPa)" if known.pressure_gpa[best] > 0 else ""
            found[formula] = {
                "similar": f"{known.formulas[best]}{pressure}",
                "similar_tc_k": float(known.tc_k[best]),
            }
    return found
