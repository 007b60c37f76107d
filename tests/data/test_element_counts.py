from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.data.element_counts import (
    element_counts,
    load_element_counts,
    non_superconductors,
    write_element_counts,
)
from kiago_ray.data.files import DataError, sha256
from kiago_ray.data.phases import load_materials_project
from kiago_ray.data.supercon import load_supercon

WriteFile = Callable[[str, str | bytes], Path]
MP = "formula,formation_energy_ev_per_atom,decomposition_energy_ev_per_atom\n"


def test_each_composition_counts_once_for_each_element() -> None:
    counts = element_counts(pd.DataFrame({"chemical_system": ["H-S", "H-La", "B-Mg"]}))
    assert counts.shape == (N_ELEMENTS,)
    assert counts[INDEX["H"]] == 2
    assert counts.sum() == 6
    assert element_counts(pd.DataFrame({"chemical_system": []})).sum() == 0


def test_round_trip(
    tmp_path: Path,
    write_file: WriteFile,
    write_supercon: Callable[[Sequence[tuple[str, str, str, str]]], Path],
) -> None:
    rows = [
        ("Mg1B2", "K", "39", ""),
        ("Mg2B4", "K", "38", ""),
        ("Nb1", "K", "9.2", ""),
        ("NbOZ", "K", "1", ""),
    ]
    supercon = write_supercon(rows)
    known = write_file("ground_states.csv", MP + "Mg1B2,-0.1,0\nNa1Cl1,-2.1,-1\n")
    path = tmp_path / "counts.json"
    written = write_element_counts(path, supercon, known)
    read = load_element_counts(path)
    assert read.supercon.compositions == 2
    assert read.supercon.sha256 == sha256(supercon)
    assert [int(read.supercon.counts[INDEX[s]]) for s in ("Mg", "B", "Nb", "O")] == [1, 1, 1, 0]
    assert read.non_superconductors.compositions == 1
    assert read.non_superconductors.file == "ground_states.csv"
    assert np.array_equal(read.supercon.counts, written.supercon.counts)
    assert np.array_equal(read.non_superconductors.counts, written.non_superconductors.counts)
    assert str(tmp_path) not in path.read_text()


def test_shipped_counts() -> None:
    counts = load_element_counts()
    for source in (counts.supercon, counts.non_superconductors):
        assert source.licence == "CC BY 4.0"
        assert len(source.sha256) == 64
        assert "/" not in source.file
        assert source.counts.min() >= 0
        assert source.counts.max() <= source.compositions
    # Oxygen is the most frequent element of SuperCon, copper the next.
    assert counts.supercon.counts.argsort()[::-1][:2].tolist() == [INDEX["O"], INDEX["Cu"]]
    assert counts.supercon.compositions > 10_000
    assert counts.non_superconductors.compositions > 50_000


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"supercon": {"counts": {"Xx": 1}}})])
def test_damaged_file(write_file: WriteFile, text: str) -> None:
    path = write_file("counts.json", text)
    with pytest.raises(DataError, match=r"counts\.json: not a file of element counts"):
        load_element_counts(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="FileNotFoundError"):
        load_element_counts(tmp_path / "absent.json")


@pytest.fixture
def tables(
    write_supercon: Callable[[Sequence[tuple[str, str, str, str]]], Path], write_file: WriteFile
) -> tuple[pd.DataFrame, pd.DataFrame]:
    journal = "Nature 410(2001)63"
    supercon, _ = load_supercon(
        write_supercon([("Mg1B2", "K", "39", journal), ("Nb0.75Al0.25", "K", "18", journal)])
    )
    known, _ = load_materials_project(
        write_file(
            "mp.csv",
            "formula,formation_energy_ev_per_atom,decomposition_energy_ev_per_atom\n"
            "Mg2B4,-0.1,0\nMg1B4,-0.1,0\nNb3Al1,-0.2,0\nNa1Cl1,-2.1,-1\n",
        )
    )
    return known, supercon


def test_compositions_that_supercon_lacks(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    known, supercon = tables
    rows = non_superconductors(known, supercon)
    assert rows["formula"].tolist() == ["MgB4", "NaCl"]
    assert (rows[["tc_k", "tc_min_k", "tc_max_k"]] == 0).all(axis=None)
    assert rows["year"].isna().all()
    assert (rows["journal"] == "").all()


def test_by_chemical_system(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    known, supercon = tables
    assert non_superconductors(known, supercon, "chemical_system")["formula"].tolist() == ["NaCl"]


def test_the_rows_join_supercons(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    known, supercon = tables
    rows = non_superconductors(known, supercon)
    joined = pd.concat([supercon, rows], ignore_index=True)
    assert joined.dtypes.equals(supercon.dtypes)
    assert len(joined) == 4


def test_unknown_way(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    known, supercon = tables
    with pytest.raises(ValueError, match="'element'"):
        non_superconductors(known, supercon, "element")  # type: ignore[arg-type]
