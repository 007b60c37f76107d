"""The plots of a campaign: what they show, and where."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kiago_ray.report.plots import (
    COLORS,
    GREY,
    LABELLED,
    SHOWN_GROUPS,
    Curve,
    curves_plot,
    gains_plot,
    png_of,
)
from kiago_ray.screening.known import BaseMaterial
from kiago_ray.screening.screens import Summary, TopMean
from kiago_ray.storage.run_directory import SearchResults


def labels(figure: Any) -> list[str]:
    """The texts of the legend."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def points(figure: Any) -> list[tuple[float, float, bool]]:
    """Value, row and whether it is filled of each point."""
    return [
        (*place, tuple(marks.get_facecolor()[0]) != (1.0, 1.0, 1.0, 0.85))
        for marks in figure.axes[0].collections
        if marks.get_sizes()[0] == 26
        for place in marks.get_offsets().tolist()
    ]


def line(base: str | None, variant: str, gain: float | None, seed: int = 0, used: int = 30) -> SearchResults:
    material = BaseMaterial(base, 10.0, -2.0) if base else None
    used = 0 if gain is None else used
    mean = None if gain is None else gain + (10.0 if base else 0.0)
    top = (TopMean(30, used, mean, gain if base else None),)
    summary = Summary(64, {}, 60, {}, (), used, top, material)
    return SearchResults(f"{base}-{variant}-s{seed}", base, variant, seed, 1, 1, summary, 1.0, 0.0, "", {})


def curve(name: str, level: float, steps: tuple[int, int] = (20, 20)) -> Curve:
    step = np.arange(sum(steps) + 1)
    tc_k = 5 + (level - 5) * (1 - np.exp(-step / 8))
    return name, step, np.where(step < steps[0], 1, 2), tc_k


def test_gains_stand_where_their_values_are() -> None:
    figure = gains_plot([line("MgB2", "a", 10.0), line("MgB2", "b", 20.0), line("LaNiAsO", "a", 40.0)])
    assert points(figure) == [(10.0, 0.0, True), (20.0, 1.0, True), (40.0, 2.0, True)]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [
        "MgB2, a",
        "MgB2, b",
        "LaNiAsO, a",
    ]
    assert labels(figure) == ["base material", "one search"]
    colors = [
        marks.get_edgecolor()[0][:3].tolist()
        for marks in figure.axes[0].collections
        if len(marks.get_offsets())
    ]
    assert colors[0] == colors[2] != colors[1]


def test_the_mean_over_seeds_is_marked_between_them() -> None:
    figure = gains_plot([line("MgB2", "", 10.0), line("MgB2", "", 40.0, 1)])
    means = [
        marks.get_offsets().tolist() for marks in figure.axes[0].collections if marks.get_sizes()[0] == 220
    ]
    assert means == [[[25.0, 0.0]]]
    assert "mean over seeds" in labels(figure)


def test_few_that_passed_are_hollow_and_none_are_left_out() -> None:
    full = [line("MgB2", "", 10.0), line("MgB2", "", 20.0, 1)]
    assert [filled for *_, filled in points(gains_plot(full))] == [True, True]
    few = gains_plot([full[0], line("MgB2", "", 20.0, 1, used=4)])
    assert points(few) == [(10.0, 0.0, True), (20.0, 0.0, False)]
    assert "fewer than 30 passed" in labels(few)
    assert len(points(gains_plot([full[0], line("MgB2", "", None, 1)]))) == 1
    nothing = gains_plot([line("MgB2", "", None)])
    assert points(nothing) == []
    assert "nothing passed" in nothing.axes[0].texts[0].get_text()


@pytest.mark.filterwarnings("error")
def test_gains_of_nothing_of_random_starts_and_of_hostile_names() -> None:
    for searches in (
        [],
        [line(None, "", 10.0), line(None, "", 12.0, 1)],
        [line("$x_{$", r"\frac{$ <b>", 10.0), line("a$b$c^", "v" * 500, None)],
        [replace(line("MgB2", "", 1.0), summary=Summary(0, {}, 0, {}, (), 0, (), None))],
    ):
        assert png_of(gains_plot(searches)).startswith(b"\x89PNG")


def test_of_many_groups_the_highest_are_drawn() -> None:
    figure = gains_plot([line(f"La{n}O", "", float(n)) for n in range(5_000)])
    assert sorted(value for value, *_ in points(figure)) == list(range(5_000 - SHOWN_GROUPS, 5_000))
    assert figure.axes[0].get_title(loc="left") == f"the {SHOWN_GROUPS} highest of 5,000"


def test_up_to_twelve_curves_have_a_colour_each() -> None:
    figure = curves_plot([curve("low", 10.0), curve("high", 60.0), curve("middle", 30.0)])
    drawn = {each.get_label(): each.get_color() for each in figure.axes[0].lines}
    assert [drawn[name] for name in ("high", "middle", "low")] == list(COLORS[:3])
    assert labels(figure) == ["high", "middle", "low"]


def test_of_many_curves_the_highest_and_lowest_are_named() -> None:
    many = [curve(f"s{n}", 10.0 + n / 20) for n in range(1_000)]
    many += [curve("third", 70.0), curve("first", 90.0), curve("second", 80.0)]
    figure = curves_plot(many)
    assert labels(figure) == ["first", "second", "third", "s2", "s1", "s0"]
    assert sum(each.get_color() == GREY for each in figure.axes[0].lines) == 494
    assert len(labels(curves_plot(many[:LABELLED]))) == LABELLED


@pytest.mark.filterwarnings("error")
def test_curves_with_gaps_of_one_stage_and_of_nothing() -> None:
    name, step, stage, tc_k = curve("$a_{", 30.0)
    gaps = tc_k.copy()
    gaps[25:] = np.nan
    several = curves_plot(
        [(name, step, stage, gaps), curve("b", 20.0, (10, 20)), curve("one stage", 20.0, (0, 20))]
    )
    assert "stage 2 begins" in labels(several)
    begins = several.axes[0].collections[-1].get_offsets().tolist()
    assert sorted(at for at, _ in begins) == [10.0, 20.0]
    for curves in (
        [],
        [("none", step, stage, np.full_like(tc_k, np.nan)), ("empty", step[:0], stage[:0], tc_k[:0])],
        [curve("first only", 20.0, (20, 0))],
    ):
        assert png_of(curves_plot(curves)).startswith(b"\x89PNG")


def test_the_same_data_give_the_same_bytes_and_leave_no_figures() -> None:
    searches = [line("MgB2", "a", 10.0), line("MgB2", "b", 20.0)]
    assert png_of(gains_plot(searches)) == png_of(gains_plot(searches))
    assert png_of(curves_plot([curve("a", 20.0)])) == png_of(curves_plot([curve("a", 20.0)]))
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []
