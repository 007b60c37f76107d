from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from kiago_ray.data.cod import bare_formula, cleaned, load_cod, merged_made
from kiago_ray.data.files import DataError

WriteFile = Callable[[str, str | bytes], Path]

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


def test_the_export(write_file: WriteFile) -> None:
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


def test_order_and_a_missing_status_column_change_nothing(write_file: WriteFile) -> None:
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


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("- C2 H6 O -", "C2 H6 O"),
        ("- D H O -", "H H O"),
        ("- Dy2 O3 -", "Dy2 O3"),
        ("?", ""),
        ("- -", ""),
        ("", ""),
    ],
)
def test_bare_formula(text: str, bare: str) -> None:
    assert bare_formula(text) == bare


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
