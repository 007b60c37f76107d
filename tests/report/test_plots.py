"""The plots of a search: what they show, and where."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray

from kiago_ray.report.plots import (
    BLUE,
    ORANGE,
    gap_plot,
    pareto_plot,
    plain,
    png_of,
    tc_against_ef,
    trajectory_plot,
)
from kiago_ray.screening.known import BaseMaterial
from kiago_ray.search.result import QUANTITIES, Trajectory

BASE = BaseMaterial("LaNiAsO", ef_predicted_ev_per_atom=-2.0, tc_predicted_k=4.3, tc_measured_k=2.7)
Floats = NDArray[np.float64]


def drawn(figure: Any) -> dict[str, Any]:
    """Label of the legend → what it stands for, of the first axes."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def places(marks: Any) -> list[list[float]]:
    """Where points stand."""
    return np.ma.getdata(marks.get_offsets()).round(6).tolist()


def made(n: int = 200) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    generator = np.random.default_rng(0)
    ef = generator.normal(-1.2, 0.4, n)
    tc = np.clip(generator.normal(30, 20, n), 0, None)
    return tc, ef, (ef < 0) & (generator.random(n) < 0.3)


def test_passed_and_failed_rows_and_the_base_stand_where_their_values_are() -> None:
    figure = tc_against_ef(
        np.array([10.0, 20.0, np.nan]), np.array([-1.0, 0.5, 0]), np.array([True, False, True]), BASE
    )
    marks = drawn(figure)
    assert {name: places(each) for name, each in marks.items()} == {
        "failed (1)": [[0.5, 20.0]],
        "passed every screen (1)": [[-1.0, 10.0]],
        "LaNiAsO, predicted": [[-2.0, 4.3]],
        "LaNiAsO, measured": [[-2.0, 2.7]],
    }
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(marks)


def test_far_off_failures_do_not_squeeze_the_axis() -> None:
    tc, ef, passed = made(1000)
    near = tc_against_ef(tc, ef, passed)
    far = tc_against_ef(np.append(tc, 10.0), np.append(ef, 400.0), np.append(passed, False))
    assert far.axes[0].get_xlim()[1] < near.axes[0].get_xlim()[1] + 0.1
    assert any("beyond the axis" in name for name in drawn(far))


def test_the_front_is_ringed_and_colours_follow_the_score() -> None:
    score = np.array([0.1, 0.5, 2.0, np.nan])
    figure = pareto_plot(np.full(4, 9.0), np.full(4, -1.0), score, np.array([False, True, False, False]))
    assert list(drawn(figure)) == ["passed every screen (3)", "and on the Pareto front (1)"]
    colored = [each for each in figure.axes[0].collections if each.get_array() is not None]
    assert [each.get_array().tolist() for each in colored] == [[0.1, 2.0], [0.5]]
    assert colored[1].get_edgecolor()[0].tolist() == [0, 0, 0, 1]
    assert "extrapolation score" in figure.axes[1].get_ylabel()


def test_the_search_stands_against_the_oracle_and_the_extrapolated_are_marked() -> None:
    search = np.linspace(100, 51, 50)
    figure = gap_plot(search, search - 10, np.arange(50) % 5 == 0)
    marks = drawn(figure)
    assert list(marks) == ["they agree", "best 10", "best 50", "extrapolated (10)", "mean"]
    assert places(marks["best 10"])[0] == [99.0, 89.0]
    assert (len(places(marks["best 10"])), len(places(marks["best 50"]))) == (8, 32)
    assert places(marks["mean"]) == [[75.5, 65.5]]
    assert figure.axes[0].texts[0].get_text() == "gap of the best 50: 10.0 K"
    assert figure.axes[0].get_xlim() == figure.axes[0].get_ylim()
    assert figure.axes[0].get_aspect() == 1
    assert "extrapolated (10)" not in drawn(gap_plot(search, search, np.zeros(50, dtype=bool)))


def test_a_plot_with_nothing_on_it_says_so() -> None:
    tc, ef, front = made(20)
    for figure in (pareto_plot(tc * np.nan, ef, tc, front), gap_plot(tc, tc * np.nan, front)):
        assert figure.axes[0].texts[0].get_text().startswith("No formula that passed has a ")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [0, 1, 2, 300])
