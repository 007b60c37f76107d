"""`kiago search`: one search on this machine, into a run directory and a table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

from kiago_ray.api import SearchOutcome, judge_formulas, propose
from kiago_ray.cli import options
from kiago_ray.cli.console import print_json, progress_bar, say, stop_on_signal
from kiago_ray.cli.hull import tell_phases
from kiago_ray.cli.options import overrides_from, read_spec
from kiago_ray.cli.options import without as without_elements
from kiago_ray.cli.version import provenance
from kiago_ray.errors import InputError
from kiago_ray.models import Models, load_models
from kiago_ray.predictors import Predictors
from kiago_ray.predictors.inference import step_precision
from kiago_ray.report.reasons import Background, row_background
from kiago_ray.report.terminal import best_table, reasons_table, summary_table, top_table
from kiago_ray.report.values import no_gain
from kiago_ray.runs.results import whole_results, write_outcome
from kiago_ray.runs.spec import is_preset_file, read_preset
from kiago_ray.screening import KnownMaterials, TriedMaterials
from kiago_ray.screening.screens import REQUIRED, Passing, available_screens, load_screen_recall
from kiago_ray.screening.summary import Summary
from kiago_ray.search import SearchSpec
from kiago_ray.search.sections import ScreensSpec
from kiago_ray.search.spec import build_spec
from kiago_ray.storage.run_directory import CANDIDATES, open_run
from kiago_ray.storage.table import first_rows

app = typer.Typer(add_completion=False)


class ScreensCommand(TyperCommand):
    """A command whose help ends with the screens: what each asks, and what it lets pass."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, then the table."""
        super().format_help(ctx, formatter)
        Console().print(screens_table())


