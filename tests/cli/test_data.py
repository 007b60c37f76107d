"""`kiago data`: the account of a file, files that are none, and the shipped tables built anew from tiny raw files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

Kiago = Callable[..., Any]
LITERATURE = Path(__file__).parents[1] / "data" / "literature_tc.tsv"


def test_check_tells_what_was_kept(kiago: Kiago) -> None:
    ended = kiago("data", "check", LITERATURE, "--json")
    assert ended.code == 0
    (report,) = json.loads(ended.out)["files"]
    assert report["kind"] == "supercon"
    assert report["rows_read"] == report["rows_kept"] == 40
    assert "compositions kept" in kiago("data", "check", LITERATURE).out


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"a,b\n1,2\n", b"\x1f\x8b\x08\x00cut"])
def test_files_that_are_no_table_are_told_in_one_line(kiago: Kiago, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file.csv"
    file.write_bytes(content)
    ended = kiago("data", "check", file)
    assert ended.code == 2
    assert "file.csv" in ended.err
    assert len(ended.err.strip().splitlines()) == 1


def raw_files(folder: Path) -> list[object]:
    """Tiny files in the publishers' forms, as options of `kiago data pack`."""
    (folder / "mp.csv").write_text(
        "formula,formation_energy_ev_per_atom,decomposition_energy_ev_per_atom\nMgB2,-0.15,-0.1\nHeO2,0.2,0.2\n"
    )
    (folder / "cod.csv").write_text(
        "formula,code,spacegroup,e_hull_ev_per_atom\nMgB2,7,191,\nMg0.9995B2,3,191,\n"
    )
    (folder / "then.txt.gz").write_bytes(gzip.compress(b"B2Mg\nCH4\nNbC\n"))
    (folder / "tried.csv").write_text("matter, Tc \n1T-TaS2, 0.0 \nLaIrPn, 0.0\n")
    named = {"--phases": "mp.csv", "--made": "cod.csv", "--made-2007": "then.txt.gz", "--tried": "tried.csv"}
    return ["--supercon", LITERATURE, *(each for key, name in named.items() for each in (key, folder / name))]


def test_pack_builds_the_tables_that_ship(kiago: Kiago, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["data", "pack", *raw_files(tmp_path), "--out", out]
    refused = kiago(*command)
    assert refused.code == 2
    assert "there is no folder" in refused.err
    out.mkdir()
    ended = kiago(*command)
    assert ended.code == 0, ended.err
    assert "phases.parquet: 2 rows" in ended.out
    phases = pd.read_parquet(out / "phases.parquet").set_index("formula")
    assert phases["ef_predicted_ev_per_atom"].notna().to_dict() == {"MgB2": True, "O2He": False}
    made = pd.read_parquet(out / "made.parquet").set_index("formula")
    assert made.index.tolist() == ["MgB2", "NbC"]
    assert made.loc["MgB2", ["code", "spacegroup", "in_2007"]].tolist() == [3, 191, True]
    assert pd.isna(made.loc["NbC", "code"])
    assert (out / "tried.csv").read_text() == "formula,tc_k\nTaS2,0.0\n"
    assert len(pd.read_parquet(out / "superconductors.parquet")) == 40
