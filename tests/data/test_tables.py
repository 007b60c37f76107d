"""The shipped tables hold what SOURCES.md says and facts that can be looked up elsewhere; what `--known` and `--tried`
may name: shipped tables, files of one's own, nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import parse, sparse_fractions
from kiago_ray.data import tables
from kiago_ray.data.compositions import canonical, composition_key
from kiago_ray.data.files import DataError, sha256
from kiago_ray.data.tables import (
    LANDMARKS_SOURCE,
    SourceTable,
    known_table,
    landmarks,
    made,
    made_compounds,
    phases,
    shipped_element_counts,
    superconductors,
    tried,
    tried_table,
)

WriteFile = Callable[[str, str | bytes], Path]
MOST_BYTES = 8_000_000


def test_they_are_small_and_their_sources_stand_beside_them() -> None:
    folder = resources.files("kiago_ray.data")
    names = (tables.SUPERCONDUCTORS, tables.PHASES, tables.MADE, tables.TRIED)
    assert sum(len((folder / name).read_bytes()) for name in names) < MOST_BYTES
    sources = (folder / "SOURCES.md").read_text(encoding="utf-8")
    counts = [len(table) for table in (superconductors(), phases(), made(), tried())]
    for name, count in zip(names, counts, strict=True):
        assert name in sources
        assert f"{count:,}" in sources


def test_superconductors() -> None:
    table = superconductors()
    assert set(table["oxygen"]) == {"stated", "nominal", "any"}
    assert not table.duplicated(["formula", "oxygen"]).any()
    assert (table["reports"] >= 1).all()
    assert table["tc_k"].between(table["tc_min_k"], table["tc_max_k"]).all()
    assert (table["tc_spread_k"] <= table["tc_max_k"] - table["tc_min_k"] + 1e-9).all()
    assert (table["year_first"].dropna() >= 1911).all()
    stated = table[table["oxygen"] == "stated"].set_index("formula")
    assert stated.loc["LaFeAsO0.9F0.1", "year_first"] == 2008
    assert stated.loc["Ba2YCu3O7", "structure"] == "Y123"
    assert stated.loc["Nb3Sn", "tc_k"] == pytest.approx(18, abs=0.5)


def test_phases_hold_their_sources_energies() -> None:
    table = phases().set_index("formula")
    # Per atom: −601.6 kJ/mol is −3.118 eV for two atoms of MgO at 298 K.
    assert table.loc["MgO", "ef_ev_per_atom"] == pytest.approx(-3.118, abs=0.2)
    assert table.loc["MgO", "decomposition_ev_per_atom"] < 0


def test_made_names_entries_of_cod() -> None:
    table = made().set_index("formula")
    assert table.index.is_unique
    assert table.loc["MgB2", "spacegroup"] == 191
    assert not table["code"].isna().all()
    assert table["in_2007"][table["code"].isna()].all()
    assert not any({"C", "H"} <= set(parse(formula)) for formula in table.index[::50])
    names = made_compounds().same_as(sparse_fractions(["MgB2", "Mg5B3"]).toarray())
    assert names[0] == f"COD {table.loc['MgB2', 'code']}, space group 191"
    assert names[1] is None


def test_tried_holds_successes_and_failures() -> None:
    table = tried().set_index("formula")
    assert (table["tc_k"] == 0).sum() == 174
    assert table["tc_k"].max() == 56


def test_a_damaged_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"other\.parquet: can't be read .*reinstall"):
        tables.content("other.parquet")
    monkeypatch.setattr(tables, "content", lambda name: b"PAR1 cut short")
    with pytest.raises(DataError, match=r"made\.parquet: it is damaged"):
        made()


def test_shipped_counts() -> None:
    counts = shipped_element_counts()
    assert list(counts) == ["supercon", "non_superconductors"]
    for source in counts.values():
        assert source.licence == "CC BY 4.0"
        assert len(source.sha256) == 64
        assert "/" not in source.file
        assert set(source.counts) <= set(INDEX)
        assert 0 < min(source.counts.values()) <= max(source.counts.values()) <= source.compositions
    # Oxygen is the most frequent element of SuperCon, copper the next.
    assert [symbol for symbol, _ in Counter(counts["supercon"].counts).most_common(2)] == ["O", "Cu"]
    assert counts["supercon"].compositions > 10_000
    assert counts["non_superconductors"].compositions > 50_000


WriteMeasurements = Callable[[Sequence[tuple[str, str, float, str]]], Path]


def table_of(choice: str | None = None) -> SourceTable:
    found = known_table(choice)
    assert found is not None
    return found


def test_by_default_it_is_supercon_as_shipped_with_the_landmarks_that_it_lacks() -> None:
    shipped = table_of()
    assert shipped.sha256 == table_of("supercon").sha256
    by_formula = shipped.table[shipped.table["oxygen"] == "stated"].set_index("formula")
    assert by_formula.index.is_unique
    magnesium_diboride = by_formula.loc["MgB2"]
    assert magnesium_diboride["tc_k"] == pytest.approx(39, abs=1)
    assert magnesium_diboride["reports"] > 50
    assert magnesium_diboride["year"] == 2001
    assert magnesium_diboride["reference"] == "Phys. Rev. B 63 (2001) 224522"  # the first that SuperCon has
    # Reported after SuperCon's last entries, and under pressure.
    nickelate = by_formula.loc["La3Ni2O7"]
    assert nickelate["pressure_gpa"] > 10
    assert by_formula.loc["H3S", "pressure_gpa"] == 155


def test_the_words_for_less() -> None:
    landmarks = table_of("landmarks")
    assert (landmarks.source, len(landmarks.table)) == (LANDMARKS_SOURCE, 275)
    assert landmarks.sha256 != table_of().sha256
    assert known_table("none") is None


def test_a_file_of_supercons_form_is_read_and_named(write_measurements: WriteMeasurements) -> None:
    rows = [("Nb3Sn1", "", 18.0, "A,1(1954)1"), ("Mg1B2", "", 39.0, ""), ("Y1Ba2Cu3OZ", "Y123", 91.0, "")]
    path = write_measurements(rows)
    found = table_of(str(path))
    assert found.table[["formula", "oxygen"]].to_numpy().tolist() == [
        ["MgB2", "stated"],
        ["Nb3Sn", "stated"],
        ["Ba2YCu3", "any"],
    ]
    assert found.sha256 == sha256(path)
    assert found.source == f"SuperCon (3 rows, {path})"


def test_a_csv_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("tc_k,formula,year,reference\n39,Mg2B4,2001,ours\n0,Cu,,\n")
    table = table_of(str(path)).table
    assert table["formula"].tolist() == ["MgB2", "Cu"]
    assert table["tc_k"].tolist() == [39.0, 0.0]
    assert table["reports"].tolist() == [1, 1]
    assert table["year"].tolist() == [2001, pd.NA]
    assert table["reference"].tolist() == ["ours", ""]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("formula,tc_k\nMgB2,warm\n", "line 2: tc_k is 'warm'"),
        ("formula,tc_k\nMgB2,\n", "line 2: tc_k is ''"),
        ("formula,tc_k\nMgB2,39\nMgBz,39\n", "line 3: the formula 'MgBz' can't be read"),
        ("formula,tc_k,year\nMgB2,39,2001.5\n", "line 2: year is '2001.5'"),
        ("formula,tc_k,pressure_gpa\nMgB2,39,-1\n", "line 2: pressure_gpa is '-1'"),
        ("formula,tc\nMgB2,39\n", "the header lacks 'tc_k'"),
        ("", "the file is empty"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=told.replace("(", r"\(")):
        known_table(str(path))


def test_tables_of_which_nothing_can_be_used(write_measurements: WriteMeasurements) -> None:
    with pytest.raises(DataError, match="no such file"):
        known_table("nowhere.tsv")
    with pytest.raises(DataError, match="holds no composition that can be read"):
        known_table(str(write_measurements([("Mg1BX2", "", 39.0, "")])))


def test_nothing_is_heeded_unless_asked_for() -> None:
    assert tried_table(None) is tried_table("none") is None


def test_the_shipped_survey_and_a_file(tmp_path: Path) -> None:
    shipped = tried_table("shipped")
    assert shipped is not None
    content = (resources.files("kiago_ray.data") / "tried.csv").read_bytes()
    assert shipped.sha256 == hashlib.sha256(content).hexdigest()
    assert (len(shipped.table), int((shipped.table["tc_k"] == 0).sum())) == (251, 174)
    file = tmp_path / "mine.csv"
    file.write_text("formula,tc_k\nFeAsLaO,26\n")
    mine = tried_table(str(file))
    assert mine is not None
    assert mine.table["formula"].tolist() == ["LaFeAsO"]
    assert mine.source == str(file)
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        tried_table(str(tmp_path / "nowhere.csv"))


def tried_of(path: Path) -> SourceTable:
    found = tried_table(str(path))
    assert found is not None
    return found


def test_a_file_of_what_was_tried_is_read(write_file: WriteFile) -> None:
    path = write_file("tried.csv", "formula,tc_k,down_to_k\nCaFeAsH,0,1.8\nFeAsLaO,26,\n")
    found = tried_of(path)
    table = found.table
    assert table["formula"].tolist() == ["CaFeAsH", "LaFeAsO"]
    assert table["tc_k"].tolist() == [0.0, 26.0]
    np.testing.assert_array_equal(table["down_to_k"], [1.8, np.nan])
    assert found.sha256 == sha256(path)
    short = tried_of(write_file("short.csv", "formula,tc_k\nMgB2,39\n"))
    assert short.table["down_to_k"].isna().all()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("formula,Tc\nMgB2,39\n", "the header lacks 'tc_k'"),
        ("formula,tc_k\nMgBz,39\n", "line 2: the formula 'MgBz' can't be read"),
        ("formula,tc_k\nMgB2,\n", "line 2: tc_k is ''"),
        ("formula,tc_k\nMgB2,-1\n", "line 2: tc_k is '-1'"),
        ("formula,tc_k\nMgB2,nan\n", "line 2: tc_k is 'nan'"),
        ("formula,tc_k\nMgB2,300\n", "line 2: tc_k is '300'"),
        ("formula,tc_k,down_to_k\nMgB2,0,cold\n", "line 2: down_to_k is 'cold'"),
        ("formula,tc_k\nMgB2,0\n" + "MgB2,0\n" * 100_000, "more than 100,000 rows"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_value(write_file: WriteFile, text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        tried_of(write_file("tried.csv", text))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return landmarks()


def test_columns_and_ranges(table: pd.DataFrame) -> None:
    assert list(table.columns) == [
        "formula",
        "tc_k",
        "year",
        "pressure_gpa",
        "family",
        "reference",
    ]
    assert len(table) >= 250
    assert table["tc_k"].between(1e-4, 260).all()
    assert table["year"].between(1911, 2025).all()
    assert table["pressure_gpa"].between(0, 300).all()
    assert not table.isna().any(axis=None)
    assert table["formula"].is_monotonic_increasing
    assert (table["family"].str.len() > 0).all()


def test_each_composition_occurs_once_and_is_written_canonically(table: pd.DataFrame) -> None:
    keys = [composition_key(parse(formula)) for formula in table["formula"]]
    assert len(set(keys)) == len(keys)
    assert [canonical(parse(formula)) for formula in table["formula"]] == table["formula"].tolist()


def test_every_reference_names_the_year_that_the_row_gives(table: pd.DataFrame) -> None:
    for row in table.itertuples():
        assert f"({row.year})" in str(row.reference), row.formula


def test_every_family_of_superconductors_is_there(table: pd.DataFrame) -> None:
    families = table["family"].value_counts()
    for family, least in {
        "element": 25,
        "A15": 6,
        "Chevrel phase": 3,
        "borocarbide": 9,
        "heavy fermion": 20,
        "fulleride": 6,
        "cuprate": 25,
        "iron-based": 30,
        "nickelate": 6,
        "bismuthate": 3,
        "hydride": 10,
        "kagome": 4,
        "pyrochlore": 4,
        "ruthenate": 1,
    }.items():
        assert families[family] >= least, family


@pytest.mark.parametrize(
    ("formula", "tc_k", "year", "pressure_gpa"),
    [
        ("Hg", 4.15, 1911, 0),
        ("Pb", 7.19, 1913, 0),
        ("Nb", 9.25, 1930, 0),
        ("NbN", 16, 1941, 0),
        ("Nb3Sn", 18.3, 1954, 0),
        ("Nb3Ge", 23.2, 1974, 0),
        ("PbMo6S8", 15, 1972, 0),
        ("CeCu2Si2", 0.6, 1979, 0),
        ("La1.85Ba0.15CuO4", 30, 1986, 0),
        ("YBa2Cu3O7", 92, 1987, 0),
        ("Bi2Sr2Ca2Cu3O10", 110, 1988, 0),
        ("K3C60", 19.3, 1991, 0),
        ("HgBa2Ca2Cu3O8", 133, 1993, 0),
        ("YNi2B2C", 15.6, 1994, 0),
        ("MgB2", 39, 2001, 0),
        ("PuCoGa5", 18.5, 2002, 0),
        ("CaC6", 11.5, 2005, 0),
        ("LaFeAsO0.9F0.1", 26, 2008, 0),
        ("SmFeAsO0.9F0.1", 55, 2008, 0),
        ("H3S", 203, 2015, 155),
        ("LaH10", 250, 2019, 170),
        ("CsV3Sb5", 2.5, 2020, 0),
        ("La3Ni2O7", 80, 2023, 14),
    ],
)
def test_known_facts(table: pd.DataFrame, formula: str, tc_k: float, year: int, pressure_gpa: float) -> None:
    row = table.set_index("formula").loc[canonical(parse(formula))]
    assert row["tc_k"] == pytest.approx(tc_k, rel=0.02)
    assert (row["year"], row["pressure_gpa"]) == (year, pressure_gpa)
