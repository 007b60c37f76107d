"""`kiago sweep`: many trials of a search's fields on Ray Tune, from a file; the best as a preset."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from kiago_ray import __version__
from kiago_ray.api import base_material
from kiago_ray.cli.campaign import tracking_target
from kiago_ray.cli.campaign_view import tell_tracking
from kiago_ray.cli.console import say, stop_on_signal
from kiago_ray.cli.search import read_known, tell_known
from kiago_ray.cli.sweep_view import show_outcome, watching
from kiago_ray.cli.version import provenance
from kiago_ray.distributed.sweep import SweepRequest, run_sweep, sweep_identity
from kiago_ray.distributed.worker import WorkerSetup, weight_files
from kiago_ray.errors import InputError
from kiago_ray.outputs import card_notes
from kiago_ray.plausibility.shipped import load_prospects
from kiago_ray.plausibility.steering import around
from kiago_ray.predictors import load_predictors
from kiago_ray.predictors.oracle.trees import TUNING_KIND
from kiago_ray.predictors.weights import load_card
from kiago_ray.screening import check_phases
from kiago_ray.search.problem import resolve
from kiago_ray.storage.location import Location
from kiago_ray.sweep.spec import SweepSpec, read_sweep, sweep_from
from kiago_ray.tracking import TrackingTarget

app = typer.Typer(add_completion=False)


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="YAML file with the sweep; see tune_configs/.")],
    out: Annotated[str | None, typer.Option(help="Directory or URI; by default runs/NAME.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster, such as auto; by default RAY_ADDRESS, else this machine.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Trials at a time, instead of the file's.")
    ] = None,
    gpus_per_trial: Annotated[
        float | None, typer.Option(min=0, help="Instead of the file's resources.gpus, such as 0.25.")
    ] = None,
    known: Annotated[
        str | None,
        typer.Option(
            help="Instead of the file's known: primary.tsv, supercon (as shipped), landmarks or none."
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for nodes that an autoscaler adds, where none fits yet.")
    ] = False,
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="MLflow store or server; by default MLFLOW_TRACKING_URI, else beside the output."),
    ] = None,
    no_tracking: Annotated[bool, typer.Option("--no-tracking", help="Keep no MLflow record.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file, print the plan and stop.")
    ] = False,
    top: Annotated[int, typer.Option(min=0, max=1000, help="Trials to print.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Run the sweep in FILE; the same command again runs only what is missing."""
    if tracking_uri is not None and no_tracking:
        raise InputError("--tracking-uri and --no-tracking contradict each other; give one of them")
    chosen = read_sweep(file)
    if gpus_per_trial is not None:
        values = chosen.model_dump(exclude_defaults=True)
        values["metrics"] = chosen.metrics  # whose default is its preset's
        values["resources"] = {**chosen.resources.model_dump(), "gpus": gpus_per_trial}
        chosen = sweep_from(values)
    given = {"known": known, "concurrency": concurrency}
    chosen = chosen.model_copy(update={name: value for name, value in given.items() if value is not None})
    where = out if out is not None else f"runs/{chosen.name}"
    check_predictors(chosen)
    if dry_run:
        show_plan(chosen, where, as_json)
        raise typer.Exit(0)
    target = None if no_tracking else tracking_target(where, tracking_uri, chosen.name)
    request = replace(make_request(chosen, where, target), address=address, wait=wait)
    raise typer.Exit(drive(chosen, request, where, top, as_json))


def check_predictors(sweep: SweepSpec) -> None:
    """Refuse what only the predictors' elements show to be impossible. Raises SpecError."""
    weights = None if sweep.weights is None else Path(sweep.weights)
    predictors, prospects = load_predictors(weights), load_prospects(weights)
    supported = predictors.supported.numpy()
    for base in dict.fromkeys((*sweep.trial_bases, *sweep.compare_bases)):
        spec = sweep.spec({}, base, 0)
        resolve(spec, supported, around(spec, prospects))
        check_phases(spec.screens.names, given=False)
        base_material(spec, predictors)


def show_plan(sweep: SweepSpec, where: str, as_json: bool) -> None:
    """What would be run."""
    searches = len(sweep.trial_bases) * len(sweep.seeds)
    compared = (1 + len(sweep.compare.against)) * len(sweep.compare_bases) * len(sweep.compare.seeds)
    plan = {
        "sweep": sweep.name,
        "trials": sweep.points,
        "searches_a_trial": searches,
        "searches_at_most": sweep.points * searches,
        "comparison_searches": compared,
        "candidates_a_search": sweep.judge().row_count,
        "steps_a_search": sum(sweep.judge().steps),
        "output": where,
    }
    if as_json:
        print(json.dumps(plan))
        return
    for name, value in plan.items():
        print(f"{name.replace('_', ' ')}".ljust(24), f"{value:,}" if isinstance(value, int) else value)


def make_request(sweep: SweepSpec, where: str, tracking: TrackingTarget | None) -> SweepRequest:
    """What a sweep is run with, but for the cluster."""
    weights = None if sweep.weights is None else Path(sweep.weights)
    facts = provenance(weights)
    known, known_id = read_known(sweep.known)
    location = Location.of(where)
    setup = WorkerSetup(
        campaign=location.text if "://" in location.text else location.path,
        device=sweep.resources.torch_device,
        threads=sweep.resources.threads,
        weights=facts["weights"],
        weight_files=weight_files(weights),
        known=known,
        version=__version__,
    )
    hashes = {**facts["weights"], TUNING_KIND: load_card(TUNING_KIND)["sha256"]}
    about = {key: value for key, value in facts.items() if key not in ("weights", "threads", "devices")}
    return SweepRequest(
        where=where,
        identity=sweep_identity(sweep, hashes, known_id),
        about={**about, "resources": sweep.resources.model_dump(mode="json")},
        setup=setup,
        tracking=tracking,
        model_notes=card_notes(weights),
    )


def drive(sweep: SweepSpec, request: SweepRequest, where: str, top: int, as_json: bool) -> int:
    """Run it under a live view, show what came of it, return the exit code."""
    again = "finished seeds are kept; the same command goes on"
    with stop_on_signal(f"stopping; {again}") as stopper, watching() as watcher:
        outcome = run_sweep(sweep, request, watcher=watcher, should_stop=stopper)
    if outcome.found:
        say(f"{where} already holds this sweep, done; shown as it is")
    else:
        tell_known(request.setup.known)
    show_outcome(outcome, where, top, as_json)
    if outcome.tracking is not None:
        tell_tracking(outcome.tracking, "the same command")
    for what, cause in outcome.failures.items():
        say(f"failed: {what}: {cause}")
    if outcome.failures:
        say(f"{len(outcome.failures)} failed; the same command tries them again")
    if outcome.stopped and not outcome.results.complete:
        say(f"stopped; {again}")
        return 1
    if outcome.failures:
        return 3
    return 0 if outcome.results.complete else 1
