"""`kiago campaign`: many searches on Ray, from a file; how far they are; their page; their record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from kiago_ray.cli import console
from kiago_ray.cli.console import NO_RECORD, View, plain_table, plural, print_json, say
from kiago_ray.distributed.cluster import WorkerInfo, WorkerSetup
from kiago_ray.distributed.dispatch import Watcher
from kiago_ray.distributed.drivers import CampaignOutcome, RunRequest, run_campaign, run_identity
from kiago_ray.errors import InputError
from kiago_ray.machine import versions
from kiago_ray.models import Models, load_models
from kiago_ray.predictors.weights import load_cards, weights_hashes
from kiago_ray.report.page import card_notes
from kiago_ray.report.tables import best_table, no_gain, top_table
from kiago_ray.runs.lease import living_driver
from kiago_ray.runs.outcome import CampaignResults, read_results
from kiago_ray.runs.plan import Plan, Shard, make_plan
from kiago_ray.runs.results import page_of_directory
from kiago_ray.runs.shards import Manifest, State, best_of, read_manifest, state_of
from kiago_ray.runs.spec import (
    CampaignSpec,
    chosen_families,
    known_families,
    overridden,
    read_campaign,
    recorded_campaign,
)
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import CANDIDATES, RunDirectory, read_run
from kiago_ray.storage.table import first_rows
from kiago_ray.tracking import TrackingTarget, record, tracking_target

SHOWN_ROWS = 40
LINE_S = 15.0  # between two lines on the progress
_RECENT_S = 1800.0  # what counts for the pace of a running campaign
_WIDE = 150  # characters from which there is room for base, source and search
_PLACES_WIDTH = 50

Where = Annotated[str, typer.Argument(help="Directory or URI of a campaign.")]

app = typer.Typer(
    add_completion=False, help="Many searches on Ray: bases × variants × seeds.", no_args_is_help=True
)


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="YAML file with the campaign; see campaigns/.")],
    out: console.NamedOut = None,
    address: console.Address = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=100_000, help="At most so many; by default all the cluster holds."),
    ] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, help="Instead of the file's resources.gpus, such as 0.5.")
    ] = None,
    known: console.KnownInstead = None,
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
    tracking_uri: console.TrackingUri = None,
    no_tracking: console.NoTracking = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    top: console.Top = 15,
    as_json: console.AsJson = False,
) -> None:
    """Run the campaign in FILE; the same command again runs only what is missing."""
    campaign = overridden(read_campaign(file), gpus_per_worker, known=known, tried=tried)
    models = load_models(campaign.weights, known=campaign.known, tried=campaign.tried)
    assert models.prospects is not None
    check = partial(models.check, substitutions=models.prospects.anywhere)
    plan = make_plan(campaign, check, known_bases(campaign, models))
    where = out if out is not None else f"runs/{campaign.name}"
    if dry_run:
        show_plan(plan, where, as_json)
        raise typer.Exit(0)
    target = tracking_target(Location.of(where), tracking_uri, campaign.name, none=no_tracking)
    if target is None and not no_tracking:
        say(NO_RECORD)
    request = replace(make_request(plan, models, where, target), address=address)
    policy = replace(request.policy, workers=workers, wait_s=60 * wait)
    raise typer.Exit(drive(plan, replace(request, policy=policy), top, as_json))


@app.command()
def status(where: Where, as_json: console.AsJson = False) -> None:
    """How far a campaign is, from any machine that sees its storage."""
    directory = read_run(where)
    plan = recorded_plan(directory)
    driver = None if directory.finished else living_driver(directory.location)
    show_status(directory, plan, state_of(directory.location, plan, read_manifest), driver, as_json)


@app.command()
def report(
    where: Where,
    output: Annotated[Path, typer.Option(help="The HTML page to write.")] = Path("report.html"),
) -> None:
    """Write one self-contained page with plots and a sortable table, of a campaign that is done or under way."""
    directory = read_run(where)
    # Of other weights than the shipped ones nothing is known here.
    notes = card_notes(load_cards()) if directory.record.get("weights") == weights_hashes() else ()
    page = page_of_directory(directory.location, recorded_plan(directory), model_notes=notes)
    Location.of(output).write_bytes(page.encode("utf-8"))
    print(f"{output}: {len(page) / 1e6:.1f} MB")


@app.command()
def track(
    where: Where,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store or server.")] = None,
) -> None:
    """Record in MLflow what isn't recorded yet, after a server was away."""
    directory = read_run(where)
    plan = recorded_plan(directory)
    target = tracking_target(directory.location, tracking_uri, plan.campaign.name)
    if target is None:
        raise InputError("--tracking-uri: give the MLflow store or server")
    driver = living_driver(directory.location)
    if driver is not None:
        raise InputError(
            f"{where} is being run by process {driver['pid']} on {driver['host']}, which keeps the record itself"
        )
    outcome = record(directory, plan, target)
    say(outcome.in_words(f"kiago campaign track {where} --tracking-uri URI"))
    raise typer.Exit(3 if outcome.pending or outcome.problem else 0)


