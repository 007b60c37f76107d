"""What the dispatcher decides, on a clock that costs nothing: the real dispatcher, over workers of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kiago_ray.cli.campaign import CampaignView
from kiago_ray.distributed.dispatch import Dispatch, RunRequest, WorkerSetup
from kiago_ray.distributed.pace import Pace
from kiago_ray.distributed.pool import Answer
from kiago_ray.errors import InputError
from kiago_ray.runs.plan import Plan, Shard
from kiago_ray.runs.shards import Manifest
from kiago_ray.storage.location import StorageError
from kiago_ray.storage.machines import MACHINE

from . import sweeps
from .conftest import Heard, MakePlan
from .stub_pool import StubPool, Took, Worker

HANGS = (1e9, Answer())
Look = Callable[[Shard, Manifest], Manifest]


def seen(shard: Shard, manifest: Manifest) -> Manifest:
    """The look that finds what the worker says."""
    return manifest


@pytest.fixture
def dispatched(
    make_setup: Callable[..., WorkerSetup], tmp_path: Path, heard: Heard
) -> Callable[..., Dispatch]:
    """A plan's shards, run to their end on a pool."""

    def run(
        plan: Plan, pool: StubPool, look: Look = seen, machine: dict[str, str] | None = None, **request: Any
    ) -> Dispatch[Manifest]:
        setup = make_setup(tmp_path)
        asked = RunRequest(where=setup.run, identity={}, about={}, setup=setup, **request)
        hooks: Any = {
            "look": look,
            "done": lambda manifest: None,
            "probe": lambda: None,
            "should_stop": lambda: False,
        }
        hooks |= {"pace": Pace(plan), "pool": pool, "machine": machine or {}}
        work = Dispatch(plan, asked, heard, **hooks)
        work.run(plan.shards)
        assert all(worker.dismissed for worker in pool.workers)
        assert len(heard.done) + len(work.failures) == plan.shard_count
        return work

    return run


Dispatched = Callable[..., Dispatch]


def once(name: str, took: Took) -> Callable[[StubPool, Worker, Shard], Took | None]:
    """Something that happens to the first try of a shard."""
    left = [name]

    def run(pool: StubPool, worker: Worker, shard: Shard) -> Took | None:
        return took if shard.name in left and not left.remove(shard.name) else None  # type: ignore[func-returns-value]

    return run


def test_a_hung_worker_is_named_and_stopped_and_its_shard_runs_elsewhere(
    small_plan: Plan, dispatched: Dispatched, heard: Heard
) -> None:
    pool = StubPool(["n1", "n2"], run=once("MgB2-s0/00001", HANGS))
    work = dispatched(small_plan, pool)
    assert work.failures == {}
    (lost,) = heard.lost
    assert lost[0] == "MgB2-s0/00001"
    assert "not done in 10 min 00 s, its limit; the worker on n" in lost[1]
    assert any("slow: MgB2-s0/00001 for 3" in note and "10 s is usual" in note for note in heard.notes)
    assert any("MgB2-s0/00001" in text for text in heard.waits)
    assert sum(worker.calls.count("run") for worker in pool.workers) == small_plan.shard_count + 1


def test_the_limit_is_the_campaigns_and_a_shard_that_always_hangs_is_given_up(
    make_small_plan: MakePlan, dispatched: Dispatched, heard: Heard
) -> None:
    plan = make_small_plan(shard_limit_s=60)
    pool = StubPool(
        ["n1"], run=lambda pool, worker, shard: HANGS if shard.name == "LaNiAsO-s0/00000" else None
    )
    work = dispatched(plan, pool, tries=3)
    assert list(work.failures) == ["LaNiAsO-s0/00000"]
    assert "lost its worker 3 times, last: not done in 1 min 00 s" in work.failures["LaNiAsO-s0/00000"]
    assert len(heard.lost) == 3
    assert 180 < pool.clock - 1000 < 300


