"""Files of competing phases: the exports' own columns, what is dropped and why, what is refused."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from kiago_ray.chemistry.elements import ELEMNET_SYMBOLS
from kiago_ray.data.files import DataError
from kiago_ray.data.phases import load_phases

WriteFile = Callable[[str, str | bytes], Path]


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
