"""Table 1's conversions start from the same compositions, and Fig. 2 is exact."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.paper.integer_tables import fig2, table1
from kiago_ray.paper.integers import fig2_values, groups, mean_change, stage_1, stage_2
from kiago_ray.paper.sizes import QUICK
from kiago_ray.paper.tasks import INTEGER_MATERIALS


def change(loss: float, rounding: float, rows: int) -> dict:
    values = {"loss": loss, "rounding": rounding, "loss_oracle": loss - 1, "rounding_oracle": rounding}
    return {**values, "loss_rows": rows, "rounding_rows": rows}


def test_fig2_by_hand() -> None:
    grid, loss = fig2_values()
    assert loss == pytest.approx(0.04)
    assert grid["0.25"] == pytest.approx({"Ca": 0.02, "Sr": 0.02, "O": 0.25})
    table = fig2()
    assert table.facts["equal"]
    assert len(table.panels[0].rows) == 5


def test_stage_2_starts_where_stage_1_ended() -> None:
    first = stage_1("paper", "LaNiAsO", 8, 0, 5)
    assert first.steps == (5, 0)
    assert first.projection.kind == "none"
    rows = parse_fractions(["La0.3333333Ni0.2Cu0.4666667", "YBa2Cu3O7"])
    second = stage_2("paper", rows, 20, 7)
    assert second.steps == (0, 7)
    assert second.n_unit.max == 20
    assert np.abs(parse_fractions(second.start.rows) - rows).max() < 1e-9
    assert (second.alpha, second.beta.end) == (4, 1)


def test_groups_fill_a_shard() -> None:
    assert [len(each) for each in groups(32)] == [15]
    assert [len(each) for each in groups(100)] == [5, 5, 5]
    assert len(groups(4096)) == 15
    assert sum(groups(200), ()) == INTEGER_MATERIALS


def test_table1_weighs_by_rows() -> None:
    limits = ("15", "20", "25", "50", "100")
    found = {
        ("A", "kiago", 0): {"rows": 1, "changes": {limit: change(-1, -4, 1) for limit in limits}},
        ("B", "kiago", 0): {"rows": 3, "changes": {limit: change(-3, -2, 3) for limit in limits}},
        ("A", "ours", 0): {"rows": 2, "changes": {limit: change(-5, -1, 2) for limit in limits}},
    }
    assert mean_change(found, "kiago", 15, "loss") == -2.5
    assert mean_change(found, "kiago", 15, "rounding") == -2.5
    assert mean_change(found, "kiago", 15, "loss_oracle") == -3.5
    assert mean_change({}, "kiago", 15, "loss") is None
    table = table1(found, QUICK)
    assert table.facts["better"] == {"kiago": [0, 5], "ours": [0, 5]}
    assert table.panels[0].rows[0][1] == (-2.5, -2.5, -5, -1, -3.59, -7.65)
