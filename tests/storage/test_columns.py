from __future__ import annotations

from importlib import resources

import pyarrow as pa

from kiago_ray.screening.screens import SCREENS
from kiago_ray.storage.table import columns, schema, schema_problem

UNITS = {
    "_k": "K",
    "_ev_per_atom": "eV/atom",
    "_gpa": "GPa",
    "_a3_per_atom": "Å³/atom",
    "_a": "Å",
    "_thz": "THz",
}


def test_names_are_unique_and_carry_their_unit() -> None:
    lines = (resources.files("kiago_ray.storage") / "columns.csv").read_text().splitlines()
    every = [*columns().values(), *columns("structures").values()]
    assert len(every) == len(lines) - 1 + len(SCREENS) == len({column.name for column in every})
    for column in every:
        expected = next((unit for ending, unit in UNITS.items() if column.name.endswith(ending)), "")
        assert column.unit == expected, column.name


def test_every_field_is_described_and_may_be_unknown() -> None:
    for field in schema():
        assert field.metadata[b"description"].decode().endswith(".")
        assert b"unit" in field.metadata
        assert field.nullable


def test_a_schema_of_ours_has_no_problem_in_any_order_of_columns() -> None:
    assert schema_problem(schema()) is None
    assert schema_problem(pa.schema(list(reversed(list(schema()))))) is None


def test_problems_name_the_column() -> None:
    fields = list(schema())
    missing = [field for field in fields if field.name != "tc_k"]
    assert schema_problem(pa.schema(missing)) == "it has no column 'tc_k'"
    wrong = [pa.field("rank", pa.string()) if field.name == "rank" else field for field in fields]
    assert schema_problem(pa.schema(wrong)) == "its column 'rank' holds string, not int32"
    more = [*fields, pa.field("colour", pa.string())]
    assert schema_problem(pa.schema(more)) == "its column 'colour' is not one of a table of candidates"
    twice = [*fields, fields[0]]
    assert "'rank'" in str(schema_problem(pa.schema(twice)))