def screens_table() -> Table:
    """A row for each screen, and one for all that the preset default requires."""
    measured = load_screen_recall()
    required = ScreensSpec().names
    asked = {name: screen.description for name, screen in available_screens().items()}
    asked[REQUIRED] = f"All that the preset default requires: {', '.join(required)}."
    table = Table(
        title="Screens (screens.names), and the share of compositions that pass, %",
        title_justify="left",
        caption=f"Of {measured.superconductors:,} known superconductors, and of {measured.swaps:,} of them with one "
        "or two elements swapped at random.",
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("screen", no_wrap=True)
    table.add_column("asks")
    for header in ("known", "> 30 K", "swapped"):
        table.add_column(header, justify="right", no_wrap=True)
    for name, description in asked.items():
        found = measured.screens.get(name, Passing(None, None, None))
        shares = (found.recall, found.recall_above_30_k, found.swaps)
        table.add_row(
            name, description, *("–" if share is None else f"{100 * share:.1f}" for share in shares)
        )
    return table


@app.command(cls=ScreensCommand)
def search(
    formula: options.Base = None,
    preset: options.Preset = None,
    spec: options.Spec = None,
    candidates: options.Candidates = None,
    steps: options.Steps = None,
    seed: options.Seed = None,
    fixed: options.Fixed = None,
    allow: options.Allow = None,
    forbid: options.Forbid = None,
    without: options.Without = None,
    keep: options.Keep = None,
    dope: options.Dope = None,
    span: options.Range = None,
    max_elements: options.MaxElements = None,
    substitute: options.Substitute = None,
    substitute_by: options.SubstituteBy = None,
    change: options.Change = None,
    known: options.Known = None,
    phases: options.Phases = None,
    tried: options.Tried = None,
    weights: options.Weights = None,
    device: options.Device = "cpu",
    out: options.Out = None,
    top: options.Top = 15,
    as_json: options.AsJson = False,
) -> None:
    """Search for compositions with a higher T_c around FORMULA; print the best and write a run directory."""
    given = {
        "base": formula,
        "candidates": candidates,
        "steps": steps,
        "seed": seed,
        "fixed": fixed,
        "max_elements": max_elements,
        "elements.allow": allow,
        "elements.forbid": forbid,
        "substitute": substitute,
        "substitute_by": substitute_by,
        "family.keep": keep,
        "family.dope": dope,
        "family.range": span,
    }
    resolved, name, record = specification(spec, preset, overrides_from(given, change or []), without)
    request = Request(resolved, name, known, phases, weights, device, out, record, tried=tried)
    raise typer.Exit(run(request, top, as_json))


def specification(
    file: Path | None, preset: str | None, overrides: Mapping[str, Any], without: str | None
) -> tuple[SearchSpec, str, Mapping[str, Any]]:
    """The search that a command asks for, the name of its preset, and the record of the run that `file` is of."""
    values, record = read_spec(file) if file is not None else ({}, {})
    named = values.pop("preset", None)
    if preset is not None and named is not None and named != preset:
        raise InputError(f"--preset: {preset}, but {file} names {named}; give one of them")
    name = str(preset or named or "default")
    chosen = {"preset": read_preset(Path(name)) if is_preset_file(name) else name}
    name = Path(name).stem if is_preset_file(name) else name
    values |= overrides
    spec = build_spec(chosen, values)
    if without is not None:
        spec = build_spec(chosen, values, {"elements.forbid": without_elements(without, spec)})
    if name == "substitution" and spec.substitute is None:
        raise InputError(
            "--preset: substitution needs a site and its oxidation state, such as --substitute La:+3"
        )
    return spec, name, record


@dataclass(frozen=True)
class Request:
    """What a search command asks for, beside how it is shown."""

    spec: SearchSpec
    preset: str
    known: str | None
    phases: str | None
    weights: Path | None
    device: str
    out: str | None
    repeats: Mapping[str, Any]
    baseline: Baseline | None = None
    tried: str | None = None


@dataclass(frozen=True)
class Baseline:
    """Something else than the search that proposes formulas for it to judge. about: what decides its outcome
    beside the specification. prepare: with the predictors refuses what can't be done, and returns what gives the
    formulas, (n, 118) in atoms.
    """

    about: Mapping[str, Any]
    prepare: Callable[[Predictors], Callable[[], NDArray[np.float64]]]


def run(request: Request, top: int, as_json: bool) -> int:
    """Run a search, or find it done, and show it; return the exit code."""
    spec = request.spec
    check_device(request.device)
    models = load_models(
        request.weights,
        known=request.known,
        tried=request.tried,
        phases=request.phases,
        device=request.device,
    )
    models.check(spec)  # what can't run is refused before anything is written
    prepared = None if request.baseline is None else request.baseline.prepare(models.predictors)
    identity = {"search": spec.model_dump(mode="json"), **models.identity}
    if request.baseline is not None:
        identity["baseline"] = dict(request.baseline.about)
    about = {
        "preset": request.preset,
        **provenance(request.weights),
        "precision": step_precision(spec.precision, torch.device(request.device)),
        "known_source": models.known.source if models.known is not None else "",
    }
    about.pop("weights")
    now = {**identity, **about}
    for name in ("weights", "known", "phases", "tried", "precision"):
        if request.repeats and request.repeats.get(name) != now.get(name):
            say(f"note: the run that --spec names had other {name}; this one will differ from it")
    background = row_background(models.cards)
    where = request.out if request.out is not None else default_directory(spec, request.preset, identity)
    directory = open_run(where, identity, about)
    if (results := whole_results(directory)) is not None:
        say(f"{where} already holds this search; shown as it is")
        rows = first_rows(directory.file(CANDIDATES), top).to_pylist()
        show(rows, results.summary, spec, where, background, as_json)
        return 0
    tell_models(models, request.phases)
    outcome, remark = proposed(spec, models, prepared)
    write_outcome(outcome, directory, cards=models.cards, remark=remark)
    rows = outcome.table.slice(0, top).to_pylist()
    show(rows, outcome.summary, spec, where, background, as_json, remark)
    if remark:
        say(f"{remark} What was done is in {where}; the same command starts it again.")
        return 1
    return 0


def proposed(
    spec: SearchSpec, models: Models, prepared: Callable[[], NDArray[np.float64]] | None
) -> tuple[SearchOutcome, str]:
    """What a search, or what takes its place, proposes; and where it was stopped, "" where it wasn't."""

    if prepared is not None:
        return judge_formulas(prepared(), spec, models), ""
    with (
        stop_on_signal("stopping after this step; what is done will be written") as stopper,
        progress_bar() as progress,
    ):
        outcome = propose(spec=spec, models=models, progress=progress, should_stop=stopper)
    if (stopped := outcome.result.stopped_at_step) is None:
        return outcome, ""
    return outcome, (
        f"Stopped at step {stopped} of {sum(spec.steps)} of the rows then running; "
        f"{len(outcome.result.rows):,} of {spec.row_count:,} rows were begun."
    )


def default_directory(spec: SearchSpec, preset: str, identity: dict[str, Any]) -> str:
    """runs/BASE-PRESET-xxxxxxxx: another search gets another directory."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return f"runs/{spec.base or spec.start.kind}-{preset}-{digest}".replace(" ", "")


def check_device(device: str) -> None:
    """Refuse a device that isn't there."""
    try:
        if torch.device(device).type not in ("cpu", "cuda"):
            raise RuntimeError("only cpu and cuda are supported")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device: {device!r} can't be used here ({str(error).splitlines()[0]})") from None


def tell_models(models: Models, phases: str | None) -> None:
    """Say on stderr what the rows are held against. phases: what --phases names."""

    tell_known(models.known)
    tell_tried(models.tried)
    if models.hull is not None:
        tell_phases(models.hull, None if phases is None else Path(phases))


def tell_known(materials: KnownMaterials | None) -> None:
    """Say on stderr what the rows are held against."""
    if materials is None:
        say("no known compositions to hold the rows against (--known none)")
        return
    say(f"held against {len(materials.compositions.names):,} known compositions: {materials.source}")


def tell_tried(tried: TriedMaterials | None) -> None:
    """Say on stderr what was tried, if anything was given."""
    if tried is not None:
        found = int((tried.tc_k > 0).sum())
        say(f"{len(tried.tc_k):,} samples were tried, {found:,} of them superconduct: {tried.source}")


def show(
    rows: Sequence[dict[str, Any]],
    summary: Summary,
    spec: SearchSpec,
    where: str,
    background: Background,
    as_json: bool,
    remark: str = "",
) -> None:
    """The best rows, reasons to believe the first of them or not, and the summary: tables for a person, or one JSON
    object.
    """
    if as_json:
        print_json({"out": where, "stopped": remark or None, "summary": summary.to_dict(), "top": rows})
        return
    console = Console()
    title = f"Proposals from {spec.base or 'a random start'}"
    console.print(best_table(rows, tuple(spec.screens.names), title, width=console.width))
    if rows:
        console.print("\nThe best, for (+) and against (−) believing them; report.html says it in full:")
        console.print(reasons_table(rows, background))
    if remark := no_gain(summary.gains, summary.passed):
        console.print(f"\n[bold]{remark}[/bold]")
    console.print()
    console.print(summary_table(summary))
    console.print()
    console.print(top_table(summary.top))
    console.print(
        f"\nEverything is in {where}/ (report.html, top.csv, candidates.parquet, plots).", markup=False
    )
