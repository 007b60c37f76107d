"""Steps, stages and what is recorded of them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.predictors.base import Predictors, in_precision
from kiago_ray.predictors.networks import unpool_in_order
from kiago_ray.predictors.weights import load_predictors
from kiago_ray.search import load_preset
from kiago_ray.search.losses import Objective, Terms, charge_table, charge_term, row_losses
from kiago_ray.search.open_rows import OpenSpace
from kiago_ray.search.problem import Substitutions, resolve
from kiago_ray.search.result import RowStatus
from kiago_ray.search.run import begin, search_stage
from kiago_ray.search.spec import SearchSpec
from kiago_ray.search.stages import (
    OnStep,
    Progress,
    Recorder,
    SearchState,
    Stage,
    init,
    limit,
    pace,
    run_stage,
    step,
)

EVERYTHING = torch.ones(N_ELEMENTS, dtype=torch.bool)
NEVER = torch.zeros(N_ELEMENTS, dtype=torch.bool)
NOTHING_FIXED = torch.zeros(N_ELEMENTS)
OPEN = OpenSpace(NOTHING_FIXED, limit=3, always=NEVER, totals=torch.arange(1, 26))
EXACT = replace(OPEN, const=NOTHING_FIXED.double())
EVERY_REVIVE: tuple[Literal["none", "start", "allowed"], ...] = ("none", "start", "allowed")
PLAIN = Objective(alpha=4, tc_gradient="before_relu")


def start(*formulas: str, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.as_tensor(parse_fractions(formulas), dtype=dtype)


def moved(
    state: SearchState, predictors: Predictors, rate: float = 0.01, revive: bool = False
) -> SearchState:
    """One step of the plain objective."""
    space = OPEN if state.x_base.dtype == torch.float32 else EXACT
    return step(state, space, predictors, PLAIN, pace(state.adam_step + 1, rate), revive=revive)[0]


def walk(
    state: SearchState, predictors: Predictors, steps: int, rate: float = 0.01, revive: bool = False
) -> SearchState:
    for _ in range(steps):
        state = moved(state, predictors, rate, revive)
    return state


def test_the_steps_are_adams(predictors: Predictors) -> None:
    x_start = start("LaNiAsO", "BaFe2As2", "YBa2Cu3O7", dtype=torch.float64) + 0.01
    state = walk(init(x_start, EVERYTHING, "none", OPEN), predictors, 60, rate=0.003)
    leaf = x_start.clone().requires_grad_()
    optimiser = torch.optim.Adam([leaf], lr=0.003)
    for _ in range(60):
        optimiser.zero_grad()
        x = EXACT.compose(leaf, EVERYTHING)
        leaf.grad = torch.autograd.grad(row_losses(x, predictors, PLAIN)[0].sum(), leaf)[0]
        optimiser.step()
    assert torch.allclose(state.x_base, leaf.detach(), rtol=1e-9, atol=1e-12)
    assert (state.x_base < 0).any()


def test_steps_lower_the_loss(predictors: Predictors) -> None:
    state = init(start("LaNiAsO", "La2FeAsO"), EVERYTHING, "start", OPEN)
    before = row_losses(OPEN.compose(state.x_base, state.mask), predictors, PLAIN)[0]
    state = walk(state, predictors, 100, rate=0.003, revive=True)
    after = row_losses(OPEN.compose(state.x_base, state.mask), predictors, PLAIN)[0]
    assert (after < before - 1).all()


def test_nan_in_one_row_leaves_the_others_bit_identical(predictors: Predictors, poisoned: Predictors) -> None:
    clean = start("LaNiAsO", "LaFeAsO", "BaFe2As2")
    sick = torch.cat([clean[:1], start("AuO"), clean[2:]])
    for revive in EVERY_REVIVE:
        with_nan = init(sick, EVERYTHING, revive, OPEN)
        without = init(clean, EVERYTHING, revive, OPEN)
        with_nan = walk(with_nan, poisoned, 40, revive=revive != "none")
        without = walk(without, poisoned, 40, revive=revive != "none")
        assert with_nan.status.tolist() == [RowStatus.OK, RowStatus.NOT_FINITE, RowStatus.OK]
        assert torch.equal(with_nan.x_base[[0, 2]], without.x_base[[0, 2]])
        assert torch.equal(with_nan.momentum[[0, 2]], without.momentum[[0, 2]])
        assert torch.equal(with_nan.x_base[1], sick[1])
        assert torch.isfinite(with_nan.variance).all()


@dataclass(frozen=True)
class RisesWithGold:
    """T_c = 100 K · x(Au), but NaN above 30 % gold: a walk goes up to the edge and over it."""

    supported: Tensor

    def __call__(self, fractions: Tensor, /) -> Tensor:
        gold = fractions[:, INDEX["Au"]]
        return torch.where(gold > 0.3, torch.nan, 100 * gold)


def test_a_row_that_meets_nan_keeps_its_last_finite_composition(predictors: Predictors) -> None:
    edge = Predictors(RisesWithGold(EVERYTHING), predictors.ef)
    state = walk(init(start("AuO4"), EVERYTHING, "none", OPEN), edge, 60)
    assert state.status.tolist() == [RowStatus.NOT_FINITE]
    gold = OPEN.compose(state.x_base, state.mask)[0, INDEX["Au"]].item()
    assert 0.28 < gold <= 0.3


def test_a_row_that_a_step_would_leave_with_nothing_recovers(predictors: Predictors) -> None:
    state = init(start("LaO", "LaFeAsO"), EVERYTHING, "none", OPEN)
    pushed = replace(state, momentum=torch.full_like(state.momentum, 1.0), variance=state.variance + 1e-6)
    after = moved(pushed, predictors, 10.0)
    assert after.recoveries.tolist() == [1, 1]
    assert torch.equal(after.x_base, state.x_base)
    assert after.rate.tolist() == [0.5, 0.5]
    for _ in range(60):
        after = moved(after, predictors, 10.0)
        assert OPEN.has_something(after.x_base, after.mask).all()
        assert torch.isfinite(after.x_base).all()
    assert after.status.tolist() == [RowStatus.OK, RowStatus.OK]


def test_a_start_with_nothing_allowed_is_told_and_waits(predictors: Predictors) -> None:
    allowed = EVERYTHING.clone()
    allowed[INDEX["H"]] = False
    state = init(start("H2", "LaO"), allowed, "none", OPEN)
    after = walk(state, predictors, 5)
    assert after.status.tolist() == [RowStatus.NOTHING_ALLOWED, RowStatus.OK]
    assert torch.equal(after.x_base[0], state.x_base[0])
    assert not torch.equal(after.x_base[1], state.x_base[1])
    assert torch.isfinite(OPEN.compose(after.x_base, after.mask)).all()


def test_absent_elements_return_only_where_asked(predictors: Predictors) -> None:
    without_as = start("LaFeO")
    for revive in EVERY_REVIVE:
        state = walk(
            init(without_as, EVERYTHING, revive, OPEN), predictors, 200, 0.005, revive=revive != "none"
        )
        x = OPEN.compose(state.x_base, state.mask)
        assert bool(x[0, INDEX["As"]] > 0.05) is (revive == "allowed")
    lost = init(start("LaFeAsO"), EVERYTHING, "start", OPEN)
    lost = replace(lost, x_base=without_as)  # As was in the start and has been lost since
    for leak in (False, True):
        state = walk(lost, predictors, 200, 0.005, revive=leak)
        assert bool(state.x_base[0, INDEX["As"]] > 0.05) is leak


def test_at_most_one_absent_element_enters_a_step(predictors: Predictors) -> None:
    state = init(start("LaFeO"), EVERYTHING, "allowed", OPEN)
    present = 3
    for _ in range(20):
        state = moved(state, predictors, revive=True)
        now = int((state.x_base > 0).sum())
        assert now <= present + 1
        present = now
    assert present > 3


def test_the_limit_comes_from_stage_1_and_the_moments_start_anew(predictors: Predictors) -> None:
    state = walk(init(start("La5Ni4As3O2Cu", "LaNi"), EVERYTHING, "none", OPEN), predictors, 3, 0.001)
    limited, space = limit(state, OPEN, reset=True)
    assert space is OPEN
    assert limited.mask.sum(dim=1).tolist() == [3, 2]
    assert {INDEX["La"], INDEX["Ni"], INDEX["As"]} == set(torch.nonzero(limited.mask[0]).flatten().tolist())
    assert limited.adam_step == 0
    assert not limited.momentum.any()
    assert torch.equal(limited.x_base, state.x_base)
    kept, _ = limit(state, OPEN, reset=False)
    assert kept.adam_step == 3
    assert torch.equal(kept.momentum, state.momentum)
    after = walk(limited, predictors, 30)
    assert (OPEN.compose(after.x_base, after.mask) > 0).sum(dim=1).max() <= 3


def second(**values: object) -> Stage:
    given = {"steps": (3, 4), "learning_rate": 0.1, "learning_rate_schedule": "constant", "revive": "none"}
    return Stage(2, SearchSpec.model_validate({**given, **values}), PLAIN)


def test_learning_rate_and_beta_follow_their_schedules() -> None:
    assert [second().at(number)[0] for number in range(4)] == [0.1] * 4
    cosine = [second(learning_rate_schedule="cosine").at(number)[0] for number in range(4)]
    assert cosine == pytest.approx([0.05 * (1 + np.cos(np.pi * k / 4)) for k in range(4)])
    ramp = second(beta={"start": 10, "end": 40})
    assert [ramp.at(number)[1] for number in range(4)] == [10, 20, 30, 40]
    assert replace(ramp, number=1).at(2)[1] == 0


def test_a_stage_runs_its_steps_or_stops_when_told(predictors: Predictors) -> None:
    seen: list[int] = []

    def on_step(_: Stage, number: int, __: Tensor, terms: Terms) -> bool:
        assert terms.tc_k.shape == (1,)
        seen.append(number)
        return number < limit_at

    limit_at = 99
    state = init(start("LaFeO"), EVERYTHING, "none", OPEN)
    after, complete = run_stage(state, OPEN, predictors, second(), on_step)
    assert (seen, complete, after.adam_step) == ([0, 1, 2, 3], True, 4)
    seen.clear()
    limit_at = 1
    after, complete = run_stage(state, OPEN, predictors, second(), on_step)
    assert (seen, complete, after.adam_step) == ([0, 1], False, 2)


def test_a_step_leaves_its_input_alone_and_works_without_grad_mode(predictors: Predictors) -> None:
    state = init(start("LaFeO"), EVERYTHING, "start", OPEN)
    copy = state.x_base.clone()
    with torch.no_grad():
        after = moved(state, predictors, revive=True)
    assert torch.equal(state.x_base, copy)
    assert not after.x_base.requires_grad
    assert not torch.equal(after.x_base, copy)


def test_a_row_without_a_rate_stays_where_it_is(predictors: Predictors) -> None:
    state = init(start("LaNiAsO", "La2FeAsO"), EVERYTHING, "allowed", OPEN)
    held = replace(state, rate=torch.tensor([0.0, 1.0]))
    after = walk(held, predictors, 5, revive=True)
    assert torch.equal(after.x_base[0], state.x_base[0])
    assert not torch.equal(after.x_base[1], state.x_base[1])
    assert limit(after, OPEN, reset=True)[0].rate.tolist() == [0, 1]


STAGE = replace(second(), number=1)


def statuses(*status: RowStatus) -> Tensor:
    return torch.tensor(status)


def terms(*tc: float) -> Terms:
    values = torch.tensor(tc, dtype=torch.float32)
    return Terms(values, -values, values * torch.nan, values - 1)


def test_it_keeps_the_sample_reports_the_living_and_asks_whether_to_stop() -> None:
    seen: list[Progress] = []
    answers = iter([False, True])
    recorder = Recorder(
        sample=torch.tensor([0, 2]),
        wanted=torch.tensor([True, True, True, False]),
        first=10,
        total=20,
        progress=seen.append,
        should_stop=lambda: next(answers),
    )
    ok, lost = RowStatus.OK, RowStatus.NOT_FINITE
    assert recorder(STAGE, 0, statuses(ok, ok, ok, ok), terms(1, 2, 6, 99)) is True
    assert recorder(STAGE, 1, statuses(ok, ok, lost, ok), terms(1, 4, 6, 99)) is False
    assert seen == [Progress(1, 11, 20, 6.0, 3.0, 2.0), Progress(1, 12, 20, 4.0, 2.5, 1.5)]
    path = recorder.trajectory(np.array([100, 102]), (2, 2))
    assert path.stage.tolist() == [1, 1, 2, 2, 2]
    expected = np.array([[1, 6], [1, np.nan], [np.nan] * 2, [np.nan] * 2, [np.nan] * 2])
    assert np.array_equal(path.tc_k, expected, equal_nan=True)
    assert np.array_equal(path.ef_ev_per_atom, -expected, equal_nan=True)
    assert np.array_equal(path.climbed_k, expected - 1, equal_nan=True)


def test_progress_can_be_asked_for_less_often() -> None:
    seen: list[Progress] = []
    recorder = Recorder(torch.tensor([0]), torch.tensor([True]), 0, 7, seen.append, None, every=3)
    for number in range(7):
        assert recorder(STAGE, number, statuses(RowStatus.OK), terms(number))
    assert [each.step for each in seen] == [3, 6, 7]
    assert len(recorder.terms) == 7


NARROW = OpenSpace(
    const=torch.zeros(N_ELEMENTS, dtype=torch.float64),
    limit=4,
    always=torch.zeros(N_ELEMENTS, dtype=torch.bool),
    totals=torch.arange(1, 20),
    width=4,
)


def stage(number: int, steps: int = 25, revive: str = "allowed") -> Stage:
    objective = Objective(alpha=4, tc_gradient="before_relu", integer_norm="l1" if number == 2 else None)
    objective = replace(
        objective, further=(partial(charge_term, table=charge_table(OxidationSet.ICSD24), weight=30.0),)
    )
    values = {"learning_rate": 0.02, "beta": {"start": 10, "end": 300}, "revive": revive}
    return Stage(number, SearchSpec.model_validate({"steps": (steps, 25), **values}), objective)


def begun(poisoned: Predictors, revive: Literal["none", "allowed"]) -> SearchState:
    """Four rows, of which the second will be NaN."""
    x = torch.as_tensor(parse_fractions(["LaNiAsO", "Au3O7", "BaFe2As2", "La2CuO4"]))
    return init(x, torch.ones(N_ELEMENTS, dtype=torch.bool), revive, NARROW)


def same(one: SearchState, other: SearchState) -> None:
    for field in fields(SearchState):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, Tensor):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
        else:
            assert a == b


def step_by_step(
    state: SearchState, space: OpenSpace, predictors: Predictors, stage: Stage, on_step: OnStep
) -> tuple[SearchState, bool]:
    """A stage as it is written in the paper, without places that are used again."""
    for number in range(stage.steps):
        rate, beta = stage.at(number)
        objective, now = replace(stage.objective, beta=beta), pace(state.adam_step + 1, rate)
        revive = stage.spec.revive != "none"
        after, terms = step(state, space, predictors, objective, now, revive=revive)
        go_on = on_step(stage, number, state.status, terms)
        state = after
        if not go_on:
            return state, False
    return state, True


@pytest.mark.parametrize("revive", ["none", "allowed"])
def test_a_stage_in_fixed_places_ends_where_its_steps_do(
    poisoned: Predictors, revive: Literal["none", "allowed"]
) -> None:
    ends, curves = [], []
    for run in (step_by_step, run_stage):
        curve: list[Terms] = []

        def keep(_: Stage, number: int, status: Tensor, terms: Terms, curve=curve) -> bool:  # type: ignore[no-untyped-def]
            kept = terms.tc_k.clone(), status.clone(), terms.integer_loss.clone(), terms.climbed_k.clone()
            curve.append(Terms(*kept))
            return True

        state, complete = run(begun(poisoned, revive), NARROW, poisoned, stage(1, revive=revive), keep)
        assert complete
        state, _ = limit(state, NARROW, reset=False)
        state, complete = run(state, NARROW, poisoned, stage(2, revive=revive), keep)
        assert complete
        ends.append(state)
        curves.append(curve)
    same(*ends)
    assert ends[0].status.tolist() == [0, RowStatus.NOT_FINITE, 0, 0]
    assert len(curves[0]) == len(curves[1]) == 50
    for one, other in zip(*curves, strict=True):
        torch.testing.assert_close(one.tc_k, other.tc_k, equal_nan=True)
        assert torch.equal(one.ef_ev_per_atom, other.ef_ev_per_atom)
        torch.testing.assert_close(one.integer_loss, other.integer_loss, equal_nan=True)


def test_it_stops_when_told_and_leaves_its_start_alone(predictors: Predictors) -> None:
    start = begun(predictors, "none")
    before = {field.name: getattr(start, field.name) for field in fields(SearchState)}
    copies = {name: value.clone() for name, value in before.items() if isinstance(value, Tensor)}

    def third(_: Stage, number: int, status: Tensor, terms: Terms) -> bool:
        return number < 2

    ended, complete = run_stage(start, NARROW, predictors, stage(1), third)
    assert not complete
    assert ended.adam_step == 3
    same(ended, step_by_step(start, NARROW, predictors, stage(1), third)[0])
    assert all(torch.equal(getattr(start, name), copy) for name, copy in copies.items())


def test_no_steps_change_nothing(predictors: Predictors) -> None:
    start = begun(predictors, "none")
    end, complete = run_stage(start, NARROW, predictors, stage(1, steps=0), lambda *_: False)
    assert complete
    same(start, end)


class Operations(TorchDispatchMode):
    """Notes every operation of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.add(func.overloadpacket._qualified_op_name)
        indices = [i for a in args if isinstance(a, list | tuple) for i in a if isinstance(i, Tensor)]
        if "index" in func.overloadpacket._qualified_op_name and any(i.dtype == torch.bool for i in indices):
            self.names.add("a boolean index")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("preset", ["paper", "open", "default"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_step_neither_waits_for_the_host_nor_copies_from_it(
    preset: str, number: int, substitutions: Substitutions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a CUDA graph can't hold, looked for in the operations of a step."""
    monkeypatch.setattr("kiago_ray.predictors.networks.unpool", unpool_in_order)
    shipped = load_predictors()
    spec = load_preset(preset, {"base": "LaNiAsO", "plausibility_weight": 0, "start.frequencies": "uniform"})
    problem = resolve(spec, shipped.supported.numpy(), substitutions)
    objective = search_stage(problem, number, torch.device("cpu")).objective
    space, state = begin(problem, {}, np.arange(2), 8, torch.device("cpu"))
    steering, revive = in_precision(shipped, "bfloat16"), spec.revive != "none"
    with Operations() as seen:
        step(state, space, steering, objective, pace(1, 0.1), revive=revive)
    assert "aten::mm" in seen.names
    waits = {"aten::lift_fresh", "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select"}
    assert not seen.names & (waits | {"aten::item", "aten::is_nonzero", "a boolean index"})
