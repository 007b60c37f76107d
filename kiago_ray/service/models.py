"""The models that the service answers with: which they are, what they are called, whether they are sound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kiago_ray import __version__
from kiago_ray.api import score
from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.models import Models, load_models
from kiago_ray.predictors.weights import ORACLE, PLAUSIBILITY
from kiago_ray.service.settings import ServiceSettings

PROBE = "MgB2"
"""What health checks predict: it superconducts at 39 K."""
_NAMES = {
    "tc_ensemble": "T_c, an ensemble of residual networks on amounts and element statistics",
    "tc": "T_c, a ResNet-18 on a map of the periodic table (presets paper and reference)",
    "ef": "formation energy, ElemNet",
    ORACLE: "T_c, boosted trees: the second opinion",
    PLAUSIBILITY: "plausibility: whether such a composition exists and is reported",
}


def service_models(settings: ServiceSettings, weights: str | None = None) -> Models:
    """The shipped models or those of a folder, with the tables that the settings name and the shipped phases.

    Raises WeightsError, DataError, and ValueError without known compositions, which explanations need.
    """
    models = load_models(
        weights, known=settings.known, tried=settings.tried, phases=None, device=settings.device
    )
    if models.known is None:
        raise ValueError("known: the service needs known compositions; name a table, or landmarks")
    return models


def without_phases(models: Models) -> Models:
    """The models of a search: its shards are judged one by one, but only the best of all rows are held against the
    hull.
    """
    return replace(models, hull=None)


def described(models: Models) -> dict[str, Any]:
    """What GET /v1/models says of them."""
    assert models.known is not None
    return {
        "service": {"kiago_ray": __version__},
        "version": models.version,
        "known": {"source": models.known.source, "compositions": len(models.known.formulas)},
        "elements": [symbol for symbol in SYMBOLS if symbol not in models.foreign],
        "models": [
            {"kind": kind, "name": _NAMES.get(kind, kind), "sha256": card["sha256"], "card": dict(card)}
            for kind, card in models.cards.items()
        ],
    }


def probe(models: Models) -> None:
    """Predict a known superconductor. Raises RuntimeError where nothing sensible comes out."""
    tc_k = score([PROBE], models).table["tc_k"][0].as_py()
    if tc_k is None or not 0 < tc_k < 300:
        raise RuntimeError(f"T_c of {PROBE} is predicted at {tc_k} K; the models are damaged")
