"""What a large campaign costs its driver: seconds and peak memory of planning, checking, merging and the page.

Run it with `python benchmarks/campaign_scale.py --rows 1000000`. The shards are made up, but written and checked as
real ones; a quarter of the formulas occurs more than once. Each stage runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from kiago_ray.runs.plan import Plan
    from kiago_ray.search.result import Trajectory

# The stages import what they need, for Linux counts the memory of a process's parent to its peak.

BASES = ("LaNiAsO", "LaPt2B2C", "MgB2", "FeSe", "YBa2Cu3O7", "La2CuO4", "Nb3Sn", "BaFe2As2")
SITES = tuple(
    symbols.split()
    for symbols in (
        "K Rb Cs Na Ba Sr Ca La Ce Pr Nd Sm Gd Y Th",
        "Ti V Cr Mn Fe Co Ni Cu Zr Nb Mo Ru Rh Pd Ir Pt",
        "Li Mg Al Zn Ga In Sn Tl Pb Bi Hg Cd",
        "B C Si Ge P As Sb Se Te",
        "H N O F S Cl Br I",
    )
)
STATES = ("+2", "+3", "+1", "-3", "-2")
UNIQUE_OF_SEARCH, UNIQUE = 0.87, 0.75  # of the rows of a search, and of all
NO_FORMULA = 0.02
KNOWN = 16_000
STEPS = (200, 200)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def noise(numbers: Ints, salt: int) -> Floats:
    """A number from 0 to 1 for each formula's number (n,), always the same one (SplitMix64)."""
    with np.errstate(over="ignore"):
        x = (numbers.astype(np.uint64) + np.uint64(salt << 40)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53


def texts(numbers: Ints, salt: int, kind: str) -> Any:
    """Formulas, starts or oxidation states (n,) of formulas by their numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    parts = []
    for site, symbols in enumerate(SITES):
        states = pa.array([f"{symbol}{STATES[site]}" for symbol in symbols])
        # The last choice leaves the site out; the first site is always there.
        there = noise(numbers, salt + 10 + site) < (1.0 if site == 0 else 0.75)
        chosen = (noise(numbers, salt + 20 + site) * len(symbols)).astype(np.int64)
        if kind == "states":
            parts.append(pc.if_else(pa.array(there), states.take(pa.array(chosen)), None))
            continue
        amounts = amounts_of(kind)
        amount = (noise(numbers, salt + 30 + site) * len(amounts)).astype(np.int64)
        text = pc.binary_join_element_wise(
            pa.array(symbols).take(pa.array(chosen)), amounts.take(pa.array(amount)), ""
        )
        parts.append(pc.if_else(pa.array(there), text, None))
    return pc.binary_join_element_wise(*parts, " " if kind == "states" else "", null_handling="skip")


@cache
def amounts_of(kind: str) -> Any:
    """The amounts that a formula's or start's elements may have, as text."""
    import pyarrow as pa

    least, most, form = (1, 13, "{}") if kind == "formula" else (200, 3800, "0.{:04d}")
    return pa.array([form.format(n) if kind == "start" or n > 1 else "" for n in range(least, most)])


def made_table(numbers: Ints, rows: range, search: str, base: str, seed: int) -> Any:
    """A table of candidates, every column filled, from the numbers (n,) of its formulas."""
    import pyarrow as pa

    from kiago_ray.storage.table import columns as table_columns
    from kiago_ray.storage.table import schema

    n = len(rows)
    own = np.asarray(rows, dtype=np.int64) + seed
    ok = noise(own, 1) > NO_FORMULA
    tc_k = np.maximum(25 * np.log(1e-9 + noise(numbers, 2)) + 70, 0).astype(np.float32).astype(np.float64)
    ef = (3 * noise(numbers, 3) - 2.7).astype(np.float32).astype(np.float64)
    elements = 3 + (noise(numbers, 4) * 5).astype(np.int32)
    verdicts = {
        "neutral": noise(numbers, 5) < 0.45,
        "pauling": noise(numbers, 5) < 0.3,
        "ef_negative": ef < 0,
        "few_elements": elements <= 9,
    }
    passed = np.logical_and.reduce(list(verdicts.values())) & ok
    distance = 0.02 + noise(numbers, 6)

    def known(values: Any) -> Any:
        return pa.array(values, mask=~ok)

    def text(values: Any) -> Any:
        return pa.array(values.to_numpy(zero_copy_only=False), pa.string(), mask=~ok)

    columns = {
        "rank": pa.nulls(n, pa.int32()),
        "formula": text(texts(numbers, 1, "formula")),
        "base": pa.repeat(base, n),
        "search": pa.repeat(search, n),
        "trusted_tc_k": known(0.7 * tc_k),
        "tc_k": known(tc_k),
        "tc_relaxed_k": tc_k + noise(own, 7),
        "delta_tc_k": known(tc_k - 20),
        "ef_ev_per_atom": known(ef),
        "n_atoms": known(elements * 4),
        "n_elements": known(elements),
        **{name: known(verdict) for name, verdict in verdicts.items()},
        "passed": passed,
        "alloy": known(noise(numbers, 8) < 0.1),
        "oxidation_states": text(texts(numbers, 1, "states")),
        "nearest_known": text(texts(numbers % KNOWN, 2, "formula")),
        "nearest_distance": known(distance),
        "nearest_tc_k": known(np.round(40 * noise(numbers % KNOWN, 9), 1)),
        "integer_distance": known(0.1 * noise(own, 10)),
        "status": pa.array(np.where(ok, "ok", "no_integer_formula")),
        "recoveries": np.zeros(n, dtype=np.int32),
        "seed": np.full(n, seed, dtype=np.int64),
        "row": np.asarray(rows, dtype=np.int64),
        "start_formula": texts(own, 3, "start"),
    }
    every = {each.name: columns.get(each.name, pa.nulls(n, each.type)) for each in table_columns().values()}
    return pa.table(every, schema=schema())


def made_trajectory(rows: Ints) -> Trajectory:
    """Rows (k,) that climb, each a little differently."""
    from kiago_ray.search.result import Trajectory

    at = np.arange(sum(STEPS) + 1)
    climb = (1 - np.exp(-at / 60))[:, None] * (40 + 30 * noise(rows, 11))
    stage = np.where(at < STEPS[0], 1, 2)
    loss = np.where(stage == 2, np.exp(-(at - STEPS[0]) / 80), np.nan)[:, None] * np.ones(len(rows))
    tables = (values.astype(np.float32) for values in (climb, -1 - climb / 100, loss, climb - 5))
    return Trajectory(rows, stage, *tables)


def plan_of(rows: int, searches: int, shard_rows: int) -> Plan:
    """The campaign that is measured."""
    from kiago_ray.runs.plan import make_plan
    from kiago_ray.runs.spec import CampaignSpec
    from kiago_ray.search.sections import validated

    seeds = -(-searches // len(BASES))
    bases = BASES[: -(-searches // seeds)]
    campaign = validated(
        CampaignSpec,
        {
            "name": "scale",
            "bases": list(bases),
            "seeds": list(range(seeds)),
            "search": {"preset": "open", "steps": list(STEPS)},
            "candidates": rows // (len(bases) * seeds),
            "shard_size": shard_rows,
        },
    )
    return make_plan(campaign, None)


def make(plan: Plan, directory: Path) -> None:
    """Write the shards and spec.yaml."""
    from kiago_ray.runs.shards import write_shard
    from kiago_ray.screening.known import BaseMaterial
    from kiago_ray.storage.run_directory import open_run

    place = open_run(directory, {"campaign": plan.campaign.defining()}).location
    unique = int(UNIQUE * plan.candidates)
    for number, search in enumerate(plan.searches):
        of_search = int(UNIQUE_OF_SEARCH * search.spec.row_count)
        base = BaseMaterial(search.base or "", tc_predicted_k=20.0, ef_predicted_ev_per_atom=-1.0)
        for shard in search.shards:
            rows = np.asarray(shard.rows, dtype=np.int64)
            numbers = (number * of_search + rows % of_search) % unique
            table = made_table(numbers, shard.rows, search.name, search.base or "", search.seed)
            write_shard(
                place,
                shard,
                table,
                made_trajectory(rows[: search.curve_rows]),
                base=base,
                wall_s=100.0,
                made={"finished_at": time.time()},
            )


def check(plan: Plan, directory: Path) -> None:
    """Read every shard and compare it to its hashes, as a driver does first."""
    from kiago_ray.runs.state import state_of
    from kiago_ray.storage.location import Location

    state = state_of(Location.of(directory), plan)
    if state.damaged or state.left(plan):
        raise SystemExit(f"{len(state.damaged)} shards are damaged, {len(state.left(plan))} missing")


def merge_searches(plan: Plan, directory: Path) -> None:
    """Merge, count and plot each search."""
    from kiago_ray.runs.results import finish_search
    from kiago_ray.runs.shards import read_manifest
    from kiago_ray.runs.state import state_of
    from kiago_ray.storage.location import Location

    place = Location.of(directory)
    done = state_of(place, plan, read_manifest).by_search()
    for search in plan.searches:
        finish_search(place, search, done[search.name])


def merge_campaign(plan: Plan, directory: Path) -> None:
    """Merge, count and plot the campaign, and write its page."""
    from kiago_ray.runs.results import finish_campaign
    from kiago_ray.runs.shards import search_folder
    from kiago_ray.storage.location import Location
    from kiago_ray.storage.run_directory import SearchResults, read_results

    place = Location.of(directory)
    searches = [read_results(search_folder(place, search.name), SearchResults) for search in plan.searches]
    results = finish_campaign(
        place,
        plan,
        [each for each in searches if each is not None],
        failures={},
        damaged=[],
        model_notes=[],
    )
    print(f"{results.rows:,} rows, {results.unique:,} unique, {results.passed:,} passed", file=sys.stderr)


def page(plan: Plan, directory: Path) -> None:
    """The page again, from the files."""
    from kiago_ray.runs.results import page_of_directory
    from kiago_ray.storage.location import Location

    text = page_of_directory(Location.of(directory), plan)
    print(f"the page is {len(text) / 1e6:.1f} MB", file=sys.stderr)


def drive(plan: Plan, directory: Path) -> None:
    """Everything that a driver does beside dispatching, in one process and from the start."""
    shutil.rmtree(directory / "searches", ignore_errors=True)
    check(plan, directory)
    merge_searches(plan, directory)
    merge_campaign(plan, directory)


STAGES: dict[str, tuple[str, Callable[[Plan, Path], None]]] = {
    "make": ("make up the shards", make),
    "plan": ("plan", lambda plan, directory: None),
    "check": ("plan, check every shard", check),
    "searches": ("plan, merge and plot each search", merge_searches),
    "again": ("the same again: nothing to do", merge_searches),
    "campaign": ("plan, merge and plot the campaign, page", merge_campaign),
    "page": ("plan, page from the files", page),
    "drive": ("all of it in one process", drive),
}


def run_stage(name: str, options: argparse.Namespace) -> None:
    """Run one stage in this process; print its seconds and the peak of memory in MiB."""
    began = time.perf_counter()
    plan = plan_of(options.rows, options.searches, options.shard_rows)
    STAGES[name][1](plan, options.directory)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "shards": plan.shard_count}))


def measure(options: argparse.Namespace) -> None:
    """Run every stage in a process of its own and print a table."""
    own = [sys.executable, __file__, "--directory", str(options.directory)]
    for name in ("rows", "searches", "shard_rows"):
        own += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    for stage, (title, _) in STAGES.items():
        done = subprocess.run([*own, "--stage", stage], stdout=subprocess.PIPE, text=True, check=True)
        figures = json.loads(done.stdout)
        if stage == "make":
            print(f"{options.rows:,} rows, {options.searches} searches, {figures['shards']} shards")
        print(f"{title:42s} {figures['seconds']:7.1f} s {figures['peak_mib']:7.0f} MiB", flush=True)
    size = sum(file.stat().st_size for file in options.directory.rglob("*") if file.is_file())
    print(f"{'the directory':42s} {size / 2**20:17.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--searches", type=int, default=8)
    parser.add_argument("--shard-rows", type=int, default=4096)
    parser.add_argument("--directory", type=Path, help="new or empty, and kept; by default a temporary one")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        run_stage(options.stage, options)
    elif options.directory:
        measure(options)
    else:
        with tempfile.TemporaryDirectory(prefix="kiago-scale-") as folder:
            options.directory = Path(folder) / "campaign"
            measure(options)


if __name__ == "__main__":
    main()
