"""`kiago bench`: what a step costs on this machine, against a plain implementation where there is one, its share of
the arithmetic limit, and a whole search phase by phase.

Times of steps are CPU seconds of one thread. Ways to take the same step take turns, so that a machine that drifts
favours none, and the median counts.
"""

from __future__ import annotations

import resource
import runpy
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode
from typer import Option

from kiago_ray.api import judged_rows
from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.cli.console import AsJson, plain_table, print_facts, print_json
from kiago_ray.data import NONE
from kiago_ray.errors import InputError
from kiago_ray.models import Models, load_models, search_frequencies
from kiago_ray.predictors.base import (
    Inference,
    Precision,
    Predictors,
    in_precision,
    multiplies_bfloat16,
    step_precision,
)
from kiago_ray.progress import Counted, SearchView, watching
from kiago_ray.screening.candidates import ranked
from kiago_ray.search.problem import resolve
from kiago_ray.search.run import begin, search_stage
from kiago_ray.search.spec import SearchSpec, load_preset
from kiago_ray.search.stages import ProgressCallback, limit, pace, step
from kiago_ray.storage.run_directory import cpu_name

BASE = "LaNiAsO"
PLAIN = Path(__file__).parents[2] / "benchmarks" / "plain.py"  # of a checkout; an installed package has none
TOTALS = (25, 199)
PRECISIONS: tuple[Precision, ...] = ("float32", "mixed", "bfloat16")
CPU = torch.device("cpu")
_PEAK_SIZES = (1024, 2048, 4096)

Arm = Callable[[], object]


