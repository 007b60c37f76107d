"""What surrounds a command: a terminal without Unicode, arguments that are no text, proxies, places to write to."""

from __future__ import annotations

import io
import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import proxy_bypass

import pandas as pd
import pytest
from requests.utils import get_environ_proxies

from kiago_ray.cli import formulas
from kiago_ray.cli.console import print_json
from kiago_ray.cli.formulas import hand_over, read_table
from kiago_ray.cli.main import reach_loopback_directly, write_what_is_not_there
from kiago_ray.progress import Counted, parts
from kiago_ray.storage.location import StorageError

Kiago = Any
UNWRITABLE = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="root may write anywhere but /proc"
)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk that has so many bytes left for a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str, *lines: object) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    write_what_is_not_there()
    for line in lines:
        print_json(line) if isinstance(line, dict) else print(line)
    stream.seek(0)
    return stream.read()


def test_signs_that_a_terminal_lacks_are_written_in_its_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, "ascii", "ΔE 3 ± 1 → é 鉄") == "dE 3 +/- 1 -> e ?\n"
    assert printed(monkeypatch, "latin-1", "ΔE 3 ± 1 é") == "dE 3 ± 1 é\n"
    assert printed(monkeypatch, "utf-8", "ΔE 3 ± 1 é \udcff") == "ΔE 3 ± 1 é ?\n"


def test_json_is_ascii_where_the_terminal_is(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"by": "Müller", "reaction": "TiO → Ti"}
    text = printed(monkeypatch, "ascii", value)
    assert text.isascii()
    assert json.loads(text) == value
    assert "Müller" in printed(monkeypatch, "utf-8", value)


def test_an_argument_that_is_no_text_is_refused_in_one_line(kiago: Kiago) -> None:
    ended = kiago("predict", "Mg\udcffB2")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "kiago: argument 2 is no UTF-8: b'Mg\\xffB2'; write it in that encoding\n"


def test_this_machine_needs_no_proxy_and_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
    monkeypatch.setenv("NO_PROXY", "intern.example")
    monkeypatch.delenv("no_proxy", raising=False)
    reach_loopback_directly()
    for host in ("127.0.0.1:5000", "localhost:5000", "intern.example"):
        assert proxy_bypass(host)
        assert get_environ_proxies(f"http://{host}/") == {}  # what MLflow asks
    assert get_environ_proxies("http://mlflow.example/")["http"] == "http://proxy.invalid:3128"
    monkeypatch.setenv("no_proxy", "*")
    reach_loopback_directly()
    assert proxy_bypass("mlflow.example")


@UNWRITABLE
@pytest.mark.parametrize("command", ["predict", "hull"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    command: str, kiago: Kiago, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(formulas, "load_models", work)
    monkeypatch.setattr(formulas, "EnergyHull", work)
    ended = kiago(command, "MgB2", "--output", "/proc/mgb2.csv")
    assert ended.code == 2
    assert ended.err.startswith("kiago: can't write /proc/mgb2.csv: ")
    assert len(ended.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_an_output_is_whole_or_not_at_all(name: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"formula": [f"MgB{k}" for k in range(9000)], "error": [None] * 9000})
    with files_of_at_most(1000), pytest.raises(StorageError, match=f"can't write .*{name}: File too large"):
        hand_over(table, "rows", dict, tmp_path / name, False, listed=True)
    assert list(tmp_path.iterdir()) == []
    assert hand_over(table, "rows", dict, tmp_path / name, False, listed=True) == 0
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_empty_lines_of_a_csv_are_no_formulas(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("\nformula,note\n\nMgB2,x\n , \nFeSe\n,kept\n\n")
    assert read_table(path, ()).to_numpy().tolist() == [["MgB2", "x"], ["FeSe", ""], ["", "kept"]]


def test_many_rows_tell_how_far_they_are_and_few_dont(capsys: pytest.CaptureFixture[str]) -> None:
    assert [range(5)[cut] for cut in parts(5, "formulas", 2)] == [range(2), range(2, 4), range(4, 5)]
    first, last = (
        capsys.readouterr().err.splitlines()
    )  # between them less than a quarter of a minute has gone
    assert first.startswith("kiago: 2 of 5 formulas, ")
    assert first.endswith(" left")
    assert last.startswith("kiago: 5 of 5 formulas, ")
    assert [*parts(2, "formulas", 2)] == [slice(0, 2)]
    assert [*parts(0, "formulas", 2)] == [slice(0, 2)]
    assert capsys.readouterr() == ("", "")
    assert Counted("rows", 3).progress() == "0 of 3 rows"
