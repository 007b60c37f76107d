"""Formation energies of OQMD, of the Materials Project and of files of phases: what is kept, dropped and refused."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiago_ray.chemistry.elements import ELEMNET_SYMBOLS
from kiago_ray.data.files import DataError
from kiago_ray.data.phases import load_materials_project, load_oqmd, load_phases

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


@pytest.mark.parametrize(
    "text",
    [
        "formula,formation_energy_ev_per_atom\nTi1O2,-3.2\n",
        "material_id,formula_pretty,formation_energy_per_atom,energy_above_hull\nmp-1,TiO2,-3.2,0\n",
        "Material ID,Formula,Formation Energy (eV/atom)\nmp-1,Ti2O4,-3.2\n",
        "mat_id\tformula\te_form\te_above_hull\nagm1\tTi O2\t-3.2\t0\n",
        "name,entry_id,composition,delta_e,stability\nTiO2,7,Ti1 O2,-3.2,0\n",
        "name,delta_e\nTiO2,-3.2\n",
    ],
    ids=["own", "mp-api", "mp-website", "alexandria-tsv", "oqmd", "oqmd-names"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_columns_of_exports(write_file: WriteFile, text: str, packed: bool) -> None:
    content = text.encode()
    table, report = load_phases(
        write_file("phases", gzip.compress(content, mtime=0) if packed else content), energies=True
    )
    assert table.to_dict("records") == [{"formula": "TiO2", "n_merged": 1, "ef_ev_per_atom": -3.2}]
    assert (report.kind, report.rows_read, report.rows_kept) == ("phases", 1, 1)


def test_energies_are_only_needed_where_they_count(write_file: WriteFile) -> None:
    path = write_file("a.csv", "formula,delta_e\nTiO2,\nTi2O4,nan\nTi2O3,-99\n")
    table, report = load_phases(path, energies=False)
    assert table["formula"].tolist() == ["Ti2O3", "TiO2"]
    assert report.duplicates_merged == 1
    bare = write_file("b.csv", "formula\nTiO2\n")
    assert load_phases(bare, energies=False)[0]["formula"].tolist() == ["TiO2"]
    with pytest.raises(DataError, match=r"no column of formation energies among 'formula'; name it ef_ev"):
        load_phases(bare, energies=True)


def test_the_lowest_energy_of_a_composition_is_kept_and_all_rows_are_accounted_for(
    write_file: WriteFile,
) -> None:
    rows = ["Ti1O2,-3.2", "Ti2O4,-3.4", "O2Ti1,-3.3", "Ti,0.01", "O8,-0.2", "TiO,", "TiO,n/a", "TiO,NaN"]
    rows += ["TiO,-43", "TiO2-x,-1", "Xx,-1", "RaO,-2"]
    path = write_file("a.csv", "formula,e_form\n" + "\n".join(rows) + "\n")
    table, report = load_phases(path, energies=True, elements=ELEMNET_SYMBOLS)
    assert table.to_numpy().tolist() == [["TiO2", -3.4, 3]]
    assert dict(report.dropped) == {
        "an element, at 0 eV/atom by definition": 2,
        "energy not a number": 2,
        "an element that the predictor doesn't know": 1,
        "implausible formation energy": 1,
        "missing energy": 1,
        "undetermined amount": 1,
        "unknown element": 1,
    }
    assert report.rows_read == len(rows)
    assert "RaO" in load_phases(path, energies=True)[0]["formula"].tolist()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "the file is empty"),
        (b"formula,e_form\n", "a header and no rows"),
        (b"material,e_form\nTiO2,-3\n", "no column of formulas among 'material', 'e_form'; name it formula"),
        (b"formula,e_form\nTi,0\nXx,1\n", "no compound is left of 2 rows"),
        (b"formula,e_form\nTiO2\n", "line 2: this row has 1 columns"),
        (gzip.compress(b"formula,e_form\nTiO2,-3\n", mtime=0)[:-9], "ends too early"),
        (gzip.compress(b"formula,e_form\nTiO2,-3\n" * 99, mtime=0)[:40] + b"\x00" * 40, "damaged|too early"),
        (b"\x00\x01\x02", "binary"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    write_file: WriteFile, content: bytes, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint) as told:
        load_phases(write_file("a.csv", content), energies=True)
    assert "\n" not in str(told.value)
    with pytest.raises(DataError, match="no such file"):
        load_phases("nowhere.csv", energies=False)


def test_too_large_a_file_is_refused_unread(write_file: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_file("a.csv", "formula\nTiO2\nTi2O3\nTiO\n")
    monkeypatch.setattr("kiago_ray.data.phases.MAX_PHASES", 2)
    with pytest.raises(DataError, match="line 4: more than 2 compounds"):
        load_phases(path, energies=False)
    monkeypatch.setattr("kiago_ray.data.phases.MAX_BYTES", 5)
    with pytest.raises(DataError, match="the file is larger than"):
        load_phases(path, energies=False)
