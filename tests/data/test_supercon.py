from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiago_ray.data.files import DataError
from kiago_ray.data.sources import (
    TABLE_COLUMNS,
    load_supercon,
    oxygen_of,
    publication_year,
)
from kiago_ray.data.tables import written_reference

Row = tuple[str, str, str, str]
WriteSupercon = Callable[[Sequence[Row]], Path]

PHYS_REV = "Phys.Rev.B,55(1997)6612"


def row(formula: str, tc: str = "10", journal: str = PHYS_REV, unit: str = "K") -> Row:
    return (formula, unit, tc, journal)


def test_columns_and_types(write_supercon: WriteSupercon) -> None:
    table, report = load_supercon(write_supercon([row("Mg1B2", "39"), row("La1.85Sr0.15Cu1O4", "36.5")]))
    assert list(table.columns) == TABLE_COLUMNS
    assert table["formula"].tolist() == ["MgB2", "Sr0.15La1.85CuO4"]
    assert table["tc_k"].dtype == np.float64
    assert table["year_first"].dtype == pd.Int64Dtype()
    assert table["chemical_system"].tolist() == ["B-Mg", "Cu-La-O-Sr"]
    assert (report.kind, report.file, report.rows_read, report.rows_kept) == ("supercon", "primary.tsv", 2, 2)
    assert not report.dropped


def test_duplicates_are_merged_by_the_median(write_supercon: WriteSupercon) -> None:
    rows = [
        row("La1Fe1P1O1", "5.8", "Phys.Rev.B,79(2009)1"),
        row("La2Fe2P2O2", "62", "Nature 1(2008)1"),  # the outlier does not move it
        row("Fe1La1O1P1", "5.25", "unpublished"),
        row("Fe1Se1", "8", ""),
    ]
    table, report = load_supercon(write_supercon(rows))
    first, second = table.to_dict("records")
    assert first["formula"] == "FeSe"
    assert (first["reports"], first["journal_first"]) == (1, "")
    assert table["year_first"].isna().tolist() == [True, False]
    assert second == {
        "formula": "LaFePO",
        "tc_k": 5.8,
        "tc_min_k": 5.25,
        "tc_max_k": 62.0,
        "tc_spread_k": pytest.approx(33.9 - 5.525),
        "oxygen": "stated",
        "reports": 3,
        "chemical_system": "Fe-La-O-P",
        "year_first": 2008,
        "journal_first": "Nature 1(2008)1",
        "year_highest": 2008,
        "journal_highest": "Nature 1(2008)1",
        "structure": "T",
    }
    assert (report.rows_read, report.duplicates_merged, report.rows_kept) == (4, 2, 2)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row("Y1Ba2Cu3OZ"), "undetermined amount"),
        (row("Y1Ba2Cu3OY"), "undetermined amount"),
        (row("Bi1Sr2Ca1Cu1O-Y"), "undetermined amount"),
        (row("Y1Ba2Cu3O7-Y"), "undetermined amount"),
        (row("Y1Ba2Cu3O7-X"), "undetermined amount"),
        (row("Ba0.2La1.8Cu1O4-Y"), "undetermined amount"),
        (row("Bi2Sr2Ca1Cu2O8+D"), "undetermined amount"),
        (row("M1Ta1S2"), "unknown element"),
        (row("Fe1Se1S0"), "zero amount"),
        (row("Sm1Ba-1Cu3O6.94"), "negative amount"),
        (row("Eu1O10=z"), "syntax"),
        (row(""), "empty"),
        (row("Y1Ba2Cu3O6050"), "implausible amount"),
        (row("Mg1B2", ""), "missing T_c"),
        (row("Mg1B2", "<4.2"), "T_c not a number"),
        (row("Mg1B2", "nan"), "T_c not a number"),
        (row("Mg1B2", "39", unit="C"), "unit of T_c not K"),
        (row("Mg1B2", "-1"), "negative T_c"),
        (row("Pb2C1Ag2O6", "323"), "implausible T_c"),
        (row("Cs1Eu1Fe4As4", "287"), "implausible T_c"),
    ],
)
def test_rows_are_dropped_with_a_reason(write_supercon: WriteSupercon, bad: Row, reason: str) -> None:
    table, report = load_supercon(write_supercon([row("Nb1", "9.2"), bad]))
    assert dict(report.dropped) == {reason: 1}
    assert report.examples[reason][0].startswith("line 5: ")
    assert table["formula"].tolist() == ["Nb"]


def test_what_is_not_dropped(write_supercon: WriteSupercon) -> None:
    rows = [row("La1H10", "250"), row("Nb1", "0"), row("Ba24Si100", "1.55"), row("Al1", "1.2", unit="k")]
    table, report = load_supercon(write_supercon(rows))
    assert not report.dropped
    assert dict(zip(table["formula"], table["tc_k"], strict=True)) == {
        "LaH10": 250,
        "Nb": 0,
        "Ba6Si25": 1.55,
        "Al": 1.2,
    }


