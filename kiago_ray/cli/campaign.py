"""`kiago campaign`: many searches on Ray, from a file; how far they are; their page; their record."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from typer import Argument, Option

from kiago_ray.cli import console
from kiago_ray.cli.console import plain_table, plural, print_facts, print_json, say
from kiago_ray.distributed.dispatch import RunRequest, Watcher, WorkerInfo, WorkerSetup
from kiago_ray.distributed.drivers import Outcome, run_campaign, run_identity
from kiago_ray.errors import InputError
from kiago_ray.models import Models, load_models
from kiago_ray.predictors.weights import TUNING_ORACLE, load_card, load_cards, weights_hashes
from kiago_ray.progress import LINE_S, View, watching
from kiago_ray.report.page import card_notes
from kiago_ray.report.tables import best_table, measured_remarks, no_gain, top_table
from kiago_ray.runs.lease import Lease, living_driver
from kiago_ray.runs.plan import Plan, PlannedSearch, Shard, make_plan
from kiago_ray.runs.results import page_of_directory
from kiago_ray.runs.shards import Manifest, read_manifest
from kiago_ray.runs.spec import CampaignSpec, RunSpec, chosen_families, known_families, recorded_campaign
from kiago_ray.runs.state import best_of, machines_of, state_of
from kiago_ray.runs.verification import changed_results, damage_of, repair
from kiago_ray.storage.location import Location
from kiago_ray.storage.machines import in_words, mixed_remark
from kiago_ray.storage.run_directory import (
    CANDIDATES,
    CampaignResults,
    RunDirectory,
    SearchResults,
    read_results,
    read_run,
    versions,
)
from kiago_ray.storage.table import first_rows
from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.tracking.record import record
from kiago_ray.tracking.target import tracking_target

REPAIR = "`kiago campaign repair {}` makes results again that can be made from whole shards"
TRACK = "kiago campaign track {} --tracking-uri URI"  # sends MLflow what it lacks
SHOWN_ROWS = 40
_RECENT_S = 1800.0  # what counts for the pace of a running campaign

Ended = TypeVar("Ended", bound=Outcome[Any])

Where = Annotated[str, Argument(help="Directory or URI of a campaign.")]

campaign = typer.Typer(help="Many searches on Ray: bases × variants × seeds.", no_args_is_help=True)


@campaign.command()
def run(
    file: Annotated[Path, Argument(help="YAML file with the campaign; see campaigns/.")],
    out: console.NamedOut = None,
    address: console.Address = None,
    workers: Annotated[
        int | None, Option(min=1, max=100_000, help="At most so many; by default all the cluster holds.")
    ] = None,
    gpus_per_worker: console.Gpus = None,
    known: console.Known = None,
    tried: console.Tried = None,
    wait: Annotated[float, Option(min=0, help="Minutes to wait for nodes that an autoscaler adds.")] = 0,
    tracking_uri: console.TrackingUri = None,
    no_tracking: console.NoTracking = False,
    dry_run: console.DryRun = False,
    top: console.Top = 15,
    as_json: console.AsJson = False,
) -> int:
    """Run the campaign in FILE; the same command again runs only what is missing."""
    campaign = CampaignSpec.read(file).overridden(gpus_per_worker, known=known, tried=tried)
    models = load_models(campaign.weights, known=campaign.known, tried=campaign.tried)
    plan = planned(campaign, models)
    where = out if out is not None else f"runs/{campaign.name}"
    if dry_run:
        show_plan(plan, where, as_json)
        return 0
    how = {"address": address, "workers": workers, "wait_s": 60 * wait}
    request = requested(plan, models, where, tracking_uri, no_tracking, **how)
    outcome = drive(run_campaign, plan, request, CampaignView(), "shards", TRACK.format(where))
    show_outcome(outcome, where, top, as_json)
    return 3 if outcome.failures else 0 if outcome.results.complete else 1


@campaign.command()
def status(where: Where, as_json: console.AsJson = False) -> None:
    """How far a campaign is, from any machine that sees its storage."""
    directory = read_run(where)
    plan = recorded_plan(directory)
    state = state_of(directory.location, plan, read_manifest)
    driver = None if directory.finished else living_driver(directory.location)
    manifests = list(state.manifests.values())
    rows = sum(manifest.rows for manifest in manifests)
    pace = rows_a_second(manifests) if driver else None
    recorded = read_results(directory.location, CampaignResults)
    failures = recorded.failures if recorded else {}
    facts = {
        "name": plan.campaign.name,
        "finished": directory.finished,
        "driver": driver and {"host": driver["host"], "pid": driver["pid"]},
        "shards_done": len(manifests),
        "shards": plan.shard_count,
        "rows_done": rows,
        "rows": plan.candidates,
        "rows_per_s": pace,
        "left_s": (plan.candidates - rows) / pace if pace else None,
        "best": best_of(each.best for each in manifests),
        "damaged": state.damaged,
        # A shard that has failed may have been run again since.
        "failures": {name: why for name, why in failures.items() if name not in state.manifests},
    }
    machines, finished = machines_of(manifests), state.by_search()
    searches = [search_line(search, finished.get(search.name, [])) for search in plan.searches]
    if as_json:
        print_json({**facts, "machines": machines, "searches": searches})
        return
    show_table(searches, plan, {**facts, "machines": in_words(machines)})
    if not driver:
        goes_on = "Nobody drives it; `kiago campaign run` with its file goes on."
        print("It is finished." if directory.finished else goes_on)


@campaign.command()
def report(
    where: Where,
    output: Annotated[Path, Option(help="The HTML page to write.")] = Path("report.html"),
) -> None:
    """Write one self-contained page with plots and a sortable table, of a campaign that is done or under way."""
    directory, page_file = read_run(where), Location.of(output)
    page_file.try_out()
    page = page_of_directory(directory.location, recorded_plan(directory), model_notes=notes_of(directory))
    page_file.write_bytes(page.encode())
    print(f"{output}: {len(page) / 1e6:.1f} MB")


@campaign.command()
def verify(where: Where, as_json: console.AsJson = False) -> int:
    """Read every file of a campaign, or of one search, and compare it to the hashes that were written with it."""
    directory = read_run(where)
    if "campaign" not in directory.record:
        texts = changed_results(directory.location, SearchResults, needed=True)
        return show_damage(where, {}, texts, "the same command that made it makes it again", as_json)
    damage = damage_of(directory, recorded_plan(directory))
    return show_damage(where, damage.shards, damage.results, REPAIR.format(where), as_json)


@campaign.command(name="repair")
def repair_results(where: Where, as_json: console.AsJson = False) -> int:
    """Make again, from shards that are whole, what is damaged of a campaign's results: tables, plots, pages."""
    directory = read_run(where)
    plan = recorded_plan(directory)
    with Lease(directory.location):
        damage = damage_of(directory, plan)
        left = repair(directory, plan, damage, model_notes=notes_of(directory))
    for text in () if left else damage.results:
        say(f"made again: {text}")
    return show_damage(where, damage.shards, left, "`kiago campaign run` with its file makes them", as_json)


def show_damage(
    where: str, shards: Mapping[str, str], results: Sequence[str], advice: str, as_json: bool
) -> int:
    """What is wrong with a run, a line each, and what to do; the exit code."""
    if as_json:
        print_json({"out": where, "whole": not (shards or results), "shards": shards, "results": results})
    else:
        for text in (*shards.values(), *results):
            print(text)
        print(f"{where} is whole" if not (shards or results) else advice)
    return 3 if shards or results else 0


def notes_of(directory: RunDirectory) -> tuple[str, ...]:
    """What a page says of the predictors: of other weights than the shipped ones nothing is known here."""
    return card_notes(load_cards()) if directory.record.get("weights") == weights_hashes() else ()


@campaign.command()
def track(
    where: Where,
    tracking_uri: Annotated[str | None, Option(help="MLflow store or server.")] = None,
) -> int:
    """Record in MLflow what isn't recorded yet, after a server was away."""
    directory = read_run(where)
    plan = recorded_plan(directory)
    target = tracking_target(directory.location, tracking_uri, plan.campaign.name)
    if target is None:
        raise InputError("--tracking-uri: give the MLflow store or server")
    if driver := living_driver(directory.location):
        raise InputError(
            f"{where} is being run by process {driver['pid']} on {driver['host']}, which keeps the record itself"
        )
    outcome = record(directory, plan, target)
    say(outcome.in_words(TRACK.format(where)))
    return 3 if outcome.pending or outcome.problem else 0


def planned(campaign: CampaignSpec, models: Models) -> Plan:
    """The plan of a campaign that these models can run. Raises SpecError."""
    assert models.prospects is not None
    substitutions = models.prospects.anywhere  # found at once, unlike those around each base, it tells enough
    check = partial(models.check, substitutions=substitutions)
    if campaign.literature is None:
        return make_plan(campaign, check)
    if models.known is None:
        raise InputError("known: none, but bases: literature are the known families; name a table of them")
    families = chosen_families(campaign.literature, known_families(models.known, substitutions))
    return make_plan(campaign, check, families["base"].tolist())


