""""""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.search.result import RowStatus, SearchResult, Trajectory, join

NAN = np.nan


def trajectory(tc: list[list[float]], rows: list[int]) -> Trajectory:
    table = np.array(tc, dtype=np.float32)
    return Trajectory(
        np.array(rows), np.array([1] * len(tc)), table, -table, *np.full((2, *table.shape), NAN)
    )


def result(
    rows: list[int], amounts: list[dict[str, float]], *, whole: bool, status: list[RowStatus]
) -> SearchResult:
    table = np.zeros((len(rows), N_ELEMENTS))
    for row, held in zip(table, amounts, strict=True):
        for symbol, amount in held.items():
            row[INDEX[symbol]] = amount
    number = np.zeros(len(rows), dtype=np.float32)
    return SearchResult(
        rows=np.array(rows),
        status=np.array(status, dtype=np.int8),
        recoveries=np.zeros(len(rows), dtype=np.int64),
        start=table.astype(np.float32),
        x_final=table.astype(np.float32),
        tc_relaxed_k=number,
        counts=table.astype(np.int64) if whole else np.zeros(table.shape, dtype=np.int64),
        amounts=table,
        distance=np.zeros(len(rows)),
        tc_k=number,
        ef_ev_per_atom=number,
        trajectory=trajectory([[float(row) for row in rows]], rows),
        wall_s=1.0,
        seconds={"start": 0.25, "stage_1": 0.75},
    )


def test_formulas_are_whole_or_fractional_or_none() -> None:
    status = [RowStatus.OK, RowStatus.NOT_FINITE]
    whole = result([0, 1], [{"O": 2, "La": 2, "As": 2, "Fe": 2}, {}], whole=True, status=status)
    assert whole.formulas() == ["LaFeAsO", ""]
    fractional = result([0, 1], [{"Sm": 0.6868, "Ag": 0.3132, "O": 0.8}, {}], whole=False, status=status)
    assert fractional.formulas() == ["Sm0.6868Ag0.3132O0.8", ""]
    assert whole.status_counts() == {
        "ok": 1,
        "nothing_allowed": 0,
        "not_finite": 1,
        "no_integer_formula": 0,
        "unknown_element": 0,
    }


def test_shards_join_in_order() -> None:
    first = result([0, 1], [{"La": 1}, {"O": 1}], whole=True, status=[RowStatus.OK] * 2)
    second = result([2], [{"H": 3, "S": 1}], whole=True, status=[RowStatus.OK])
    both = join([first, second], 3.5)
    assert both.rows.tolist() == [0, 1, 2]
    assert both.formulas() == ["La", "O", "H3S"] or both.formulas()[2] in ("H3S", "SH3")
    assert both.trajectory.rows.tolist() == [0, 1, 2]
    assert both.trajectory.tc_k.tolist() == [[0, 1, 2]]
    assert (both.wall_s, both.stopped_at_step) == (3.5, None)
    assert both.seconds == {"start": 0.5, "stage_1": 1.5}


def test_the_summary_is_over_living_rows() -> None:
    path = trajectory([[1, 2, 3, NAN], [4, NAN, 8, NAN], [NAN] * 4], [0, 1, 2, 3])
    summary = path.summary()
    assert summary["tc_k_mean"][:2] == pytest.approx([2, 6])
    assert summary["tc_k_p50"][:2] == pytest.approx([2, 6])
    assert summary["tc_k_p10"][0] == pytest.approx(np.quantile([1, 2, 3], 0.1))
    assert summary["ef_ev_per_atom_p90"][1] == pytest.approx(np.quantile([-4, -8], 0.9))
    assert np.isnan(summary["tc_k_mean"][2])
    assert np.isnan(summary["integer_loss_mean"]).all()


def test_every_status_has_a_label_and_a_meaning() -> None:
    assert [status.label for status in RowStatus] == [
        "ok",
        "nothing_allowed",
        "not_finite",
        "no_integer_formula",
        "unknown_element",
    ]
    assert len({status.meaning for status in RowStatus}) == len(RowStatus)
