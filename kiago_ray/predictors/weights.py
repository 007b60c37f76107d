"""Weights on disk: safetensors, never pickle, beside a model card that carries their SHA-256. Matrices are stored in
half precision (the card holds what that costs), vectors in single; everything computes in single.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from kiago_ray.errors import InputError
from kiago_ray.predictors.base import Inference, Predictors
from kiago_ray.predictors.energy import EnergyEnsemble
from kiago_ray.predictors.ensemble import CalibratedEnsemble
from kiago_ray.predictors.networks import ElemNet, ResNet18Inference, TcResNet

Network = TypeVar("Network", bound=nn.Module)
ENERGIES = "ef_ensemble"
NETWORKS: dict[str, type[nn.Module]] = {
    "tc": TcResNet,
    "ef": ElemNet,
    "tc_ensemble": CalibratedEnsemble,
    ENERGIES: EnergyEnsemble,
}
PLAUSIBILITY = "plausibility"  # no network: read by the room of that name
OracleKind = Literal["tc_oracle", "tc_tuning_oracle"]  # nor are these: boosted trees, read by `oracle`
ORACLE: OracleKind = "tc_oracle"  # reports; reads statistics of element properties
TUNING_ORACLE: OracleKind = "tc_tuning_oracle"  # chooses settings, never reports; reads amounts of elements
MAX_BYTES = 1 << 30


class WeightsError(InputError):
    """Weights that are missing, damaged or of another network; the message names the file and the remedy."""


_REMEDY = "reinstall kiago-ray or name a folder with trained weights"


def shipped_weights() -> Path:
    """The folder of the weights inside the installed package."""
    return Path(__file__).with_name("weights")


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels in half precision, vectors and counters as they are."""
    return {k: (v.half() if v.ndim > 1 else v).contiguous().cpu() for k, v in state.items()}


def file_name(kind: str) -> str:
    """Of a kind's weights in their folder; the card's is KIND.json."""
    return f"{kind}.txt.gz" if kind in get_args(OracleKind) else f"{kind}.safetensors"


def write_whole(path: Path, content: bytes) -> None:
    """Put a file there, whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_weights(content: bytes, card: dict[str, Any], kind: str, folder: Path) -> Path:
    """Write a kind's weights to `folder`, and its card, which gets the file's name and SHA-256; return the path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(kind)
    write_whole(path, content)
    card |= {"weights": path.name, "sha256": hashlib.sha256(content).hexdigest()}
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    write_whole(folder / f"{kind}.json", text.encode())
    return path


def save_network(network: nn.Module, kind: str, card: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write `folder/KIND.safetensors` and its card `KIND.json`, which gets the network's name and size; return it."""
    name = type(network).__name__
    card |= {"network": name, "weights_count": sum(p.numel() for p in network.parameters())}
    content = save(halved(network.state_dict()), metadata={"network": name})
    write_weights(content, card, kind, folder)
    return card


def load_card(kind: str, folder: Path | None = None) -> dict[str, Any]:
    """The model card of a kind; WeightsError if it is missing or no card."""
    path = (folder or shipped_weights()) / f"{kind}.json"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(card, dict) or not isinstance(card.get("sha256"), str):
            raise ValueError("no sha256")
    except FileNotFoundError:
        raise WeightsError(f"no model card at {path}: {_REMEDY}") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} is not a model card ({error}): train again or reinstall") from None
    return card


def kinds_in(folder: Path | None) -> list[str]:
    """The kinds of networks that a folder holds; all of them for the package's own, None."""
    return [kind for kind in NETWORKS if folder is None or folder_with(kind, folder)]


def folder_with(kind: str, folder: Path | None) -> Path | None:
    """`folder` where it has a card of that kind, else None, for the shipped one: networks may be trained alone."""
    return folder if folder is not None and (folder / f"{kind}.json").exists() else None


def load_cards(folder: Path | None = None) -> dict[str, dict[str, Any]]:
    """The cards by kind of all weights that a search rests on, by default the shipped ones. Raises WeightsError."""
    cards = {kind: load_card(kind, folder) for kind in kinds_in(folder)}
    others = (ENERGIES, ORACLE, PLAUSIBILITY)
    return cards | {kind: load_card(kind, folder_with(kind, folder)) for kind in others}


