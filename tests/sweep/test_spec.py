"""What a sweep's file may say, and that everything else is refused with a reason before anything runs; its space."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import optuna
import pytest

from kiago_ray.search.sections import SpecError, validated
from kiago_ray.search.spec import load_preset
from kiago_ray.sweep.spec import Parameter, SweepSpec, check_order, grid_points
from kiago_ray.sweep.trials import draw

OPEN = {"preset": "open", "candidates": 16, "steps": [5, 5]}


def sweep(**changes: Any) -> SweepSpec:
    values: dict[str, Any] = {
        "name": "small",
        "bases": ["LaNiAsO"],
        "search": {"candidates": 16, "steps": [5, 5]},
        "space": {"alpha": {"uniform": [0, 20]}},
        "trials": 3,
    }
    return validated(SweepSpec, {**values, **changes})


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"alfa": {"uniform": [0, 2]}}, "alfa: unknown key; did you mean 'alpha'?"),
        ({"beta.stop": {"uniform": [0, 2]}}, "beta.stop: unknown key"),
        ({"alpha.x": {"uniform": [0, 2]}}, "alpha.x: alpha has no parts; name it as a whole"),
        ({"steps.2": {"randint": [1, 9]}}, "steps.2: there is no part 2"),
        ({"alpha": {"uniform": [3, 2]}}, "range from 3 to 2 is empty"),
        ({"alpha": {"uniform": [2, 2]}}, "range from 2 to 2 is empty"),
        ({"alpha": {"loguniform": [0, 2]}}, "can't begin at 0"),
        ({"alpha": {"loguniform": [-1, 2]}}, "can't begin at -1"),
        ({"alpha": {"choice": []}}, "at least 1 item"),
        ({"alpha": {"choice": [1, 1]}}, "given twice"),
        ({"alpha": {"choice": [4, 4.0]}}, "choice: 4 is given twice"),
        ({"alpha": {"uniform": [0, 2], "choice": [3]}}, "not uniform and choice"),
        ({"alpha": {}}, "not none"),
        ({"alpha": {"lognormal": [0, 2]}}, "lognormal: unknown key"),
        ({"alpha": {"uniform": [-3, 2]}}, "greater than or equal to 0, got -3"),
        ({"alpha": {"uniform": [0, float("inf")]}}, "alpha"),
        ({"max_elements": {"choice": [3, "x"]}}, "valid integer"),
        ({"preset": {"choice": ["default", "papre"]}}, "no preset 'papre'"),
        ({"kappa": {"uniform": [0, 2], "when": {"preset": "default"}}}, "preset is no parameter above kappa"),
        (
            {
                "preset": {"choice": ["default", "paper"]},
                "kappa": {"uniform": [0, 2], "when": {"preset": "hydride"}},
            },
            "preset never is 'hydride'",
        ),
        ({"alpha": {"grid": [1, 2]}}, "searcher: {kind: grid}"),
        ({"seed": {"choice": [1, 2]}}, "give seeds"),
        ({"base": {"choice": ["MgB2"]}}, "give bases"),
        ({"candidates": {"choice": [8, 16]}}, "can't differ in candidates"),
        ({"screens.names": {"choice": [["neutral"], []]}}, "can't differ in screens"),
        ({"beta": {"choice": [{"start": 1, "end": 2}]}, "beta.end": {"uniform": [1, 2]}}, "part of beta"),
        ({}, "at least 1 item"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(space: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as refused:
        sweep(space=space)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


FIXED = {"preset": "open", "fixed": {"La": 0.1, "Ni": 0.1}, "candidates": 16, "steps": [5, 5]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metrics": "tc_k"}, "nothing reports 'tc_k'; choose among improvement, trusted_delta_tc_k"),
        ({"metrics": ["gap_k", "gap_k"]}, "given twice"),
        ({"metrics": ["gap_k", "pass_rate"]}, "give kind: none"),
        ({"seeds": [1, 1]}, "seeds: 1 is given twice"),
        ({"bases": ["MgB2", "MgB2"]}, "bases: MgB2 is given twice"),
        ({"bases": ["MgB2", "Mg2B4"]}, "bases: Mg2B4 is given twice, as MgB2 before"),
        ({"compare": {"seeds": [7, 7]}}, "compare.seeds: 7 is given twice"),
        ({"seeds": [1000]}, "a seed of the sweep"),
        ({"trials": None}, "number of points to try"),
        ({"trials": 0}, "greater than or equal to 1"),
        ({"scheduler": {"kind": "asha", "first": 9}}, "9 seeds before the first rung, of 3"),
        ({"scheduler": {"reduction": 1}}, "greater than 1"),
        ({"compare": {"against": {"best": {}}}}, "give another name"),
        ({"compare": {"against": {"p": {"seed": 3}}}}, "same for all"),
        ({"compare": {"against": {"p": {"alfa": 3}}}}, "alfa"),
        ({"compare": {"seeds": [7]}}, "at least 2 items"),
        ({"search": {"seed": 3}}, "seed is what `seeds`"),
        ({"search": {"alfa": 3}}, "alfa: unknown key; did you mean 'alpha'?"),
        ({"search": {"candidates": 100_000}}, "up to 65,536 candidates"),
        ({"bases": ["LaNiAsQ"]}, "LaNiAsQ"),
        (
            {"search": FIXED, "space": {"max_elements": {"choice": [2, 3]}}},
            "2 is used up by 2 fixed element(s)",
        ),
        ({"search": FIXED, "space": {"n_unit.max": {"randint": [9, 20]}}}, "no number of atoms from 1 to 9"),
        ({"search": FIXED, "compare": {"against": {"tight": {"max_elements": 2}}}}, "compare.against.tight"),
        ({"foo": 1}, "foo: unknown key"),
        ({"resources": {"gpus": 1.5}}, "neither a fraction"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as refused:
        sweep(**changes)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_point_lies_over_the_shared_search() -> None:
    space = {
        "preset": {"choice": ["open", "paper"]},
        "beta.end": {"loguniform": [1, 100]},
        "learning_rate.1": {"uniform": [0.01, 0.1]},
        "fixed.O": {"choice": [0.25, 0.5]},
    }
    spec = sweep(space=space, search=OPEN).spec(
        {"preset": "paper", "beta.end": 7.0, "learning_rate.1": 0.05, "fixed.O": 0.25}, "LaNiAsO", 4
    )
    paper = load_preset("paper", {"candidates": 16, "steps": [5, 5]})
    assert (spec.base, spec.seed, spec.candidates, spec.steps) == ("LaNiAsO", 4, 16, (5, 5))
    assert (spec.beta.start, spec.beta.end) == (paper.beta.start, 7.0)
    assert spec.learning_rate == (0.03, 0.05)
    assert spec.fixed == {"O": 0.25}
    same = {"beta", "learning_rate", "fixed", "base", "seed", "screens"}
    assert spec.model_dump(exclude=same) == paper.model_dump(exclude=same)
    assert spec.screens == load_preset("open").screens  # trials differ neither in these nor in their rows


def test_the_best_may_be_held_against_a_preset_of_ones_own() -> None:
    mine = {"preset": {"preset": "open", "alpha": 3}}  # as a file is read
    spec = sweep(compare={"against": {"mine": mine}}, search=OPEN).spec(mine, "LaNiAsO", 1000)
    assert (spec.alpha, spec.candidates, spec.seed) == (3, 16, 1000)


def test_numbers_that_yaml_takes_for_texts_are_numbers(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("name: a\nbases: [MgB2]\nspace: {alpha: {loguniform: [1e-3, 1e2]}}\ntrials: 2\n")
    assert SweepSpec.read(file).space["alpha"].values == (0.001, 100.0)


@pytest.mark.parametrize("text", ["- a\n", "name: [\n", "name: a\n", "x: &a [1]\ny: *a\n", "\x00"])
def test_a_file_that_is_no_sweep_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    with pytest.raises(SpecError, match=r"sweep\.yaml: "):
        SweepSpec.read(file)


@pytest.mark.parametrize("kind", ["uniform", "loguniform"])
def test_a_whole_number_is_not_drawn_between_whole_numbers(kind: str) -> None:
    with pytest.raises(SpecError, match=r"n_unit.max: input should be a valid integer"):
        sweep(space={"n_unit.max": {kind: [9, 25]}})


def test_trials_have_equally_many_rows() -> None:
    by_preset = sweep(
        space={"preset": {"choice": ["default", "paper", "reference"]}}, search={"steps": [5, 5]}
    )
    rows = {
        by_preset.spec({"preset": each}, "LaNiAsO", 0).row_count for each in ("default", "paper", "reference")
    }
    assert rows == {load_preset("default").row_count}
    start = {"choice": [{"kind": "rows", "rows": ["MgB2"]}, {"kind": "random"}]}
    with pytest.raises(SpecError, match="has 1 rows, the others 16; trials need equally many"):
        sweep(space={"start": start}, search=OPEN)


@pytest.mark.parametrize(
    ("search", "metric"),
    [
        ({}, "improvement"),
        ({"preset": "default"}, "improvement"),
        ({"preset": {"preset": "default", "alpha": 3}}, "improvement"),
        ({"preset": "open"}, "trusted_delta_tc_k"),
        ({"preset": {"preset": "paper", "alpha": 3}}, "trusted_delta_tc_k"),
    ],
)
def test_the_metric_by_default_is_that_of_the_preset(search: dict[str, Any], metric: str) -> None:
    assert sweep(search=search).metrics == (metric,)
    assert sweep(search=search, metrics="gap_k").metrics == ("gap_k",)


def space(**parameters: dict[str, Any]) -> dict[str, Parameter]:
    return {name: Parameter.model_validate(values) for name, values in parameters.items()}


CONDITIONAL = space(
    preset={"choice": ["default", "paper"]},
    kappa={"uniform": [0.5, 2.0], "when": {"preset": "default"}},
    rate={"loguniform": [1e-3, 1e-1]},
    n={"randint": [3, 5]},
)


def test_draws_keep_to_their_ranges_and_conditions() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    points = [draw(CONDITIONAL, study.ask()) for _ in range(200)]
    assert {point["preset"] for point in points} == {"default", "paper"}
    assert all(("kappa" in point) == (point["preset"] == "default") for point in points)
    assert all(0.5 <= point["kappa"] <= 2 for point in points if "kappa" in point)
    assert {point["n"] for point in points} == {3, 4, 5}
    rates = sorted(point["rate"] for point in points)
    assert rates[0] >= 1e-3
    assert rates[-1] <= 1e-1
    assert rates[100] == pytest.approx(1e-2, rel=0.5)  # the middle of the factors, not of the range


def test_a_grid_has_every_combination_once() -> None:
    listed = space(a={"grid": [1, 2, 3]}, b={"choice": ["x", {"y": 1}]})
    points = grid_points(listed)
    assert points == [{"a": a, "b": b} for a, b in itertools.product([1, 2, 3], ["x", {"y": 1}])]


def test_a_grid_leaves_out_what_does_not_apply() -> None:
    listed = space(preset={"grid": ["default", "paper"]}, k={"grid": [1, 2], "when": {"preset": ["default"]}})
    assert grid_points(listed) == [
        {"preset": "default", "k": 1},
        {"preset": "default", "k": 2},
        {"preset": "paper"},
    ]


def test_a_grid_is_bounded_and_needs_lists() -> None:
    with pytest.raises(ValueError, match="more than 10,000 points"):
        grid_points(space(**{name: {"grid": list(range(30))} for name in "abc"}))
    with pytest.raises(ValueError, match="a: a grid search needs values"):
        grid_points(space(a={"uniform": [0, 1]}))


def test_conditions_name_what_is_chosen_before() -> None:
    with pytest.raises(ValueError, match="b is no parameter above a"):
        check_order(space(a={"choice": [1], "when": {"b": 1}}, b={"choice": [1, 2]}))
    with pytest.raises(ValueError, match="b never is 3"):
        check_order(space(b={"choice": [1, 2]}, a={"choice": [1], "when": {"b": [1, 3]}}))
    with pytest.raises(ValueError, match="b never is"):
        check_order(space(b={"uniform": [1, 2]}, a={"choice": [1], "when": {"b": 1}}))
