"""`kiago train superdiff` from SuperCon's format to weights that load, and wrong input refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from kiago_ray.baselines.superdiff import load_superdiff

from .conftest import Kiago

HEADER = "a\tb\nc\td\nnum\tname\telement\tstr3\tutc\ttc\tjournal\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [f"{i}\t\tLa{2 - i / 1000}Sr{i / 1000}CuO4\t\tK\t20\tJ. (1990)" for i in range(100, 300)]
    path = tmp_path / "primary.tsv"
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


def test_it_trains_and_says_how_well(kiago: Kiago, table: Path, tmp_path: Path) -> None:
    held = tmp_path / "held.tsv"
    held.write_text(HEADER + "1\t\tLa1.85Sr0.15CuO4\t\tK\t37\tJ.\n")
    out = tmp_path / "out"
    ended = kiago(
        *("train", "superdiff", "--data", table, "--held-back", held, "--out", out),
        *("--epochs", 1, "--width", 8, "--samples", 0),
    )
    assert ended.code == 0, ended.err
    figures = json.loads(ended.out)
    card = load_superdiff(out).card
    assert figures["sha256"] == card["sha256"]
    assert card["train_rows"] + card["held_out_loss"]["rows"] == 199  # of 200, the one held back is gone
    assert "epoch 1/1" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--width", 12), "give a multiple of 8"),
        (("--depth", 9), "depth is 9"),
        (("--device", "cuda:99"), "cuda:99"),
    ],
)
def test_wrong_settings_end_with_2(
    kiago: Kiago, table: Path, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    ended = kiago("train", "superdiff", "--data", table, "--out", tmp_path / "out", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1


def test_without_diffusers_it_says_what_to_install(
    kiago: Kiago, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    ended = kiago("train", "superdiff", "--data", table, "--out", tmp_path / "out")
    assert ended.code == 2
    assert "pip install 'kiago-ray[superdiff]'" in ended.err