def test_longer_shards_may_take_longer(make_small_plan: MakePlan) -> None:
    plan = make_small_plan(variants={"short": {"steps": [3, 3]}, "long": {"steps": [600, 99]}})
    pace = Pace(plan)
    short, long = (next(each for each in plan.shards if name in each.search) for name in ("short", "long"))
    assert (pace.expected_s(short), pace.slow_s(short), pace.limit_s(short)) == (None, None, None)
    from .stub_pool import manifest_of

    pace.add(manifest_of(plan.search(short.search), short, 40.0))
    assert (pace.expected_s(short), pace.slow_s(short), pace.limit_s(short)) == (40, 120, 800)
    assert pace.expected_s(long) == 4000


def test_the_time_that_the_driver_was_frozen_is_not_the_shards(
    small_plan: Plan, dispatched: Dispatched, heard: Heard
) -> None:
    def freeze(pool: StubPool) -> None:
        pool.clock += 3600

    dispatched(small_plan, StubPool(["n1", "n2"], events=[(15.0, freeze)]))
    assert heard.lost == []


def test_a_worker_that_hangs_while_it_loads_is_replaced(
    small_plan: Plan, dispatched: Dispatched, heard: Heard
) -> None:
    pool = StubPool(["n1"], load_s=1e9, events=[(30.0, lambda pool: setattr(pool, "load_s", 1.0))])
    dispatched(small_plan, pool)
    ((shard, cause),) = heard.lost
    assert shard is None
    assert "the worker on n1 (process 0) has not loaded its models in 10 min" in cause


def test_what_has_no_room_is_said(small_plan: Plan, dispatched: Dispatched, heard: Heard) -> None:
    pool = StubPool(["n1"], events=[(500.0, lambda pool: pool.nodes_.append("n2"))])
    dispatched(small_plan, pool, workers=2)
    assert "room for 1 of 2 workers (1 CPU, 0 GPU)" in heard.waits


@pytest.mark.parametrize(
    "answer", [Answer(kind="moved", cause="preempted"), Answer(kind="lost", cause="it died")]
)
def test_a_shard_whose_nodes_are_taken_away_has_not_failed(
    small_plan: Plan, dispatched: Dispatched, heard: Heard, answer: Answer
) -> None:
    """Ten nodes come and go, each before its shard is done."""

    def swap(number: int) -> Callable[[StubPool], None]:
        def happen(pool: StubPool) -> None:
            pool.lose(f"n{number}", answer)
            pool.nodes_.append(f"n{number + 1}")

        return happen

    events = [(5.0 * number, swap(number)) for number in range(1, 11)]
    work = dispatched(small_plan, StubPool(["n1"], events=events), tries=2)
    assert work.failures == {}
    assert len(heard.lost) >= 8
    assert all("went away" in cause for _, cause in heard.lost)


def test_nodes_that_go_away_forever_end_a_shard(
    make_small_plan: MakePlan, dispatched: Dispatched, heard: Heard
) -> None:
    moved = (1.0, Answer(kind="moved", cause="preempted"))
    pool = StubPool(["n1"], run=lambda pool, worker, shard: moved if shard.name == "MgB2-s0/00000" else None)
    work = dispatched(make_small_plan(), pool)
    assert "lost its node 100 times" in work.failures["MgB2-s0/00000"]


@pytest.mark.parametrize(("left_s", "handed_back"), [(300.0, 0), (4.0, 1)])
def test_a_node_that_drains_finishes_its_shard_or_hands_it_back(
    small_plan: Plan, dispatched: Dispatched, heard: Heard, left_s: float, handed_back: int
) -> None:
    def drain(pool: StubPool) -> None:
        pool.draining["n1"] = pool.clock + left_s

    pool = StubPool(["n1", "n2"], events=[(14.0, drain)])
    work = dispatched(small_plan, pool, tries=1)
    assert work.failures == {}
    assert len(heard.lost) == handed_back
    assert pool.workers[0].calls.count("run") == 2  # it got nothing more


def test_the_last_node_may_finish_what_it_has_while_it_drains(
    make_small_plan: MakePlan, dispatched: Dispatched
) -> None:
    def drain(pool: StubPool) -> None:
        pool.draining["n1"] = pool.clock + 3600

    plan = make_small_plan(bases=["MgB2"], candidates=8)
    pool = StubPool(["n1"], shard_s=500.0, events=[(14.0, drain)])
    assert dispatched(plan, pool).failures == {}
    pool = StubPool(["n1"], shard_s=500.0, events=[(14.0, drain)])
    with pytest.raises(InputError, match="no node of the cluster"):
        dispatched(make_small_plan(bases=["MgB2"]), pool)


