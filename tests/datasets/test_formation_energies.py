from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiago_ray.data.files import DataError
from kiago_ray.data.phases import load_materials_project, load_oqmd

WriteFile = Callable[[str, str | bytes], Path]
OQMD = "formula,formation_energy_ev_per_atom\n"
MP = "formula,formation_energy_ev_per_atom,decomposition_energy_ev_per_atom\n"


@pytest.mark.parametrize("packed", [False, True])
def test_oqmd(write_file: WriteFile, packed: bool) -> None:
    text = (OQMD + "Sr1Ti5,0.353250429\nN1O1Pu1Sr1,-2.162748917\n").encode()
    path = write_file("formation_energy.csv.gz", gzip.compress(text) if packed else text)
    table, report = load_oqmd(path)
    assert table.to_dict("records") == [
        {"formula": "SrPuNO", "ef_ev_per_atom": -2.162748917, "n_merged": 1, "chemical_system": "N-O-Pu-Sr"},
        {"formula": "SrTi5", "ef_ev_per_atom": 0.353250429, "n_merged": 1, "chemical_system": "Sr-Ti"},
    ]
    assert (report.kind, report.rows_read, report.rows_kept) == ("oqmd", 2, 2)


def test_the_lowest_energy_is_kept(write_file: WriteFile) -> None:
    path = write_file("a.csv", OQMD + "Ti1O2,-3.2\nTi2O4,-3.4\nO2Ti1,-3.3\n")
    table, report = load_oqmd(path)
    assert table[["formula", "ef_ev_per_atom", "n_merged"]].to_numpy().tolist() == [["TiO2", -3.4, 3]]
    assert report.duplicates_merged == 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("Cu1Pa1U2,43.4710315", "implausible formation energy"),
        ("Ti1O2,-5.01", "implausible formation energy"),
        ("Ti1O2,", "missing energy"),
        ("Ti1O2,n/a", "energy not a number"),
        ("Ti1O2,inf", "energy not a number"),
        ("Xx1O2,-1", "unknown element"),
        ("TiO2-x,-1", "undetermined amount"),
        ("He1O2,1.5", "outside ElemNet's 86 elements"),
        ("Cm1O2,-1.5", "outside ElemNet's 86 elements"),
    ],
)
def test_rows_are_dropped_with_a_reason(write_file: WriteFile, row: str, reason: str) -> None:
    table, report = load_oqmd(write_file("a.csv", OQMD + "Sr1Ti5,0.35\n" + row + "\n"))
    assert dict(report.dropped) == {reason: 1}
    assert report.examples[reason][0].startswith("line 3: ")
    assert table["formula"].tolist() == ["SrTi5"]


def test_materials_project_keeps_both_energies_of_the_ground_state(write_file: WriteFile) -> None:
    rows = "Fe1O3Pb1,-1.47,0.18\nFe2O6Pb2,-1.60,0.05\nFe3O9Pb3,-1.60,0.02\nHe1Na2,0.3,0.4\n"
    table, report = load_materials_project(write_file("ground_states.csv", MP + rows))
    assert table.to_dict("records") == [
        {
            "formula": "FePbO3",
            "ef_ev_per_atom": -1.6,
            "decomposition_ev_per_atom": 0.02,
            "n_merged": 3,
            "chemical_system": "Fe-O-Pb",
        },
        {
            "formula": "Na2He",
            "ef_ev_per_atom": 0.3,
            "decomposition_ev_per_atom": 0.4,
            "n_merged": 1,
            "chemical_system": "He-Na",
        },
    ]
    assert (report.kind, report.duplicates_merged) == ("materials_project", 2)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("Fe1O1,-1.2,", "missing energy"),
        ("Fe1O1,,0.1", "missing energy"),
        ("Fe1O1,-1.2,nan", "energy not a number"),
        ("Fe1O1,9,0.1", "implausible formation energy"),
    ],
)
def test_materials_project_drops(write_file: WriteFile, row: str, reason: str) -> None:
    table, report = load_materials_project(write_file("a.csv", MP + row + "\n"))
    assert dict(report.dropped) == {reason: 1}
    assert table.empty
    assert table["ef_ev_per_atom"].dtype == "float64"


def test_truncated_in_a_row(write_file: WriteFile) -> None:
    path = write_file("a.csv", OQMD + "Sr1Ti5,0.353250429\nCe1Ge")
    with pytest.raises(DataError, match=r"a\.csv: line 3: this row has 1 columns"):
        load_oqmd(path)


rows_of_mp = st.tuples(
    st.sampled_from(["FeO", "Fe2O2", "O3Fe3", "Fe0.5O0.5", "Fe2O3", "Fe4O6", "NaCl"]),
    st.sampled_from(["-1.5", "-1.25", "0.5", "7", ""]),
    st.sampled_from(["-0.1", "0", "0.2"]),
).map(",".join)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(rows_of_mp, min_size=1, max_size=12), data=st.data())
def test_the_order_of_rows_decides_nothing(
    write_file: WriteFile, rows: list[str], data: st.DataObject
) -> None:
    table, report = load_materials_project(write_file("a.csv", MP + "\n".join(rows) + "\n"))
    shuffled_rows = data.draw(st.permutations(rows))
    shuffled, other = load_materials_project(write_file("b.csv", MP + "\n".join(shuffled_rows) + "\n"))
    pd.testing.assert_frame_equal(table, shuffled, check_exact=True)
    assert dict(report.dropped) == dict(other.dropped)
    assert report.duplicates_merged == other.duplicates_merged
