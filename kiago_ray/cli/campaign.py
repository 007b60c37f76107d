"""`kiago campaign`: many searches on Ray, from a file; how far they are; their page; their record."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kiago_ray.cli import options
from kiago_ray.cli.campaign_view import CampaignView, show_outcome, show_plan, show_status, tell_tracking
from kiago_ray.cli.console import say, stop_on_signal, watching
from kiago_ray.cli.search import tell_known, tell_tried
from kiago_ray.cli.version import provenance
from kiago_ray.distributed.campaign import CampaignRequest, run_campaign, run_identity
from kiago_ray.distributed.worker import WorkerSetup
from kiago_ray.errors import InputError
from kiago_ray.models import Models, load_models
from kiago_ray.predictors.weights import load_cards, weights_hashes
from kiago_ray.report.search_page import card_notes
from kiago_ray.runs.lease import living_driver
from kiago_ray.runs.literature import chosen_families, known_families
from kiago_ray.runs.page import page_of_directory
from kiago_ray.runs.plan import Plan, make_plan
from kiago_ray.runs.shards import listed_state
from kiago_ray.runs.spec import CampaignSpec, campaign_from, read_campaign, recorded_campaign
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import RunDirectory, read_run
from kiago_ray.tracking import TrackingTarget, default_tracking_uri, record

app = typer.Typer(
    add_completion=False, help="Many searches on Ray: bases × variants × seeds.", no_args_is_help=True
)


@app.command("run")
def run(
    file: Annotated[Path, typer.Argument(help="YAML file with the campaign; see campaigns/.")],
    out: options.NamedOut = None,
    address: options.Address = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="At most so many; by default all the cluster holds."),
    ] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="Instead of the file's resources.gpus, such as 0.5.")
    ] = None,
    known: options.KnownInstead = None,
    tried: Annotated[
        str | None,
        typer.Option(
            help="Instead of the file's tried: a CSV file with formula, tc_k (0: none found) and maybe down_to_k, "
            "shipped (a survey of 2009) or none."
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0, help="Minutes to wait for nodes that an autoscaler adds.")
    ] = 0,
    tracking_uri: options.TrackingUri = None,
    no_tracking: options.NoTracking = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    top: options.Top = 15,
    as_json: options.AsJson = False,
) -> None:
    """Run the campaign in FILE; the same command again runs only what is missing."""
    if tracking_uri is not None and no_tracking:
        raise InputError("--tracking-uri and --no-tracking contradict each other; give one of them")
    campaign = read_campaign(file)
    if gpus_per_worker is not None:
        values = campaign.model_dump()
        values["resources"]["gpus"] = gpus_per_worker
        campaign = campaign_from(values)
    if known is not None:
        campaign = campaign.model_copy(update={"known": known})
    if tried is not None:
        campaign = campaign.model_copy(update={"tried": tried})
    models = load_models(campaign.weights, known=campaign.known, tried=campaign.tried)
    assert models.prospects is not None
    check = partial(models.check, substitutions=models.prospects.anywhere)
    plan = make_plan(campaign, check, known_bases(campaign, models))
    where = out if out is not None else f"runs/{campaign.name}"
    if dry_run:
        show_plan(plan, where, as_json)
        raise typer.Exit(0)
    target = None if no_tracking else tracking_target(where, tracking_uri, campaign.name)
    request = make_request(plan, models, where, target)
    policy = replace(request.policy, workers=workers, wait_s=60 * wait)
    raise typer.Exit(drive(plan, replace(request, address=address, policy=policy), top, as_json))


def known_bases(campaign: CampaignSpec, models: Models) -> list[str]:
    """The bases that a campaign around the literature asks for; none for another. Raises SpecError."""
    if campaign.literature is None:
        return []
    if models.known is None:
        raise InputError("known: none, but bases: literature are the known families; name a table of them")
    assert models.prospects is not None
    families = known_families(models.known, models.prospects.anywhere)
    return [family.base for family in chosen_families(campaign.literature, families)]


@app.command("status")
def status(
    where: Annotated[str, typer.Argument(help="Directory or URI of a campaign.")],
    as_json: options.AsJson = False,
) -> None:
    """How far a campaign is, from any machine that sees its storage."""
    directory = read_run(where)
    plan = recorded_plan(directory)
    driver = None if directory.finished else living_driver(directory.location)
    show_status(directory, plan, listed_state(directory.location, plan), driver, as_json)


@app.command("report")
def report(
    where: Annotated[str, typer.Argument(help="Directory or URI of a campaign.")],
    output: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("report.html"),
) -> None:
    """Write one self-contained page with plots and a sortable table, of a campaign that is done or under way."""
    directory = read_run(where)
    # Of other weights than the shipped ones nothing is known here.
    notes = card_notes(load_cards()) if directory.record.get("weights") == weights_hashes() else ()
    page = page_of_directory(directory.location, recorded_plan(directory), model_notes=notes)
    Location.of(output).write_bytes(page.encode("utf-8"))
    print(f"{output}: {len(page) / 1e6:.1f} MB")


@app.command("track")
def track(
    where: Annotated[str, typer.Argument(help="Directory or URI of a campaign.")],
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store or server.")] = None,
) -> None:
    """Record in MLflow what isn't recorded yet, after a server was away."""
    directory = read_run(where)
    plan = recorded_plan(directory)
    target = tracking_target(where, tracking_uri, plan.campaign.name)
    if target is None:
        raise InputError("--tracking-uri: give the MLflow store or server")
    driver = living_driver(directory.location)
    if driver is not None:
        raise InputError(
            f"{where} is being run by process {driver['pid']} on {driver['host']}, which keeps the record itself"
        )
    outcome = record(directory, plan, target)
    tell_tracking(outcome, f"kiago campaign track {where} --tracking-uri URI")
    raise typer.Exit(3 if outcome.pending or outcome.problem else 0)