def test_yttrium_that_has_an_amount_or_stands_elsewhere_is_yttrium(write_supercon: WriteSupercon) -> None:
    rows = [row(text, "92") for text in ("Ba2Cu3O7Y1", "Y1Ba2Cu3O7", "YBa2Cu3O7", "Ba2Cu3O7Y")]
    table, report = load_supercon(write_supercon([*rows, row("Ni1Y1O1"), row("Cu1Y")]))
    assert not report.dropped
    assert table["formula"].tolist() == ["Ba2YCu3O7", "YCu", "YNiO"]
    assert table["reports"].tolist() == [4, 1, 1]


def test_heavy_hydrogen_is_hydrogen(write_supercon: WriteSupercon) -> None:
    table, report = load_supercon(
        write_supercon([row("D3S1", "148"), row("H3S1", "147"), row("Pd1T0.81", "4")])
    )
    assert table["formula"].tolist() == ["H0.81Pd", "H3S"]
    assert report.duplicates_merged == 1


def test_nothing_left_is_an_empty_table(write_supercon: WriteSupercon) -> None:
    table, report = load_supercon(write_supercon([row("Y1Ba2Cu3OZ")]))
    assert table.empty
    assert list(table.columns) == TABLE_COLUMNS
    assert report.rows_kept == 0


def test_truncated_in_a_row(write_supercon: WriteSupercon) -> None:
    path = write_supercon([row("Nb1", "9.2"), row("Mg1B2", "39")])
    whole = path.read_text()
    path.write_text(whole[: whole.rindex("\t39")])
    with pytest.raises(DataError, match=r"primary\.tsv: line 5: this row has 5 columns, the header has 7"):
        load_supercon(path)


formulas = st.sampled_from(
    ["Nb1", "Nb2", "Mg1B2", "Mg2B4", "Mg0.5B1", "La1.85Sr0.15Cu1O4", "La3.7Sr0.3Cu2O8", "FeOZ"]
)
journals = st.sampled_from(["A,1(1990)1", "B,1(1990)1", "C,1(2001)1", "unpublished", ""])
temperatures = st.floats(0, 300).map(lambda tc: f"{tc:.3f}")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(st.builds(row, formulas, temperatures, journals), min_size=1, max_size=12), data=st.data()
)
def test_the_order_of_rows_decides_nothing(
    write_supercon: WriteSupercon, rows: list[Row], data: st.DataObject
) -> None:
    table, report = load_supercon(write_supercon(rows))
    shuffled, other = load_supercon(write_supercon(data.draw(st.permutations(rows))))
    by_file = [
        name for name in TABLE_COLUMNS if name.endswith(("journal_first", "_highest"))
    ]  # of equals the first
    pd.testing.assert_frame_equal(
        table.drop(columns=by_file), shuffled.drop(columns=by_file), check_exact=True
    )
    assert dict(report.dropped) == dict(other.dropped)
    assert table["reports"].sum() == report.rows_read - sum(report.dropped.values())
    assert (table["tc_min_k"] <= table["tc_k"]).all()
    assert (table["tc_k"] <= table["tc_max_k"]).all()


@pytest.mark.parametrize(
    ("journal", "year"),
    [
        ("Jpn.J.Appl.Phys., 26(1987)L223", 1987),
        ("Phys.Rev.B, 50(1994) 13778", 1994),
        ("Supercond. Sci. Technol., 14 ( 2001 )504-510", 2001),
        ("ZH.EKSP.TEOR.FIZ.,61(1971)2357, Soviet Physics JETP, 34(1972)1263", 1971),
        ("Phys.Rev.B, 72(2005)1999", 2005),
        ("cond-mat/0106521", 2001),
        ("cond-mat/9907123", 1999),
        ("cond-mat/1412.0460", 2014),
        ("PRENUM PRESS 1973", 1973),
        ("Plenum Press, 1976, p137-160", 1976),
        ("J.Phys.Soc.Jpn, 64(2995)1471", None),
        ("Phys.Lett.A,38()323", None),
        ("Z.PHYS.,213,1968,1950-1955", None),  # a year or a page: not clear
        ("unpublished", None),
        ("", None),
    ],
)
def test_publication_year(journal: str, year: int | None) -> None:
    assert publication_year(journal) == year


@pytest.mark.parametrize(
    ("formula", "oxygen", "text"),
    [
        ("Y1Ba2Cu3O7", "stated", "Y1Ba2Cu3O7"),
        ("Y1Ba2Cu3O7-X", "nominal", "Y1Ba2Cu3O7"),
        ("Y1Ba2Cu3O6.9+d", "nominal", "Y1Ba2Cu3O6.9"),
        ("Bi2Sr2Ca1Cu2O8+D", "nominal", "Bi2Sr2Ca1Cu2O8"),
        ("Y1Ba2Cu3OY", "any", "Y1Ba2Cu3O"),
        ("Y1Ba2Cu3Oz", "any", "Y1Ba2Cu3O"),
        ("Bi2Sr2Cu1F0.8OZ-0.8", "any", "Bi2Sr2Cu1F0.8O"),
        ("Cu1O1Y1", "stated", "Cu1O1Y1"),
        ("Y1-XBa2Cu3O7", "stated", "Y1-XBa2Cu3O7"),
    ],
)
def test_how_a_formula_gives_its_oxygen(formula: str, oxygen: str, text: str) -> None:
    assert oxygen_of(formula) == (oxygen, text)


