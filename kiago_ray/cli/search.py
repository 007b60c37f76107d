"""`kiago search`: one search on this machine, into a run directory and a table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console

from kiago_ray.api import base_material, judge_formulas, propose
from kiago_ray.campaign.yaml_file import is_preset_file, read_preset
from kiago_ray.cli.console import progress_bar, say, stop_on_signal
from kiago_ray.cli.hull import read_hull, tell_phases
from kiago_ray.cli.overrides import overrides_from, read_spec
from kiago_ray.cli.overrides import without as without_elements
from kiago_ray.cli.screens_help import ScreensCommand
from kiago_ray.cli.version import provenance
from kiago_ray.data import NONE
from kiago_ray.data.known import known_table, tried_table
from kiago_ray.errors import InputError
from kiago_ray.outputs import card_notes, row_background, write_outputs
from kiago_ray.plausibility.shipped import load_prospects
from kiago_ray.plausibility.steering import around
from kiago_ray.predictors import Predictors, load_predictors
from kiago_ray.predictors.climbed.inference import step_precision
from kiago_ray.report.reasons import Background
from kiago_ray.report.terminal import best_table, reasons_table, summary_table, top_table
from kiago_ray.report.values import no_gain
from kiago_ray.screening import KnownMaterials, TriedMaterials, check_phases
from kiago_ray.screening.summary import Summary
from kiago_ray.search import SearchSpec
from kiago_ray.search.presets import build_spec
from kiago_ray.search.problem import resolve
from kiago_ray.storage.run_directory import CANDIDATES, open_run
from kiago_ray.storage.table import read_table

SHOWN_ROWS = 15
Repeated = list[str] | None

app = typer.Typer(add_completion=False)


@app.command(cls=ScreensCommand)
def search(
    formula: Annotated[str | None, typer.Argument(help="Base material, such as LaNiAsO.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="default, open, paper, reference, hydride, substitution, or a file such as best.yaml."
        ),
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="YAML file with (part of) a specification.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Rows to optimise.")] = None,
    steps: Annotated[str | None, typer.Option(help="Steps of stage 1 and 2, such as 200,200.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the starts.")] = None,
    fixed: Annotated[Repeated, typer.Option(help="Fixed fraction of all atoms, such as O=0.25.")] = None,
    allow: Annotated[str | None, typer.Option(help="Only these elements, such as La,Ni,As,O.")] = None,
    forbid: Annotated[str | None, typer.Option(help="None of these elements, such as Hg,Tl,Pb.")] = None,
    without: Annotated[
        str | None,
        typer.Option(
            help="None of these: toxic, radioactive, noble-gas, rare, arsenic, or symbols. A word lets the base's own "
            "elements stay, a symbol doesn't."
        ),
    ] = None,
    keep: Annotated[
        str | None, typer.Option(help="Elements of the base whose sites stay as they are, such as Fe,As.")
    ] = None,
    dope: Annotated[
        Repeated,
        typer.Option(help="What alone may come in on a site, such as La:Sr,Ba; other sites stay."),
    ] = None,
    span: Annotated[
        str | None,
        typer.Option("--range", help="Share of a site that foreign elements take, such as 0:0.3."),
    ] = None,
    max_elements: Annotated[int | None, typer.Option(help="Most elements of a candidate.")] = None,
    substitute: Annotated[
        str | None, typer.Option(help="Site and its state, such as La:+3; several as Ti:+4,O:-2*1.")
    ] = None,
    substitute_by: Annotated[
        int | None, typer.Option(help="State of the substitutes, where it isn't the site's.")
    ] = None,
    change: Annotated[
        Repeated, typer.Option("--set", help="Any other field: alpha=4, start.kind=random.")
    ] = None,
    known: Annotated[
        str | None,
        typer.Option(
            help="Compositions to hold the rows against: a CSV file with formula and tc_k, SuperCon's primary.tsv, "
            "landmarks or none. By default supercon: the shipped ones."
        ),
    ] = None,
    phases: Annotated[
        str | None,
        typer.Option(
            help="Competing phases, by which the best rows get their energy above the hull: a CSV or TSV file, or "
            "none. By default the shipped ones, of the Materials Project."
        ),
    ] = None,
    tried: Annotated[
        str | None,
        typer.Option(
            help="What was made and measured, which isn't proposed again and re-weighs what is near: a CSV file with "
            "formula, tc_k (0: none found) and maybe down_to_k, or shipped, a survey of 2009. By default none."
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Folder that `kiago train` wrote.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    out: Annotated[str | None, typer.Option(help="Directory or URI; by default below runs/.")] = None,
    top: Annotated[int, typer.Option(min=0, max=1000, help="Rows to print.")] = SHOWN_ROWS,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Search for compositions with a higher T_c around FORMULA; print the best and write a run directory."""
    values, record = read_spec(spec) if spec is not None else ({}, {})
    named = values.pop("preset", None)
    if preset is not None and named is not None and named != preset:
        raise InputError(f"--preset: {preset}, but {spec} names {named}; give one of them")
    name = str(preset or named or "default")
    chosen = read_preset(Path(name)) if is_preset_file(name) else name
    values |= overrides_from(
        base=formula,
        candidates=candidates,
        steps=steps,
        seed=seed,
        fixed=fixed or [],
        allow=allow,
        forbid=forbid,
        max_elements=max_elements,
        substitute=substitute,
        substitute_by=substitute_by,
        change=change or [],
        keep=keep,
        dope=dope,
        span=span,
    )
    resolved = build_spec({"preset": chosen}, values)
    if without is not None:
        forbidden = {"elements.forbid": without_elements(without, resolved)}
        resolved = build_spec({"preset": chosen}, values, forbidden)
    name = Path(name).stem if is_preset_file(name) else name
    if name == "substitution" and resolved.substitute is None:
        raise InputError(
            "--preset: substitution needs a site and its oxidation state, such as --substitute La:+3"
        )
    request = Request(resolved, name, known, phases, weights, device, out, record, tried=tried)
    raise typer.Exit(run(request, top, as_json))


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
    spec, facts = request.spec, provenance(request.weights)
    check_device(request.device)
    predictors = load_predictors(request.weights, device=request.device)
    materials, known_id = read_known(request.known)
    tried, tried_id = read_tried(request.tried)
    prospects = load_prospects(request.weights).knowing(spec.base)
    substitutions = around(spec, prospects)
    resolve(
        spec, predictors.supported.cpu().numpy(), substitutions
    )  # what can't run is refused before anything is written
    base_material(spec, predictors)
    prepared = None if request.baseline is None else request.baseline.prepare(predictors)
    check_phases(spec.screens.names, request.phases != NONE)
    hull = None if request.phases == NONE else read_hull(phases_file(request.phases), weights=request.weights)
    identity = {"search": spec.model_dump(mode="json"), "weights": facts["weights"], "known": known_id}
    if hull is not None:
        identity["phases"] = hull.phases.report.sha256
    if tried_id is not None:
        identity["tried"] = tried_id
    if request.baseline is not None:
        identity["baseline"] = dict(request.baseline.about)
    facts |= {"precision": step_precision(spec.precision, torch.device(request.device))}
    facts |= {"known_source": materials.source if materials is not None else ""}
    now = {**identity, **facts}
    for name in ("weights", "known", "phases", "tried", "precision"):
        if request.repeats and request.repeats.get(name) != now.get(name):
            say(f"note: the run that --spec names had other {name}; this one will differ from it")
    notes, background = card_notes(request.weights), row_background(request.weights)
    where = request.out if request.out is not None else default_directory(spec, request.preset, identity)
    directory = open_run(
        where, identity, {"preset": request.preset, **{k: v for k, v in facts.items() if k != "weights"}}
    )
    if directory.finished:
        say(f"{where} already holds this search; shown as it is")
        table, summary = read_table(directory.file(CANDIDATES)), directory.record["summary"]
        show(table, summary, spec, where, background, top, as_json)
        return 0
    tell_known(materials)
    tell_tried(tried)
    if hull is not None:
        tell_phases(hull, phases_file(request.phases))
    if prepared is not None:
        outcome = judge_formulas(
            prepared(),
            spec,
            predictors,
            known=materials or "none",
            tried=tried,
            hull=hull,
            prospects=prospects,
        )
    else:
        with (
            stop_on_signal("stopping after this step; what is done will be written") as stopper,
            progress_bar() as progress,
        ):
            outcome = propose(
                spec=spec,
                predictors=predictors,
                known=materials or "none",
                tried=tried,
                hull=hull,
                prospects=prospects,
                device=request.device,
                progress=progress,
                should_stop=stopper,
            )
    stopped = outcome.result.stopped_at_step
    begun = len(outcome.result.rows)
    remark = (
        ""
        if stopped is None
        else f"Stopped at step {stopped} of {sum(spec.steps)} of the rows then running; "
        f"{begun:,} of {spec.row_count:,} rows were begun."
    )
    files = write_outputs(outcome, directory, model_notes=notes, remark=remark, background=background)
    summary = outcome.summary.to_dict()
    if stopped is None:
        directory.finish(files, {"summary": summary, "wall_s": round(outcome.result.wall_s, 1)})
    show(outcome.table, summary, spec, where, background, top, as_json, remark)
    if stopped is not None:
        say(f"{remark} What was done is in {where}; the same command starts it again.")
        return 1
    return 0


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


