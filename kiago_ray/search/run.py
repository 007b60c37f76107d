"""One search from its specification to scored formulas: start, stage 1, stage 2, projection (section 2.7).

Rows run in shards of one size, padded where rows are missing, and row r always stands at place r mod size: so a row's
result is the same, bit for bit on one kind of machine with one number of threads, whichever other rows run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from kiago_ray.chemistry.elements import Floats, Ints, Mask
from kiago_ray.chemistry.formula import checked_amounts
from kiago_ray.predictors.base import Predictors, capturable, in_precision, predict, step_precision
from kiago_ray.predictors.ensemble import with_lower_bound
from kiago_ray.search.losses import Objective, further_terms, row_losses
from kiago_ray.search.problem import Problem, Substitutions, resolve
from kiago_ray.search.result import RowStatus, SearchResult, Singles, Trajectory, join, scored
from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import SearchSpec
from kiago_ray.search.stages import (
    ProgressCallback,
    Recorder,
    SearchState,
    ShouldStop,
    Space,
    Stage,
    finish,
    limit,
    run_stage,
)

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
    progress: ProgressCallback | None = None,
    should_stop: ShouldStop | None = None,
    substitutions: Substitutions | None = None,
) -> SearchResult:
    """Run a search, or those of its rows named by `rows` (as `range(start, stop)`).

    frequencies: element counts by data set, (118,) each (see open_rows.drawing_weights). shard_rows: rows that run
    together, by default 512 on a CPU and 16,384 on a GPU; compare results of one value, as it moves them by rounding
    errors. trajectory_rows: of how many rows each step is kept. `progress` is called and `should_stop` asked after
    each step; a search that stops returns what it has (see SearchResult). substitutions: which elements replace one
    another, for a search that keeps its base's sites. Everything runs where the predictors are, in float32, but for
    the predictors that the steps follow (`spec.precision`). Raises SpecError where the specification doesn't fit the
    predictors or the data, ValueError for rows that aren't there.
    """
    began = time.perf_counter()
    rows = range(spec.row_count) if rows is None else rows
    if not rows or rows.step != 1 or rows.start < 0 or rows.stop > spec.row_count:
        raise ValueError(f"rows: {rows} is not a range of the {spec.row_count} rows of this search")
    predictors = predictors.following(spec.tc_predictor, spec.ef_predictor)
    on_cpu = predictors.supported.device.type == "cpu"
    shard_rows = (SHARD_ROWS if on_cpu else DEVICE_SHARD_ROWS) if shard_rows is None else shard_rows
    if shard_rows < 1:
        raise ValueError(f"shard_rows: {shard_rows} rows can't run; give at least 1")
    problem = resolve(spec, _supported(spec, predictors), substitutions)
    size, steps = shard_size(spec.row_count, shard_rows), sum(spec.steps)
    search = _Search(problem, frequencies, predictors, size)
    shards = range(rows.start // size, (rows.stop - 1) // size + 1)
    parts: list[SearchResult] = []
    for number, shard in enumerate(shards):
        if parts and should_stop is not None and should_stop():
            parts[-1] = replace(parts[-1], stopped_at_step=steps)
            break
        here = np.arange(max(rows.start, shard * size), min(rows.stop, (shard + 1) * size))
        sample_rows = max(trajectory_rows - sum(len(part.rows) for part in parts), 0)
        recorder = Recorder(
            sample=search.tensor(here[:sample_rows] % size, torch.int64),
            wanted=search.tensor(np.isin(np.arange(size), here % size), torch.bool),
            first=number * steps,
            total=len(shards) * steps,
            progress=progress,
            should_stop=should_stop,
            every=1 if on_cpu else _DEVICE_PROGRESS,
        )
        parts.append(_run_shard(search, here, recorder))
        if parts[-1].stopped_at_step is not None:
            break
    return join(parts, time.perf_counter() - began)


def shard_size(row_count: int, shard_rows: int) -> int:
    """Rows of a shard: `shard_rows` or, for a smaller search, its rows rounded up to a multiple of 8."""
    return min(shard_rows, -(-row_count // 8) * 8)


@dataclass(frozen=True)
class _Search:
    """What the shards of a search share, `size` rows each. The steps follow `steering`, which is `bound` in their
    precision; formulas are chosen by `bound`, and what is reported of them is of `predictors`.
    """

    problem: Problem
    frequencies: Mapping[str, Floats]
    predictors: Predictors
    size: int

    @property
    def device(self) -> torch.device:
        return self.predictors.supported.device

    @cached_property
    def bound(self) -> Predictors:
        spec = self.problem.spec
        return with_lower_bound(self.predictors, spec.kappa, spec.extrapolation_weight)

    @cached_property
    def steering(self) -> Predictors:
        return in_precision(self.bound, step_precision(self.problem.spec.precision, self.device))

    def tensor(self, values: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.as_tensor(values, dtype=dtype, device=self.device)

    def cost(self, objective: Objective, fractions: Floats) -> Floats:
        """What stage 1 climbs down, by `bound`: (size,) in K of fractions (size, 118)."""
        with torch.no_grad():
            loss, _ = row_losses(self.tensor(fractions), self.bound, objective)
        return loss.double().cpu().numpy()

    def values(self, predictors: Predictors, relu: bool, fractions: Floats) -> tuple[Singles, Singles]:
        """T_c in K, with `relu` 0 or more, and E_f in eV/atom of fractions (size, 118)."""
        x = self.tensor(fractions)
        with torch.no_grad():
            tc, ef = predictors.tc(x).cpu().numpy(), predictors.ef(x).cpu().numpy()
        return np.maximum(tc, 0) if relu else tc, ef


def _supported(spec: SearchSpec, predictors: Predictors) -> Mask:
    """(118,) the elements that every predictor knows which the search asks."""
    supported = predictors.supported
    if spec.plausibility_weight:
        if predictors.plausibility is None:
            raise SpecError(
                f"plausibility_weight: {spec.plausibility_weight:g}, but these predictors have no plausibility; set "
                "the weight to 0"
            )
        supported = supported & predictors.plausibility.supported
    return np.asarray(supported.cpu().numpy())


def begin(
    problem: Problem, frequencies: Mapping[str, Floats], rows: Ints, size: int, device: torch.device
) -> tuple[Space, SearchState]:
    """The space and the state before stage 1 of rows (n,) at their places in a shard of `size`, the other places being
    padding. Only the kind of rows that the search has is imported.
    """
    if problem.family is not None:
        from kiago_ray.search.family_rows import begin_family

        return begin_family(problem, rows, size, device)
    from kiago_ray.search.open_rows import begin_open

    return begin_open(problem, frequencies, rows, size, device)


def search_stage(problem: Problem, number: int, device: torch.device) -> Stage:
    """Stage 1 (eq. 13) or stage 2 (eq. 16) as the specification has it, with the further terms in both."""
    spec = problem.spec
    norm = spec.integer_norm if number == 2 else None
    further = further_terms(problem, device)
    return Stage(number, spec, Objective(spec.alpha, spec.tc_gradient, integer_norm=norm, further=further))


def _run_shard(search: _Search, rows: Ints, recorder: Recorder) -> SearchResult:
    marks = [time.perf_counter()]
    problem, spec, device = search.problem, search.problem.spec, search.device
    space, state = begin(problem, search.frequencies, rows, search.size, device)
    start = space.compose(state.x_base, state.mask)
    capture = device.type == "cuda" and capturable(search.steering, energies=spec.alpha != 0)
    run = partial(run_stage, predictors=search.steering, on_step=recorder, capture=capture)
    marks.append(time.perf_counter())
    first, second = (search_stage(problem, number, device) for number in (1, 2))
    state, complete = run(state, space, stage=first)
    marks.append(time.perf_counter())
    state, space = limit(state, space, reset=spec.reset_optimizer_between_stages)
    if complete:
        state, complete = run(state, space, stage=second)
    state, terms = finish(state, space, search.bound, second.objective)
    recorder.keep(state.status, terms)

    x_final = space.compose(state.x_base, state.mask).cpu().numpy()
    marks.append(time.perf_counter())
    score = partial(search.values, search.predictors, True)
    climbed = partial(search.values, search.bound, spec.tc_gradient == "after_relu")
    cost = partial(search.cost, first.objective)
    proposals = space.propose(problem, state, x_final, score, climbed, cost)
    marks.append(time.perf_counter())
    arrays = {"start": start.cpu().numpy(), "x_final": x_final, "tc_relaxed_k": terms.tc_k.cpu().numpy()}
    for values in arrays.values():
        values[proposals.status == RowStatus.NOTHING_ALLOWED] = 0 if values.ndim == 2 else np.nan
    arrays |= {**vars(proposals), "recoveries": state.recoveries.cpu().numpy()}
    return SearchResult(
        rows=rows,
        **{name: values[rows % search.size] for name, values in arrays.items() if values is not None},
        trajectory=recorder.trajectory(rows[: len(recorder.sample)], spec.steps),
        wall_s=marks[-1] - marks[0],
        seconds=dict(zip(PHASES, np.diff(marks).tolist(), strict=True)),
        stopped_at_step=None if complete else recorder.steps_done,
    )


def given_result(amounts: Floats, predictors: Predictors) -> SearchResult:
    """Formulas that no search made, amounts (n, 118), as a search that took no step: scored as they are, whole numbers
    or not, so that screens, columns and ranking are the same for them.

    T_c is what `predictors.tc` says. A row of zeros has no formula, and neither has one with an element that the
    predictors don't know. Raises ValueError for another shape, and amounts that are negative or not finite.
    """
    amounts = checked_amounts(amounts, empty=True)
    n, some = len(amounts), amounts.any(axis=1)
    known = ~(amounts > 0)[:, ~predictors.supported.cpu().numpy()].any(axis=1)
    fractions = amounts / np.where(some, amounts.sum(axis=1), 1)[:, None]
    tc, ef = np.full((2, n), np.nan, dtype=np.float32)
    if (some & known).any():
        rows = fractions[some & known].astype(np.float32)
        tc[some & known] = np.maximum(predict(predictors.tc, rows), 0)
        ef[some & known] = predict(predictors.ef, rows)
    status = np.where(known, RowStatus.OK, RowStatus.UNKNOWN_ELEMENT)
    none = np.zeros((1, 0), dtype=np.float32)
    return SearchResult(
        **vars(scored(fractions, amounts, status, lambda _: (tc, ef))),
        rows=np.arange(n),
        recoveries=np.zeros(n, dtype=np.int64),
        start=fractions.astype(np.float32),
        x_final=fractions.astype(np.float32),
        tc_relaxed_k=tc,
        trajectory=Trajectory(
            np.zeros(0, dtype=np.int64), np.ones(1, dtype=np.int64), none, none, none, none
        ),
    )
