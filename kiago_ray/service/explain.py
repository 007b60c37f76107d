"""One formula in full: what every model says of it, how far that can be believed, and what would raise its T_c."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from kiago_ray.chemistry import neutrality
from kiago_ray.chemistry.balance import likeliest_balance, write_means
from kiago_ray.chemistry.cuprates import UNDOPED_REMARK
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import FormulaError, fractions, parse
from kiago_ray.chemistry.valences import likeliest_valences
from kiago_ray.knowledge.existing import made_compounds
from kiago_ray.report.reasons import reasons_of
from kiago_ray.screening.candidates import whole_numbers
from kiago_ray.screening.screens import MAX_CHARGE_NATS
from kiago_ray.screening.trust import is_extrapolated, trusted_tc_k
from kiago_ray.service.models import Models

NEIGHBOURS = 5
STEP = 0.05  # of the atoms that become another element, for the T_c after a step rather than the slope

Floats = NDArray[np.float64]


def explain(formula: str, models: Models) -> dict[str, Any]:
    """What POST /v1/explain answers (schemas.Explanation). Raises FormulaError."""
    amounts = parse(formula)
    foreign = models.scorer.predictors.unknown_elements()
    unknown = [symbol for symbol in amounts if symbol in foreign]
    if unknown:
        raise FormulaError("unknown element", f"the predictors don't know {', '.join(unknown)}")
    x = fractions(amounts)
    values = {name: number(column[0]) for name, column in _values(models, x[None]).items()}
    as_rows = [np.array([np.nan if v is None else v]) for v in values.values()]
    named = dict(zip(values, as_rows, strict=True))
    trusted = trusted_tc_k(named["tc_k"], named["tc_std_k"], named["tc_oracle_k"], named["extrapolation"])
    charge = charges(amounts)
    neighbours = nearest_known(x, models)
    first = neighbours[0]
    row = {
        **values,
        "trusted_tc_k": number(trusted[0]),
        "nearest_known": first["formula"],
        "nearest_distance": first["distance"],
        "nearest_tc_k": first["tc_k"],
        "nearest_pressure_gpa": first["pressure_gpa"],
    }
    known = models.known.compositions.same_as(x[None])[0]
    asked = {"formula": formula, "known": known, **row, **charge}
    return {
        "version": models.version,
        "formula": formula,
        "elements": [
            {"symbol": symbol, "amount": amount, "fraction": float(x[INDEX[symbol]])}
            for symbol, amount in amounts.items()
        ],
        **values,
        "trusted_tc_k": row["trusted_tc_k"],
        "extrapolated": bool(is_extrapolated(named["extrapolation"])[0]),
        "charge": charge,
        "neighbours": neighbours,
        "known_source": models.known.source,
        "known": known,
        "made": made_compounds().same_as(x[None])[0],
        "reasons": [vars(reason) for reason in reasons_of(asked, models.background)],
        "gradient": slopes(x, models),
    }


def _values(models: Models, rows: Floats) -> dict[str, Floats]:
    return models.scorer.values_of(rows.astype(np.float32), threads=1)


def number(value: float) -> float | None:
    """As JSON has it: null for what isn't known."""
    return float(value) if np.isfinite(value) else None


def charges(amounts: dict[str, float]) -> dict[str, Any]:
    """Which oxidation states balance likeliest, mixed valence being the rule, and SMACT's verdicts beside it."""
    row = np.zeros((1, N_ELEMENTS))
    for symbol, amount in amounts.items():
        row[0, INDEX[symbol]] = amount
    balances = likeliest_balance(row)
    states, holes = balances.assignments[0], balances.holes_per_cu[0]
    found: dict[str, Any] = {
        "neutral": None,
        "pauling": None,
        "neutral_mixed": None,
        "balanced": bool(balances.likely(MAX_CHARGE_NATS)[0]),
        "alloy": False,
        "charge_kind": balances.kinds[0],
        "oxidation_states": balances.certificates[0] or None,
        "charge_nats_per_atom": number(balances.nats_per_atom[0]),
        "mean_valences": write_means(balances.mean_valences[0]) or None,
        "holes_per_cu": number(holes),
        "undoped": bool(balances.undoped_parent[0]) if np.isfinite(holes) else None,
    }
    whole, judged = whole_numbers(row)
    if judged[0]:
        verdict = neutrality.check(whole)
        found |= {
            "neutral": bool(verdict.neutral[0]),
            "pauling": bool(verdict.pauling[0]),
            "alloy": bool(verdict.alloy[0] or verdict.elemental[0]),
        }
        found["neutral_mixed"] = found["pauling"] or bool(likeliest_valences(whole, mixed=True).neutral[0])
    return {**found, "remark": _remark(found, any(len(pairs) > 1 for pairs in states.values()))}


def _remark(found: dict[str, Any], mixed: bool) -> str:
    """What a person should know of the charges; "" where there is nothing to say."""
    if found["alloy"]:
        return "One element or metals alone: charges say nothing here."
    if found["undoped"]:
        return f"A cuprate that is {UNDOPED_REMARK}."
    if found["charge_kind"] == "metallic":
        return "A metal, intermetallic or hydride: its charges needn't balance."
    if mixed:
        return "Charges balance only if atoms of one element take two oxidation states."
    if not found["oxidation_states"] and found["neutral"] and not found["pauling"]:
        return "Charges balance only with a cation that is more electronegative than an anion."
    return "" if found["oxidation_states"] else "No likely oxidation states of these elements balance."


def nearest_known(x: Floats, models: Models) -> list[dict[str, Any]]:
    """The nearest known compositions by L1 distance of fractions (118,), nearest first."""
    known = models.known
    distances = cdist(x[None], known.fractions, metric="cityblock")[0]
    order = np.argsort(distances, kind="stable")[:NEIGHBOURS]
    return [
        {
            "formula": known.formulas[at],
            "distance": float(round(distances[at], 6)),
            "tc_k": number(known.tc_k[at]),
            "pressure_gpa": number(known.pressure_gpa[at]),
            "reports": int(known.reports[at]),
            "reference": known.reference[at],
        }
        for at in order.tolist()
    ]


def slopes(x: Floats, models: Models) -> list[dict[str, Any]]:
    """For every element that the predictors know: what T_c does as it takes atoms from all others alike.

    The path is (1 − δ)x + δe, of which the slope at δ = 0 is ∂T_c/∂x_e − Σ x_j ∂T_c/∂x_j.
    """
    tc = models.scorer.predictors.tc
    leaf = torch.tensor(x[None], dtype=torch.float32, device=tc.supported.device, requires_grad=True)
    (gradient,) = torch.autograd.grad(tc(leaf).sum(), leaf)
    g = gradient[0].double().cpu().numpy()
    slope = g - float(x @ g)
    known = [INDEX[symbol] for symbol in models.elements]
    rows = (1 - STEP) * np.repeat(x[None], len(known), axis=0)
    rows[np.arange(len(known)), known] += STEP
    with torch.no_grad():
        after = tc(torch.tensor(rows, dtype=torch.float32, device=tc.supported.device)).double().cpu().numpy()
    return [
        {
            "symbol": symbol,
            "dtc_k_per_percent": float(slope[z] / 100),
            "tc_with_5_percent_k": max(float(value), 0.0),
        }
        for symbol, z, value in zip(models.elements, known, after, strict=True)
    ]
