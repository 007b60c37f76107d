"""Where a result comes from: versions, weights' hashes, devices."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "smact", "pymatgen", "pyarrow", "ray", "mlflow")


def provenance(weights: Path | None = None) -> dict[str, Any]:
    """Versions of the project and of what decides its figures, SHA-256 of the weights, devices."""
    import torch

    from kiago_ray import __version__
    from kiago_ray.predictors.weights import NETWORKS, load_card

    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    cards = {kind: load_card(kind, weights) for kind in NETWORKS}
    return {
        "kiago_ray": __version__,
        "python": platform.python_version(),
        "packages": packages,
        "weights": {kind: card["sha256"] for kind, card in cards.items()},
        "threads": torch.get_num_threads(),
        "devices": ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))],
    }