def known_bases(campaign: CampaignSpec, models: Models) -> list[str]:
    """The bases that a campaign around the literature asks for; none for another. Raises SpecError."""
    if campaign.literature is None:
        return []
    if models.known is None:
        raise InputError("known: none, but bases: literature are the known families; name a table of them")
    assert models.prospects is not None
    families = known_families(models.known, models.prospects.anywhere)
    return [family.base for family in chosen_families(campaign.literature, families)]


def recorded_plan(directory: RunDirectory) -> Plan:
    """The plan of the campaign in a directory. Raises InputError where it holds something else."""
    values = directory.record.get("campaign")
    if not isinstance(values, dict):
        raise InputError(
            f"{directory.location.text} holds a single search, no campaign; look at its report.html"
        )
    # It was checked against its predictors when it began.
    return make_plan(recorded_campaign(values), None, families=directory.record.get("families", ()))


def make_request(plan: Plan, models: Models, where: str, tracking: TrackingTarget | None) -> RunRequest:
    """What a campaign is run with, but for the cluster."""
    campaign = plan.campaign
    weights = None if campaign.weights is None else Path(campaign.weights)
    return RunRequest(
        where=where,
        identity=run_identity(plan, models.identity),
        about={**versions(), "resources": campaign.resources.model_dump(mode="json")},
        setup=WorkerSetup.of(where, campaign.resources, models, weights),
        tracking=tracking,
        model_notes=card_notes(models.cards),
    )


def drive(plan: Plan, request: RunRequest, top: int, as_json: bool) -> int:
    """Run it under a live view, show what came of it, return the exit code."""
    where = str(request.where)
    again = "finished shards are kept; the same command goes on"
    with console.stop_on_signal(f"stopping; {again}") as stopper, console.watching(CampaignView()) as view:
        outcome = run_campaign(plan, request, watcher=view, should_stop=stopper)
    if outcome.results is None:
        say(f"{where} already holds this campaign, done; shown as it is")
    else:
        console.tell_known(request.setup.known)
        console.tell_tried(request.setup.tried)
    show_outcome(outcome, where, top, as_json)
    for shard, cause in outcome.failures.items():
        say(f"failed: {shard}: {cause}")
    if outcome.stopped and outcome.results is not None:
        say(f"stopped with {outcome.results.shards_done:,} of {plan.shard_count:,} shards done; {again}")
    if outcome.failures:
        say(f"{len(outcome.failures)} of {plan.shard_count} shards failed; {again}")
    if outcome.tracking is not None:
        say(outcome.tracking.in_words(f"kiago campaign track {where} --tracking-uri URI"))
    if outcome.failures:
        return 3
    return 0 if outcome.complete else 1