def weights_hashes(folder: Path | None = None) -> dict[str, str]:
    """SHA-256 by kind of the weights whose cards `load_cards` gives."""
    return {kind: card["sha256"] for kind, card in load_cards(folder).items()}


def version_of(hashes: Mapping[str, str]) -> str:
    """Twelve digits that change with any of the weights. hashes: SHA-256 by kind."""
    return hashlib.sha256(json.dumps(dict(hashes), sort_keys=True).encode()).hexdigest()[:12]


def read_weights(kind: str, folder: Path | None = None) -> tuple[bytes, dict[str, Any], Path]:
    """The content of a kind's weights, their card and their path; the shipped ones where `folder` is None. Raises
    WeightsError for a missing or too large file and for one that its card was not written for.
    """
    card = load_card(kind, folder)
    path = (folder or shipped_weights()) / file_name(kind)
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise WeightsError(f"{path} has {size >> 20} MiB: these are not weights of this project")
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"no weights at {path} ({error.strerror}): {_REMEDY}") from None
    if (found := hashlib.sha256(content).hexdigest()) != card["sha256"]:
        raise WeightsError(
            f"{path} has SHA-256 {found[:12]}…, its card says {card['sha256'][:12]}…: "
            "the file is damaged or not the card's; reinstall or train again"
        )
    return content, card, path


def read_tensors(kind: str, folder: Path | None = None) -> tuple[dict[str, Tensor], dict[str, Any], Path]:
    """The tensors of a kind's weights, their card and their path, as `read_weights` has them. Raises WeightsError."""
    content, card, path = read_weights(kind, folder)
    try:
        return load(content), card, path
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file ({error}): reinstall or train again") from None


def filled(network: Network, stored: dict[str, Tensor], path: Path) -> Network:
    """The network with the stored weights, frozen, in evaluation mode. Raises WeightsError for another network's."""
    try:
        network.load_state_dict(stored)
    except RuntimeError as error:
        reason = " ".join(str(error).partition(":")[2].split())[:200]
        name = type(network).__name__
        raise WeightsError(
            f"{path} is not the network that its card describes, no {name}: {reason}"
        ) from None
    return network.eval().requires_grad_(False)


def load_network(kind: str, folder: Path | None = None) -> nn.Module:
    """One network with its weights, frozen, in evaluation mode. Raises WeightsError."""
    stored, _, path = read_tensors(kind, folder)
    return filled(NETWORKS[kind](), stored, path)


def load_ef(folder: Path | None = None) -> ElemNet:
    """The E_f predictor alone. Raises WeightsError."""
    return cast(ElemNet, load_network("ef", folder))


def load_energies(folder: Path | None = None) -> EnergyEnsemble:
    """The ensemble of E_f. Raises WeightsError."""
    return cast(EnergyEnsemble, load_network(ENERGIES, folder))


def load_predictors(folder: Path | None = None, *, device: str | torch.device = "cpu") -> Predictors:
    """The T_c and E_f predictors, ready for a search, of the package or a folder that `kiago train` wrote. T_c is the
    ensemble's, unless the folder has the ResNet-18 alone, which is among the others as `resnet18`; E_f is ElemNet's,
    and the ensemble, the shipped one where the folder has none, is among `energies`. Raises WeightsError for a missing
    file, a wrong hash or foreign shapes.
    """
    ef, others = load_ef(folder).to(device), dict[str, Inference]()
    for kind in [kind for kind in kinds_in(folder) if kind.startswith("tc")] or ["tc_ensemble"]:
        network = load_network(kind, folder)
        if isinstance(network, TcResNet):
            others["resnet18"] = ResNet18Inference(network).to(device)
        else:
            others["ensemble"] = cast(CalibratedEnsemble, network).to(device)
    energies = {"elemnet": ef, "ensemble": load_energies(folder_with(ENERGIES, folder)).to(device)}
    tc = others.get("ensemble") or others["resnet18"]
    return Predictors(tc=tc, ef=ef, others=others, energies=energies)
