"""The two stages of optimisation (section 2.7) as plain functions on an explicit state.

Adam is written out row by row, so that a row can stop while others go on: what happens in one row never reaches
another, and a row's result doesn't depend on which rows it ran with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from kiago_ray.predictors.base import Predictors
from kiago_ray.search.losses import Norm, Objective, Terms, row_losses
from kiago_ray.search.result import QUANTITIES, Cost, Proposals, RowStatus, Score, Singles, Trajectory
from kiago_ray.search.spec import SearchSpec

if TYPE_CHECKING:
    from kiago_ray.search.problem import Problem

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # as torch.optim.Adam

Pace = tuple[float | Tensor, float | Tensor]
"""What differs from step to step: Adam's learning rate and its root of the variance, both corrected for their start at
0 (multiplied and divided by). Numbers, or tensors of no dimension."""


class Space(Protocol):
    """What the rows of a search can reach: maps x_base (rows, p) under masks (rows, p) bool to fractions; p is the
    space's own.

    compose: fractions (rows, 118), each row summing to 1; straight_through: what is absent keeps the gradient that it
    would have on coming back. has_something: (rows,) bool, where there is something to compose. off_grid: L_integer,
    (rows,), how far the composed fractions x lie from a formula's amounts. limited: the space of stage 2 and each
    row's mask in it, by what stage 1 came to. propose: the formula of each row that ended at x_final (rows, 118), with
    what `score` says of that formula. It is chosen by what the search climbs, T_c and E_f (`climbed`) or the whole
    loss (`cost`). Each of these three functions gets all rows, each row in its place.
    """

    def compose(self, x_base: Tensor, mask: Tensor, *, straight_through: bool = False) -> Tensor: ...
    def has_something(self, x_base: Tensor, mask: Tensor) -> Tensor: ...
    def off_grid(self, x_base: Tensor, mask: Tensor, x: Tensor, norm: Norm) -> Tensor: ...
    def limited(self, x_base: Tensor, mask: Tensor) -> tuple[Self, Tensor]: ...
    def propose(
        self, problem: Problem, state: SearchState, x_final: Singles, score: Score, climbed: Score, cost: Cost
    ) -> Proposals: ...


def rectified(x_base: Tensor, mask: Tensor, *, straight_through: bool = False) -> Tensor:
    """ReLU(x_base·M) (eq. 6). straight_through: with the gradient that what is absent would have on coming back."""
    optimised = x_base * mask
    positive = optimised.relu()
    return optimised + (positive - optimised).detach() if straight_through else positive


def largest(values: Tensor, number: int) -> Tensor:
    """(…, n) bool: the `number` largest values above 0 of each row; of equal ones the first."""
    order = torch.argsort(values, dim=-1, descending=True, stable=True)
    chosen = torch.zeros_like(values, dtype=torch.bool)
    chosen.scatter_(-1, order[..., :number], True)
    return chosen & (values > 0)


@dataclass(frozen=True)
class SearchState:
    """Where the rows of a search are. All but `adam_step` have one entry a row.

    x_base: (rows, p), p being the space's: 118 where it is open. last_finite: (rows, p) the last x_base whose loss was
    finite. mask: (rows, p) bool, M. momentum, variance: (rows, p) Adam's moments. rate: (rows,) factor on the learning
    rate, 0 for a row that stays where it is. recoveries: (rows,) steps that were taken back because they left nothing.
    status: (rows,) RowStatus. adam_step: steps since the moments were 0.
    """

    x_base: Tensor
    last_finite: Tensor
    mask: Tensor
    momentum: Tensor
    variance: Tensor
    rate: Tensor
    recoveries: Tensor
    status: Tensor
    adam_step: int


@dataclass(frozen=True)
class Stage:
    """Stage 1 or 2 of a search, with its objective but for β, which changes over the steps."""

    number: int
    spec: SearchSpec
    objective: Objective

    @property
    def steps(self) -> int:
        return self.spec.steps[self.number - 1]

    def at(self, step: int) -> tuple[float, float]:
        """Learning rate and β in step `step` (from 0)."""
        falls = self.spec.learning_rate_schedule == "cosine"
        factor = 0.5 * (1 + math.cos(math.pi * step / self.steps)) if falls else 1.0
        beta = self.spec.beta.at(step, self.steps) if self.number == 2 else 0.0
        return factor * self.spec.learning_rate[self.number - 1], beta


def init(
    x_start: Tensor, allowed: Tensor, revive: Literal["none", "start", "allowed"], space: Space
) -> SearchState:
    """The state before stage 1: x_start (rows, p), allowed (p,) or (rows, p) bool (M_elem). With revive "start" a
    row's mask is the elements that it starts with. A row that starts with nothing has the status NOTHING_ALLOWED and
    carries an even mixture, so that the predictors see a composition.
    """
    empty = ~space.has_something(x_start, allowed)
    mask = allowed & (x_start > 0) if revive == "start" else allowed.expand(x_start.shape)
    x_base = torch.where(empty[:, None], allowed.to(x_start), x_start)
    mask, zero = torch.where(empty[:, None], allowed, mask), torch.zeros_like(x_base)
    rate, recoveries = torch.ones_like(x_base[:, 0]), torch.zeros_like(empty, dtype=torch.int64)
    status = torch.where(empty, int(RowStatus.NOTHING_ALLOWED), int(RowStatus.OK))
    return SearchState(x_base, x_base, mask, zero, zero, rate, recoveries, status, adam_step=0)


def losses(
    x_base: Tensor,
    mask: Tensor,
    space: Space,
    predictors: Predictors,
    objective: Objective,
    *,
    straight_through: bool = False,
) -> tuple[Tensor, Terms]:
    """The loss of each row of x_base (rows, p), (rows,) in K, and its terms."""
    x = space.compose(x_base, mask, straight_through=straight_through)
    norm = objective.integer_norm
    off_grid = None if norm is None else partial(space.off_grid, x_base, mask, x, norm)
    return row_losses(x, predictors, objective, off_grid)


def pace(count: int, learning_rate: float) -> Pace:
    """The pace of step `count` (from 1) since the moments were 0."""
    return learning_rate / (1 - BETA_1**count), math.sqrt(1 - BETA_2**count)


def step(
    state: SearchState,
    space: Space,
    predictors: Predictors,
    objective: Objective,
    pace: Pace,
    *,
    revive: bool = False,
) -> tuple[SearchState, Terms]:
    """One step of Adam for every row whose status is OK, all of it on the device: nothing waits for the host. Returns
    the new state and the terms before the step.

    A row whose loss or gradient isn't finite goes back to its last finite x_base and stops, NOT_FINITE. A row that the
    step would leave with nothing stays where it is and goes on at half its rate.
    """
    with torch.enable_grad():
        leaf = state.x_base.detach().requires_grad_()
        loss, terms = losses(leaf, state.mask, space, predictors, objective, straight_through=revive)
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    finite = torch.isfinite(loss.detach()) & torch.isfinite(gradient).all(dim=1)
    moving = (state.status == RowStatus.OK) & finite
    if revive:
        gradient = _newcomers(gradient, state.x_base, state.mask)

    momentum = BETA_1 * state.momentum + (1 - BETA_1) * gradient
    variance = BETA_2 * state.variance + (1 - BETA_2) * gradient.square()
    rate, root = pace
    scale = (variance.sqrt() / root) + EPSILON
    change = momentum / scale * rate * state.rate[:, None]
    x_base = state.x_base - change
    if revive:
        x_base = x_base.clamp(min=0)  # an absent element waits at 0, ready to come back

    left = space.has_something(x_base, state.mask)
    lost = (state.status == RowStatus.OK) & ~finite
    taken_back = moving & ~left
    held = torch.where(lost[:, None], state.last_finite, state.x_base)
    after = SearchState(
        x_base=torch.where((moving & left)[:, None], x_base, held),
        last_finite=torch.where(moving[:, None], state.x_base, state.last_finite),
        mask=state.mask,
        momentum=torch.where(moving[:, None], momentum, state.momentum),
        variance=torch.where(moving[:, None], variance, state.variance),
        rate=torch.where(taken_back, state.rate / 2, state.rate),
        recoveries=state.recoveries + taken_back,
        status=torch.where(lost, int(RowStatus.NOT_FINITE), state.status),
        adam_step=state.adam_step + 1,
    )
    return after, terms


def _newcomers(gradient: Tensor, x_base: Tensor, mask: Tensor) -> Tensor:
    """The gradient (rows, p) without absent elements, but for the one in each row that gains most: Adam takes steps of
    one size however small a gradient is, so else every absent element with a favourable one would come in at once.
    """
    absent = mask & (x_base <= 0)
    gain = torch.where(absent, -gradient, 0)
    best = gain.argmax(dim=1, keepdim=True)
    kept = ~absent
    kept = kept.scatter(1, best, kept.gather(1, best) | (gain.gather(1, best) > 0))
    return torch.where(kept, gradient, 0)


def limit(state: SearchState, space: Space, *, reset: bool) -> tuple[SearchState, Space]:
    """The state before stage 2 and the space from there on: masks hold what the space lets stay (M_max, eq. 8).

    reset: Adam's moments start anew. Rows that had to recover get their whole learning rate back.
    """
    space, mask = space.limited(state.x_base, state.mask)
    rate = (state.rate > 0).to(state.rate)
    state = replace(state, mask=mask, last_finite=state.x_base, rate=rate)
    if not reset:
        return state, space
    zero = torch.zeros_like(state.x_base)
    return replace(state, momentum=zero, variance=zero, adam_step=0), space


OnStep = Callable[[Stage, int, Tensor, Terms], bool]
"""Called after each step with its stage, its number, each row's status before it (rows,) and its terms; False ends the
stage. The next step may overwrite the terms."""


def run_stage(
    state: SearchState,
    space: Space,
    predictors: Predictors,
    stage: Stage,
    on_step: OnStep,
    *,
    capture: bool = False,
) -> tuple[SearchState, bool]:
    """All steps of one stage: argmin L over x_base (eq. 2; in stage 1 eq. 14, in stage 2 eq. 17). Returns the state
    and whether the stage ran to its end.

    capture: on a GPU, a step is captured once as a CUDA graph and replayed, so that it costs one launch. The first
    step runs as it is, which lets the libraries choose their kernels before the capture. For that the state and what
    changes from step to step stay in fixed places on the device.
    """
    device, dtype = state.x_base.device, state.x_base.dtype
    plan = [stage.at(number) for number in range(stage.steps)]
    paces = [(*pace(state.adam_step + 1 + at, rate), beta) for at, (rate, beta) in enumerate(plan)]
    table = torch.tensor(paces, dtype=dtype, device=device).reshape(-1, 3)
    now = torch.zeros(3, dtype=dtype, device=device)
    places = {name: value.clone() for name, value in vars(state).items() if isinstance(value, Tensor)}
    inside = replace(state, **places)  # type: ignore[arg-type]
    objective = replace(stage.objective, beta=now[2])

    def body() -> Terms:
        revive = stage.spec.revive != "none"
        after, terms = step(inside, space, predictors, objective, (now[0], now[1]), revive=revive)
        for name, place in places.items():
            place.copy_(getattr(after, name))
        return terms

    graph: torch.cuda.CUDAGraph | None = None
    # Streams and captures are those of the current device, which isn't always the state's.
    with torch.cuda.device(device) if capture else nullcontext():
        for number in range(stage.steps):
            now.copy_(table[number])
            status = inside.status.clone()
            if capture and number == 1:
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, stream=torch.cuda.Stream()):  # type: ignore[no-untyped-call]
                    terms = body()
            if graph is not None:
                graph.replay()
            else:
                terms = body()
            if not on_step(stage, number, status, terms):
                return replace(inside, adam_step=state.adam_step + number + 1), False
    return replace(inside, adam_step=state.adam_step + stage.steps), True


def finish(
    state: SearchState, space: Space, predictors: Predictors, objective: Objective
) -> tuple[SearchState, Terms]:
    """The terms after the last step; rows that aren't finite there go back to where they last were."""
    with torch.no_grad():
        _, terms = losses(state.x_base, state.mask, space, predictors, objective)
    finite = terms.tc_k.isfinite()
    if objective.alpha:
        finite = finite & terms.ef_ev_per_atom.isfinite()
    lost = (state.status == RowStatus.OK) & ~finite
    if not lost.any():
        return state, terms
    x_base = torch.where(lost[:, None], state.last_finite, state.x_base)
    status = torch.where(lost, int(RowStatus.NOT_FINITE), state.status)
    return finish(replace(state, x_base=x_base, status=status), space, predictors, objective)


