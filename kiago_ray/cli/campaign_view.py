"""What the campaign commands show: the plan, how far it is, what came of it. Tables for a person, or JSON."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kiago_ray.cli.console import View, plain_table, print_json, say
from kiago_ray.distributed.campaign import CampaignOutcome
from kiago_ray.distributed.dispatch import Watcher
from kiago_ray.distributed.worker import WorkerInfo
from kiago_ray.report.terminal import top_table
from kiago_ray.report.values import cell, no_gain
from kiago_ray.runs.plan import Plan, Shard
from kiago_ray.runs.shards import Manifest, State, best_of
from kiago_ray.runs.summaries import read_campaign_results, top_of_several
from kiago_ray.storage.run_directory import CANDIDATES, RunDirectory
from kiago_ray.storage.table import first_rows
from kiago_ray.tracking import TrackingReport

SHOWN_SEARCHES = 40
LINE_S = 15.0  # between two lines on the progress
_RECENT_S = 1800.0  # what counts for the pace of a running campaign
# Column of the table of candidates → header.
_BEST = {
    "rank": "#",
    "formula": "formula",
    "base": "base",
    "source": "source",
    "plausibility": "plausible",
    "expected_improvement_k": "gain (K)",
    "trusted_tc_k": "trusted T_c (K)",
    "tc_k": "T_c (K)",
    "tc_oracle_k": "oracle (K)",
    "delta_tc_k": "ΔT_c (K)",
    "ef_ev_per_atom": "E_f (eV/atom)",
    "nearest_known": "nearest known",
    "search": "search",
}
_WIDE = 120  # characters from which there is room for the search's name


class CampaignView(View, Watcher):
    """Counts a campaign's shards and rows, and tells of workers that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.shards = self.rows = self.workers = self.lost = self.failed = 0
        self.rows_before = 0  # done by an earlier run
        self.done: list[Manifest] = []

    def begun(self, plan: Plan, finished: list[Manifest], damaged: list[str]) -> None:
        self.shards, self.rows, self.done = plan.shard_count, plan.candidates, [*finished]
        self.rows_before = self.rows_done
        if finished:
            say(f"{len(finished):,} of {self.shards:,} shards are done already")
        for text in damaged:
            say(f"damaged, run again: {text}")

    def worker_started(self, info: WorkerInfo) -> None:
        self.workers += 1
        gpus = f", GPU {', '.join(info.gpus)}" if info.gpus else ""
        say(
            f"worker {self.workers} on {info.host} (process {info.pid}): {info.device_name}, {info.threads} "
            f"thread{'s' if info.threads != 1 else ''}{gpus}"
        )

    def worker_lost(self, shard: Shard | None, cause: str) -> None:
        self.lost += 1
        where = "before its first shard" if shard is None else f"at {shard.name}, which will be run again"
        say(f"lost a worker {where}: {cause}")

    def shard_done(self, manifest: Manifest) -> None:
        self.done.append(manifest)
        self.moved(at_most_each_s=0.0 if len(self.done) == self.shards else LINE_S)

    def shard_failed(self, shard: Shard, cause: str) -> None:
        self.failed += 1
        say(f"failed: {shard.name}: {cause}")

    def note(self, text: str) -> None:
        say(text)

    @property
    def rows_done(self) -> int:
        """Rows of all shards that are done."""
        return sum(manifest.rows for manifest in self.done)

    def rate(self) -> float | None:
        """Rows a second of this run, None before the first result."""
        new = self.rows_done - self.rows_before
        return new / (time.monotonic() - self.began) if new else None

    def progress(self) -> str:
        """Shards, rows a second, time left, the best so far, failures."""
        parts = [f"shard {len(self.done):,}/{self.shards:,}"]
        rate = self.rate()
        if rate is not None:
            parts += [f"{rate:,.1f} rows/s", f"{duration((self.rows - self.rows_done) / rate)} left"]
        if best := best_of(self.done):
            parts.append(f"best {best['formula']} {best['tc_k']:.1f} K")
        if self.lost:
            parts.append(f"{self.lost} lost worker{'s' if self.lost > 1 else ''}")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)

    def __rich__(self) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(self.rows, 1), completed=self.rows_done, width=32)
        grid.add_row(bar, Text(self.progress()))
        return grid


