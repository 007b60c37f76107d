"""`kiago paper` and `kiago baseline`: a tiny run, what is kept and taken up again, exit codes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kiago_ray.chemistry.formula import parse
from kiago_ray.cli.paper import by_cause

Kiago = Callable[..., Any]
TINY = ("--candidates", 2, "--steps", "1,1", "--known", "landmarks")


def test_fig2_is_exact_and_needs_no_superdiff(
    kiago: Kiago, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kiago_ray.cli.paper.load_superdiff", lambda _: pytest.fail("it was loaded"))
    ended = kiago("paper", "fig2", "--known", "none", "--out", tmp_path / "out", "--json")
    assert ended.code == 0, ended.err
    table = json.loads(ended.out)["tables"]["fig2"]
    assert table["facts"] == {"loss": pytest.approx(0.04), "equal": True}
    assert table["panels"][0]["rows"]["0.25"]["Ca_paper"] == 0.02
    assert (tmp_path / "out" / "fig2.csv").read_text().startswith("table,panel,row,column,source,value")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("paper") / "out"


def test_a_tiny_table_and_the_same_again(kiago: Kiago, out: Path) -> None:
    first = kiago("paper", "table11", *TINY, "--out", out, "--json")
    assert first.code == 0, first.err
    assert first.err.count("kiago: hydrides-") == 10
    cells = sorted((out / "cells").iterdir())
    assert len(cells) == 10
    found = json.loads(first.out)["tables"]["table11"]
    for row in found["panels"][0]["rows"].values():
        assert row["tc_k"] >= 0
    os.utime(cells[0], (1, 1))
    second = kiago("paper", "table11", *TINY, "--out", out, "--json")
    assert "kiago: hydrides-" not in second.err
    again = json.loads(second.out)["tables"]["table11"]
    assert {**again, "seconds": 0} == {**found, "seconds": 0}
    assert cells[0].stat().st_mtime == 1


def test_a_lost_cell_alone_is_computed_again(kiago: Kiago, out: Path) -> None:
    lost = sorted((out / "cells").iterdir())[3]
    lost.unlink()
    ended = kiago("paper", "table11", *TINY, "--out", out)
    assert ended.code == 0, ended.err
    assert ended.err.count("kiago: hydrides-") == 1
    assert lost.exists()
    assert "Table 11: Hydrides proposed" in ended.out


def test_other_data_are_refused(kiago: Kiago, out: Path) -> None:
    ended = kiago("paper", "table11", *TINY[:-1], "none", "--out", out)
    assert ended.code == 2
    assert "holds another run (paper.known is" in ended.err


def test_what_fails_is_listed(kiago: Kiago, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such card")

    monkeypatch.setattr("kiago_ray.paper.experiments.sample", broken)
    ended = kiago("paper", "table10", *TINY, "--out", out, "--json")
    assert ended.code == 3
    assert len(json.loads(ended.out)["failures"]) == 1
    rows = json.loads(ended.out)["tables"]["table10"]["panels"][0]["rows"]
    assert rows["PdH"]["superdiff"] == "not run"
    assert rows["PdH"]["kiago"] == rows["PdH"]["substitution"] == 1
    assert "10 experiments failed" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("table12",), "'table12' is no table"),
        (("table2", "--steps", "5"), "--steps"),
        (("table2", "--steps", "0,5"), "--steps: 0,5"),
        (("table2", "--seeds", "a"), "--seeds: 'a'"),
        (("table2", "--candidates", 0), "--candidates: 0"),
        (("table2", "--device", "tpu"), "--device"),
        (("table2", "--known", "nowhere.tsv"), "nowhere.tsv"),
        (("table2", "--seeds", 2**63), "--seeds"),
        (("table2", "--superdiff-weights", "nowhere"), "nowhere"),
        (("table3", "--phases", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_wrong_input(kiago: Kiago, tmp_path: Path, arguments: tuple[object, ...], message: str) -> None:
    ended = kiago("paper", *arguments, "--out", tmp_path / "out")
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_failures_by_cause() -> None:
    assert by_cause({"a": "x", "b": "x", "c": "y"}) == ["a and 1 more: x", "c: y"]


def test_substitution_as_a_search(kiago: Kiago, tmp_path: Path) -> None:
    arguments = ("baseline", "substitution", "LaFeAsO", "--substitute", "La:+3", "--candidates", 24)
    where = ("--known", "landmarks", "--out", tmp_path / "out", "--json")
    ended = kiago(*arguments, *where)
    assert ended.code == 0, ended.err
    table = pq.read_table(tmp_path / "out" / "candidates.parquet").to_pylist()
    assert all(set(parse(row["formula"])) > {"Fe", "As", "O"} for row in table)
    assert all(row["neutral"] for row in table)
    assert json.loads(ended.out)["summary"]["rows"] == 24
    assert (tmp_path / "out" / "report.html").is_file()
    assert "already holds this search" in kiago(*arguments, *where).err
    other = kiago(*arguments, "--seed", 1, *where)
    assert other.code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("substitution", "LaFeAsO", "--substitute", "Y:+3"), "Y is not in LaFeAsO"),
        (("substitution", "LaFeAsO", "--substitute", "La:+3*0.5"), "exchanged whole"),
        (("substitution", "LaFeAsO", "--preset", "nice"), "there is no preset"),
        (("superdiff", "LaFeAsO", "--scale-factors", "7"), "a scale factor is 7: give a divisor of 120"),
        (("superdiff", "LaFeAsO", "--scale-factors", "a"), "--scale-factors"),
        (("superdiff", "LaFeAsO", "--guidance", "inf"), "'--guidance'"),
        (("superdiff", "LaFeAsO", "--alpha", "inf"), "'--alpha'"),
        (("superdiff", "LaFeAsO", "--superdiff-weights", "nowhere"), "nowhere"),
    ],
)
def test_wrong_baselines(kiago: Kiago, tmp_path: Path, arguments: tuple[object, ...], message: str) -> None:
    ended = kiago("baseline", *arguments, "--out", tmp_path / "out")
    assert ended.code == 2
    assert message in ended.err
    assert not (tmp_path / "out").exists()
