"""`kiago structures` on small cells, stopped and continued, and on every kind of wrong input."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

pytest.importorskip("chgnet", reason="the extra `structures` is not installed")

from pymatgen.core import Structure

from kiago_ray.structures import prototypes

from .conftest import Start, wait_for

Kiago = Callable[..., Any]
FILES = (
    "structure.cif start.cif POSCAR cell.png vasp/INCAR vasp/KPOINTS vasp/POSCAR vasp/POTCAR.spec qe/pw.in"
)


def test_formulas_become_a_folder_for_a_dft_group(kiago: Kiago, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = kiago("structures", "NbC", "Foo2", "--out", out, "--no-modes")
    assert ended.code == 3
    assert "Foo2: unknown element" in ended.err
    assert "Fm-3m" in ended.out
    assert {str(each) for each in (out / "001_NbC").rglob("*")} >= {
        str(out / "001_NbC" / f) for f in FILES.split()
    }
    for name in ("structure.cif", "start.cif", "POSCAR", "vasp/POSCAR"):
        found = Structure.from_file(out / "001_NbC" / name)
        assert found.composition.reduced_formula == "NbC"
    assert (out / "001_NbC" / "vasp" / "POTCAR.spec").read_text().split() == ["Nb_pv", "C"]
    assert "vc-relax" in (out / "001_NbC" / "qe" / "pw.in").read_text()
    first, second = csv.DictReader((out / "structures.csv").open())
    assert (first["prototype"], first["spacegroup"], first["prototype_survived"]) == ("NbC", "Fm-3m", "yes")
    assert float(first["ef_chgnet_ev_per_atom"]) == pytest.approx(-0.46, abs=0.1)
    assert "unknown element" in second["error"]
    assert "rocksalt (1)" in (out / "README.md").read_text("utf-8")
    assert "data:image/png" in (out / "structures.html").read_text("utf-8")
    goes_on(kiago, out)


def goes_on(kiago: Kiago, out: Path) -> None:
    """A row that a kill lost is done again, the others stay; other options are another run."""
    kept = (out / "rows" / "0001.json").stat().st_mtime_ns
    (out / "rows" / "0002.json").write_text("{half")
    ended = kiago("structures", "NbC", "Foo2", "--out", out, "--no-modes", "--json")
    assert ended.code == 3
    assert "1 of 2 rows were done before" in ended.err
    assert [row["formula"] for row in json.loads(ended.out)["rows"]] == ["NbC", "Foo2"]
    assert (out / "rows" / "0001.json").stat().st_mtime_ns == kept
    other = kiago("structures", "NbC", "--out", out)
    assert other.code == 2
    assert "holds another run" in other.err


def test_a_table_keeps_its_columns_and_a_folder_of_structures_comes_first(
    kiago: Kiago, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    cell = next(each.structure for each in prototypes.shipped() if each.name == "TaC").copy()
    cell.scale_lattice(cell.volume * 1.03)
    cell.to(filename=str(mine / "tac.cif"))
    (mine / "bad.cif").write_text("data_nothing")
    table = tmp_path / "rows.csv"
    table.write_text("formula,base,tc_k,passed\nTaC,TaC,10.3,yes\n")
    ended = kiago("structures", table, "--structures", mine, "--out", tmp_path / "out", "--no-modes")
    assert ended.code == 3
    assert "bad.cif: no structure can be read" in ended.err
    (row,) = pq.read_table(tmp_path / "out" / "structures.parquet").to_pylist()
    assert (row["tc_k"], row["prototype_source"], row["folder"]) == (10.3, "tac.cif", "001_TaC")
    assert row["volume_change"] < 0


def test_a_runs_page_gets_a_section_and_its_screen_a_verdict(kiago: Kiago, tmp_path: Path) -> None:
    run, screen = tmp_path / "run", ("screens.names=[structure_stable]", "screens.max_e_hull_ev_per_atom=0")
    changes = [text for each in screen for text in ("--set", each)]
    assert kiago("search", "MgB2", "--candidates", 40, "--steps", "15,15", *changes, "--out", run).code == 0
    asked = ("structures", run, "--max-atoms", 12, "--no-modes", "--top")
    assert kiago(*asked, 1).code == 0
    more = kiago(*asked, 2)
    assert more.code == 0
    assert "1 of 2 rows were done before" in more.err
    page = (run / "report.html").read_text("utf-8")
    assert page.count("<h2>Structures</h2>") == 1
    link, _ = re.findall(r'href="([^"]*structure\.cif)"', page)
    assert (run / link).is_file()
    assert (
        "data:image/png"
        in page.partition("<!-- structures -->")[2].partition("<!-- end of structures -->")[0]
    )
    assert kiago("campaign", "verify", run).code == 0
    row, _ = pq.read_table(run / "structures" / "structures.parquet").to_pylist()
    assert (row["rank"], row["structure_stable"], row["passed"]) == (
        1,
        row["e_hull_chgnet_ev_per_atom"] == 0,
        False,
    )


@pytest.mark.slow
def test_a_killed_run_goes_on(kiago: Kiago, start: Start, tmp_path: Path) -> None:
    formulas, rows = ("NbC", "TaC", "ZrN", "NbN"), tmp_path / "out" / "rows"
    first = start("structures", *formulas, "--out", "out", "--no-modes")
    wait_for((rows / "0001.json").is_file, first)
    first.kill()
    first.wait()
    kept = {file.name: file.stat().st_mtime_ns for file in rows.glob("*.json")}
    ended = kiago("structures", *formulas, "--out", tmp_path / "out", "--no-modes")
    assert ended.code == 0
    assert f"{len(kept)} of 4 rows were done before" in ended.err
    assert all((rows / name).stat().st_mtime_ns == at for name, at in kept.items())
    assert len(list(csv.DictReader((tmp_path / "out" / "structures.csv").open()))) == 4


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["Foo2"], "unknown element"),
        (["MgB2", "--structures", "nowhere"], "is no directory"),
        (["MgB2", "."], "give one run, or formulas"),
        (["MgB2", "--max-atoms", "1000"], "max-atoms"),
    ],
)
def test_wrong_input_is_one_line(
    kiago: Kiago, arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = kiago("structures", *arguments)
    assert ended.code == 2
    assert told in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_without_the_packages_it_says_what_to_install(kiago: Kiago, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(prototypes, "find_spec", lambda name: None if name == "chgnet" else real(name))
    ended = kiago("structures", "MgB2")
    assert ended.code == 2
    assert "pip install 'kiago-ray[structures]'" in ended.err
