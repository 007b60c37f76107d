"""The paper's figures, read from one data file: table, row and column to a value."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

Value = float | str | None
"""A number; a text such as a formula, "" where the paper leaves a blank; None for its N/A."""


class PublishedTable(BaseModel):
    """One table. columns: label by column. rows: a value for each column of each row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    section: str
    unit: str = ""
    columns: dict[str, str]
    rows: dict[str, dict[str, Value]]

    @model_validator(mode="after")
    def _complete(self) -> PublishedTable:
        for row, values in self.rows.items():
            if set(values) != set(self.columns):
                raise ValueError(f"row {row} has the columns {sorted(values)}, not {sorted(self.columns)}")
        return self

    def value(self, row: str, column: str) -> Value:
        """What the paper prints there; None (N/A) too where it has no such row."""
        return self.rows.get(row, {}).get(column)


@cache
def published() -> dict[str, PublishedTable]:
    """Every table of the paper by name, such as "table2"."""
    text = files("kiago_ray.paper").joinpath("published.yaml").read_text(encoding="utf-8")
    return {name: PublishedTable.model_validate(table) for name, table in yaml.safe_load(text).items()}


def printed_hull(formulas: Iterable[str]) -> str:
    """Formulas with the ΔE_hull that the paper's text gives them, for a sentence."""
    table = published()["hull"]
    return ", ".join(
        f"{formula} at {_hull_text(table.value(formula, 'e_hull'))} eV/atom" for formula in formulas
    )


def _hull_text(value: Value) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