def bench(
    rows: Annotated[int, Option(min=8, max=65_536, help="Rows of a step.")] = 512,
    rounds: Annotated[int, Option(min=1, max=100, help="Turns of which the median counts.")] = 5,
    candidates: Annotated[int, Option(min=0, max=1_000_000, help="Of the whole search; 0: none.")] = 512,
    steps: Annotated[int, Option(min=1, max=20_000, help="Of each of its stages.")] = 500,
    plain: Annotated[Path | None, Option(help="plain.py to compare with; a checkout's own is found.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure this machine: a step's CPU seconds, the share of the arithmetic limit, a whole search."""
    models = load_models(known=NONE, phases=NONE)
    predictors = models.predictors.following("resnet18")  # the paper's, as the plain implementation
    reference = load_plain(plain)
    hardware = multiplies_bfloat16(CPU)
    precisions = PRECISIONS if hardware else PRECISIONS[:1]
    machine = {"cpu": cpu_name(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    machine["bfloat16_in_hardware"] = hardware
    found: dict[str, Any] = {"machine": machine, "rows": rows, "plain": reference is not None}
    found["precisions"] = precisions
    if candidates:  # first: the most memory is counted from the start of the process
        spec = load_preset("paper", {"base": BASE, "candidates": candidates, "steps": [steps, steps]})
        view = SearchView()
        with watching(view):
            found["search"] = whole_search(models, spec, view)
    told = Counted("measurements", 2 * len(TOTALS) + 1)
    with one_thread(), watching(told):
        found["steps"] = step_table(predictors, reference, rows, rounds, precisions, told)
        found["limit"] = limit_table(predictors, rows, rounds, precisions)
    if as_json:
        print_json(found)
    else:
        show(found)


def load_plain(path: Path | None) -> dict[str, Any] | None:
    """What the file of the plain implementation holds: of a checkout's own, or of one that the user names."""
    if path is None and not PLAIN.is_file():
        return None
    path = path or PLAIN
    try:
        found = runpy.run_path(str(path))
        found["PlainSearch"].reference_form  # noqa: B018 - whether it is there
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise InputError(f"--plain: {path} is no benchmarks/plain.py of a checkout ({cause})") from error
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for what torch computes, as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def interleaved(arms: Mapping[str, Arm], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each arm, run in turns after a turn that doesn't count."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(rounds + 1):
        for name, arm in arms.items():
            began = time.process_time()
            arm()
            if turn:
                seconds[name].append(time.process_time() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def gemm_peak(dtype: torch.dtype, rounds: int = 5) -> float:
    """Multiply-adds a second of one thread in the best of some large square products."""
    with one_thread():
        products = {
            size: partial(torch.matmul, *torch.randn(2, size, size).to(dtype)) for size in _PEAK_SIZES
        }
        return max(size**3 / interleaved({"": each}, rounds)[""] for size, each in products.items())


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


class Bench:
    """A search to be timed: `rows` rows of the preset `paper` with changes; its space, its rows before stage 1."""

    def __init__(self, predictors: Predictors, rows: int, **changes: Any) -> None:
        spec = load_preset("paper", {"base": BASE, "candidates": rows, **changes})
        self.predictors = predictors.following(spec.tc_predictor, spec.ef_predictor)
        self.problem = resolve(spec, self.predictors.supported.numpy())
        self.space, self.state = begin(self.problem, search_frequencies(), np.arange(rows), rows, CPU)

    def step(self, stage: int, precision: Precision) -> Arm:
        """One step of stage 1 or 2 after another, in a precision."""
        space, state, steering = self.space, self.state, in_precision(self.predictors, precision)
        settings = search_stage(self.problem, stage, CPU)
        rate, beta = settings.at(0)
        objective = replace(settings.objective, beta=beta)
        revive = self.problem.spec.revive != "none"
        if stage == 2:
            state, _ = limit(state, space, reset=True)

        def advance() -> None:
            nonlocal state
            now = pace(state.adam_step + 1, rate)
            state, _ = step(state, space, steering, objective, now, revive=revive)

        return advance

    def gradients(self, precision: Precision) -> Arm:
        """Values and input gradients of both predictors."""
        quick = in_precision(self.predictors, precision)
        both = [each for each in (quick.tc, quick.ef) if isinstance(each, Inference)]
        x = self.state.x_base / self.state.x_base.sum(1, keepdim=True)
        return lambda: [each.evaluate(x, gradients=True) for each in both]


def products_needed(predictors: Predictors) -> int:
    """Multiply-adds of the matrix products for values and gradients of one row; gradients take as many as values."""
    row = torch.full((1, N_ELEMENTS), 1 / N_ELEMENTS)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:  # a multiply-add is two operations
        for each in (predictors.tc, predictors.ef):
            each(row)
    return int(counter.get_total_flops())


def whole_search(
    models: Models, spec: SearchSpec, progress: ProgressCallback | None = None
) -> dict[str, Any]:
    """Run a search on the CPU with the threads that torch has, from start to ranked table, and take its time. seconds:
    wall clock by phase, `screens` with the table of all rows; their sum is `total_s`. after_share: what projection,
    screens and table take of it. peak_mb: the most memory of this process so far.
    """
    began = time.perf_counter()
    judged = judged_rows(spec, models, progress=progress)
    rows_judged = time.perf_counter()
    table, result = ranked(judged.table), judged.result
    seconds = {**result.seconds, "screens": rows_judged - began - result.wall_s}
    seconds["ranked table"] = time.perf_counter() - rows_judged
    seconds["start"] += result.wall_s - sum(result.seconds.values())
    total_s = sum(seconds.values())
    return {
        "rows": spec.row_count,
        "steps": spec.steps,
        "threads": torch.get_num_threads(),
        "precision": step_precision(spec.precision, CPU),
        "seconds": seconds,
        "passed": int(np.asarray(table["passed"]).sum()),
        "peak_mb": peak_mb(),
        "total_s": total_s,
        "after_share": sum(seconds[name] for name in ("projection", "screens", "ranked table")) / total_s,
    }


def step_table(
    predictors: Predictors,
    plain: Mapping[str, Any] | None,
    rows: int,
    rounds: int,
    precisions: Sequence[Precision],
    told: Counted,
) -> list[dict[str, Any]]:
    """CPU seconds of a step of each stage by precision, and of the plain implementation's; `told` hears of each."""
    table = []
    for most in TOTALS:
        timed = Bench(predictors, rows, **{"n_unit.max": most})
        for stage in (1, 2):
            arms: dict[str, Arm] = {name: timed.step(stage, name) for name in precisions}
            if plain is not None:
                made = plain["PlainSearch"].reference_form
                slow = made(timed.state.x_base, timed.state.mask, range(1, most + 1))
                if stage == 2:
                    slow.limit_elements()
                arms["plain"] = partial(slow.step, stage)
            seconds = interleaved(arms, rounds)
            row = {f"{name}_cpu_s": round(value, 5) for name, value in seconds.items()}
            if plain is not None:
                row |= {f"{name}_times": round(seconds["plain"] / seconds[name], 2) for name in precisions}
            table.append({"most_atoms": most, "stage": stage, **row})
            told(told.done + 1, told.total)
    return table


def limit_table(
    predictors: Predictors, rows: int, rounds: int, precisions: Sequence[Precision]
) -> list[dict[str, Any]]:
    """By precision: multiply-adds that the predictors need, over time and the best matrix product's pace."""
    timed, table = Bench(predictors, rows), []
    for name in (each for each in precisions if each != "mixed"):  # whose limit lies between the others'
        peak = gemm_peak(getattr(torch, name), rounds)
        seconds = interleaved({"": timed.gradients(name)}, rounds)[""]
        pace = products_needed(predictors) * rows / seconds
        row = {"precision": name, "cpu_s": round(seconds, 5), "products_per_s": round(pace)}
        table.append({**row, "peak_products_per_s": round(peak), "fraction": round(pace / peak, 3)})
    return table


def show(found: dict[str, Any]) -> None:
    """Tables for a person: steps, the share of the limit, and where the time of the whole search goes."""
    print_facts(found["machine"])
    print(f"\nCPU time of a step of {found['rows']} rows, and how many times quicker than the plain one")
    arms, steps = [*found["precisions"], *(["plain"] if found["plain"] else [])], []
    for row in found["steps"]:
        times = {name: f" ({row[key]:.1f}×)" for name in arms if (key := f"{name}_times") in row}
        cells = {name: f"{1e3 * row[f'{name}_cpu_s']:.0f} ms{times.get(name, '')}" for name in arms}
        steps.append({"N up to": row["most_atoms"], "stage": row["stage"], **cells})
    Console().print(plain_table(steps))
    print("\nShare of the machine's limit, one thread")
    Console().print(plain_table(found["limit"]))
    if search := found.get("search"):
        print("\nA whole search, wall clock by phase")
        print_facts(search)
    if len(found["precisions"]) == 1:
        print("bfloat16 is left out: this processor has no instructions for it, and emulates it slowly.")
    if not found["plain"]:
        print("No plain implementation here to compare with: run in a checkout, or give --plain.")