def test_progress_says_what_it_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    view = CampaignView()
    view.waits_for(
        ["MgB2-s0/00001 for 12 min 00 s on n1 (process 7)", "room for 1 of 2 workers (1 CPU, 0 GPU)"]
    )
    assert "waiting for MgB2-s0/00001 for 12 min 00 s on n1 (process 7) and 1 more" in capsys.readouterr().err
    view.waits_for([])
    assert "waiting" not in view.progress()


def test_a_shard_waits_at_each_worker_while_there_are_enough_for_all(
    make_small_plan: MakePlan, dispatched: Dispatched
) -> None:
    plan = make_small_plan(bases=["MgB2"], candidates=8 * 12)
    most: list[tuple[int, int]] = []  # shards at the worker, shards given out

    def run(pool: StubPool, worker: Worker, shard: Shard) -> None:
        at_it = sum(each is worker for _, _, each in pool.pending.values()) + 1
        most.append((at_it, sum(each.calls.count("run") for each in pool.workers)))

    dispatched(plan, StubPool(["n1", "n2"], run=run))
    assert max(at_it for at_it, _ in most) == 2
    assert [at_it for at_it, given in most if given > 10] == [1, 1]  # the last go to whoever is free


def test_what_waits_at_a_lost_worker_is_no_loss_of_its_own(
    make_small_plan: MakePlan, dispatched: Dispatched, heard: Heard
) -> None:
    plan = make_small_plan(bases=["MgB2"], candidates=8 * 12)
    poison = plan.shards[0].name
    pool = StubPool(
        ["n1"],
        run=lambda pool, worker, shard: (
            (1.0, Answer(None, "lost", "it died")) if shard.name == poison else None
        ),
    )
    work = dispatched(plan, pool, tries=3)
    assert list(work.failures) == [poison]
    assert [name for name, _ in heard.lost] == [poison] * 3
    assert len(heard.done) == 11


def test_to_look_for_a_shard_holds_nobody_up(
    make_small_plan: MakePlan, dispatched: Dispatched, heard: Heard
) -> None:
    plan = make_small_plan(bases=["MgB2"], candidates=8 * 12)
    given, every_shard_given = set[str](), threading.Event()

    def run(pool: StubPool, worker: Worker, shard: Shard) -> None:
        given.add(shard.name)
        if len(given) == 12:
            every_shard_given.set()

    def look(shard: Shard, manifest: Manifest) -> Manifest:
        assert every_shard_given.wait(60)
        return manifest

    dispatched(plan, StubPool(["n1", "n2"], run=run), look)
    assert len(heard.done) == 12


def test_a_shard_that_is_not_there_ends_the_campaign(small_plan: Plan, dispatched: Dispatched) -> None:
    def look(shard: Shard, manifest: Manifest) -> Manifest:
        raise StorageError("it isn't there")

    pool = StubPool(["n1", "n2"])
    with pytest.raises(StorageError, match="it isn't there"):
        dispatched(small_plan, pool, look)
    assert all(worker.dismissed for worker in pool.workers)


OLD = {"name": "EPYC 7742", "instructions": "AVX2", "auto_precision": "float32", "torch": "2.13.0"}
NEW = {"name": "EPYC 9654", "instructions": "AVX512", "auto_precision": "bfloat16", "torch": "2.13.0"}
DIFFERS = "name EPYC 7742, not EPYC 9654, instructions AVX2, not AVX512, auto_precision float32, not bfloat16"


def runs_of(pool: StubPool) -> dict[str, int]:
    """Node → how many shards its workers were given."""
    return {node: sum(w.calls.count("run") for w in pool.workers if w.node == node) for node in pool.machines}


