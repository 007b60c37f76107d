"""One search from its specification to scored formulas: start, stage 1, stage 2, projection (section 2.7).

Rows run in shards of one size, padded where rows are missing, and row r always stands at place r mod size: so
a row's result is the same, bit for bit on one kind of machine with one number of threads, whichever other rows run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kiago_ray.predictors.ensemble import with_lower_bound
from kiago_ray.predictors.inference import capturable, in_precision, step_precision
from kiago_ray.search.cuda_graph import run_captured
from kiago_ray.search.errors import SpecError
from kiago_ray.search.family import Substitutions
from kiago_ray.search.family_formulas import project_family_rows
from kiago_ray.search.family_rows import FamilySpace, begin_family
from kiago_ray.search.losses import Objective, Terms, further_terms, row_losses
from kiago_ray.search.problem import Problem, resolve
from kiago_ray.search.projection import Proposals, project_rows
from kiago_ray.search.result import RowStatus, SearchResult, join
from kiago_ray.search.space import Space
from kiago_ray.search.spec import SearchSpec
from kiago_ray.search.stages import (
    ProgressCallback,
    Recorder,
    SearchState,
    ShouldStop,
    StageSettings,
    limit,
    losses,
    run_stage,
)
from kiago_ray.search.start import Begun, begin_open

if TYPE_CHECKING:
    from kiago_ray.predictors.base import Predictors

Floats = NDArray[np.float64]

SHARD_ROWS = 512  # rows that run together
DEVICE_SHARD_ROWS = 16_384  # on a GPU, which fewer don't fill
PHASES = ("start", "stage_1", "stage_2", "projection")
TRAJECTORY_ROWS = 1024  # rows of which every step is kept
_DEVICE_PROGRESS = 20  # steps between two looks at a GPU's progress, which wait for it


def run_search(
    spec: SearchSpec,
    predictors: Predictors,
    frequencies: Mapping[str, Floats],
    *,
    rows: range | None = None,
    shard_rows: int | None = None,
    trajectory_rows: int = TRAJECTORY_ROWS,
    device: str | torch.device = "cpu",
    progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
    substitutions: Substitutions | None = None,
) -> SearchResult:
    """Run a search, or those of its rows named by `rows` (as `range(start, stop)`).

    frequencies: element counts by data set, (118,) each (see start.drawing_weights). shard_rows: rows that run
    together, by default 512 on a CPU and 16,384 on a GPU; it moves results by rounding errors, so compare results of
    one value. trajectory_rows: of how many rows each step is kept. `progress` is called after each step; `should_stop`
    is asked after each step, and a search that stops returns what it has (see SearchResult). Everything runs on
    `device`, where the predictors are, and in float32, but for the predictors that the steps follow
    (`spec.precision`). substitutions: what takes the place of what, which a search needs that keeps its base's sites.

    Raises SpecError where the specification doesn't fit the predictors or the data, ValueError for rows that
    the search doesn't have.
    """
    began, device = time.perf_counter(), torch.device(device)
    rows = range(spec.row_count) if rows is None else rows
    if not rows or rows.step != 1 or rows.start < 0 or rows.stop > spec.row_count:
        raise ValueError(f"rows: {rows} is not a range of the {spec.row_count} rows of this search")
    if shard_rows is None:
        shard_rows = SHARD_ROWS if device.type == "cpu" else DEVICE_SHARD_ROWS
    if shard_rows < 1:
        raise ValueError(f"shard_rows: {shard_rows} rows can't run; give at least 1")
    predictors = predictors.following(spec.tc_predictor)
    problem = resolve(spec, _supported(spec, predictors), substitutions)
    size = shard_size(spec.row_count, shard_rows)
    bound = with_lower_bound(predictors, spec.kappa, spec.extrapolation_weight)
    steering = in_precision(bound, step_precision(spec.precision, device))
    shards = range(rows.start // size, (rows.stop - 1) // size + 1)
    parts: list[SearchResult] = []
    for number, shard in enumerate(shards):
        if parts and should_stop is not None and should_stop():
            parts[-1] = replace(parts[-1], stopped_at_step=sum(spec.steps))
            break
        setup = _Shard(
            problem=problem,
            predictors=predictors,
            bound=bound,
            steering=steering,
            device=device,
            size=size,
            rows=np.arange(max(rows.start, shard * size), min(rows.stop, (shard + 1) * size)),
            sample_rows=max(trajectory_rows - sum(len(part.rows) for part in parts), 0),
            steps_before=number * sum(spec.steps),
            steps_total=len(shards) * sum(spec.steps),
        )
        parts.append(_run_shard(setup, frequencies, progress, should_stop))
        if parts[-1].stopped_at_step is not None:
            break
    return join(parts, time.perf_counter() - began)


def _supported(spec: SearchSpec, predictors: Predictors) -> NDArray[np.bool_]:
    """(118,) the elements that every predictor knows which the search asks."""
    supported: NDArray[np.bool_] = predictors.supported.cpu().numpy()
    if not spec.plausibility_weight:
        return supported
    if predictors.plausibility is None:
        raise SpecError(
            f"plausibility_weight: {spec.plausibility_weight:g}, but these predictors have no plausibility; set the "
            "weight to 0"
        )
    plausible: NDArray[np.bool_] = predictors.plausibility.supported.cpu().numpy()
    return supported & plausible


def shard_size(row_count: int, shard_rows: int) -> int:
    """Rows of a shard: `shard_rows` or, for a smaller search, its rows rounded up to a multiple of 8."""
    return min(shard_rows, -(-row_count // 8) * 8)


@dataclass(frozen=True)
class _Shard:
    """One shard: its place among the rows, and what it shares with the others. The steps follow `steering`, which is
    `bound` in their precision; formulas are chosen by `bound`, and what is reported of them is of `predictors`.
    """

    problem: Problem
    predictors: Predictors
    bound: Predictors
    steering: Predictors
    device: torch.device
    size: int
    rows: NDArray[np.int64]
    sample_rows: int
    steps_before: int
    steps_total: int

    @property
    def places(self) -> NDArray[np.int64]:
        return self.rows % self.size

    def tensor(self, values: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.as_tensor(values, dtype=dtype, device=self.device)

    def score(self, fractions: np.ndarray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """T_c in K, 0 or more, and E_f in eV/atom of fractions (size, 118)."""
        tc, ef = self._values(self.predictors, fractions)
        return np.maximum(tc, 0), ef

    def climbed(self, fractions: np.ndarray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """T_c and E_f as the search climbs them: the lower bound where it asks for one, before the ReLU as it does."""
        tc, ef = self._values(self.bound, fractions)
        return tc if self.problem.spec.tc_gradient == "before_relu" else np.maximum(tc, 0), ef

    def cost(self, objective: Objective, fractions: np.ndarray) -> Floats:
        """What stage 1 climbs down, by `bound`: (size,) in K of fractions (size, 118)."""
        with torch.no_grad():
            loss, _ = row_losses(self.tensor(fractions), self.bound, objective)
        return loss.double().cpu().numpy()

    def _values(
        self, predictors: Predictors, fractions: np.ndarray
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        x = self.tensor(fractions)
        with torch.no_grad():
            return predictors.tc(x).cpu().numpy(), predictors.ef(x).cpu().numpy()


def begin(
    problem: Problem,
    frequencies: Mapping[str, Floats],
    rows: NDArray[np.int64],
    places: NDArray[np.int64],
    size: int,
    device: torch.device,
) -> Begun:
    """The rows of a search at their places (n,) in a shard of `size`; the other places are padding."""
    if problem.family is not None:
        return begin_family(problem, rows.tolist(), places, size, device)
    return begin_open(problem, frequencies, rows.tolist(), places, size, device)


def stage_settings(problem: Problem, number: int, device: torch.device) -> StageSettings:
    """Stage 1 (eq. 13) or stage 2 (eq. 16) as the specification has it, with the further terms in both."""
    spec = problem.spec
    return StageSettings(
        number=number,
        steps=spec.steps[number - 1],
        objective=Objective(
            alpha=spec.alpha,
            tc_gradient=spec.tc_gradient,
            integer_norm=spec.integer_norm if number == 2 else None,
            further=further_terms(problem, device),
        ),
        learning_rate=spec.learning_rate[number - 1],
        schedule=spec.learning_rate_schedule,
        revive=spec.revive != "none",
        beta=spec.beta if number == 2 else None,
    )


def _run_shard(
    shard: _Shard,
    frequencies: Mapping[str, Floats],
    progress: ProgressCallback | None,
    should_stop: ShouldStop | None,
) -> SearchResult:
    marks = [time.perf_counter()]
    problem, spec = shard.problem, shard.problem.spec
    begun = begin(problem, frequencies, shard.rows, shard.places, shard.size, shard.device)
    space, state = begun.space, begun.state
    wanted = np.isin(np.arange(shard.size), shard.places)
    start = space.compose(state.x_base, state.mask)
    recorder = Recorder(
        sample=shard.tensor(shard.places[: shard.sample_rows], torch.int64),
        wanted=shard.tensor(wanted, torch.bool),
        first=shard.steps_before,
        total=shard.steps_total,
        progress=progress,
        should_stop=should_stop,
        every=1 if shard.device.type == "cpu" else _DEVICE_PROGRESS,
    )
    run = run_captured if shard.device.type == "cuda" and capturable(shard.steering) else run_stage
    marks.append(time.perf_counter())
    first, second = (stage_settings(problem, number, shard.device) for number in (1, 2))
    state, complete = run(state, space, shard.steering, first, recorder)
    tc_stage1, ef_stage1 = shard.score(space.compose(state.x_base, state.mask).cpu().numpy())
    marks.append(time.perf_counter())
    state, space = limit(state, space, reset=spec.reset_optimizer_between_stages)
    if complete:
        state, complete = run(state, space, shard.steering, second, recorder)
    state, terms = _finish(state, space, shard.predictors, second.objective)
    recorder.keep(state.status, terms)

    x_final = space.compose(state.x_base, state.mask).cpu().numpy()
    marks.append(time.perf_counter())
    proposals = _proposals(shard, begun, space, state, x_final, first.objective)
    marks.append(time.perf_counter())
    never = proposals.status == RowStatus.NOTHING_ALLOWED
    everything = {
        **vars(proposals),
        "recoveries": state.recoveries.cpu().numpy(),
        "start": np.where(never[:, None], 0, start.cpu().numpy()),
        "x_final": np.where(never[:, None], 0, x_final),
        "tc_stage1_k": np.where(never, np.float32(np.nan), tc_stage1),
        "ef_stage1_ev_per_atom": np.where(never, np.float32(np.nan), ef_stage1),
        "tc_relaxed_k": np.where(never, np.float32(np.nan), terms.tc_k.cpu().numpy()),
        "ef_relaxed_ev_per_atom": np.where(never, np.float32(np.nan), terms.ef_ev_per_atom.cpu().numpy()),
        "source": None if begun.family is None else begun.family.source,
    }
    return SearchResult(
        rows=shard.rows,
        **{name: values[shard.places] for name, values in everything.items() if values is not None},
        trajectory=recorder.trajectory(shard.rows[: shard.sample_rows], spec.steps),
        wall_s=marks[-1] - marks[0],
        seconds=dict(zip(PHASES, np.diff(marks).tolist(), strict=True)),
        stopped_at_step=None if complete else recorder.steps_done,
    )


def _proposals(
    shard: _Shard,
    begun: Begun,
    space: Space,
    state: SearchState,
    x_final: NDArray[np.float32],
    objective: Objective,
) -> Proposals:
    """The formula of each place; a family's is chosen by stage 1's objective."""
    if begun.family is not None:
        assert isinstance(space, FamilySpace)
        projection, cost = shard.problem.spec.projection, partial(shard.cost, objective)
        return project_family_rows(begun.family, space, state, x_final, projection, shard.score, cost)
    return project_rows(shard.problem, x_final, state.status.cpu().numpy(), shard.score, shard.climbed)


def _finish(
    state: SearchState, space: Space, predictors: Predictors, objective: Objective
) -> tuple[SearchState, Terms]:
    """The terms after the last step; rows that aren't finite there go back to where they last were."""
    with torch.no_grad():
        _, terms = losses(state.x_base, state.mask, space, predictors, objective)
        lost = (state.status == RowStatus.OK) & ~(terms.tc_k.isfinite() & terms.ef_ev_per_atom.isfinite())
        if lost.any():
            state = replace(
                state,
                x_base=torch.where(lost[:, None], state.last_finite, state.x_base),
                status=torch.where(lost, int(RowStatus.NOT_FINITE), state.status),
            )
            _, terms = losses(state.x_base, state.mask, space, predictors, objective)
    return state, terms
