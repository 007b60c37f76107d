"""Which table of tried compositions a search heeds: a file of one's own, the shipped survey, none."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from kiago_ray.datasets.tried_file import load_tried
from kiago_ray.knowledge.choices import NONE, SHIPPED
from kiago_ray.knowledge.tables import TRIED, sha256_of, tried


@dataclass(frozen=True)
class TriedTable:
    """A table as `screening.TriedMaterials.from_table` takes it, the SHA-256 of its file, what it is, for a person."""

    table: pd.DataFrame
    sha256: str
    source: str


def tried_table(choice: str | None) -> TriedTable | None:
    """The table that `choice` names: the path of a CSV file as `load_tried` reads it, or `choices.SHIPPED`. None for
    None and "none": nothing is heeded unless asked for.

    Raises DataError for a table that can't be used.
    """
    if choice is None or choice == NONE:
        return None
    if choice == SHIPPED:
        return TriedTable(tried(), sha256_of(TRIED), "a survey of 2009, as shipped")
    table, digest = load_tried(choice)
    return TriedTable(table, digest, choice)
