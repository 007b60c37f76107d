"""Weights on disk: what is saved comes back, and everything that isn't the card's file is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kiago_ray.data.files import sha256
from kiago_ray.predictors.networks import ElemNet, TcResNet
from kiago_ray.predictors.weights import (
    WeightsError,
    load_card,
    load_network,
    load_predictors,
    save_network,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("weights")
    torch.manual_seed(5)
    save_network(TcResNet(), "tc", {"kind": "tc"}, made)
    save_network(ElemNet(), "ef", {"kind": "ef"}, made)
    return made


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_what_is_saved_comes_back_within_half_precision(tmp_path: Path) -> None:
    torch.manual_seed(6)
    network = ElemNet().eval()
    save_network(network, "ef", {}, tmp_path)
    loaded = load_network("ef", tmp_path)
    x = torch.rand(20, 118)
    x = x / x.sum(1, keepdim=True)
    torch.testing.assert_close(loaded(x), network(x), rtol=5e-3, atol=5e-3)
    assert not any(p.requires_grad for p in loaded.parameters())
    assert not loaded.training
    assert load_card("ef", tmp_path)["sha256"] == sha256(tmp_path / "ef.safetensors")


def test_predictors_load_and_predict(folder: Path) -> None:
    predictors = load_predictors(folder)
    x = torch.zeros(2, 118)
    x[:, [0, 7]] = 0.5
    assert predictors.tc(x).shape == predictors.ef(x).shape == (2,)
    assert int(predictors.supported.sum()) == 86


def test_a_changed_byte_is_refused(copy: Path) -> None:
    weights = copy / "tc.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match="SHA-256"):
        load_predictors(copy)


@pytest.mark.parametrize("name", ["ef.safetensors", "ef.json"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(WeightsError, match=name):
        load_predictors(copy)


def forge(folder: Path, kind: str, content: bytes) -> None:
    """Other weights with a card that vouches for them."""
    path = folder / f"{kind}.safetensors"
    path.write_bytes(content)
    (folder / f"{kind}.json").write_text(json.dumps({"sha256": sha256(path)}))


def test_another_network_and_foreign_shapes_are_refused(copy: Path) -> None:
    forge(copy, "tc", (copy / "ef.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="no TcResNet"):
        load_network("tc", copy)
    state = ElemNet().state_dict() | {"layers.0.weight": torch.zeros(1024, 118)}
    save_file(state, copy / "other")
    forge(copy, "ef", (copy / "other").read_bytes())
    with pytest.raises(WeightsError, match=r"no ElemNet: .*layers\.0\.weight.*\[1024, 118\]"):
        load_network("ef", copy)


def test_a_pickle_is_refused(copy: Path) -> None:
    torch.save(ElemNet().state_dict(), copy / "pickled")
    forge(copy, "ef", (copy / "pickled").read_bytes())
    with pytest.raises(WeightsError, match="not a safetensors file"):
        load_network("ef", copy)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sha256": 3}', "\x00"])
def test_a_broken_card_is_refused(copy: Path, text: str) -> None:
    (copy / "ef.json").write_text(text)
    with pytest.raises(WeightsError, match="not a model card"):
        load_card("ef", copy)
