"""The paper's figures: every table complete, and numbers as printed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from kiago_ray.chemistry.formula import parse
from kiago_ray.paper.published import PublishedTable, published
from kiago_ray.paper.tasks import HYDRIDES, INTEGER_MATERIALS, MATERIALS, SITES


def test_every_table_is_there() -> None:
    assert set(published()) == {*(f"table{n}" for n in range(1, 12)), "fig2", "hull"}
    counts = {name: len(table.rows) for name, table in published().items()}
    assert counts["table1"] == 5
    assert counts["table2"] == 8
    assert counts["table3"] == 16
    assert counts["table4"] == 9
    assert {counts[f"table{n}"] for n in (5, 6, 7, 8)} == {11}
    assert {counts[f"table{n}"] for n in (9, 10)} == {5}
    assert counts["table11"] == 4


@pytest.mark.parametrize(
    ("table", "row", "column", "value"),
    [
        ("table1", "15", "rounding", -7.65),
        ("table1", "100", "loss", -0.13),
        ("table2", "Bi2Sr2CuO6", "kiago", 129.63),
        ("table2", "CeBi2O3", "superdiff", None),
        ("table3", "16", "tc_k", 18.46),
        ("table4", "1e-3", "guide", 3.2),
        ("table4", "100", "ilvr", -3746.6),
        ("table4", "0", "guide", ""),
        ("table5", "Bi2CaSr2Cu2O8", "superdiff", 0.23),
        ("table6", "MgCoNi3", "superdiff", 0.71),
        ("table7", "RuSr2GdCu2O8", "kiago", -3.38),
        ("table7", "YIrSi", "superdiff_cg", None),
        ("table8", "LaFeAsO", "best", "Sm0.65Th0.35FeAsO"),
        ("table9", "LaH10", "kiago", 3.84),
        ("table10", "PtH", "superdiff_cg", 0.05),
        ("table11", "ScH", "refs", "ScH2"),
        ("fig2", "0.25", "Ca", 0.02),
    ],
)
def test_as_printed(table: str, row: str, column: str, value: float | str | None) -> None:
    assert published()[table].value(row, column) == value


def test_rows_are_the_bases_that_are_run() -> None:
    assert tuple(published()["table2"].rows) == MATERIALS
    for name in ("table5", "table6", "table7", "table8"):
        assert tuple(published()[name].rows) == tuple(SITES)
    for name in ("table9", "table10"):
        assert tuple(published()[name].rows) == HYDRIDES
    assert len(set(INTEGER_MATERIALS)) == 15


def test_formulas_can_be_read() -> None:
    for name, column in (("table3", "formula"), ("table8", "proposed"), ("table8", "best")):
        for row in published()[name].rows.values():
            assert parse(str(row[column]))
    assert all(parse(formula) for formula in published()["hull"].rows)


def test_a_row_with_another_column_is_refused() -> None:
    with pytest.raises(ValidationError, match="row a has the columns"):
        PublishedTable.model_validate(
            {"title": "t", "section": "1", "columns": {"x": "x"}, "rows": {"a": {"y": 1}}}
        )