def duration(seconds: float) -> str:
    """Such as 2 min 05 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def show_plan(plan: Plan, where: str, as_json: bool) -> None:
    """What would run: searches, shards, candidates, memory a worker."""
    facts = {
        "name": plan.campaign.name,
        "out": where,
        "searches": len(plan.searches),
        "shards": plan.shard_count,
        "candidates": plan.candidates,
        "memory_mb_per_worker": plan.memory_mb,
    }
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
        around = {"families": list(plan.families), "left_out": dict(plan.left_out)} if plan.families else {}
        print_json({**facts, **around, "plan": listed})
        return
    shown = ("search", "candidates", "steps", "shards")  # a search's name holds the rest
    show_table([{key: each[key] for key in shown} for each in listed], f"Campaign {plan.campaign.name}")
    if plan.families:
        show_families(plan)
    demand = plan.campaign.resources
    print(
        f"\n{facts['searches']:,} searches, {facts['shards']:,} shards, {facts['candidates']:,} candidates; a worker "
        f"takes {demand.cpus:g} CPU, {demand.gpus:g} GPU and about {plan.memory_mb:,} MB.\n"
        f"Nothing was started; the output would go to {where}."
    )


def show_families(plan: Plan) -> None:
    """The known families of a campaign around the literature, and those that can't be searched."""
    print(f"\n{len(plan.families):,} known families, the best known first:")
    print(" ".join(plan.families))
    if plan.left_out:
        print(f"\n{len(plan.left_out):,} can't be searched:")
    for base, why in plan.left_out:
        print(f"{base}: {why}")


def show_status(
    directory: RunDirectory, plan: Plan, state: State, driver: Mapping[str, Any] | None, as_json: bool
) -> None:
    """Shards and rows done, pace, time left, the best so far, failures of the last run, who drives it."""
    facts = status_facts(directory, plan, state, driver)
    searches = search_lines(plan, state)
    if as_json:
        print_json({**facts, "searches": searches})
        return
    show_table(searches, f"Campaign {plan.campaign.name}")
    print(
        f"\n{facts['shards_done']:,} of {facts['shards']:,} shards, {facts['rows_done']:,} of {facts['rows']:,} rows "
        "are done."
    )
    pace, left_s = facts["rows_per_s"], facts["left_s"]
    if directory.finished:
        print("It is finished.")
    elif driver:
        speed = f"; {pace:,.1f} rows/s, {left_s / 60:,.0f} min left" if pace and left_s else ""
        print(f"Process {driver['pid']} on {driver['host']} drives it{speed}.")
    else:
        print("Nobody drives it; `kiago campaign run` with its file goes on.")
    for name, why in [*facts["damaged"].items(), *facts["failures"].items()]:
        print(f"{name}: {why}")


def status_facts(
    directory: RunDirectory, plan: Plan, state: State, driver: Mapping[str, Any] | None
) -> dict[str, Any]:
    """How far a campaign is. driver: the host and the process that run it now."""
    manifests = list(state.manifests.values())
    rows = sum(manifest.rows for manifest in manifests)
    pace = rows_a_second(manifests) if driver else None
    recorded = read_campaign_results(directory.location)
    failures = recorded.failures if recorded else {}
    return {
        "name": plan.campaign.name,
        "finished": directory.finished,
        "driver": driver and {key: driver[key] for key in ("host", "pid")},
        "shards_done": len(manifests),
        "shards": plan.shard_count,
        "rows_done": rows,
        "rows": plan.candidates,
        "rows_per_s": pace,
        "left_s": (plan.candidates - rows) / pace if pace else None,
        "best": best_of(manifests),
        "damaged": state.damaged,
        # A shard that has failed may have been run again since.
        "failures": {shard: why for shard, why in failures.items() if shard not in state.manifests},
    }


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


