from __future__ import annotations

import numpy as np
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


def test_samples_re_weigh_by_what_the_model_says_of_them() -> None:
    table = pd.DataFrame({"formula": ["LaFeAsO", "MgB2"], "tc_k": [0.0, 39.0]})
    tried = TriedMaterials.from_table(table)
    rows = parse_fractions(["LaFeAsO"])
    asked = tried.predicted(lambda fractions: 10.0 + fractions.sum(axis=1))
    assert asked.tc_predicted_k is not None
    np.testing.assert_allclose(asked.tc_predicted_k, [11.0, 11.0])
    found = asked.reweigh(rows, np.array([30.0]), np.array([-1.0]))
    # The sample itself weighs 1, MgB2 next to nothing, the model 0.1; 1 K is the middle down to 2 K.
    np.testing.assert_allclose(found.tc_k, [30 - 10 / 1.1], atol=0.01)
    assert found.log_plausibility[0] < -1.0
    assert tried.reweigh(rows, np.array([30.0]), np.array([-1.0])).tc_k.tolist() == [30.0]
