"""What is known of the substitutions and hydrides that tables 8 and 11 compare with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import parse
from kiago_ray.paper.tasks import SITES
from kiago_ray.paper.verdicts import rightly_substituted
from kiago_ray.predictors.base import predict

if TYPE_CHECKING:
    from kiago_ray.predictors import Predictors
    from kiago_ray.screening import KnownMaterials


def best_substituted(known: KnownMaterials | None, predictors: Predictors) -> dict[str, dict[str, Any]]:
    """For each base of Table 8 the known compound that is rightly substituted and has the highest T_c by the
    ResNet-18: formula, tc_k and tc_measured_k. Bases without any are left out; the base itself is none.
    """
    if known is None:
        return {}
    supported = predictors.supported.cpu().numpy()
    predictable = ~(known.fractions[:, ~supported] > 0).any(axis=1)
    found = {}
    for base, (element, _) in SITES.items():
        right = rightly_substituted(known.fractions, base, element) & predictable
        rows = np.flatnonzero(right)
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