class CampaignView(View, Watcher):
    """Counts a campaign's shards and rows, and tells of workers that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.shards = self.workers = self.lost = self.failed = 0
        self.manifests: list[Manifest] = []

    def begun(self, plan: Plan, finished: list[Manifest], damaged: list[str]) -> None:
        self.shards, self.total, self.manifests = plan.shard_count, plan.candidates, [*finished]
        self.done = self.before = sum(manifest.rows for manifest in finished)
        if finished:
            say(f"{len(finished):,} of {self.shards:,} shards are done already")
        for text in damaged:
            say(f"damaged, run again: {text}")

    def worker_started(self, info: WorkerInfo) -> None:
        self.workers += 1
        gpus = f", GPU {', '.join(info.gpus)}" if info.gpus else ""
        say(
            f"worker {self.workers} on {info.host} (process {info.pid}): {info.device_name}, "
            f"{plural(info.threads, 'thread')}{gpus}"
        )

    def worker_lost(self, shard: Shard | None, cause: str) -> None:
        self.lost += 1
        where = "before its first shard" if shard is None else f"at {shard.name}, which will be run again"
        say(f"lost a worker {where}: {cause}")

    def shard_done(self, manifest: Manifest) -> None:
        self.manifests.append(manifest)
        self.done += manifest.rows
        self.moved(at_most_each_s=0.0 if len(self.manifests) == self.shards else LINE_S)

    def shard_failed(self, shard: Shard, cause: str) -> None:
        self.failed += 1
        say(f"failed: {shard.name}: {cause}")

    def note(self, text: str) -> None:
        say(text)

    def progress(self) -> str:
        """Shards, rows a second, time left, the best so far, failures."""
        parts = [f"shard {len(self.manifests):,}/{self.shards:,}"]
        if (rate := self.rate()) is not None:
            parts += [f"{rate:,.1f} rows/s", self.left()]
        if best := best_of(self.manifests):
            parts.append(f"best {best['formula']} {best['tc_k']:.1f} K")
        if self.lost:
            parts.append(plural(self.lost, "lost worker"))
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)


def show_plan(plan: Plan, where: str, as_json: bool) -> None:
    """What would run: searches, shards, candidates, memory a worker; the known families of a campaign around the
    literature, and those that can't be searched.
    """
    listed = [
        {
            "search": each.name,
            "base": each.base,
            "variant": each.variant,
            "seed": each.seed,
            "candidates": each.row_count,
            "steps": sum(each.spec.steps),
            "shards": each.shard_count,
        }
        for each in plan.searches
    ]
    if as_json:
        facts = {
            "name": plan.campaign.name,
            "out": where,
            "searches": len(plan.searches),
            "shards": plan.shard_count,
            "candidates": plan.candidates,
            "memory_mb_per_worker": plan.memory_mb,
        }
        around = {"families": plan.families, "left_out": dict(plan.left_out)} if plan.families else {}
        print_json({**facts, **around, "plan": listed})
        return
    shown = ("search", "candidates", "steps", "shards")  # a search's name holds the rest
    show_table([{key: each[key] for key in shown} for each in listed], f"Campaign {plan.campaign.name}")
    if plan.families:
        print(f"\n{len(plan.families):,} known families, the best known first:")
        print(" ".join(plan.families))
    if plan.left_out:
        print(f"\n{len(plan.left_out):,} can't be searched:")
    for base, why in plan.left_out:
        print(f"{base}: {why}")
    demand = plan.campaign.resources
    print(
        f"\n{len(listed):,} searches, {plan.shard_count:,} shards, {plan.candidates:,} candidates; a worker "
        f"takes {demand.cpus:g} CPU, {demand.gpus:g} GPU and about {plan.memory_mb:,} MB.\n"
        f"Nothing was started; the output would go to {where}."
    )


def show_status(
    directory: RunDirectory, plan: Plan, state: State, driver: Mapping[str, Any] | None, as_json: bool
) -> None:
    """Shards and rows done, pace, time left, the best so far, failures of the last run. driver: the host and the
    process that run it now.
    """
    manifests = list(state.manifests.values())
    rows = sum(manifest.rows for manifest in manifests)
    pace = rows_a_second(manifests) if driver else None
    left_s = (plan.candidates - rows) / pace if pace else None
    recorded = read_results(directory.location, CampaignResults)
    # A shard that has failed may have been run again since.
    failed = {
        name: why
        for name, why in (recorded.failures if recorded else {}).items()
        if name not in state.manifests
    }
    searches = search_lines(plan, state)
    if as_json:
        print_json(
            {
                "name": plan.campaign.name,
                "finished": directory.finished,
                "driver": driver and {key: driver[key] for key in ("host", "pid")},
                "shards_done": len(manifests),
                "shards": plan.shard_count,
                "rows_done": rows,
                "rows": plan.candidates,
                "rows_per_s": pace,
                "left_s": left_s,
                "best": best_of(manifests),
                "damaged": state.damaged,
                "failures": failed,
                "searches": searches,
            }
        )
        return
    show_table(searches, f"Campaign {plan.campaign.name}")
    print(
        f"\n{len(manifests):,} of {plan.shard_count:,} shards, {rows:,} of {plan.candidates:,} rows are done."
    )
    if directory.finished:
        print("It is finished.")
    elif driver:
        speed = f"; {pace:,.1f} rows/s, {console.duration(left_s)} left" if pace and left_s else ""
        print(f"Process {driver['pid']} on {driver['host']} drives it{speed}.")
    else:
        print("Nobody drives it; `kiago campaign run` with its file goes on.")
    for name, why in [*state.damaged.items(), *failed.items()]:
        print(f"{name}: {why}")


def search_lines(plan: Plan, state: State) -> list[dict[str, Any]]:
    """What is done of each search of a campaign."""
    lines, finished = [], state.by_search()
    for search in plan.searches:
        done = finished.get(search.name, [])
        best = best_of(done)
        lines.append(
            {
                "search": search.name,
                "shards": f"{len(done)}/{search.shard_count}",
                "rows": sum(manifest.rows for manifest in done),
                "passed": sum(manifest.passed for manifest in done),
                "best": best and best["formula"],
                "tc_k": best and round(best["tc_k"], 1),
            }
        )
    return lines


def rows_a_second(manifests: Sequence[Manifest]) -> float | None:
    """The pace of the last half hour of work, None where one can't be told."""
    ends = sorted((float(each.made["finished_at"]), each.rows) for each in manifests)
    recent = [(end, rows) for end, rows in ends if end >= ends[-1][0] - _RECENT_S]
    if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
        return None
    return sum(rows for _, rows in recent[1:]) / (recent[-1][0] - recent[0][0])


