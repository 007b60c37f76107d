"""`kiago sweep`: many trials of a search's fields on Ray Tune, from a file; the best as a preset."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from kiago_ray.cli import options
from kiago_ray.cli.campaign import tracking_target
from kiago_ray.cli.campaign_view import tell_tracking
from kiago_ray.cli.console import say, stop_on_signal, watching
from kiago_ray.cli.search import tell_known
from kiago_ray.cli.sweep_view import SweepView, show_outcome
from kiago_ray.cli.version import provenance
from kiago_ray.distributed.sweep import SweepRequest, run_sweep, sweep_identity
from kiago_ray.distributed.worker import WorkerSetup
from kiago_ray.errors import InputError
from kiago_ray.models import Models, load_models
from kiago_ray.predictors.weights import TUNING_ORACLE, load_card
from kiago_ray.report.search_page import card_notes
from kiago_ray.sweep.spec import SweepSpec, read_sweep, sweep_from
from kiago_ray.tracking import TrackingTarget

app = typer.Typer(add_completion=False)


@app.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="YAML file with the sweep; see tune_configs/.")],
    out: options.NamedOut = None,
    address: options.Address = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Trials at a time, instead of the file's.")
    ] = None,
    gpus_per_trial: Annotated[
        float | None, typer.Option(min=0, help="Instead of the file's resources.gpus, such as 0.25.")
    ] = None,
    known: options.KnownInstead = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for nodes that an autoscaler adds, where none fits yet.")
    ] = False,
    tracking_uri: options.TrackingUri = None,
    no_tracking: options.NoTracking = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file, print the plan and stop.")
    ] = False,
    top: Annotated[int, typer.Option(min=0, max=1000, help="Trials to print.")] = 10,
    as_json: options.AsJson = False,
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
    models = checked_models(chosen)
    if dry_run:
        show_plan(chosen, where, as_json)
        raise typer.Exit(0)
    target = None if no_tracking else tracking_target(where, tracking_uri, chosen.name)
    request = replace(make_request(chosen, models, where, target), address=address, wait=wait)
    raise typer.Exit(drive(chosen, request, where, top, as_json))


def checked_models(sweep: SweepSpec) -> Models:
    """The models of a sweep. Raises SpecError where they can't run one of its searches."""
    models = load_models(sweep.weights, known=sweep.known)
    for base in dict.fromkeys((*sweep.trial_bases, *sweep.compare_bases)):
        models.check(sweep.spec({}, base, 0))
    return models


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


def make_request(
    sweep: SweepSpec, models: Models, where: str, tracking: TrackingTarget | None
) -> SweepRequest:
    """What a sweep is run with, but for the cluster."""
    weights = None if sweep.weights is None else Path(sweep.weights)
    facts = provenance(weights)
    hashes = {**models.hashes, TUNING_ORACLE: load_card(TUNING_ORACLE)["sha256"]}
    about = {key: value for key, value in facts.items() if key not in ("weights", "threads", "devices")}
    return SweepRequest(
        where=where,
        identity=sweep_identity(sweep, hashes, models.identity["known"]),
        about={**about, "resources": sweep.resources.model_dump(mode="json")},
        setup=WorkerSetup.of(where, sweep.resources, models, weights),
        tracking=tracking,
        model_notes=card_notes(models.cards),
    )


def drive(sweep: SweepSpec, request: SweepRequest, where: str, top: int, as_json: bool) -> int:
    """Run it under a live view, show what came of it, return the exit code."""
    again = "finished seeds are kept; the same command goes on"
    with stop_on_signal(f"stopping; {again}") as stopper, watching(SweepView(sweep)) as view:
        outcome = run_sweep(sweep, request, watcher=view, should_stop=stopper)
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
