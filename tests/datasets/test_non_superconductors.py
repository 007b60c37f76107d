from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest

from kiago_ray.data.element_counts import non_superconductors
from kiago_ray.data.phases import load_materials_project
from kiago_ray.data.supercon import load_supercon

WriteFile = Callable[[str, str | bytes], Path]


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