@dataclass(frozen=True)
class Progress:
    """Step `step` of `total`, counted over all shards; T_c in K of the living rows of this shard, and the mean of what
    they climb where that is another quantity, a lower bound of T_c, else None.
    """

    stage: int
    step: int
    total: int
    best_tc_k: float
    mean_tc_k: float
    mean_climbed_k: float | None = None


ProgressCallback = Callable[[Progress], None]
ShouldStop = Callable[[], bool]


@dataclass
class Recorder:
    """Collects the terms of every step of one shard, on the device, and passes on progress and requests to stop.

    sample: (k,) positions in the shard whose terms are kept. wanted: (rows,) bool, False for padding. first, total:
    steps done before this shard, and of all shards. every: steps between two calls of `progress`; each call waits for
    the device.
    """

    sample: Tensor
    wanted: Tensor
    first: int
    total: int
    progress: ProgressCallback | None
    should_stop: ShouldStop | None
    every: int = 1
    steps_done: int = 0
    terms: list[Tensor] = field(default_factory=list)

    def __call__(self, stage: Stage, number: int, status: Tensor, terms: Terms) -> bool:
        """Keep one step's terms; False if the search shall stop."""
        self.keep(status, terms)
        self.steps_done += 1
        last = self.first + self.steps_done == self.total
        if self.progress is not None and (last or self.steps_done % self.every == 0):
            living = self.wanted & (status == RowStatus.OK) & terms.tc_k.isfinite()
            tc_k, climbed_k = terms.tc_k[living], terms.climbed_k[living]
            best, mean = (float(tc_k.max()), float(tc_k.mean())) if len(tc_k) else (float("nan"),) * 2
            bound = float(climbed_k.mean()) if climbed_k.isfinite().any() else None
            self.progress(Progress(stage.number, self.first + self.steps_done, self.total, best, mean, bound))
        return self.should_stop is None or not self.should_stop()

    def keep(self, status: Tensor, terms: Terms) -> None:
        """Add the sampled rows' terms, (4, k), NaN for rows that have stopped."""
        table = torch.stack([getattr(terms, name) for name in QUANTITIES])
        living = (status == RowStatus.OK).expand_as(table)
        self.terms.append(torch.where(living, table, torch.nan)[:, self.sample])

    def trajectory(self, rows: np.ndarray, steps: tuple[int, int]) -> Trajectory:
        """What was kept, for the sample's row numbers (k,); steps that weren't reached are NaN."""
        table = np.full((sum(steps) + 1, len(QUANTITIES), len(rows)), np.nan, dtype=np.float32)
        table[: len(self.terms)] = torch.stack(self.terms).cpu().numpy()
        stage = np.where(np.arange(len(table)) < steps[0], 1, 2)
        return Trajectory(rows, stage, *table.swapaxes(0, 1))
