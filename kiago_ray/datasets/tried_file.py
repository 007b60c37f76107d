"""What somebody made and measured: a CSV file with `formula`, `tc_k` and maybe `down_to_k`.

T_c is 0 K where none was found, and `down_to_k` the temperature in K down to which it was measured.
"""

from __future__ import annotations

import pandas as pd

from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.datasets.files import PathLike, fail, read_columns
from kiago_ray.datasets.supercon import MAX_TC_K
from kiago_ray.datasets.table import canonical, finite

MAX_ROWS = 100_000


def load_tried(path: PathLike) -> tuple[pd.DataFrame, str]:
    """One row a sample in the file's order, and the file's SHA-256.

    Columns: `formula` (canonical), `tc_k`, `down_to_k` (NaN where not given). Raises DataError, naming line and value,
    for a file that can't be used: one without the columns, with more than 100,000 rows, a formula that can't be
    read, a temperature that is none, a negative one, or a T_c above 260 K.
    """
    contents = read_columns(path, ("formula", "tc_k"), ("down_to_k",))
    if len(contents.rows) > MAX_ROWS:
        fail(path, None, f"more than {MAX_ROWS:,} rows", "leave out those that don't matter")
    rows: list[tuple[str, float, float]] = []
    for line, (text, tc, down_to) in zip(contents.line_numbers, contents.rows, strict=True):
        try:
            formula = canonical(parse(text))
        except FormulaError as error:
            fail(path, line, f"the formula {text[:80]!r} can't be read ({error.reason})", "correct it")
        tc_k = finite(tc)
        if tc_k is None or not 0 <= tc_k <= MAX_TC_K:
            fail(
                path,
                line,
                f"tc_k is {tc[:40]!r}",
                f"give a T_c from 0, where none was found, to {MAX_TC_K:g} K",
            )
        lowest = finite(down_to) if down_to else float("nan")
        if lowest is None or lowest < 0:
            fail(
                path,
                line,
                f"down_to_k is {down_to[:40]!r}",
                "give a temperature in K, or leave the field empty",
            )
        rows.append((formula, tc_k, lowest))
    return pd.DataFrame(rows, columns=["formula", "tc_k", "down_to_k"]), contents.sha256