def recorded_plan(directory: RunDirectory) -> Plan:
    """The plan of the campaign in a directory. Raises InputError where it holds something else."""
    values = directory.record.get("campaign")
    if not isinstance(values, dict):
        raise InputError(
            f"{directory.location.text} holds a single search, no campaign; look at its report.html"
        )
    # It was checked against its predictors when it began.
    return make_plan(recorded_campaign(values), None, families=directory.record.get("families", ()))


def make_request(plan: Plan, models: Models, where: str, tracking: TrackingTarget | None) -> CampaignRequest:
    """What a campaign is run with, but for the cluster."""
    campaign = plan.campaign
    weights = None if campaign.weights is None else Path(campaign.weights)
    facts = provenance(weights)
    about = {key: value for key, value in facts.items() if key not in ("weights", "threads", "devices")}
    return CampaignRequest(
        where=where,
        identity=run_identity(plan, models.identity),
        about={**about, "resources": campaign.resources.model_dump(mode="json")},
        setup=WorkerSetup.of(where, campaign.resources, models, weights),
        tracking=tracking,
        model_notes=card_notes(models.cards),
    )


def tracking_target(where: str, uri: str | None, experiment: str) -> TrackingTarget | None:
    """Where MLflow's record goes; None, and a line on stderr, where there is no place for it."""
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI") or default_tracking_uri(Location.of(where))
    if chosen is None:
        say("no MLflow record: the output is remote; give --tracking-uri or MLFLOW_TRACKING_URI for one")
        return None
    return TrackingTarget(chosen, experiment)


def drive(plan: Plan, request: CampaignRequest, top: int, as_json: bool) -> int:
    """Run it under a live view, show what came of it, return the exit code."""
    where = str(request.where)
    again = "finished shards are kept; the same command goes on"
    with stop_on_signal(f"stopping; {again}") as stopper, watching(CampaignView()) as view:
        outcome = run_campaign(plan, request, watcher=view, should_stop=stopper)
    if outcome.results is None:
        say(f"{where} already holds this campaign, done; shown as it is")
    else:
        tell_known(request.setup.known)
        tell_tried(request.setup.tried)
    show_outcome(outcome, where, top, as_json)
    for shard, cause in outcome.failures.items():
        say(f"failed: {shard}: {cause}")
    if outcome.stopped and outcome.results is not None:
        say(f"stopped with {outcome.results.shards_done:,} of {plan.shard_count:,} shards done; {again}")
    if outcome.failures:
        say(f"{len(outcome.failures)} of {plan.shard_count} shards failed; {again}")
    if outcome.tracking is not None:
        tell_tracking(outcome.tracking, f"kiago campaign track {where} --tracking-uri URI")
    if outcome.failures:
        return 3
    return 0 if outcome.complete else 1
