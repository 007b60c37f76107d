"""/v1/runs: runs of the command line, listed and read, never written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .conftest import MakeService


def finished_runs(make_service: MakeService, folder: Path) -> Path:
    """A directory with a run, one whose table is cut off, one whose record is damaged, and what is no run."""
    runs = folder / "runs"
    service = make_service(data=str(runs / "service"))
    spec = {"base": "MgB2", "candidates": 8, "steps": [1, 1]}
    job = service.client.post("/v1/searches", json=spec).json()["id"]
    assert service.run_searches() == 1
    for name in ("MgB2-first", "MgB2-cut"):
        shutil.copytree(runs / "service" / "searches" / job / "result", runs / name)
    (runs / "MgB2-first" / "report.html").write_text(
        "<h1>MgB2</h1>"
    )  # which the service's searches don't have
    cut = runs / "MgB2-cut" / "candidates.parquet"
    cut.write_bytes(cut.read_bytes()[:-100])
    for name in ("damaged", "others"):
        (runs / name).mkdir()
    (runs / "damaged" / "spec.yaml").write_text("identity: [")
    return runs


def test_runs_are_listed_and_read(make_service: MakeService, tmp_path: Path) -> None:
    runs = finished_runs(make_service, tmp_path)
    before = sorted((path, path.stat().st_mtime_ns) for path in runs.rglob("*"))
    client = make_service(runs=str(runs)).client

    found = client.get("/v1/runs").json()
    by_name = {each["name"]: each for each in found["runs"]}
    assert by_name.keys() == {"MgB2-first", "MgB2-cut", "damaged"}
    assert [each["name"] for each in found["runs"]][-1] == "damaged"
    assert (found["total"], found["left_out"]) == (3, 0)
    assert by_name["damaged"]["state"] == "unreadable spec.yaml"
    assert by_name["MgB2-cut"]["state"] == "unreadable candidates.parquet"
    first = client.get("/v1/runs/MgB2-first").json()
    assert (first["kind"], first["base"], first["state"]) == ("search", "MgB2", "finished")
    assert first["summary"]["unique"] == first["rows"]

    page = client.get("/v1/runs/MgB2-first/candidates?limit=3").json()
    assert page["total"] == first["rows"]
    assert [row["rank"] for row in page["candidates"]] == [1, 2, 3]
    assert all("nearest_doi" in row for row in page["candidates"])
    cut = client.get("/v1/runs/MgB2-cut/candidates")
    assert cut.status_code == 409
    assert str(tmp_path) not in cut.text

    for name in first["files"]:
        answer = client.get(f"/v1/runs/MgB2-first/files/{name}")
        assert answer.content == (runs / "MgB2-first" / name).read_bytes()
        assert answer.headers["Content-Disposition"].startswith("attachment")
    assert "report.html" in first["files"]
    assert sorted((path, path.stat().st_mtime_ns) for path in runs.rglob("*")) == before


@pytest.mark.parametrize(
    "path",
    [
        "damaged",
        "others",
        "service",
        "..",
        "%2e%2e",
        "%00",
        "MgB2-first%00/candidates",
        "%E9%89%84" * 100,  # a name of 300 bytes, which no disk can hold
        "MgB2-first/files/spec.yaml",
        "MgB2-first/files/..%2f..%2fx",
    ],
)
def test_nothing_else_is_read(make_service: MakeService, tmp_path: Path, path: str) -> None:
    runs = tmp_path / "runs"
    (runs / "MgB2-first").mkdir(parents=True)
    (runs / "MgB2-first" / "spec.yaml").write_text("search: {}\nidentity: x\n")
    assert make_service(runs=str(runs)).client.get(f"/v1/runs/{path}").status_code == 404


@pytest.mark.parametrize("runs", [None, "nowhere"])
def test_there_may_be_none(make_service: MakeService, tmp_path: Path, runs: str | None) -> None:
    client = make_service(runs=None if runs is None else str(tmp_path / runs)).client
    assert client.get("/v1/runs").json() == {"total": 0, "left_out": 0, "runs": []}
    assert client.get("/v1/runs/x").status_code == 404
