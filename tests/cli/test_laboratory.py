"""`kiago shortlist`, `runs` and `compare` on small searches, and on every kind of wrong input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kiago_ray.api import propose
from kiago_ray.data import NONE
from kiago_ray.models import load_models
from kiago_ray.runs.outcome import write_outcome
from kiago_ray.storage.run_directory import open_run

Kiago = Callable[..., Any]


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of small searches that differ in their seed."""
    folder, models = tmp_path_factory.mktemp("runs"), load_models(phases=NONE)
    for name, seed in (("a", 0), ("b", 1)):
        small = {"candidates": 8, "steps": [2, 2], "seed": seed}
        outcome = propose("La2CuO4", preset="open", overrides=small, models=models)
        record = {"search": outcome.spec.model_dump(mode="json")}
        directory = open_run(folder / name, record, {"preset": "open"})
        write_outcome(outcome, directory, cards=models.cards, hull=None)
    return folder


@pytest.mark.parametrize("ending", ["xlsx", "csv", "md", "html"])
def test_a_run_becomes_a_list(kiago: Kiago, searches: Path, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"list.{ending}"
    ended = kiago("shortlist", searches / "a", "--top", 3, "--output", file)
    assert (ended.code, ended.out) == (0, "")
    assert f"3 candidates, 3 with a recipe, written to {file}" in ended.err
    assert file.stat().st_size > 1000
    again = kiago("shortlist", searches / "a", "--output", file)
    assert (again.code, "exists" in again.err) == (2, True)


def test_a_table_is_taken_too_with_its_own_precursors(kiago: Kiago, searches: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("formula,route\nLa2O3,air\nCuO,air\n")
    ended = kiago(
        *("shortlist", searches / "a" / "top.csv", "--batch", "2mol", "--precursors", own, "--json")
    )
    told = json.loads(ended.out)["candidates"]
    assert {row["passed"] for row in told} == {True}
    assert all(isinstance(row["tc_k"], float) for row in told)
    made = [row["formula"] for row in told if row["precursors"]]
    assert len(made) < len(told)
    assert f"{len(told) - len(made)} of {len(told)} have no recipe" in ended.err
    parquet = kiago("shortlist", searches / "a" / "candidates.parquet", "--top", 1, "--json")
    assert json.loads(parquet.out)["candidates"][0]["formula"] == told[0]["formula"]


@pytest.mark.slow
def test_formulas_alone_are_predicted_and_bad_ones_stay(kiago: Kiago, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("formula\nMgB2\nXx\n")
    ended = kiago("shortlist", file)
    assert ended.code == 0
    assert "**Reaction:** Mg + 2 B → MgB2" in ended.out
    assert "can't be read" in ended.out.split("## 2.")[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing"], "there is no such file or directory"),
        (["."], "holds no run"),
        (["a", "--batch", "5"], "--batch: '5' is no amount"),
        (["a", "--output", "x.pdf"], "must end in .xlsx or .csv or .md or .html"),
        (["a", "--precursors", "none.csv"], "none.csv"),
        (["a/summary.json"], "summary.json"),
        (["wrong.csv"], "tc_k is 'warm'"),
    ],
)
def test_wrong_input_is_a_line_that_says_what(
    kiago: Kiago, searches: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(searches)
    Path("wrong.csv").write_text("formula,tc_k\nMgB2,warm\n")
    ended = kiago("shortlist", *arguments)
    Path("wrong.csv").unlink()
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert told in ended.err


def test_runs_are_listed_and_compared(kiago: Kiago, searches: Path) -> None:
    told = json.loads(kiago("runs", searches, "--json").out)["runs"]
    assert {(line["name"], line["state"], line["base"]) for line in told} == {
        ("a", "finished", "La2CuO4"),
        ("b", "finished", "La2CuO4"),
    }
    shown = kiago("runs", searches)
    assert (shown.code, "La2CuO4" in shown.out) == (0, True)
    same = kiago("compare", searches / "a", searches / "a")
    assert "specifications are the same" in same.out
    found = json.loads(kiago("compare", searches / "a", searches / "b", "--json").out)
    assert found["fields"] == {"search.seed": [0, 1]}
    assert found["both"] + found["sides"][0]["only"] == found["sides"][0]["rows"]
    assert kiago("compare", searches / "a", searches / "nothing").code == 2
