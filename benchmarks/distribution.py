"""What distribution costs: rows a second of a campaign with one and with two workers, against the bare search.

All with the preset `open`.

Four arms run one after another, every second round in reverse, so that a machine that drifts doesn't favour one:
the bare search (what a worker computes, without Ray and without storage) in one process, the same in two processes at
once (what the machine has to give), a campaign with one worker and one with two. Every process has one thread. A
campaign's time runs from the call to the finished page with a Ray cluster that is up: workers start, load and
write within it.

    python benchmarks/distribution.py --shards 4 --rows 512 --steps 100
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {"OMP_WAIT_POLICY": "passive", "RAY_USAGE_STATS_ENABLED": "0"}
BASE = "LaNiAsO"


def bare(shards: int, rows: int, steps: int, first: int = 0) -> float:
    """Seconds of the search's rows in this process."""
    import torch

    from kiago_ray.api import judged_rows
    from kiago_ray.models import Models
    from kiago_ray.predictors.weights import load_predictors
    from kiago_ray.search import load_preset

    torch.set_num_threads(1)
    models = Models(load_predictors())
    spec = load_preset("open", {"base": BASE, "candidates": rows * 4096, "steps": [steps, steps]})
    began = time.perf_counter()
    for shard in range(first, first + shards):
        span = range(shard * rows, (shard + 1) * rows)
        judged_rows(spec, models, rows=span, shard_rows=rows, trajectory_rows=16)
    return time.perf_counter() - began


def bare_processes(count: int, shards: int, rows: int, steps: int) -> float:
    """Seconds of so many processes at once that share the shards; the slowest counts."""
    each = shards // count
    command = [
        sys.executable,
        __file__,
        "--bare",
        "--rows",
        str(rows),
        "--steps",
        str(steps),
        "--shards",
        str(each),
    ]
    running = [
        subprocess.Popen([*command, "--first", str(each * n)], stdout=subprocess.PIPE, text=True)
        for n in range(count)
    ]
    return max(float(process.communicate()[0]) for process in running)


def campaign(workers: int, shards: int, rows: int, steps: int) -> float:
    """Seconds of `run_campaign` with so many workers of one core."""
    from kiago_ray.distributed.dispatch import RunRequest, WorkerSetup
    from kiago_ray.distributed.drivers import run_campaign, run_identity
    from kiago_ray.models import load_models
    from kiago_ray.runs.plan import make_plan
    from kiago_ray.runs.spec import CampaignSpec
    from kiago_ray.search.sections import validated

    values = {
        "name": "benchmark",
        "bases": [BASE],
        "search": {"preset": "open", "steps": [steps, steps]},
        "candidates": rows * shards,
        "shard_size": rows,
    }
    models = load_models(known="none")
    plan = make_plan(validated(CampaignSpec, values), models.check)
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "out")
        setup = WorkerSetup.of(out, plan.campaign.resources, models)
        request = RunRequest(out, run_identity(plan, models.identity), {}, setup, workers=workers)
        began = time.perf_counter()
        outcome = run_campaign(plan, request)
        assert outcome.results.complete
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--steps", type=int, default=100, help="of each stage; a search has 200")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--campaigns-only", action="store_true", help="leave the bare arms out")
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.bare:
        print(bare(asked.shards, asked.rows, asked.steps, asked.first))
        return
    from kiago_ray.distributed.cluster import connected

    size = (asked.shards, asked.rows, asked.steps)
    arms = {
        "bare search, one process": lambda: bare_processes(1, *size),
        "bare search, two processes": lambda: bare_processes(2, *size),
        "campaign, one worker": lambda: campaign(1, *size),
        "campaign, two workers": lambda: campaign(2, *size),
    }
    if asked.campaigns_only:
        arms = {name: arm for name, arm in arms.items() if name.startswith("campaign")}
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    with connected("local"):
        for turn in range(asked.rounds):
            for name in list(arms) if turn % 2 == 0 else reversed(arms):
                seconds[name].append(arms[name]())
                print(f"  {name}: {seconds[name][-1]:.1f} s", file=sys.stderr, flush=True)
    pace = {name: asked.shards * asked.rows / statistics.mean(values) for name, values in seconds.items()}
    for name, rate in pace.items():
        print(f"{name:28} {rate:7.2f} rows/s   {', '.join(f'{s:.1f}' for s in seconds[name])} s")
    print(
        f"two workers against one: {pace['campaign, two workers'] / pace['campaign, one worker']:.2f} times"
    )
    if asked.campaigns_only:
        return
    lost = 1 - pace["campaign, one worker"] / pace["bare search, one process"]
    print(f"one worker loses {100 * lost:.1f} % of the bare search's pace")
    ceiling = pace["bare search, two processes"] / pace["bare search, one process"]
    print(f"two bare processes against one, what the machine gives: {ceiling:.2f} times")


if __name__ == "__main__":
    main()
