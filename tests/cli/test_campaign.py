"""`kiago campaign` as a user types it, on the tests' Ray cluster."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from .conftest import Kiago

SMALL = {
    "name": "small",
    "bases": ["LaNiAsO", "MgB2"],
    "search": {"steps": [2, 2]},
    "candidates": 16,
    "shard_size": 8,
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A campaign's file in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


def test_a_dry_run_prints_the_plan_and_starts_nothing(kiago: Kiago, file: Path) -> None:
    shown = kiago("campaign", "run", file, "--dry-run")
    assert shown.code == 0
    assert "LaNiAsO-s0" in shown.out
    assert "searches 2 shards 4 candidates 32 " in " ".join(shown.out.split())
    plan = json.loads(kiago("campaign", "run", file, "--dry-run", "--json").out)
    assert (plan["searches"], plan["shards"], plan["candidates"]) == (2, 4, 32)
    assert plan["memory_mb_per_worker"] > 400
    assert [each["search"] for each in plan["plan"]] == ["LaNiAsO-s0", "MgB2-s0"]
    assert [path.name for path in file.parent.iterdir()] == ["small.yaml"]


def test_a_dry_run_around_the_literature_prints_its_families(kiago: Kiago, file: Path) -> None:
    asked = {"literature": {"min_tc_k": 30, "elements": ["Fe"], "without": ["Th"], "most": 3}}
    file.write_text(yaml.safe_dump({**SMALL, "bases": asked, "shard_size": 16}))
    shown = " ".join(kiago("campaign", "run", file, "--dry-run").out.split())
    assert "3 known families, the best known first: K0.4Ba0.6Fe2As2" in shown
    assert "searches 1 shards 3 candidates 48 " in shown
    plan = json.loads(kiago("campaign", "run", file, "--dry-run", "--json").out)
    assert plan["families"][0] == "K0.4Ba0.6Fe2As2"
    assert (len(plan["families"]), plan["left_out"]) == (3, {})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nme": "x"}, "nme: unknown key; did you mean 'name'?"),
        ({"bases": ["LaXO"]}, "bases.0: undetermined amount"),
        ({"search": {"alfa": 1}}, "2 of 2 searches can't run: LaNiAsO-s0, MgB2-s0: alfa: unknown key"),
        (
            {"grid": {"oxidation_state": [3, 9]}, "search": {"preset": "open"}},
            "no element has the state +9 in icsd24; its states are -5 to +8",
        ),
        ({"search": {"preset": "best"}}, "there is no preset 'best'"),
        ({"weights": "nowhere"}, "no model card at"),
        ({"known": "nowhere.tsv"}, "nowhere.tsv"),
        (
            {"bases": "literature", "known": "none"},
            "known: none, but bases: literature are the known families",
        ),
        (
            {"bases": {"literature": {"min_tc_k": 900}}},
            "known families is what literature asks for",
        ),
        ({"tried": "nowhere.csv", "search": {"preset": "open"}}, "nowhere.csv"),
    ],
)
def test_wrong_files_are_refused_in_one_line_before_anything_is_written(
    kiago: Kiago, file: Path, change: dict[str, object], said: str
) -> None:
    file.write_text(yaml.safe_dump({**SMALL, **change}))
    ended = kiago("campaign", "run", file)
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not (file.parent / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "none.yaml"), "none.yaml: can't be read"),
        (("run", "small.yaml", "--workers", "0"), "--workers"),
        (("run", "small.yaml", "--gpus-per-worker", "1.5"), "gpus: 1.5 is neither"),
        (("run", "small.yaml", "--tracking-uri", "x", "--no-tracking"), "contradict each other"),
        (("run", "small.yaml", "--out", "small.yaml"), "small.yaml"),
        (("status", "nowhere"), "nowhere holds no run"),
        (("report", "nowhere"), "nowhere holds no run"),
        (("track", "nowhere"), "nowhere holds no run"),
    ],
)
def test_wrong_arguments_end_with_2_and_one_line(
    kiago: Kiago, file: Path, arguments: tuple[str, ...], said: str
) -> None:
    ended = kiago("campaign", *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert len(ended.err.strip().splitlines()) == 1


@pytest.mark.usefixtures("cluster")
def test_from_file_to_status_page_and_record(kiago: Kiago, file: Path) -> None:
    done = kiago("campaign", "run", file, "--json", "--top", "3")
    assert done.code == 0, done.err
    outcome = json.loads(done.out)
    folder = file.parent / "runs" / "small"
    assert outcome["out"] == "runs/small"
    assert outcome["complete"] is True
    assert outcome["summary"]["shards_done"] == 4
    assert outcome["tracking"]["pending"] == []
    table = pq.read_table(folder / "candidates.parquet")
    assert outcome["summary"]["ranked_by"] == "improvement"
    assert table["plausibility"].null_count == table["formula"].null_count == 0
    assert [row["formula"] for row in outcome["top"]] == table["formula"].to_pylist()[:3]
    assert "shard 4/4" in done.err
    assert (file.parent / "runs" / "mlflow.db").is_file()
    spec = yaml.safe_load((folder / "spec.yaml").read_text())
    assert spec["finished"] is True
    assert spec["campaign"]["bases"] == ["LaNiAsO", "MgB2"]

    again = kiago("campaign", "run", file)
    assert again.code == 0
    assert "already holds this run" in again.err
    assert str(table["formula"][0]) in again.out

    state = json.loads(kiago("campaign", "status", folder, "--json").out)
    assert (state["finished"], state["shards_done"], state["rows_done"], state["driver"]) == (
        True,
        4,
        32,
        None,
    )
    assert state["best"]["trusted_tc_k"] == max(
        each["trusted_tc_k"] for each in table.to_pylist() if each["passed"] and each["known"] is None
    )
    said = " ".join(kiago("campaign", "status", folder).out.split())
    assert "finished yes" in said
    assert said.endswith("It is finished.")

    paged = kiago("campaign", "report", folder, "--output", file.parent / "page.html")
    assert paged.code == 0
    assert "page.html" in paged.out
    page, written = file.parent / "page.html", folder / "report.html"
    before_spec = [path.read_text().partition("<h2>Specification")[0] for path in (page, written)]
    assert before_spec[0] == before_spec[1]
    assert "MgB" in before_spec[0]

    tracked = kiago("campaign", "track", folder)
    assert tracked.code == 0, tracked.err
    assert "has the record" in tracked.err


@pytest.mark.usefixtures("cluster")
def test_workers_heed_what_was_tried_and_another_file_is_another_campaign(kiago: Kiago, file: Path) -> None:
    (file.parent / "mine.csv").write_text("formula,tc_k\nLaNiAsO,2.4\n")
    search = {"preset": "open", "steps": [2, 2]}
    file.write_text(yaml.safe_dump({**SMALL, "bases": ["LaNiAsO"], "search": search, "tried": "mine.csv"}))
    run = ("campaign", "run", file, "--no-tracking", "--workers", 1)
    done = kiago(*run)
    assert done.code == 0, done.err
    assert "1 samples were tried, 1 of them superconduct" in done.err
    rows = pq.read_table(file.parent / "runs" / "small" / "candidates.parquet").to_pylist()
    assert rows
    assert all(row["tc_given_tried_k"] is not None for row in rows)
    other = kiago(*run, "--tried", "shipped")
    assert other.code == 2
    assert "another run" in other.err


@pytest.mark.usefixtures("cluster")
@pytest.mark.long
def test_failed_shards_end_with_3_and_are_named_until_they_can_be_run(kiago: Kiago, file: Path) -> None:
    file.write_text(yaml.safe_dump({**SMALL, "shard_size": 16}))
    folder = file.parent / "out"
    assert kiago("campaign", "run", file, "--out", folder, "--no-tracking", "--workers", 1).code == 0
    whole = (folder / "candidates.parquet").read_bytes()

    blocked = file.parent / "blocked"
    (blocked / "shards").mkdir(parents=True)
    (blocked / "shards" / "MgB2-s0").write_text("in the way")
    (blocked / "spec.yaml").write_bytes(unfinished((folder / "spec.yaml").read_bytes()))
    failed = kiago("campaign", "run", file, "--out", blocked, "--no-tracking", "--workers", 1)
    assert failed.code == 3, failed.err
    assert "failed: MgB2-s0/00000" in failed.err
    assert "1 failed; the same command tries them again" in failed.err
    assert "MgB2-s0/00000" in kiago("campaign", "status", blocked).out

    (blocked / "shards" / "MgB2-s0").unlink()
    mended = kiago("campaign", "run", file, "--out", blocked, "--no-tracking", "--workers", 1)
    assert mended.code == 0, mended.err
    assert "1 of 2 shards are done already" in mended.err
    assert (blocked / "candidates.parquet").read_bytes() == whole


def unfinished(spec: bytes) -> bytes:
    """The spec.yaml of a campaign as it was before it was finished."""
    values = yaml.safe_load(spec)
    return yaml.safe_dump({**values, "finished": False, "outputs": []}).encode()


def test_a_single_search_is_no_campaign(kiago: Kiago, file: Path) -> None:
    options = ("--candidates", "8", "--steps", "1,1", "--out", "one")
    assert kiago("search", "MgB2", *options).code == 0
    ended = kiago("campaign", "status", "one")
    assert ended.code == 2
    assert "one holds a single search, no campaign" in ended.err


def test_every_campaign_that_ships_can_be_planned(kiago: Kiago) -> None:
    files = sorted((Path(__file__).parents[2] / "campaigns").glob("*.yaml"))
    assert {path.stem for path in files} >= {"smoke", "table2", "million"}
    plans = {}
    for path in files:
        plans[path.stem] = plan = json.loads(kiago("campaign", "run", path, "--dry-run", "--json").out)
        assert (plan["name"], plan["out"]) == (path.stem, f"runs/{path.stem}")
        header = path.read_text().split("name:")[0]
        assert all(word in header for word in ("Result:", "Hardware:", "Time:"))
    million = plans["million"]
    assert million["candidates"] >= 1_000_000
    assert (million["searches"], million["shards"]) == (120, 2040)
