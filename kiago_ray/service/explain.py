"""One formula in full: what every model says of it, how far that can be believed, and what would raise its T_c."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from kiago_ray.chemistry import neutrality
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import FormulaError, fractions, parse
from kiago_ray.chemistry.oxidation import write_states
from kiago_ray.chemistry.valences import likeliest_valences, write_valences
from kiago_ray.knowledge.existing import made_compounds
from kiago_ray.report.reasons import reasons_of
from kiago_ray.screening.candidates import whole_numbers
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
    charge = charges(x, amounts)
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
    asked = {"formula": formula, "known": known, **row, "neutral_mixed": charge["neutral_mixed"], **charge}
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


def charges(x: Floats, amounts: dict[str, float]) -> dict[str, Any]:
    """Whether oxidation states balance, and which: SMACT's verdict, and with two states of one element if need be."""
    row = np.zeros((1, N_ELEMENTS))
    for symbol, amount in amounts.items():
        row[0, INDEX[symbol]] = amount
    whole, judged = whole_numbers(row)
    found: dict[str, Any] = {
        "neutral": None,
        "pauling": None,
        "neutral_mixed": None,
        "alloy": False,
        "oxidation_states": None,
        "remark": "",
    }
    if not judged[0]:
        return {
            **found,
            "remark": "Its amounts make no whole numbers of a reasonable size, so charges can't be balanced.",
        }
    verdict = neutrality.check(whole)
    found |= {
        "neutral": bool(verdict.neutral[0]),
        "pauling": bool(verdict.pauling[0]),
        "alloy": bool(verdict.alloy[0] or verdict.elemental[0]),
    }
    # Two states of one element are often the likelier ones: YBa2Cu3O7 is Cu+2 and Cu+3, not Y+4.
    states = {} if found["alloy"] else likeliest_valences(whole, mixed=True).assignments[0]
    found["neutral_mixed"] = bool(states) or found["pauling"]
    text = write_valences(states) or write_states(whole[0], verdict.states[0])
    found["oxidation_states"] = text or None
    if found["alloy"]:
        found["remark"] = "One element or metals alone: charges say nothing here."
    elif states and not found["pauling"]:
        found["remark"] = "Charges balance only if atoms of one element take two oxidation states."
    elif found["neutral"] and not found["pauling"]:
        found["remark"] = "Charges balance only with a cation that is more electronegative than an anion."
    elif not found["neutral_mixed"]:
        found["remark"] = "No known oxidation states of these elements balance."
    return found


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