def test_machines_of_another_kind_are_told_once_a_kind(
    small_plan: Plan, dispatched: Dispatched, heard: Heard
) -> None:
    pool = StubPool(["n1", "n2", "n3"], machines={"n1": NEW, "n2": OLD, "n3": OLD})
    dispatched(small_plan, pool)
    (note,) = heard.notes
    assert note.startswith("mixed machines: a worker on n2 makes rows that may differ by rounding")
    assert f"({DIFFERS}); to have one kind set mixed_machines: refuse, or resources.label_selector" in note
    assert min(runs_of(pool).values()) > 0


def test_machines_that_are_alike_are_not_told(small_plan: Plan, dispatched: Dispatched, heard: Heard) -> None:
    dispatched(small_plan, StubPool(["n1", "n2"], machines={"n1": NEW, "n2": {**NEW}}), machine={})
    assert heard.notes == []


def test_a_machine_of_another_kind_can_be_refused_and_its_shards_run_elsewhere(
    make_small_plan: MakePlan, dispatched: Dispatched, heard: Heard
) -> None:
    pool = StubPool(["n1", "n2"], machines={"n1": OLD, "n2": NEW})
    work = dispatched(make_small_plan(mixed_machines="refuse"), pool, machine=NEW)
    assert work.failures == {}
    assert runs_of(pool) == {"n1": 0, "n2": 6}
    assert [info.host for info in heard.workers] == ["n2"]
    assert heard.notes == [f"mixed machines: a worker on n1 is left out ({DIFFERS})"]
    assert heard.lost == []
    assert len(pool.workers) == 2  # nobody goes there again and again


def test_where_every_machine_is_refused_one_line_says_what_differs_and_what_to_set(
    make_small_plan: MakePlan, dispatched: Dispatched, heard: Heard
) -> None:
    def lose(pool: StubPool) -> None:
        pool.lose("n1", Answer(kind="moved", cause="preempted"))

    pool = StubPool(["n1", "n2"], machines={"n1": NEW, "n2": OLD}, events=[(25.0, lose)])
    plan = make_small_plan(mixed_machines="refuse")
    with pytest.raises(InputError, match=f"n2 has {DIFFERS}") as caught:
        dispatched(plan, pool)
    assert "set resources.label_selector or" in str(caught.value)
    assert "or mixed_machines: warn; finished shards are kept" in str(caught.value)
    assert 0 < len(heard.done) < plan.shard_count
    assert runs_of(pool)["n2"] == 0
    assert pool.clock - 1000 < 120


def test_a_worker_that_lands_on_a_refused_machine_loads_nothing(
    make_small_plan: MakePlan, dispatched: Dispatched
) -> None:
    """It was asked for before the machine was known."""
    pool = StubPool(["n1", "n2"], machines={"n1": NEW, "n2": OLD})
    dispatched(make_small_plan(mixed_machines="refuse"), pool, machine=NEW, workers=4)
    others = [worker.calls for worker in pool.workers if worker.node == "n2"]
    assert others[0] == ["place", "start"]
    assert all(calls == ["place"] for calls in others[1:])


def test_a_sweep_tells_of_a_machine_of_another_kind_once(make_setup: Callable[..., WorkerSetup]) -> None:
    from kiago_ray.distributed.tune import HOST, SEEDS, UNIT, Experiment
    from kiago_ray.sweep.metrics import METRICS
    from kiago_ray.sweep.trials import Unit

    heard, sweep = sweeps.Heard(), sweeps.small_sweep()
    experiment = Experiment(sweep, make_setup(Path("x")), 1, heard, lambda: False, lambda trial: None)
    trial = SimpleNamespace(config={UNIT: Unit("trial 0", "trials/0", {}, ("MgB2",), (0, 1), 0)})
    for host, machine in (("n1", NEW), ("n2", OLD), ("n1", NEW), ("n3", OLD)):
        result = {SEEDS: 1, HOST: host, MACHINE: machine, **dict.fromkeys(METRICS, 0.0)}
        experiment.on_trial_result(0, [], trial, result)
    assert heard.notes == [
        f"mixed machines: scores from n2 may differ by rounding ({DIFFERS}); resources.label_selector picks machines "
        "that are alike"
    ]
    assert len(heard.seeds) == 4
