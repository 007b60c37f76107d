"""Cells made up, so that what tables say of them can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from kiago_ray.paper.experiments import Figures

MakeCell = Callable[..., Figures]


@pytest.fixture
def make_cell() -> MakeCell:
    """`make_cell(tc_k, oracle_k, base=…)`: best rows with these T_c in K."""

    def make(
        tc_k: Sequence[float],
        oracle_k: Sequence[float] | None = None,
        base: tuple[float, float] = (10, 8),
        **more: Any,
    ) -> Figures:
        trees = tc_k if oracle_k is None else oracle_k
        best = [
            {
                "formula": f"LaNi{n + 2}As",
                "tc_k": float(tc),
                "tc_oracle_k": float(oracle),
                "trusted_tc_k": 0.0,
                "ef_ev_per_atom": -1.0,
                "extrapolated": False,
                "oxidation_states": None,
            }
            for n, (tc, oracle) in enumerate(zip(tc_k, trees, strict=True))
        ]
        return {
            "base": {"tc_k": base[0], "tc_oracle_k": base[1], "tc_measured_k": None},
            "rows": 4,
            "unique": 4,
            "passed": len(best),
            "screens": {"neutral": 3, "pauling": 2, "ef_negative": 4, "few_elements": 4},
            "neutral_rows": 0.75,
            "right_rows": 1.0,
            "hydride_rows": 0.5,
            "best": best,
            **more,
        }

    return make