def show_outcome(outcome: CampaignOutcome, where: str, top: int, as_json: bool) -> None:
    """The best rows and the counts."""
    place = outcome.directory.location
    results = outcome.results or read_results(place, CampaignResults)
    assert results is not None  # a campaign that was found finished has it among its outputs
    rows = first_rows(place / CANDIDATES, top).to_pylist()
    if as_json:
        print_json(
            {
                "out": where,
                "complete": outcome.complete,
                "summary": results.to_dict(),
                "top": rows,
                "failures": outcome.failures,
                "damaged": outcome.damaged,
                "tracking": outcome.tracking and vars(outcome.tracking),
            }
        )
        return
    title = "Best proposals of all searches"
    if any(row["passed"] for row in rows):
        rows = [row for row in rows if row["passed"]]  # they come first
    elif rows:
        title = "No formula passed every screen; the best that failed"
    width, places = Console().width, []
    if width >= _WIDE:
        places = [name for name in ("base", "source", "search") if any(row[name] for row in rows)]
        width -= _PLACES_WIDTH
    best = best_table(rows, (), title, width=width, places=places)
    Console().print(best, "", top_table(results.top), sep="\n")
    if remark := no_gain(results.gains, results.passed):
        print(f"\n{remark}")
    print(
        f"\n{results.rows:,} of {results.candidates:,} candidates done; {results.unique:,} unique formulas, "
        f"{results.passed:,} of them passed every screen."
    )
    if results.new_systems is not None:
        print(f"{results.new_systems:,} proposals are of chemical systems without a known superconductor.")
    print(f"Everything is in {where}/ (report.html, top.csv, candidates.parquet, searches/).")


def show_table(rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """The first of these rows, whose keys are the headers."""
    Console().print(plain_table(rows[:SHOWN_ROWS], names=("search",), texts=("best",), title=title))
    if len(rows) > SHOWN_ROWS:
        print(f"… and {len(rows) - SHOWN_ROWS:,} more")
