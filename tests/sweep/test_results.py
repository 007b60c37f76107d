"""report.html of a sweep."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from kiago_ray.report.plots import Plot
from kiago_ray.search.sections import validated
from kiago_ray.sweep.metrics import METRICS, Difference
from kiago_ray.sweep.plots import COMPARISON_PLOT, sweep_plots
from kiago_ray.sweep.results import LISTED, SweepResults, render_sweep_page, verdict
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import FieldImportance, Importance, Trial, best_trial, importances

from ..report.test_campaign_page import PNG, Reader
from .conftest import METRIC

MakeDifference = Callable[..., Difference]
BEST, TRIALS, HELD = "The best trial's fields", "Trials", "The best minus others"


@dataclass(frozen=True)
class SweepPage:
    """What a page shows, so that a test can change a part of it."""

    sweep: SweepSpec
    trials: Sequence[Trial]
    best: Trial | None
    differences: Sequence[Difference]
    plots: Sequence[Plot]
    importance: Importance
    spec_text: str
    model_notes: Sequence[str] = ()
    compare_failures: Mapping[str, str] = field(default_factory=dict)


def html_of(page: SweepPage) -> str:
    trials, differences = tuple(page.trials), tuple(page.differences)
    results = SweepResults(page.sweep, trials, page.best, {}, differences, page.compare_failures)
    return render_sweep_page(results, page.plots, page.importance, page.spec_text, page.model_notes)


@pytest.fixture
def page(sweep: SweepSpec, trials: list[Trial], make_difference: MakeDifference) -> SweepPage:
    best = best_trial(trials, METRIC)
    differences = [
        replace(make_difference("default", 3.1), value=3.1, reach=2.7, pairs=6),
        replace(make_difference("default", 1.0, metric="gap_k"), value=1.0, reach=0.5, pairs=6),
        replace(make_difference("paper", 0.2), value=0.2, reach=1.2, pairs=6),
    ]
    return SweepPage(
        sweep,
        trials,
        best,
        differences,
        [
            Plot("parallel.png", "A line a trial.", PNG),
            Plot(COMPARISON_PLOT, "The best minus each other.", PNG),
        ],
        Importance(METRIC, (FieldImportance("alpha", 0.9, 0.1), FieldImportance("kappa", 0.0, 0.1)), 0.7, 24),
        "name: alpha-beta\n",
        model_notes=["T_c is off by 6.7 K."],
    )


def test_what_a_reader_looks_for_is_there(page: SweepPage) -> None:
    html = html_of(page)
    reader = Reader(html)
    assert page.best is not None
    mean = page.best.mean(METRIC)
    assert html.startswith("<!DOCTYPE html>\n<html lang=")
    for part in (
        "kiago-ray: sweep alpha-beta",
        "How steep the climb may be.",
        "12 of 24trials finished",
        "12stopped",
        "144searches",
        "67 %of the steps without early stopping",
        f"{mean.value:.1f} ± {mean.error:.1f} K{METRIC} of the best, trial {page.best.number}",
        "+3.1 Kbest minus default, 95 % interval +0.4 to +5.8",
        "Tc is off by 6.7 K.",
        "name: alpha-beta",
        METRICS["diversity"].meaning.replace("T_c", "Tc"),
    ):
        assert part in reader.text
    order = ["Best", "Is it better?", "Plots", "Which fields matter", "Trials", "What the metrics mean"]
    headings = [reader.text.index(f"\n{heading}\n") for heading in order]
    assert headings == sorted(headings)
    assert "T_c" not in reader.text


def test_the_best_stands_beside_the_search_as_it_is(page: SweepPage) -> None:
    rows = Reader(html_of(page)).tables[BEST]
    assert page.best is not None
    assert [row[0] for row in rows[1:]] == list(page.sweep.space)
    values = {name: (best, standing) for name, best, standing in rows[1:]}
    assert values["alpha"] == (f"{page.best.point['alpha']:.3g}", "0")
    assert values["preset"] == (page.best.point["preset"], "default")
    paper = next(trial for trial in page.trials if trial.point["preset"] == "paper")
    rows = Reader(html_of(replace(page, best=paper))).tables[BEST]
    assert rows[-1][:2] == ["kappa", "0 as its preset has it"]


def test_the_three_outcomes_of_a_comparison(make_difference: MakeDifference) -> None:
    told = replace(make_difference("default", 3.1), value=3.1, reach=2.7, pairs=6)
    assert verdict(told) == "is better than default by +3.1 K (95 % interval +0.4 to +5.8, 2 bases × 3 seeds)"
    assert verdict(replace(told, reach=3.5)).startswith(
        "can't be told from default: +3.1 K (95 % interval -0.4 "
    )
    worse = replace(told, value=-3.1)
    assert verdict(worse).startswith("is worse than default by -3.1 K (95 % interval -5.8 to -0.4")
    gap = {"metric": "gap_k"}
    assert verdict(replace(worse, **gap)).startswith("is better than default by -3.1 K")
    assert verdict(replace(told, **gap)).startswith("is worse than default by +3.1 K")
    assert "too few searches for an interval (5 pairs of searches)" in verdict(
        replace(told, reach=None, pairs=5)
    )
    assert "nothing passed that could tell" in verdict(replace(told, value=math.nan, pairs=0, bases=()))


def test_the_comparison_says_by_whom_and_on_what(page: SweepPage) -> None:
    reader = Reader(html_of(page))
    assert "The best is better than default by +3.1 K" in reader.text
    assert "The best can't be told from paper: +0.2 K" in reader.text
    assert "by another oracle than the one that the trials went by" in reader.text
    assert "On seeds that no trial saw (1000, 1001, 1002) and bases that no trial saw (SrFe" in reader.text
    assert [row[4] for row in reader.tables[HELD]] == ["Best is", "better", "worse", "can't be told"]
    assert len(reader.tables["The best minus others by base"]) == 1 + 2 * 2
    same = page.sweep.model_copy(update={"compare": page.sweep.compare.model_copy(update={"bases": ()})})
    assert "on the bases of the trials." in html_of(replace(page, sweep=same))
    assert "Is it better?" not in html_of(replace(page, differences=[]))


def test_what_is_missing_failed_or_stopped_comes_first(page: SweepPage) -> None:
    trials = [*page.trials]
    trials[0] = replace(trials[0], status="failed", cause="out of memory")
    trials[1] = replace(trials[1], status="unfinished")
    part = replace(page, trials=trials, differences=page.differences[:1])
    reader = Reader(html_of(replace(part, compare_failures={"paper": "no GPU"})))
    said = [
        "Not finished: 22 of 24 trials have ended.",
        "Trials that failed: 1. The same command tries them again.",
        "Trials stopped early: 12,",
        "The comparison with paper rests on 0 of 6 pairs of searches.",
        "The comparison with paper failed: no GPU",
        "What the metrics mean",
    ]
    found = [reader.text.index(text) for text in said]
    assert found == sorted(found)
    assert reader.tables["Trials that failed"][1:] == [["0", "out of memory"]]
    clean = [replace(trial, status="finished") for trial in page.trials]
    assert 'class="remark"' not in html_of(replace(page, trials=clean))


def test_every_trial_has_a_row_that_sorts(page: SweepPage) -> None:
    reader = Reader(html_of(page))
    rows = [dict(zip(reader.tables[TRIALS][0], row, strict=True)) for row in reader.tables[TRIALS][1:]]
    assert len(rows) == 24
    assert page.best is not None
    assert rows[0]["Trial"] == str(page.best.number)
    assert [row["Status"] for row in rows] == ["finished"] * 12 + ["stopped"] * 12
    assert {row["Seeds"] for row in rows} == {"3 of 3", "1 of 3"}
    assert rows[0][f"{METRIC} (K)"].count("±") == 1
    assert "±" not in rows[-1][f"{METRIC} (K)"]
    absent = [row for row in rows if row["preset"] == "paper"]
    assert {row["kappa"] for row in absent} == {"–"}
    column = reader.tables[TRIALS][0].index("alpha")
    keys = [float(row[column]) for row in reader.keys[TRIALS][1:]]
    assert sorted(keys) == sorted(trial.point["alpha"] for trial in page.trials)


@pytest.mark.parametrize(
    ("r2", "said"),
    [
        (0.8, "foretells 80 % of the variance"),
        (0.05, "The importances mean nothing"),
        (-0.2, "cross-validated R² -0.20, below 0.1"),
        (None, "With 24 trials nobody can tell which fields matter."),
    ],
)
def test_importances_come_with_what_they_mean(page: SweepPage, r2: float | None, said: str) -> None:
    fields = (FieldImportance("alpha", 0.91, 0.04), FieldImportance("kappa", -0.001, 0.1))
    reader = Reader(html_of(replace(page, importance=Importance(METRIC, fields, r2, 24))))
    assert said in reader.text
    assert reader.tables["Importance of each field"] == [
        ["alpha", "0.91", "± 0.04"],
        ["kappa", "0.00", "± 0.10"],
    ]


def test_no_trials_and_none_with_values(page: SweepPage) -> None:
    empty = replace(
        page,
        trials=[],
        best=None,
        differences=[],
        plots=[],
        importance=importances([], page.sweep.space, METRIC),
    )
    reader = Reader(html_of(empty))
    assert "No trial has ended yet, of 24 planned." in reader.text
    assert "0 of 24trials finished" in reader.text
    for heading in ("Is it better?", "Which fields matter", "\nTrials\n", "\nBest\n"):
        assert heading not in reader.text
    failed = [replace(trial, status="failed", scores=(), cause=None) for trial in page.trials]
    reader = Reader(html_of(replace(empty, trials=failed)))
    assert "No trial has finished with a value of the metric." in reader.text
    assert reader.tables["Trials that failed"][1] == ["0", "unknown"]


def test_everything_given_is_escaped(page: SweepPage) -> None:
    evil = "<script>alert('1')</script>&\"T"
    space = {"preset": {"choice": ["default"]}, "alpha": {"uniform": [0, 1]}}
    sweep = validated(
        SweepSpec,
        {
            "name": "s",
            "description": evil,
            "bases": ["MgB2"],
            "space": space,
            "metrics": METRIC,
            "trials": 2,
        },
    )
    point = {"preset": evil, "alpha": 0.5}
    trials = [
        replace(page.trials[0], number=0, status="finished", point=point),
        replace(page.trials[1], number=1, status="failed", point=point, cause=evil),
    ]
    bases = (page.differences[0].bases[0]._replace(base=evil),) * 2
    hostile = replace(
        page,
        sweep=sweep,
        trials=trials,
        best=replace(trials[0], point={"alpha": 0.5}),
        differences=[replace(page.differences[0], other=evil, bases=bases)],
        plots=[Plot("a.png", evil, PNG)],
        importance=Importance(METRIC, (FieldImportance(evil, 1.0, 0.0),), 0.5, 24),
        spec_text=evil,
        model_notes=[evil],
        compare_failures={evil: evil},
    )
    html = html_of(hostile)
    reader = Reader(html)
    assert [tag for tag, _ in reader.tags].count("script") == 1
    assert "<script>alert" not in html
    assert reader.text.count(evil) >= 14
    assert not any(name.startswith("on") or name == "href" for _, tag in reader.tags for name in tag)


def test_the_page_needs_no_network(page: SweepPage) -> None:
    plots = sweep_plots(page.sweep, page.trials, page.best, page.differences, page.importance)
    html = html_of(replace(page, plots=plots))
    assert len(plots) == 6
    assert html.count("data:image/png;base64,") == 6
    assert "http://" not in html
    assert "https://" not in html
    assert html.count("<figure>") == 6
    regions = [given for _, given in Reader(html).tags if given.get("role") == "region"]
    assert all(given["tabindex"] == "0" and given["aria-label"] for given in regions)


def test_a_thousand_trials_make_no_monster(page: SweepPage) -> None:
    many = [replace(page.trials[n % 24], number=n) for n in range(2400)]
    many += [
        replace(trial, number=2400 + n, status="failed", scores=(), cause="x" * 5000)
        for n, trial in enumerate(many[:300])
    ]
    bases = tuple(page.differences[0].bases[0]._replace(base=f"La{n}O") for n in range(900))
    html = html_of(replace(page, trials=many, differences=[replace(page.differences[0], bases=bases)]))
    assert len(html) < 1_500_000
    reader = Reader(html)
    assert len(reader.tables[TRIALS]) == len(reader.tables["The best minus others by base"]) == LISTED + 1
    assert len(reader.tables["Trials that failed"]) == 101
    for said in ("2,200 trials are not shown", "200 failed trials are not shown", "400 more rows are not"):
        assert said in reader.text
