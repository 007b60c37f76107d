"""Plots of the paper's figures."""

from __future__ import annotations

from typing import Any

from kiago_ray.paper.plots import starts_plot


def test_curves_lie_at_the_steps_that_were_kept() -> None:
    values = [1.0, 2.0, 3.0]
    path: dict[str, Any] = {**dict.fromkeys(("mean", "p10", "p50", "p90"), values), "rows": [values]}
    by_steps = {end: starts_plot({"from LaNiAsO": {**path, "steps": [0, end // 2, end]}}) for end in (2, 500)}
    assert by_steps[2] != by_steps[500]
    assert by_steps[500].startswith(b"\x89PNG")