def read_known(choice: str | None) -> tuple[KnownMaterials | None, str | None]:
    """The known materials that --known names, and the SHA-256 of their file; None and None for "none"."""
    found = known_table(choice)
    if found is None:
        return None, None
    return KnownMaterials.from_table(found.table, found.source), found.sha256


def read_tried(choice: str | None) -> tuple[TriedMaterials | None, str | None]:
    """What --tried names, and the SHA-256 of its file; None and None where it names nothing."""
    found = tried_table(choice)
    if found is None:
        return None, None
    return TriedMaterials.from_table(found.table, found.source), found.sha256


def phases_file(choice: str | None) -> Path | None:
    """The file of competing phases that --phases names; None for the shipped ones."""
    return None if choice is None else Path(choice)


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
    table: Any,
    summary: dict[str, Any],
    spec: SearchSpec,
    where: str,
    background: Background,
    top: int,
    as_json: bool,
    remark: str = "",
) -> None:
    """The best rows, reasons to believe the first of them or not, and the summary: tables for a person, or one JSON
    object.
    """
    rows = table.slice(0, top).to_pylist()
    if as_json:
        print(
            json.dumps(
                {"out": where, "stopped": remark or None, "summary": summary, "top": rows},
                indent=2,
                ensure_ascii=False,
            )
        )
        return
    console = Console()
    title = f"Proposals from {spec.base or 'a random start'}"
    console.print(best_table(rows, tuple(spec.screens.names), title, width=console.width))
    if rows:
        console.print("\nThe best, for (+) and against (−) believing them; report.html says it in full:")
        console.print(reasons_table(rows, background))
    read = Summary.from_dict(summary)
    if remark := no_gain(read.gains, read.passed):
        console.print(f"\n[bold]{remark}[/bold]")
    console.print()
    console.print(summary_table(read))
    console.print()
    console.print(top_table(read.top))
    console.print(
        f"\nEverything is in {where}/ (report.html, top.csv, candidates.parquet, plots).", markup=False
    )