def recorded_plan(directory: RunDirectory) -> Plan:
    """The plan of the campaign in a directory. Raises InputError where it holds something else."""
    values = directory.record.get("campaign")
    if not isinstance(values, dict):
        raise InputError(
            f"{directory.location.text} holds a single search, no campaign; look at its report.html"
        )
    # It was checked against its predictors when it began.
    return make_plan(recorded_campaign(values), None, families=directory.record.get("families", ()))


def requested(
    what: Plan | SweepSpec,
    models: Models,
    where: str,
    tracking_uri: str | None,
    no_tracking: bool,
    **how: Any,
) -> RunRequest:
    """What a run is made with; says where it has no record. how: more of `RunRequest`. Raises TrackingError."""
    tuning = () if isinstance(what, Plan) else (TUNING_ORACLE,)
    hashes = models.hashes | {kind: load_card(kind)["sha256"] for kind in tuning}
    spec: RunSpec = what.campaign if isinstance(what, Plan) else what
    if no_tracking and tracking_uri is not None:
        raise InputError("--tracking-uri and --no-tracking contradict each other; give one of them")
    target = None if no_tracking else tracking_target(Location.of(where), tracking_uri, spec.name)
    if target is None and not no_tracking:
        say("no MLflow record: the output is remote; give --tracking-uri or MLFLOW_TRACKING_URI for one")
    weights = None if spec.weights is None else Path(spec.weights)
    return RunRequest(
        where=where,
        identity=run_identity(what, {**models.identity, "weights": hashes}),
        about={**versions(), "resources": spec.resources.model_dump(mode="json")},
        setup=WorkerSetup.of(where, spec.resources, models, weights),
        tracking=target,
        model_notes=card_notes(models.cards),
        **how,
    )


def drive(
    run: Callable[..., Ended],
    what: Plan | SweepSpec,
    request: RunRequest,
    view: View,
    parts: str,
    resend: str,
) -> Ended:
    """Run a campaign or sweep under a live view, until it is done or a signal stops it, and say how it ended. parts:
    what it consists of, such as shards, which are kept. resend: the command that sends MLflow what it lacks.
    """
    again = f"finished {parts} are kept; the same command goes on"
    with (
        console.stop_on_signal(f"stopping; {again}") as stopper,
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),  # what Ray and Tune print, which is long
        watching(view),
    ):
        outcome = run(what, request, watcher=view, should_stop=stopper)
    if outcome.found:
        say(f"{request.where} already holds this run, done; shown as it is")
    else:
        console.tell_known(request.setup.known, request.setup.tried)
    for part, cause in outcome.failures.items():
        say(f"failed: {part}: {cause}")
    if outcome.failures:
        say(f"{len(outcome.failures)} failed; the same command tries them again")
    if outcome.stopped:
        say(f"stopped; {again}")
    if outcome.tracking is not None:
        say(outcome.tracking.in_words(resend))
    return outcome


