"""What `--known` may name: the shipped table, a file of SuperCon's form or a CSV file, the landmarks, nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest

from kiago_ray.data.files import DataError, sha256
from kiago_ray.data.known import LANDMARKS_SOURCE, SourceTable, known_table

WriteSupercon = Callable[[Sequence[tuple[str, str, float, str]]], Path]


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


def test_a_file_of_supercons_form_is_read_and_named(write_supercon: WriteSupercon) -> None:
    rows = [("Nb3Sn1", "", 18.0, "A,1(1954)1"), ("Mg1B2", "", 39.0, ""), ("Y1Ba2Cu3OZ", "Y123", 91.0, "")]
    path = write_supercon(rows)
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
        ("formula,tc_k\nMgB2,\n", "line 2: tc_k is missing"),
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


def test_tables_of_which_nothing_can_be_used(write_supercon: WriteSupercon) -> None:
    with pytest.raises(DataError, match="no such file"):
        known_table("nowhere.tsv")
    with pytest.raises(DataError, match="holds no composition that can be read"):
        known_table(str(write_supercon([("Mg1BX2", "", 39.0, "")])))