WriteMeasurements = Callable[[Sequence[tuple[str, str, float, str]]], Path]


def test_reports_of_one_composition_are_merged(write_measurements: WriteMeasurements) -> None:
    table, report = load_supercon(
        write_measurements(
            [
                ("Mg1B2", "AlB2", 38.0, "B,2(2003)1"),
                ("Mg2B4", "AlB2", 39.0, "A,1(2001)1"),
                ("Mg1B2", "", 41.0, "C,3(2005)1"),
                ("Mg1B2", "other", 30.0, "undated"),
            ]
        )
    )
    assert table.columns.tolist() == TABLE_COLUMNS
    assert table.to_dict("records") == [
        {
            "formula": "MgB2",
            "oxygen": "stated",
            "tc_k": 38.5,
            "reports": 4,
            "tc_min_k": 30.0,
            "tc_max_k": 41.0,
            "tc_spread_k": 39.5 - 36.0,  # quartiles of 30, 38, 39, 41
            "year_first": 2001,
            "journal_first": "A,1(2001)1",
            "year_highest": 2005,
            "journal_highest": "C,3(2005)1",
            "structure": "AlB2",
            "chemical_system": "B-Mg",
        }
    ]
    assert (report.rows_read, report.duplicates_merged, report.rows_kept) == (4, 3, 1)


def test_undetermined_oxygen_is_kept_and_marked(write_measurements: WriteMeasurements) -> None:
    rows = [
        ("Y1Ba2Cu3O7-X", "", 90.0, ""),
        ("Y1Ba2Cu3O7", "", 92.0, ""),
        ("Y1Ba2Cu3OY", "", 91.0, ""),
        ("Y1Ba2Cu3Oz", "", 89.0, ""),
        ("Tl2Ba2Cu1O6+D", "", 85.0, ""),
        ("Y1Ba2Cu3-XO7-X", "", 60.0, ""),
        ("Y1Ba2CuXO7", "", 60.0, ""),
    ]
    table, report = load_supercon(write_measurements(rows), undetermined_oxygen=True)
    assert table[["formula", "oxygen", "tc_k", "reports"]].to_numpy().tolist() == [
        ["Ba2YCu3O7", "stated", 92.0, 1],
        ["Ba2TlTlCuO6".replace("TlTl", "Tl2"), "nominal", 85.0, 1],
        ["Ba2YCu3O7", "nominal", 90.0, 1],
        ["Ba2YCu3", "any", 90.0, 2],
    ]
    assert dict(report.dropped) == {"undetermined amount": 2}


def test_what_is_stated_does_not_depend_on_the_rest(write_measurements: WriteMeasurements) -> None:
    rows = [("Nb3Sn1", "A15", 18.0, "A,1(1954)1"), ("Nb3Sn1", "A15", 17.0, ""), ("Mg1B2O1-X", "", 1.0, "")]
    path = write_measurements(rows)
    table, _ = load_supercon(path, undetermined_oxygen=True)
    stated, report = load_supercon(path)
    pd.testing.assert_frame_equal(table[table["oxygen"] == "stated"], stated)
    assert (len(table), len(stated), dict(report.dropped)) == (2, 1, {"undetermined amount": 1})


def test_before_a_year_only_what_was_printed_then_counts(write_measurements: WriteMeasurements) -> None:
    rows = [
        ("Nb3Sn1", "", 18.0, "A,1(1954)1"),
        ("Mg1B2", "", 39.0, "B,1(2001)1"),
        ("Nb1", "", 9.0, "undated"),
    ]
    table, report = load_supercon(write_measurements(rows), before=2001)
    assert table["formula"].tolist() == ["Nb3Sn"]
    assert dict(report.dropped) == {"not printed before 2001": 2}


@pytest.mark.parametrize(
    ("journal", "written"),
    [
        ("J.Am.Chem.Soc., 130(2008)3296", "J. Am. Chem. Soc. 130 (2008) 3296"),
        ("Phys.Rev.B, 63(2001)104508", "Phys. Rev. B 63 (2001) 104508"),
        ("PHYS.REV.B,36(1987)5694", "Phys. Rev. B 36 (1987) 5694"),
        ("Physica C.,242(1995)373-380", "Physica C 242 (1995) 373-380"),
        ("Physica.C,261(1996)105-116", "Physica C 261 (1996) 105-116"),
        ("Nature, 410(2001)63", "Nature 410 (2001) 63"),
        ("Phys.Rev.53,(1996)15245", "Phys. Rev. 53 (1996) 15245"),
        ("PRENUM PRESS 1973", "PRENUM PRESS 1973"),
        ("", ""),
    ],
)
def test_references_get_their_spaces(journal: str, written: str) -> None:
    assert written_reference(journal) == written
