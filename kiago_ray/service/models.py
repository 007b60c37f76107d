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
from kiago_ray.data.known import known_table, tried_table
from kiago_ray.hull import EnergyHull
from kiago_ray.outputs import row_background
from kiago_ray.plausibility.shipped import Prospects
from kiago_ray.predictors import load_card
from kiago_ray.predictors.oracle.opinions import weights_hashes
from kiago_ray.predictors.oracle.trees import KIND, oracle_folder
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
    PLAUSIBILITY: "plausibility: whether such a composition exists and is reported",
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
        folders = dict.fromkeys(weights_hashes(folder), folder)
        folders |= {KIND: oracle_folder(folder), PLAUSIBILITY: plausibility_folder(folder)}
        cards = {kind: load_card(kind, where) for kind, where in folders.items()}
        found = known_table(known)
        if found is None:
            raise ValueError("known: the service needs known compositions; name a table, or landmarks")
        told = tried_table(tried)
        materials = KnownMaterials.from_table(found.table, found.source)
        return cls(
            Scorer.load(folder, known=materials, hull=EnergyHull.of(weights=folder), device=device),
            materials,
            row_background(folder),
            {kind: card["sha256"] for kind, card in cards.items()},
            cards,
            None if told is None else TriedMaterials.from_table(told.table, told.source),
        )

    @property
    def prospects(self) -> Prospects:
        """What the past says of what can be made, for searches too."""
        return self.scorer.prospects

    @property
    def version(self) -> str:
        """Twelve digits that change with any of the weights."""
        return hashlib.sha256(json.dumps(dict(self.hashes), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def elements(self) -> list[str]:
        """The symbols that the predictors know, by atomic number."""
        return [symbol for symbol in SYMBOLS if symbol not in self.scorer.foreign]

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
        tc_k = self.scorer.score([PROBE]).table["tc_k"][0].as_py()
        if tc_k is None or not 0 < tc_k < 300:
            raise RuntimeError(f"T_c of {PROBE} is predicted at {tc_k} K; the models are damaged")
