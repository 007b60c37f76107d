from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from kiago_ray.data.supercon import MERGED_COLUMNS as COLUMNS
from kiago_ray.data.supercon import load_supercon, merged_superconductors

WriteSupercon = Callable[[Sequence[tuple[str, str, float, str]]], Path]


def test_reports_of_one_composition_are_merged(write_supercon: WriteSupercon) -> None:
    table, report = merged_superconductors(
        write_supercon(
            [
                ("Mg1B2", "AlB2", 38.0, "B,2(2003)1"),
                ("Mg2B4", "AlB2", 39.0, "A,1(2001)1"),
                ("Mg1B2", "", 41.0, "C,3(2005)1"),
                ("Mg1B2", "other", 30.0, "undated"),
            ]
        )
    )
    assert table.columns.tolist() == COLUMNS.split()
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
        }
    ]
    assert (report.rows_read, report.duplicates_merged, report.rows_kept) == (4, 3, 1)


def test_undetermined_oxygen_is_kept_and_marked(write_supercon: WriteSupercon) -> None:
    rows = [
        ("Y1Ba2Cu3O7-X", "", 90.0, ""),
        ("Y1Ba2Cu3O7", "", 92.0, ""),
        ("Y1Ba2Cu3OY", "", 91.0, ""),
        ("Y1Ba2Cu3Oz", "", 89.0, ""),
        ("Tl2Ba2Cu1O6+D", "", 85.0, ""),
        ("Y1Ba2Cu3-XO7-X", "", 60.0, ""),
        ("Y1Ba2CuXO7", "", 60.0, ""),
    ]
    table, report = merged_superconductors(write_supercon(rows))
    assert table[["formula", "oxygen", "tc_k", "reports"]].to_numpy().tolist() == [
        ["Ba2YCu3O7", "stated", 92.0, 1],
        ["Ba2TlTlCuO6".replace("TlTl", "Tl2"), "nominal", 85.0, 1],
        ["Ba2YCu3O7", "nominal", 90.0, 1],
        ["Ba2YCu3", "any", 90.0, 2],
    ]
    assert dict(report.dropped) == {"undetermined amount": 2}


def test_what_is_stated_is_what_the_loader_has(write_supercon: WriteSupercon) -> None:
    rows = [("Nb3Sn1", "A15", 18.0, "A,1(1954)1"), ("Nb3Sn1", "A15", 17.0, ""), ("Mg1B2O-X", "", 1.0, "")]
    path = write_supercon(rows)
    stated, _ = merged_superconductors(path)
    stated = stated[stated["oxygen"] == "stated"]
    loaded, _ = load_supercon(path)
    assert stated["formula"].tolist() == loaded["formula"].tolist() == ["Nb3Sn"]
    assert stated["tc_k"].tolist() == loaded["tc_k"].tolist()
    assert not pd.isna(stated["year_first"].iloc[0])
