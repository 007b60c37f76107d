"""`kiago bench`: what this machine does, against a plain implementation where there is one."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import torch
import typer
from rich.console import Console

from kiago_ray.bench import BASE, Bench, gemm_peak, interleaved, one_thread, products_needed, whole_search
from kiago_ray.cli.console import AsJson, plain_table, print_json, watching
from kiago_ray.cli.search import SearchView
from kiago_ray.data import NONE
from kiago_ray.errors import InputError
from kiago_ray.machine import cpu_name
from kiago_ray.models import load_models
from kiago_ray.predictors.base import Precision, Predictors, multiplies_bfloat16
from kiago_ray.search.spec import load_preset

PLAIN = Path(__file__).parents[2] / "benchmarks" / "plain.py"  # of a checkout; an installed package has none
TOTALS = (25, 199)
LIMITS: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
PRECISIONS: tuple[Precision, ...] = ("float32", "mixed", "bfloat16")

app = typer.Typer(add_completion=False)


@app.command()
def bench(
    rows: Annotated[int, typer.Option(min=8, max=65_536, help="Rows of a step.")] = 512,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Turns of which the median counts.")] = 5,
    candidates: Annotated[
        int, typer.Option(min=0, max=1_000_000, help="Of the whole search; 0: none.")
    ] = 512,
    steps: Annotated[int, typer.Option(min=1, max=20_000, help="Of each of its stages.")] = 500,
    plain: Annotated[
        Path | None, typer.Option(help="plain.py to compare with; a checkout's own is found.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure this machine: a step's CPU seconds, the share of the arithmetic limit, a whole search."""
    models = load_models(known=NONE)
    predictors = models.predictors.following("resnet18")  # the paper's, as the plain implementation
    reference = load_plain(plain)
    hardware = multiplies_bfloat16(torch.device("cpu"))
    precisions = PRECISIONS if hardware else PRECISIONS[:1]
    found: dict[str, Any] = {
        "machine": {
            "cpu": cpu_name(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "bfloat16_in_hardware": hardware,
        },
        "rows": rows,
        "plain": reference is not None,
        "precisions": precisions,
    }
    if candidates:  # first: the most memory is counted from the start of the process
        spec = load_preset("paper", {"base": BASE, "candidates": candidates, "steps": [steps, steps]})
        with watching(SearchView()) as view:
            found["search"] = whole_search(models, spec, view)
    with one_thread():
        found["steps"] = step_table(predictors, reference, rows, rounds, precisions)
        found["limit"] = limit_table(predictors, rows, rounds, precisions)
    if as_json:
        print_json(found)
    else:
        show(found)


def load_plain(path: Path | None) -> ModuleType | None:
    """The plain implementation, run from its file: that of a checkout, or one that the user names."""
    path = path or (PLAIN if PLAIN.is_file() else None)
    if path is None:
        return None
    spec = importlib.util.spec_from_file_location("kiago_plain", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise InputError(f"--plain: {path} is no Python file; give benchmarks/plain.py of a checkout")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"--plain: {path} can't be run ({type(error).__name__}: {error})") from error
    if not hasattr(getattr(module, "PlainSearch", None), "reference_form"):
        raise InputError(f"--plain: {path} holds no PlainSearch; give benchmarks/plain.py of a checkout")
    return module


def step_table(
    predictors: Predictors,
    plain: ModuleType | None,
    rows: int,
    rounds: int,
    precisions: Sequence[Precision],
) -> list[dict[str, Any]]:
    """CPU seconds of a step of each stage by precision, and of the plain implementation's."""
    table = []
    for most in TOTALS:
        bench = Bench.of(predictors, rows, {"n_unit.max": most})
        for stage in (1, 2):
            arms: dict[str, Callable[[], object]] = {name: bench.step(stage, name) for name in precisions}
            if plain is not None:
                allowed = bench.allowed.expand(rows, -1)
                slow = plain.PlainSearch.reference_form(bench.x_start, allowed, range(1, most + 1))
                if stage == 2:
                    slow.limit_elements()
                arms["plain"] = partial(slow.step, stage)
            seconds = interleaved(arms, rounds)
            row: dict[str, Any] = {"most_atoms": most, "stage": stage}
            for name, value in seconds.items():
                row[f"{name}_cpu_s"] = round(value, 5)
                if plain is not None and name != "plain":
                    row[f"{name}_times"] = round(seconds["plain"] / value, 2)
            table.append(row)
    return table


def limit_table(
    predictors: Predictors, rows: int, rounds: int, precisions: Sequence[Precision]
) -> list[dict[str, Any]]:
    """By precision: multiply-adds that the predictors need, over time and the best matrix product's pace."""
    bench = Bench.of(predictors, rows)
    table = []
    for name in (each for each in LIMITS if each in precisions):
        peak = gemm_peak(getattr(torch, name), rounds)
        seconds = interleaved({"": bench.gradients(name)}, rounds)[""]
        pace = products_needed(predictors) * rows / seconds
        table.append(
            {
                "precision": name,
                "cpu_s": round(seconds, 5),
                "products_per_s": round(pace),
                "peak_products_per_s": round(peak),
                "fraction": round(pace / peak, 3),
            }
        )
    return table


def show(found: dict[str, Any]) -> None:
    """Tables for a person: steps, the share of the limit, and where the time of the whole search goes."""
    terminal, of = Console(), found["machine"]
    print(f"{of['cpu']}, torch {of['torch']}; steps on one thread")
    steps = []
    for row in found["steps"]:
        cells = {"N up to": row["most_atoms"], "stage": row["stage"]}
        for name in (*found["precisions"], *(["plain"] if found["plain"] else [])):
            times = f" ({row[f'{name}_times']:.1f}×)" if f"{name}_times" in row else ""
            cells[name] = f"{1e3 * row[f'{name}_cpu_s']:.0f} ms{times}"
        steps.append(cells)
    print(
        f"\nCPU time of a step of {found['rows']} rows, and how many times quicker than the plain implementation"
    )
    terminal.print(plain_table(steps))
    print("\nShare of the machine's limit, one thread")
    terminal.print(plain_table(found["limit"]))
    if search := found.get("search"):
        phases = [
            {
                "phase": name.replace("_", " "),
                "seconds": f"{seconds:.2f}",
                "share": f"{100 * seconds / search['total_s']:.1f} %",
            }
            for name, seconds in search["seconds"].items()
        ]
        print(
            f"\n{search['rows']:,} × ({' + '.join(map(str, search['steps']))}) steps, {search['threads']} threads, "
            f"{search['precision']}: {search['total_s']:.1f} s, {search['peak_mb']:.0f} MB"
        )
        terminal.print(plain_table(phases, names=("phase",)))
    if len(found["precisions"]) == 1:
        print("bfloat16 is left out: this processor has no instructions for it, and emulates it slowly.")
    if not found["plain"]:
        print("No plain implementation here to compare with: run in a checkout, or give --plain.")
