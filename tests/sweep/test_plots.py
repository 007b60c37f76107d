"""The plots of a sweep, with much, little and nothing to draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from matplotlib.colors import to_hex

from kiago_ray.report.plots import BLUE, GREY, png_of
from kiago_ray.sweep.metrics import DEFAULT_METRIC, METRICS, Difference, Score
from kiago_ray.sweep.plots import (
    SHOWN_TRIALS,
    comparison_plot,
    fields_plot,
    foremost,
    front_plot,
    importance_plot,
    parallel_plot,
    rungs_plot,
    sweep_plots,
)
from kiago_ray.sweep.spec import Parameter, SweepSpec
from kiago_ray.sweep.trials import FieldImportance, Importance, Status, Trial, best_trial, importances

from .conftest import METRIC, MakeTrials

MakeDifference = Callable[..., Difference]
NOTHING = Importance(METRIC, (), None, 0)


def legend(figure: Any) -> list[str]:
    """The texts of the legend."""
    return [text.get_text() for each in figure.legends for text in each.get_texts()]


def without_values(trial: Trial, status: Status = "finished") -> Trial:
    """All its metrics NaN."""
    scores = tuple(replace(each, values=dict.fromkeys(each.values, math.nan)) for each in trial.scores)
    return replace(trial, status=status, scores=scores)


def drawn(sweep: SweepSpec, trials: list[Trial]) -> list[Any]:
    """Every plot, whatever there is, with importances as they might be (`test_importance` has the real ones)."""
    fields = tuple(FieldImportance(name, 0.5 / (at + 1), 0.1) for at, name in enumerate(sweep.space))
    told = Importance(METRIC, fields, 0.6, len(trials))
    best = best_trial(trials, METRIC)
    return [
        parallel_plot(sweep.space, trials, METRIC, best),
        fields_plot(sweep.space, trials, METRIC, best),
        rungs_plot(trials, METRIC, best),
        front_plot(trials, (METRIC,), best),
        importance_plot(told),
    ]


def test_a_sweep_has_all_its_plots(
    sweep: SweepSpec, trials: list[Trial], make_difference: MakeDifference
) -> None:
    differences = [make_difference("default", 3.0), make_difference("default", 1.0, metric="gap_k")]
    importance = importances(trials, sweep.space, METRIC)
    plots = sweep_plots(sweep, trials, best_trial(trials, METRIC), differences, importance)
    assert [name for name, _, _ in plots] == [
        "comparison.png",
        "importance.png",
        "fields.png",
        "parallel.png",
        "rungs.png",
        "front.png",
    ]
    for plot in plots:
        assert plot.caption.endswith(".")
        assert plot.png.startswith(b"\x89PNG")


def test_plots_that_would_be_empty_are_left_out(sweep: SweepSpec, trials: list[Trial]) -> None:
    failed = [replace(trial, status="failed", scores=()) for trial in trials]
    unknown = [without_values(trial) for trial in trials]
    for some in ([], failed, unknown):
        assert sweep_plots(sweep, some, None, [], importances(some, sweep.space, METRIC)) == []
    one = sweep_plots(sweep, trials[:1], best_trial(trials[:1], METRIC), [], NOTHING)
    assert [name for name, _, _ in one] == ["fields.png", "parallel.png", "rungs.png"]
    single = sweep.model_copy(update={"seeds": (0,)})
    assert "rungs.png" not in [name for name, _, _ in sweep_plots(single, trials, None, [], NOTHING)]


@pytest.mark.filterwarnings("error")
def test_one_trial_failed_ones_and_those_without_values(sweep: SweepSpec, trials: list[Trial]) -> None:
    failed = [replace(trial, status="failed", scores=()) for trial in trials]
    single = [replace(trial, scores=trial.scores[:1]) for trial in trials[:3]]  # no errors
    mixed = [without_values(trials[0]), without_values(trials[1], "stopped"), *failed[2:4], *trials[4:]]
    for some in (trials[:1], single, mixed):
        assert len(sweep_plots(sweep, some, best_trial(some, METRIC), [], NOTHING)) >= 3


@pytest.mark.filterwarnings("error")
def test_from_one_field_to_twelve_of_any_kind_and_name(
    sweep: SweepSpec, make_trials: MakeTrials, make_difference: MakeDifference
) -> None:
    space = dict(sweep.space)
    long = "substitute." + "x" * 90
    for name, values in (
        ("steps", {"choice": [[100, 100], [200, 200], {"a": [1] * 50}]}),
        ("$a_{$", {"choice": ["$x^$", "<b>", None, True]}),
        (long, {"uniform": [-1, 1], "when": {"preset": ["paper"]}}),
        ("chunk", {"randint": [1, 3]}),
        ("narrow", {"loguniform": [1.0, 1.2]}),
        ("one", {"choice": ["alone"]}),
    ):
        space[name] = Parameter.model_validate(values)
    many = sweep.model_copy(update={"space": space})
    decided = {"alpha": space["alpha"]}
    trials = make_trials(many, 220)
    figures = drawn(many, trials)
    figures += [plot(decided, trials, METRIC, None) for plot in (fields_plot, parallel_plot)]
    for figure in [*figures, comparison_plot([make_difference("n" * 200, 1.0)], METRIC)]:
        png_of(figure)


def test_more_fields_than_fit_are_chosen_by_importance(sweep: SweepSpec, make_trials: MakeTrials) -> None:
    more = {f"start.{n:02d}": Parameter.model_validate({"uniform": [0, 1]}) for n in range(14)}
    many = sweep.model_copy(update={"space": {**more, "alpha": sweep.space["alpha"]}})
    trials = make_trials(many, 12, lambda point: point["alpha"])
    ranked = [FieldImportance(name, value, 0.0) for value, name in enumerate(many.space)]
    importance = Importance(METRIC, tuple(reversed(ranked)), 0.9, 12)
    captions = {name: caption for name, caption, _ in sweep_plots(many, trials, None, [], importance)}
    assert "The 12 of 15 fields that decide most." in captions["fields.png"]
    assert "The 12 of 15 fields that decide most." in captions["parallel.png"]


def test_of_many_trials_the_best_are_drawn(trials: list[Trial]) -> None:
    many = [replace(trials[n % 24], number=n) for n in range(2400)]
    best = best_trial(many, METRIC)
    shown = foremost(many, METRIC)
    assert len(shown) == SHOWN_TRIALS
    assert best in shown
    assert [trial.number for trial in shown] == sorted(trial.number for trial in shown)
    assert all(trial.status == "finished" for trial in shown)
    least = min(trial.mean(METRIC).value for trial in shown)
    left = [trial for trial in many if trial.status == "finished" and trial not in shown]
    assert max(trial.mean(METRIC).value for trial in left) <= least


def test_fields_stand_where_their_values_are() -> None:
    space = {"alpha": Parameter.model_validate({"loguniform": [0.1, 100]})}

    def trial(number: int, alpha: float, value: float) -> Trial:
        score = Score("MgB2", 0, {**dict.fromkeys(METRICS, 0.0), METRIC: value}, 10, 1.0)
        return Trial(number, "finished", {"alpha": alpha}, (score,))

    some = [trial(0, 0.1, 0.0), trial(1, math.sqrt(10), 4.0), trial(2, 100.0, 8.0)]
    figure = fields_plot(space, some, METRIC, some[1])
    (axes,) = figure.axes
    assert axes.lines[0].get_xydata().ravel() == pytest.approx([0, 0, 0.5, 4, 1, 8])
    assert axes.collections[-1].get_offsets().tolist()[0] == pytest.approx([0.5, 4])
    assert "best: trial 1" in legend(figure)
    ticks = dict(zip([text.get_text() for text in axes.get_xticklabels()], axes.get_xticks(), strict=True))
    assert ticks == pytest.approx({"0.1": 0, "3.16": 1 / 2, "100": 1})


def test_the_best_is_marked_and_named(sweep: SweepSpec, trials: list[Trial]) -> None:
    best = best_trial(trials, METRIC)
    assert best is not None
    for marked in drawn(sweep, trials)[:4]:
        assert f"best: trial {best.number}" in legend(marked)
    assert not any("best" in text for text in legend(rungs_plot(trials, METRIC, None)))
    ends = [text for text in legend(rungs_plot(trials, METRIC, None)) if "last seed" in text]
    assert ends == ["finished, last seed (12)", "stopped, last seed (12)"]


def test_what_a_field_does_not_apply_to_stands_apart(sweep: SweepSpec, trials: list[Trial]) -> None:
    figure = fields_plot(sweep.space, trials, METRIC, None)
    axes = {each.get_xlabel(): each for each in figure.axes}["kappa"]
    assert axes.get_xticklabels()[0].get_text() == "–"
    assert axes.get_xticks()[0] < 0


def test_the_zero_line_is_between_better_and_worse(make_difference: MakeDifference) -> None:
    better, worse = make_difference("a", 10.0, 0.5), make_difference("b", -10.0, 0.5)
    axes = comparison_plot([better, worse], METRIC).axes[0]
    means = [line.get_xdata()[0] for line in axes.lines if line.get_markersize() == 7]
    assert means == [better.value, worse.value]
    assert axes.get_xlabel().endswith("better →")
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]


@pytest.mark.filterwarnings("error")
def test_differences_without_intervals_of_many_bases_and_of_nothing(make_difference: MakeDifference) -> None:
    told = make_difference("default", 3.0)
    bases = tuple(told.bases[0]._replace(base=f"La{n}O", difference=float(n)) for n in range(30))
    unknown = replace(told, value=math.nan, pairs=0, bases=())
    many = [replace(told, other=f"o{n}", bases=bases) for n in range(20)]
    for some in ([], [unknown], many):
        png_of(comparison_plot(some, METRIC))
    assert legend(comparison_plot(many, METRIC)) == ["one base (30)"]
    assert "interval unknown" in legend(comparison_plot([replace(told, reach=None)], METRIC))


@pytest.mark.filterwarnings("error")
def test_importances_that_tell_nothing_are_grey() -> None:
    fields = tuple(FieldImportance(f"f{n}", 1 - n / 10, 0.1) for n in range(50))
    for fields_shown, r2, color in ((fields, 0.8, BLUE), (fields, 0.05, GREY), (fields[:1], None, GREY)):
        axes = importance_plot(Importance(DEFAULT_METRIC, fields_shown, r2, 50)).axes[0]
        assert {to_hex(bar.get_facecolor()) for bar in axes.patches} == {color.lower()}
        assert [bar.get_width() for bar in axes.patches] == [each.value for each in fields_shown][:24]


def test_the_same_data_give_the_same_bytes_and_leave_no_figures(
    sweep: SweepSpec, trials: list[Trial]
) -> None:
    assert list(map(png_of, drawn(sweep, trials))) == list(map(png_of, drawn(sweep, trials)))
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []


def test_metrics_of_which_less_is_better(sweep: SweepSpec, trials: list[Trial]) -> None:
    several: Any = ("gap_k", METRIC)
    by_gap = sweep.model_copy(update={"metrics": several})
    plots = sweep_plots(by_gap, trials, best_trial(trials, "gap_k"), [], NOTHING)
    assert [name for name, _, _ in plots] == ["fields.png", "parallel.png", "rungs.png", "front.png"]
