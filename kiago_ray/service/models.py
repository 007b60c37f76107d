"""The models that the service answers with: loaded once, named by the SHA-256 of their weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kiago_ray import __version__
from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.knowledge.known_tables import known_table
from kiago_ray.knowledge.tried_table import tried_table
from kiago_ray.outputs import row_background
from kiago_ray.plausibility.shipped import Prospects, load_prospects
from kiago_ray.predictors import load_card
from kiago_ray.predictors.oracle import KIND, oracle_folder
from kiago_ray.predictors.second_opinion import weights_hashes
from kiago_ray.predictors.weights import PLAUSIBILITY, plausibility_folder
from kiago_ray.report.reasons import Background
from kiago_ray.scoring import Scorer
from kiago_ray.screening import KnownMaterials, TriedMaterials

PROBE = "MgB2"
"""What health checks predict: it superconducts at 39 K."""
_NAMES = {
    "tc_ensemble": "T_c, an ensemble of residual networks on amounts and element statistics",
    "tc": "T_c, a ResNet-18 on a map of the periodic table (presets paper and reference)",
    "ef": "formation energy, ElemNet",
    KIND: "T_c, boosted trees: the second opinion",
    PLAUSIBILITY: "plausibility, two logistic regressions on what is known of relatives",
}


@dataclass(frozen=True)
class Models:
    """Everything that predicting and explaining needs.

    known: what neighbours are looked for in. background: what reasons need beside a row. hashes: SHA-256 of the
    weights by kind. prospects: what is plausible, loaded once. tried: what every search heeds, None for nothing.
    """

    scorer: Scorer
    known: KnownMaterials
    background: Background
    hashes: Mapping[str, str]
    cards: Mapping[str, Mapping[str, Any]]
    prospects: Prospects
    tried: TriedMaterials | None = None

    @classmethod
    def load(
        cls,
        weights: str | None = None,
        known: str | None = None,
        tried: str | None = None,
        *,
        device: str = "cpu",
    ) -> Models:
        """The shipped models or those of a folder, and the tables that `known` and `tried` name.

        Raises WeightsError, DataError.
        """
        folder = None if weights is None else Path(weights)
        hashes = weights_hashes(folder)
        folders = {KIND: oracle_folder(folder), PLAUSIBILITY: plausibility_folder(folder)}
        found = known_table(known)
        if found is None:
            raise ValueError("known: the service needs known compositions; name a table, or landmarks")
        told = tried_table(tried)
        return cls(
            Scorer.load(folder, device=device),
            KnownMaterials.from_table(found.table, found.source),
            row_background(folder),
            hashes,
            {kind: load_card(kind, folders.get(kind, folder)) for kind in hashes},
            load_prospects(folder),
            None if told is None else TriedMaterials.from_table(told.table, told.source),
        )

    @property
    def version(self) -> str:
        """Twelve digits that change with any of the weights."""
        return hashlib.sha256(json.dumps(dict(self.hashes), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def elements(self) -> list[str]:
        """The symbols that the predictors know, by atomic number."""
        unknown = set(self.scorer.predictors.unknown_elements())
        return [symbol for symbol in SYMBOLS if symbol not in unknown]

    def describe(self) -> dict[str, Any]:
        """What GET /v1/models says of them."""
        return {
            "service": {"kiago_ray": __version__},
            "version": self.version,
            "known": {"source": self.known.source, "compositions": len(self.known.formulas)},
            "elements": self.elements,
            "models": [
                {
                    "kind": kind,
                    "name": _NAMES.get(kind, kind),
                    "sha256": digest,
                    "card": dict(self.cards[kind]),
                }
                for kind, digest in self.hashes.items()
            ],
        }

    def check(self) -> None:
        """Predict a known superconductor. Raises RuntimeError where nothing sensible comes out."""
        tc_k = float(self.scorer.score([PROBE]).values["tc_k"][0])
        if not 0 < tc_k < 300:
            raise RuntimeError(f"T_c of {PROBE} is predicted at {tc_k} K; the models are damaged")
