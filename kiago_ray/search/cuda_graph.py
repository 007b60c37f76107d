"""A stage on a GPU: one step as a CUDA graph, everything it needs in fixed places on the device."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kiago_ray.search.losses import Terms
from kiago_ray.search.space import Space
from kiago_ray.search.stages import OnStep, Pace, SearchState, StageSettings, move, pace

if TYPE_CHECKING:
    from kiago_ray.predictors.base import Predictors


def run_captured(
    state: SearchState, space: Space, predictors: Predictors, settings: StageSettings, on_step: OnStep
) -> tuple[SearchState, bool]:
    """As `run_stage`, for a GPU: a step is captured once as a CUDA graph and replayed, so that it costs one launch.

    The first step of a stage runs as it is, which lets the libraries choose their kernels before the capture. On a
    CPU the same buffers and the same body run without a graph.
    """
    # Streams and captures are those of the current device, which isn't always the state's.
    with torch.cuda.device(state.x_base.device) if state.x_base.is_cuda else nullcontext():
        return _run(state, space, predictors, settings, on_step)


def _run(
    state: SearchState, space: Space, predictors: Predictors, settings: StageSettings, on_step: OnStep
) -> tuple[SearchState, bool]:
    held = {name: value.clone() for name, value in vars(state).items() if isinstance(value, Tensor)}
    device = state.x_base.device
    counts = range(state.adam_step + 1, state.adam_step + 1 + settings.steps)
    plan = [settings.at(number) for number in range(settings.steps)]
    paces = [
        (*pace(count, rate), objective.beta) for count, (rate, objective) in zip(counts, plan, strict=True)
    ]
    table = torch.tensor(paces, dtype=state.x_base.dtype, device=device).reshape(-1, 3)
    now = torch.zeros(3, dtype=state.x_base.dtype, device=device)
    inside = replace(state, **held)  # type: ignore[arg-type]
    objective = replace(settings.objective, beta=now[2])

    def body() -> Terms:
        after, terms = move(
            inside, space, predictors, objective, Pace(now[0], now[1]), revive=settings.revive
        )
        for name, buffer in held.items():
            buffer.copy_(getattr(after, name))
        return terms

    graph: torch.cuda.CUDAGraph | None = None
    for number in range(settings.steps):
        now.copy_(table[number])
        status = inside.status.clone()
        if graph is not None:
            graph.replay()
        elif number == 0 or not state.x_base.is_cuda:
            terms = body()
        else:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=torch.cuda.Stream()):  # type: ignore[no-untyped-call]
                terms = body()
            graph.replay()
        if not on_step(settings, number, status, terms):
            return replace(inside, adam_step=counts[number]), False
    return replace(inside, adam_step=state.adam_step + settings.steps), True
