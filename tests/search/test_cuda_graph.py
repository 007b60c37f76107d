"""The stage that a GPU replays as a graph, its buffers and its body run on the CPU, against the ordinary one."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.predictors import load_predictors
from kiago_ray.predictors.base import Predictors
from kiago_ray.predictors.inference import in_precision
from kiago_ray.predictors.resnet18 import unpool_in_order
from kiago_ray.search import load_preset
from kiago_ray.search.cuda_graph import run_captured
from kiago_ray.search.family import Substitutions
from kiago_ray.search.losses import ChargeTerm, Objective, Terms, charge_table
from kiago_ray.search.problem import resolve
from kiago_ray.search.result import RowStatus
from kiago_ray.search.run import begin, stage_settings
from kiago_ray.search.sections import RampSpec
from kiago_ray.search.space import OpenSpace
from kiago_ray.search.stages import SearchState, StageSettings, init, limit, move, pace, run_stage

OPEN = OpenSpace(
    const=torch.zeros(N_ELEMENTS, dtype=torch.float64),
    limit=4,
    always=torch.zeros(N_ELEMENTS, dtype=torch.bool),
    totals=torch.arange(1, 20),
    width=4,
)


def stage(number: int, steps: int = 25, revive: bool = True) -> StageSettings:
    objective = Objective(alpha=4, tc_gradient="before_relu", integer_norm="l1" if number == 2 else None)
    objective = replace(objective, further=(ChargeTerm(charge_table(OxidationSet.ICSD24), 30.0),))
    ramp = RampSpec(start=10, end=300) if number == 2 else None
    return StageSettings(number, steps, objective, 0.02, "cosine", revive, ramp)


def begun(poisoned: Predictors, revive: Literal["none", "allowed"]) -> SearchState:
    """Four rows, of which the second will be NaN."""
    x = torch.as_tensor(parse_fractions(["LaNiAsO", "Au3O7", "BaFe2As2", "La2CuO4"]))
    return init(x, torch.ones(N_ELEMENTS, dtype=torch.bool), revive, OPEN)


def same(one: SearchState, other: SearchState) -> None:
    for field in fields(SearchState):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, Tensor):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
        else:
            assert a == b


@pytest.mark.parametrize("revive", ["none", "allowed"])
def test_both_stages_end_where_the_ordinary_ones_do(
    poisoned: Predictors, revive: Literal["none", "allowed"]
) -> None:
    ends, curves = [], []
    for run in (run_stage, run_captured):
        curve: list[Terms] = []

        def keep(settings: StageSettings, number: int, status: Tensor, terms: Terms, curve=curve) -> bool:  # type: ignore[no-untyped-def]
            curve.append(
                Terms(
                    terms.tc_k.clone(),
                    status.clone(),
                    terms.integer_loss.clone(),
                    {name: value.clone() for name, value in terms.further.items()},
                )
            )
            return True

        state, complete = run(
            begun(poisoned, revive), OPEN, poisoned, stage(1, revive=revive != "none"), keep
        )
        assert complete
        state, _ = limit(state, OPEN, reset=False)
        state, complete = run(state, OPEN, poisoned, stage(2, revive=revive != "none"), keep)
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
        torch.testing.assert_close(dict(one.further), dict(other.further), equal_nan=True)


def test_it_stops_when_told_and_leaves_its_start_alone(predictors: Predictors) -> None:
    start = begun(predictors, "none")
    before = {field.name: getattr(start, field.name) for field in fields(SearchState)}
    copies = {name: value.clone() for name, value in before.items() if isinstance(value, Tensor)}

    def third(settings: StageSettings, number: int, status: Tensor, terms: Terms) -> bool:
        return number < 2

    captured, complete = run_captured(start, OPEN, predictors, stage(1), third)
    ordinary, _ = run_stage(start, OPEN, predictors, stage(1), third)
    assert not complete
    assert captured.adam_step == 3
    same(captured, ordinary)
    assert all(torch.equal(getattr(start, name), copy) for name, copy in copies.items())


def test_no_steps_change_nothing(predictors: Predictors) -> None:
    start = begun(predictors, "none")
    end, complete = run_captured(start, OPEN, predictors, stage(1, steps=0), lambda *_: False)
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
    monkeypatch.setattr("kiago_ray.predictors.resnet18.unpool", unpool_in_order)
    shipped = load_predictors()
    spec = load_preset(preset, {"base": "LaNiAsO", "plausibility_weight": 0, "start.frequencies": "uniform"})
    problem = resolve(spec, shipped.supported.numpy(), substitutions)
    settings = stage_settings(problem, number, torch.device("cpu"))
    begun = begin(problem, {}, np.arange(2), np.arange(2), 8, torch.device("cpu"))
    steering = in_precision(shipped, "bfloat16")
    with Operations() as seen:
        move(begun.state, begun.space, steering, settings.at(0)[1], pace(1, 0.1), revive=settings.revive)
    assert "aten::mm" in seen.names
    waits = {"aten::lift_fresh", "aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select"}
    assert not seen.names & (waits | {"aten::item", "aten::is_nonzero", "a boolean index"})
