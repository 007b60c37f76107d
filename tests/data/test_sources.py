"""Tables of OQMD, the Materials Project and COD and files of phases: which a file is, what is kept, dropped and
refused of it, and what is made of them for the package.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiago_ray.chemistry.elements import ELEMNET_SYMBOLS
from kiago_ray.data.files import DataError
from kiago_ray.data.sources import (
    LOADERS,
    UNDERSTOOD,
    detect,
    load,
    load_cod,
    load_materials_project,
    load_oqmd,
    load_phases,
    load_supercon,
    non_superconductors,
)
from kiago_ray.data.tables import cleaned, element_counts, merged_made

WriteFile = Callable[[str, str | bytes], Path]
WriteSupercon = Callable[[Sequence[tuple[str, str, str, str]]], Path]
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
    monkeypatch.setattr("kiago_ray.data.sources.MAX_PHASES", 2)
    with pytest.raises(DataError, match="more than 2 compounds"):
        load_phases(path, energies=False)
    monkeypatch.setattr("kiago_ray.data.sources.MAX_BYTES", 5)
    with pytest.raises(DataError, match="the file is larger than"):
        load_phases(path, energies=False)


# The columns of COD's table, in the order of its export.
HEADER = (
    "file,a,siga,b,sigb,c,sigc,alpha,sigalpha,beta,sigbeta,gamma,siggamma,vol,sigvol,celltemp,sigcelltemp,diffrtemp,"
    "sigdiffrtemp,cellpressure,sigcellpressure,diffrpressure,sigdiffrpressure,thermalhist,pressurehist,"
    "compoundsource,nel,sg,sgHall,sgNumber,commonname,chemname,mineral,formula,calcformula,cellformula,Z,Zprime,"
    "acce_code,authors,title,journal,year,volume,issue,firstpage,lastpage,doi,method,radiation,wavelength,radType,"
    "radSymbol,Rall,Robs,Rref,wRall,wRobs,wRref,RFsqd,RI,gofall,gofobs,gofgt,gofref,duplicateof,optimal,status,"
    "flags,text,svnrevision,date,time,onhold"
)

ENTRIES: list[dict[str, str]] = [
    {"file": "9003308", "a": "5.6401", "sg": "F m -3 m", "formula": "- Cl Na -", "mineral": "Halite"},
    {"file": "1011172", "a": "4.913", "sg": "P 31 2 1", "formula": "- O2 Si -", "mineral": "Quartz low"},
    {"file": "9013321", "a": "4.9158", "sg": "P 32 2 1", "formula": "- O2 Si -", "mineral": "Quartz"},
    {"file": "1000041", "formula": "- Cl4 Na4 -", "title": "The unit cell, written out"},
    {"file": "1532364", "formula": "- C2 H6 O -", "title": 'Ethanol: "crystals", at\n87 K', "celltemp": "87"},
    {"file": "1011023", "formula": "- H2 O -", "mineral": "Ice"},
    {"file": "1534957", "formula": "- D2 O -", "commonname": "Heavy water"},
    {"file": "1534958", "formula": "- D H O -", "commonname": "Half-heavy water"},
    {"file": "4120001", "formula": "- Ba2 Cu3 O6.93 Y -", "title": "Y-Ba-Cu-O, neutron diffraction"},
    {"file": "4120002", "formula": "- Cu La1.85 O4 Sr0.15 -", "calcformula": "- Cu La1.85 O4 Sr0.15 -"},
    {"file": "2000001", "formula": "?", "calcformula": "- C12 O4 -"},
    {"file": "2000002", "formula": "", "calcformula": ""},
    {"file": "2000003", "formula": "- ? -"},
    {"file": "2000004", "formula": "- O2 Ti -", "status": "retracted"},
    {"file": "2000005", "formula": "- O2 Ti -", "status": "warnings"},
    {"file": "2000006", "formula": "- C6 H10 O5 n -"},
    {"file": "2000007", "formula": "- Fe X3 -"},
    {"file": "2000008", "formula": "- C60 K3 -", "authors": "Stephens, P. W.; Mihály, L."},
]


def export(entries: list[dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER.split(","), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries)
    return text.getvalue()


def test_cods_export(write_file: WriteFile) -> None:
    table, report = load_cod(write_file("COD-selection.csv", export(ENTRIES)))
    assert table[["formula", "cod_id", "n_merged", "chemical_system"]].to_numpy().tolist() == [
        ["Ba2YCu3O6.93", "4120001", 1, "Ba-Cu-O-Y"],
        ["H2O", "1011023", 3, "H-O"],
        ["H6C2O", "1532364", 1, "C-H-O"],
        ["KC20", "2000008", 1, "C-K"],
        ["NaCl", "1000041", 2, "Cl-Na"],
        ["SiO2", "1011172", 2, "O-Si"],
        ["Sr0.15La1.85CuO4", "4120002", 1, "Cu-La-O-Sr"],
        ["TiO2", "2000005", 1, "O-Ti"],
    ]
    assert dict(report.dropped) == {
        "missing formula": 3,
        "undetermined amount": 2,
        "retracted": 1,
    }
    assert (report.kind, report.rows_read, report.duplicates_merged, report.rows_kept) == ("cod", 18, 4, 8)
    assert report.examples["missing formula"][0] == "line 13: 'COD 2000001, calcformula - C12 O4 -'"


def test_order_and_a_missing_status_column_change_nothing_of_cods(write_file: WriteFile) -> None:
    table, _ = load_cod(write_file("a.csv", export(ENTRIES)))
    shuffled, _ = load_cod(write_file("b.csv", export(ENTRIES[::-1])))
    assert table.equals(shuffled)
    few = "file,formula,calcformula\n9003308,- Cl Na -,- Cl Na -\n"
    assert load_cod(write_file("c.csv", few))[0]["formula"].tolist() == ["NaCl"]


def test_everything_quoted(write_file: WriteFile) -> None:
    path = write_file("a.csv", '"file","formula","calcformula"\n"9003308","- Cl Na -",""\n')
    assert load_cod(path)[0]["cod_id"].tolist() == ["9003308"]


def test_cut_inside_a_quoted_title(write_file: WriteFile) -> None:
    text = export(ENTRIES)
    path = write_file("a.csv", text[: text.index("87 K")])
    with pytest.raises(DataError, match="the file ends inside a quoted field"):
        load_cod(path)


MADE_TABLE_HEADER = "formula,code,spacegroup,e_hull_ev_per_atom\n"


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("La7.9996O4.0501", {"La": 8.0, "O": 4.05}),
        ("La7.998O", {"La": 7.998, "O": 1.0}),
        ("Fe0.0005O", {"Fe": 0.0005, "O": 1.0}),
        ("CaCO3", {"Ca": 1.0, "C": 1.0, "O": 3.0}),
        ("CaC2O4H2O", None),  # carbon and hydrogen
        ("NaKCaMgAlSiOHF", None),  # nine elements
        ("Xe", None),
        ("XeF2", {"Xe": 1.0, "F": 2.0}),
        ("M2O3", None),
        ("?", None),
        ("", None),
    ],
)
def test_what_is_kept_of_a_formula(text: str, amounts: dict[str, float] | None) -> None:
    assert cleaned(text) == amounts


def test_of_several_structures_the_lowest_in_energy_stands(tmp_path: Path) -> None:
    now, then = tmp_path / "now.csv", tmp_path / "then.txt"
    now.write_text(MADE_TABLE_HEADER + "SiO2,9,152,0.01\nSi2O4,8,227,\nSiO2,7,154,0.0\nNbC,5,,\nNbC,4,225,\n")
    then.write_text("O2Si\nSn\nred(text\n")
    table = merged_made(now, then)
    rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    assert rows == [["NbC", 4, 225, False], ["SiO2", 7, 154, True], ["Sn", None, None, True]]


def test_a_code_that_is_none_is_told(tmp_path: Path) -> None:
    now, then = tmp_path / "now.csv", tmp_path / "then.txt"
    now.write_text(MADE_TABLE_HEADER + "SiO2,nine,152,\n")
    then.write_text("SiO2\n")
    with pytest.raises(DataError, match="line 2: code 'nine'"):
        merged_made(now, then)


COD = "file,a,sg,formula,calcformula\n9003308,5.64,F m -3 m,- Cl Na -,- Cl Na -\n"


@pytest.mark.parametrize(
    ("text", "kind"),
    [(OQMD + "Sr1Ti5,0.35\n", "oqmd"), (MP + "Sr1Ti5,0.35,0.4\n", "materials_project"), (COD, "cod")],
)
def test_comma_separated(write_file: WriteFile, text: str, kind: str) -> None:
    for path in (write_file("plain", text), write_file("packed", gzip.compress(text.encode()))):
        assert detect(path) == kind
        table, report = load(path)
        assert report.kind == kind
        assert len(table) == 1
    assert kind in LOADERS


def test_supercon(write_supercon: WriteSupercon) -> None:
    path = write_supercon([("Mg1B2", "K", "39", "Nature 410(2001)63")])
    assert detect(path) == "supercon"
    assert load(path)[1].kind == "supercon"


@pytest.mark.parametrize(
    "contents", [b"a,b\n1,2\n", b"<!DOCTYPE html>\n<html>\n", b"\n\n\n", b"1\t4\t6\nnum\tname\telement\n"]
)
def test_unknown_header(write_file: WriteFile, contents: bytes) -> None:
    path = write_file("some.csv", contents)
    with pytest.raises(DataError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: line 1: the header ")
    assert str(caught.value).endswith(UNDERSTOOD)


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n", "byte 0x89|binary"),
        (MP.encode("utf-16"), "UTF-16"),
        (gzip.compress(MP.encode(), mtime=0)[:30], "ends too early"),
    ],
)
def test_files_that_cannot_be_read(write_file: WriteFile, contents: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        detect(write_file("some.csv", contents))


def test_directory_and_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this is a directory"):
        detect(tmp_path)
    with pytest.raises(DataError, match="there is no such file"):
        detect(tmp_path / "absent")


def test_each_composition_counts_once_for_each_element() -> None:
    counts = element_counts(pd.DataFrame({"chemical_system": ["H-S", "H-La", "B-Mg"]}))
    assert list(counts.items()) == [("H", 2), ("B", 1), ("Mg", 1), ("S", 1), ("La", 1)]
    assert element_counts(pd.DataFrame({"chemical_system": []})) == {}


@pytest.fixture
def tables(write_supercon: WriteSupercon, write_file: WriteFile) -> tuple[pd.DataFrame, pd.DataFrame]:
    journal = "Nature 410(2001)63"
    supercon, _ = load_supercon(
        write_supercon([("Mg1B2", "K", "39", journal), ("Nb0.75Al0.25", "K", "18", journal)])
    )
    known, _ = load_materials_project(
        write_file(
            "mp.csv",
            MP + "Mg2B4,-0.1,0\nMg1B4,-0.1,0\nNb3Al1,-0.2,0\nNa1Cl1,-2.1,-1\n",
        )
    )
    return known, supercon


def test_compositions_that_supercon_lacks(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    known, supercon = tables
    rows = non_superconductors(known, supercon)
    assert rows["formula"].tolist() == ["MgB4", "NaCl"]
    assert rows["chemical_system"].tolist() == ["B-Mg", "Cl-Na"]
    assert (rows["tc_k"] == 0).all()


def test_by_chemical_system(tables: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    known, supercon = tables
    assert non_superconductors(known, supercon, "chemical_system")["formula"].tolist() == ["NaCl"]
