from __future__ import annotations

import pandas as pd

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.screening.tried import TriedMaterials


def test_what_came_of_each_is_told() -> None:
    table = pd.DataFrame({"formula": ["LaFeAsO", "CaFeAsH", "Cu"], "tc_k": [26.0, 0.0, 0.0]})
    tried = TriedMaterials.from_table(table.assign(down_to_k=[2.0, 1.8, float("nan")]))
    rows = parse_fractions(["La2Fe2As2O2", "CaFeAsH", "Cu", "MgB2"])
    assert tried.compositions.same_as(rows) == [
        "LaFeAsO: 26 K",
        "CaFeAsH: none down to 1.8 K",
        "Cu: none",
        None,
    ]
    assert TriedMaterials.from_table(table).compositions.same_as(rows[1:2]) == ["CaFeAsH: none"]
