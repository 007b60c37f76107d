"""One formula in full: what every model says of it, how far that can be believed, and what would raise its T_c."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from kiago_ray.api import read_formula, score_amounts
from kiago_ray.chemistry.balance import UNDOPED_REMARK
from kiago_ray.chemistry.elements import INDEX, SYMBOLS, Floats
from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.models import Models
from kiago_ray.report.reasons import reasons_of, row_background
from kiago_ray.screening.known import KnownMaterials
from kiago_ray.search.result import RowStatus
from kiago_ray.storage.table import PREDICTED

MORE = ("trusted_tc_k", "extrapolated", "gain", "nearest_pressure_gpa")
CHARGE = (
    "neutral",
    "pauling",
    "balanced",
    "alloy",
    "charge_kind",
    "oxidation_states",
    "charge_nats_per_atom",
    "mean_valences",
    "holes_per_cu",
    "undoped",
)
NEIGHBOURS = 5
STEP = 0.05  # of the atoms that become another element, for the T_c after a step rather than the slope


def explain(formula: str, models: Models) -> dict[str, Any]:
    """What POST /v1/explain answers (predictions.Explanation). Raises FormulaError."""
    assert models.known is not None
    amounts = read_formula(formula, models)
    x = amounts / amounts.sum()
    (row,) = score_amounts(amounts[None], models).table.to_pylist()
    if row["status"] != RowStatus.OK.label:
        raise FormulaError("not finite", "its predictions are no finite numbers")
    background = row_background(models.cards)
    return {
        "version": models.version,
        "formula": formula,
        "elements": [
            {"symbol": symbol, "amount": amount, "fraction": float(x[INDEX[symbol]])}
            for symbol, amount in parse(formula).items()
        ],
        **{name: row[name] for name in (*PREDICTED, *MORE)},
        "charge": {name: row[name] for name in CHARGE} | {"remark": _remark(row)},
        "neighbours": _nearest_known(x, models.known),
        "known_source": models.known.source,
        "reasons": [vars(reason) for reason in reasons_of({**row, "formula": formula}, background)],
        "gradient": _slopes(x, models),
    }


def _remark(row: Mapping[str, Any]) -> str:
    """What a person should know of a row's charges; "" where there is nothing to say."""
    states = row["oxidation_states"] or ""
    if row["alloy"]:
        return "One element or metals alone: charges say nothing here."
    if row["undoped"]:
        return f"A cuprate that is {UNDOPED_REMARK}."
    if row["charge_kind"] == "metallic":
        return "A metal, intermetallic or hydride: its charges needn't balance."
    if "*" in states:
        return "Charges balance only if atoms of one element take two oxidation states."
    if not states and row["neutral"] and not row["pauling"]:
        return "Charges balance only with a cation that is more electronegative than an anion."
    return "" if states else "No likely oxidation states of these elements balance."


def _nearest_known(x: Floats, known: KnownMaterials) -> list[dict[str, Any]]:
    """The nearest known compositions by L1 distance of fractions (118,), nearest first; null for what isn't known."""
    distances = np.abs(known.fractions - x).sum(axis=1)
    return [
        {
            "formula": known.formulas[at],
            "distance": round(float(distances[at]), 6),
            "tc_k": _number(known.tc_k[at]),
            "pressure_gpa": _number(known.pressure_gpa[at]),
            "reports": int(known.reports[at]),
            "reference": known.reference[at],
        }
        for at in np.argsort(distances, kind="stable")[:NEIGHBOURS].tolist()
    ]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _slopes(x: Floats, models: Models) -> list[dict[str, Any]]:
    """For every element that the predictors know: what T_c does as it takes atoms from all others alike.

    The path is (1 − δ)x + δe, of which the slope at δ = 0 is ∂T_c/∂x_e − Σ x_j ∂T_c/∂x_j.
    """
    tc = models.predictors.tc
    known = [at for at, symbol in enumerate(SYMBOLS) if symbol not in models.foreign]
    leaf = torch.tensor(x[None], dtype=torch.float32, device=tc.supported.device, requires_grad=True)
    (gradient,) = torch.autograd.grad(tc(leaf).sum(), leaf)
    g = gradient[0].double().cpu().numpy()
    slope = (g - float(x @ g)) / 100
    rows = (1 - STEP) * x + STEP * np.eye(len(SYMBOLS))[known]
    with torch.no_grad():
        after = tc(torch.tensor(rows, dtype=torch.float32, device=tc.supported.device)).double().cpu().numpy()
    return [
        {
            "symbol": SYMBOLS[at],
            "dtc_k_per_percent": float(slope[at]),
            "tc_with_5_percent_k": max(float(value), 0.0),
        }
        for at, value in zip(known, after, strict=True)
    ]