def test_few_rows_and_values_that_are_not_known(n: int) -> None:
    tc, ef, passed = made(n)
    unknown, front = np.full(n, np.nan), np.ones(n, dtype=bool)
    figures = [
        tc_against_ef(tc, ef, passed, BASE),
        tc_against_ef(np.append(tc, np.nan), np.append(ef, 1), np.append(passed, False)),
    ]
    figures += [
        pareto_plot(*values, front, title="LaNiAsO")
        for values in ((tc, ef, tc), (tc, ef, unknown), (unknown, ef, tc), (tc, unknown, tc))
    ]
    figures += [
        gap_plot(*values, front, title="LaNiAsO")
        for values in ((tc, tc), (tc, unknown), (unknown, tc), (0 * tc, 0 * tc))
    ]
    for figure in figures:
        assert png_of(figure).startswith(b"\x89PNG\r\n\x1a\n")


def made_trajectory(steps: tuple[int, int], k: int) -> Trajectory:
    t = np.arange(sum(steps) + 1)[:, None]
    tc = 40 * (1 - np.exp(-t / 10)) * np.linspace(0.5, 1.5, k)
    stage = np.where(t[:, 0] < steps[0], 1, 2)
    loss = np.where(stage[:, None] == 2, 0.3, np.nan) * np.ones(k)
    return Trajectory(
        np.arange(k), stage, *(each.astype(np.float32) for each in (tc, -1 - tc / 100, loss, 0 * tc + np.nan))
    )


@pytest.mark.parametrize(("steps", "k"), [((20, 20), 90), ((20, 0), 3), ((0, 20), 1), ((1, 0), 1)])
def test_trajectories_of_one_or_two_stages(steps: tuple[int, int], k: int) -> None:
    path = made_trajectory(steps, k)
    figure = trajectory_plot(path, 4.3, "LaNiAsO")
    lines = drawn(figure)
    assert list(lines) == ["10–90 % of rows", "single rows", "median", "base material"]
    assert lines["median"].get_ydata() == pytest.approx(np.median(path.tc_k, axis=1))
    assert lines["median"].get_color() == BLUE
    assert lines["base material"].get_ydata() == [4.3, 4.3]
    assert lines["base material"].get_color() == ORANGE
    assert bool(figure.axes[0].texts) == (steps[0] > 0)
    assert [axes.get_ylabel() for axes in figure.axes][-1] == "integer loss"


def test_t_c_and_the_lower_bound_that_is_climbed_are_two_lines() -> None:
    path = made_trajectory((20, 20), 5)
    lines = drawn(trajectory_plot(replace(path, climbed_k=path.tc_k - 7)))
    (bound,) = (line for label, line in lines.items() if "lower bound" in label)
    assert bound.get_ydata() == pytest.approx(lines["median"].get_ydata() - 7, abs=1e-4)


@pytest.mark.filterwarnings("error")
def test_rows_that_stopped_leave_gaps_without_warnings() -> None:
    path = made_trajectory((20, 20), 5)
    path.tc_k[10:, 2] = np.nan
    png_of(trajectory_plot(path))
    png_of(trajectory_plot(replace(path, tc_k=np.full_like(path.tc_k, np.nan))))
    none = {name: getattr(path, name)[:, :0] for name in QUANTITIES}
    png_of(trajectory_plot(replace(path, **none)))


def test_names_are_drawn_as_they_stand() -> None:
    assert plain("a\nb  $c$") == "a b \\$c\\$"
    assert plain("searches of lanthanum, seed 1", 12) == "search…eed 1"


def test_the_room_opens_without_matplotlib() -> None:
    code = "import sys, kiago_ray.report.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_plots_give_the_same_bytes_and_leave_no_figures_and_no_settings_behind() -> None:
    before = dict(matplotlib.rcParams)
    assert png_of(tc_against_ef(*made(), BASE, "T")) == png_of(tc_against_ef(*made(), BASE, "T"))
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before