class CampaignView(View, Watcher):
    """Counts a campaign's shards and rows, and tells of workers that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.shards = self.shards_done = self.workers = self.lost = self.failed = 0
        self.best: dict[str, Any] | None = None
        self.waits: Sequence[str] = ()

    def begun(self, plan: Plan, finished: list[Manifest], damaged: list[str]) -> None:
        self.shards, self.total, self.shards_done = plan.shard_count, plan.candidates, len(finished)
        self.best = best_of(manifest.best for manifest in finished)
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
        self.shards_done += 1
        self.best = best_of((self.best, manifest.best))
        self.done += manifest.rows
        self.moved(at_most_each_s=0.0 if self.shards_done == self.shards else LINE_S)

    def waits_for(self, what: Sequence[str]) -> None:
        self.waits = what
        if what:
            self.moved(at_most_each_s=4 * LINE_S)

    def shard_failed(self, shard: Shard, cause: str) -> None:
        self.failed += 1
        say(f"failed: {shard.name}: {cause}")

    def progress(self) -> str:
        """Shards, rows a second, time left, the best so far, failures, what it waits for."""
        parts = [f"shard {self.shards_done:,}/{self.shards:,}"]
        if (rate := self.rate()) is not None:
            parts += [f"{rate:,.1f} rows/s", self.left()]
        if best := self.best:
            parts.append(f"best {best['formula']} {best['tc_k']:.1f} K")
        if self.lost:
            parts.append(plural(self.lost, "lost worker"))
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.waits:
            more = f" and {len(self.waits) - 1} more" if len(self.waits) > 1 else ""
            parts.append(f"waiting for {self.waits[0]}{more}")
        return ", ".join(parts)


def show_plan(plan: Plan, where: str, as_json: bool) -> None:
    """What would run and what a worker takes; of a campaign around the literature, the known families too."""
    listed = [
        {"search": each.name, "base": each.base, "variant": each.variant, "seed": each.seed}
        | {"candidates": each.row_count, "steps": sum(each.spec.steps), "shards": each.shard_count}
        for each in plan.searches
    ]
    facts = {
        "name": plan.campaign.name,
        "out": where,
        "searches": len(plan.searches),
        "shards": plan.shard_count,
        "candidates": plan.candidates,
        "cpus_per_worker": plan.campaign.resources.cpus,
        "gpus_per_worker": plan.campaign.resources.gpus,
        "memory_mb_per_worker": plan.memory_mb,
    }
    if as_json:
        around = {"families": plan.families, "left_out": dict(plan.left_out)} if plan.families else {}
        print_json({**facts, **around, "plan": listed})
        return
    if plan.families:
        print(f"{len(plan.families):,} known families, the best known first:\n{' '.join(plan.families)}\n")
    for base, why in plan.left_out:
        print(f"{base} can't be searched: {why}")
    named = ("base", "variant", "seed")  # which a search's name holds
    show_table([{key: each[key] for key in each if key not in named} for each in listed], plan, facts)
    say("nothing was started")


def search_line(search: PlannedSearch, done: Sequence[Manifest]) -> dict[str, Any]:
    """What is done of a search of a campaign."""
    best = best_of(each.best for each in done)
    return {
        "search": search.name,
        "shards": f"{len(done)}/{search.shard_count}",
        "rows": sum(manifest.rows for manifest in done),
        "passed": sum(manifest.passed for manifest in done),
        "best": best and best["formula"],
        "tc_k": best and round(best["tc_k"], 1),
    }


def rows_a_second(manifests: Sequence[Manifest]) -> float | None:
    """The pace of the last half hour of work, None where one can't be told."""
    ends = sorted((float(each.made["finished_at"]), each.rows) for each in manifests)
    recent = [(end, rows) for end, rows in ends if end >= ends[-1][0] - _RECENT_S]
    took_s = recent[-1][0] - recent[0][0] if recent else 0.0
    return sum(rows for _, rows in recent[1:]) / took_s if took_s else None


def show_outcome(outcome: Outcome[CampaignResults], where: str, top: int, as_json: bool) -> None:
    """The best rows and the counts."""
    results = outcome.results
    rows = first_rows(outcome.directory.location / CANDIDATES, top).to_pylist()
    if as_json:
        found = {"complete": results.complete, "summary": results.to_dict(), "top": rows}
        wrong = {"failures": outcome.failures, "damaged": outcome.damaged}
        print_json({"out": where, **found, **wrong, "tracking": outcome.tracking and vars(outcome.tracking)})
        return
    title = "Best proposals of all searches"
    if any(row["passed"] for row in rows):
        rows = [row for row in rows if row["passed"]]  # they come first
    elif rows:
        title = "No formula passed every screen; the best that failed"
    best = best_table(rows, (), title, places=("base", "source", "search"))
    Console().print(best, *measured_remarks(rows), "", top_table(results.top), sep="\n")
    if remark := no_gain(results.gains, results.passed):
        print(f"\n{remark}")
    if remark := mixed_remark(results.machines):
        print(f"\n{remark}")
    print()
    counts = ("candidates", "rows", "unique", "passed", "new_systems")
    print_facts({name: getattr(results, name) for name in counts})
    print(f"Everything is in {where}/ (report.html, top.csv, candidates.parquet, searches/).")


def show_table(rows: Sequence[Mapping[str, Any]], plan: Plan, facts: Mapping[str, object]) -> None:
    """The first of a campaign's rows, whose keys are the headers, and the facts of all."""
    print(f"Campaign {plan.campaign.name}")
    Console().print(plain_table(rows[:SHOWN_ROWS], names=("search", "best")))
    print(f"… and {len(rows) - SHOWN_ROWS:,} more\n" if len(rows) > SHOWN_ROWS else "")
    print_facts(facts)