def new_systems_line(new_systems: int | None) -> str:
    """How many proposals are of new chemical systems, as a line; "" where that isn't known."""
    if new_systems is None:
        return ""
    return f"{new_systems:,} proposals are of chemical systems without a known superconductor.\n"


def show_outcome(outcome: CampaignOutcome, where: str, top: int, as_json: bool) -> None:
    """The best rows and the counts."""
    place = outcome.directory.location
    results = outcome.results or read_campaign_results(place)
    assert results is not None  # a campaign that was found finished has it among its outputs
    rows = first_rows(place / CANDIDATES, top).to_pylist()
    if as_json:
        print_json(
            {
                "out": where,
                "complete": outcome.complete,
                "summary": results.to_dict(),
                "top": rows,
                "failures": dict(outcome.failures),
                "damaged": dict(outcome.damaged),
                "tracking": outcome.tracking and vars(outcome.tracking),
            }
        )
        return
    title = "Best proposals of all searches"
    if any(row["passed"] for row in rows):
        rows = [row for row in rows if row["passed"]]  # they come first
    elif rows:
        title = "No formula passed every screen; the best that failed"
    hidden = {name for name in _BEST if all(row[name] is None for row in rows)}
    if "trusted_tc_k" not in hidden:
        hidden.add("delta_tc_k")
    if Console().width < _WIDE:
        hidden.add("search")
    shown = {name: header for name, header in _BEST.items() if name not in hidden}
    best = [{header: cell(row, name) for name, header in shown.items()} for row in rows]
    show_table(best, title, numbers=[header for header in shown.values() if header == "#" or "(" in header])
    print()
    Console().print(top_table([top_of_several(each) for each in results.top]))
    if remark := no_gain(results.gains, results.passed):
        print(f"\n{remark}")
    print(
        f"\n{results.rows:,} of {results.candidates:,} candidates done; {results.unique:,} unique formulas, "
        f"{results.passed:,} of them passed every screen.\n{new_systems_line(results.new_systems)}"
        f"Everything is in {where}/ (report.html, top.csv, candidates.parquet, searches/)."
    )


def tell_tracking(report: TrackingReport, resend: str) -> None:
    """Where the record is, or what is missing from it and how it gets there. resend: the command that sends it."""
    if report.problem or report.pending:
        missing = f"{len(report.pending)} runs" if report.pending else "a part"
        say(f"MLflow at {report.uri} lacks {missing} ({report.problem}); nothing is lost: {resend} sends it")
    elif report.uri.startswith("sqlite:"):
        say(
            f"MLflow has the record; look at it with: mlflow ui --backend-store-uri {shlex.quote(report.uri)}"
        )
    else:
        say(f"MLflow at {report.uri} has the record, run {report.run_id}")


def rows_a_second(manifests: Sequence[Manifest]) -> float | None:
    """The pace of the last half hour of work, None where one can't be told."""
    ends = sorted((float(each.made["finished_at"]), each.rows) for each in manifests)
    recent = [(end, rows) for end, rows in ends if end >= ends[-1][0] - _RECENT_S]
    if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
        return None
    return sum(rows for _, rows in recent[1:]) / (recent[-1][0] - recent[0][0])


def show_table(rows: Sequence[Mapping[str, Any]], title: str, numbers: Sequence[str] = ()) -> None:
    """The first of these rows, whose keys are the headers. numbers: columns that stand right."""
    table = plain_table(title)
    for name in rows[0] if rows else ():
        number = name in numbers or any(isinstance(row[name], int | float) for row in rows)
        whole = number or name in ("formula", "search")
        table.add_column(name, justify="right" if number else "left", no_wrap=whole, overflow="fold")
    for row in rows[:SHOWN_SEARCHES]:
        cells = ("" if v is None else f"{v:,}" if isinstance(v, int) else str(v) for v in row.values())
        table.add_row(*map(Text, cells))
    Console().print(table)
    if len(rows) > SHOWN_SEARCHES:
        print(f"… and {len(rows) - SHOWN_SEARCHES:,} more")
