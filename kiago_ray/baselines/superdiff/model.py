"""A trained SuperDiff: its network and card, saved and loaded as the predictors are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load

from kiago_ray.baselines.superdiff.network import NetworkSettings, UNet
from kiago_ray.predictors.weights import WeightsError, read_weights

KIND = "superdiff"


@dataclass(frozen=True)
class SuperDiff:
    """network: frozen, in evaluation mode; card: how it was trained and how good its samples are."""

    network: UNet
    card: dict[str, Any]


def shipped_folder() -> Path:
    """Where the package has its own weights."""
    return Path(__file__).parents[1] / "weights"


def load_superdiff(folder: Path | None = None) -> SuperDiff:
    """The model from the package or from a folder that `kiago train superdiff` wrote.

    Raises WeightsError for a missing or damaged file, a wrong hash or a network of another size than the card's.
    """
    content, card, path = read_weights(KIND, folder or shipped_folder())
    try:
        network = UNet(NetworkSettings(**card["network_settings"]))
        network.load_state_dict(load(content))
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path} is not the network that its card describes ({reason})") from None
    return SuperDiff(network.eval().requires_grad_(False), card)
