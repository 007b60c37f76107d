"""Rows with T_c = 0: compositions that are known to exist and that SuperCon does not hold.

They teach the T_c network that most compositions do not superconduct. The label is an assumption: most of
them were never cooled down, and a few are superconductors that SuperCon lacks.
"""

from __future__ import annotations

from typing import Literal

import pandas as pd

from kiago_ray.datasets.supercon import TABLE_COLUMNS
from kiago_ray.datasets.table import composition_keys


def non_superconductors(
    known: pd.DataFrame, supercon: pd.DataFrame, by: Literal["composition", "chemical_system"] = "composition"
) -> pd.DataFrame:
    """Rows of `known` (Materials Project or COD) that are not in `supercon`: its columns, T_c = 0 K.

    `by="chemical_system"` also leaves out every composition of a chemical system that SuperCon holds: fewer
    rows, and fewer wrong labels, since neighbours of superconductors are often superconductors. In the order
    of `known`; `year` is missing and `journal` empty. Raises ValueError for another `by`.
    """
    if by == "composition":
        measured = set(composition_keys(supercon))
        new = [key not in measured for key in composition_keys(known)]
        kept = known[new]
    elif by == "chemical_system":
        kept = known[~known["chemical_system"].isin(supercon["chemical_system"])]
    else:
        raise ValueError(f"by={by!r}; it is 'composition' or 'chemical_system'")
    rows = kept[["formula", "n_merged", "chemical_system"]].reset_index(drop=True)
    rows = rows.assign(
        tc_k=0.0,
        tc_min_k=0.0,
        tc_max_k=0.0,
        year=pd.Series(pd.NA, index=rows.index, dtype="Int64"),
        journal=pd.Series("", index=rows.index, dtype="str"),
    )
    return rows[TABLE_COLUMNS]
