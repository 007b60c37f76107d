from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyarrow import fs

from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import CANDIDATES, SPEC, RunDirectoryError, open_run

IDENTITY: dict[str, Any] = {
    "search": {"base": "LaNiAsO", "steps": (200, 200), "fixed": {}, "beta": {"start": 1e-05, "end": 1.0}},
    "weights": {"tc": "ab" * 32, "ef": "cd" * 32},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    identity = copy.deepcopy(IDENTITY)
    *parents, last = path.split(".")
    section = identity
    for parent in parents:
        section = section[parent]
    section[last] = value
    return identity


def everything(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("existing", [False, True])
def test_a_new_or_empty_directory_gets_the_complete_specification(tmp_path: Path, existing: bool) -> None:
    out = tmp_path / "runs" / "LaNiAsO"
    if existing:
        out.mkdir(parents=True)
        (out / ".DS_Store").write_text("")
    run = open_run(out, IDENTITY, {"versions": {"kiago_ray": "0.1.0"}})
    assert not run.finished
    record = yaml.safe_load((out / SPEC).read_text())
    assert record["search"] == {**IDENTITY["search"], "steps": [200, 200]}
    assert record["weights"] == IDENTITY["weights"]
    assert record["versions"] == {"kiago_ray": "0.1.0"}
    assert record["finished"] is False
    assert len(record["identity"]) == 64


def test_a_finished_search_is_found_and_left_as_it_is(tmp_path: Path) -> None:
    run = open_run(tmp_path, IDENTITY)
    (run.location / CANDIDATES).write_bytes(b"table")
    assert run.finish([CANDIDATES]).finished
    before = everything(tmp_path)
    again = open_run(tmp_path.as_uri(), copy.deepcopy(IDENTITY), {"versions": {"kiago_ray": "9"}})
    assert again.finished
    assert everything(tmp_path) == before


def test_a_search_that_was_not_finished_is_opened_again(tmp_path: Path) -> None:
    open_run(tmp_path, IDENTITY, {"versions": {"kiago_ray": "0.1.0"}})
    (tmp_path / CANDIDATES).write_bytes(b"partial")
    again = open_run(tmp_path, IDENTITY, {"versions": {"kiago_ray": "0.2.0"}})
    assert not again.finished
    assert again.record["versions"] == {"kiago_ray": "0.2.0"}


def test_a_finished_search_whose_files_are_gone_is_not_finished(tmp_path: Path) -> None:
    run = open_run(tmp_path, IDENTITY)
    (run.location / CANDIDATES).write_bytes(b"table")
    run.finish([CANDIDATES])
    (tmp_path / CANDIDATES).unlink()
    assert not open_run(tmp_path, IDENTITY).finished


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (changed("search.base", "MgB2"), "search.base is LaNiAsO there, MgB2 here"),
        (changed("search.steps", [200, 100]), r"search.steps is \[200, 200\] there, \[200, 100\] here"),
        (changed("search.fixed", {"O": 0.25}), "search.fixed.O is absent there, 0.25 here"),
        (changed("weights.tc", "ef" * 32), "weights.tc is abab.* there, efef.* here"),
        ({"search": {}, "weights": {}, "data": "x"}, r"and \d+ more"),
    ],
)
def test_another_search_is_refused_and_nothing_changes(
    tmp_path: Path, other: dict[str, Any], difference: str
) -> None:
    run = open_run(tmp_path, IDENTITY)
    run.finish([])
    before = everything(tmp_path)
    with pytest.raises(
        RunDirectoryError, match=rf"holds another run .*{difference}.*choose another"
    ) as caught:
        open_run(tmp_path, other)
    assert "\n" not in str(caught.value)
    assert everything(tmp_path) == before


def test_a_specification_changed_by_hand_is_refused(tmp_path: Path) -> None:
    open_run(tmp_path, IDENTITY)
    spec = tmp_path / SPEC
    spec.write_text(spec.read_text().replace("LaNiAsO", "MgB2"))
    with pytest.raises(RunDirectoryError, match=r"search\.base is MgB2 there, LaNiAsO here"):
        open_run(tmp_path, IDENTITY)
    with pytest.raises(RunDirectoryError, match="changed by hand"):
        open_run(tmp_path, changed("search.base", "MgB2"))


def test_a_directory_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(RunDirectoryError, match=r"holds files \(thesis\.tex\) but no run"):
        open_run(tmp_path, IDENTITY)
    assert everything(tmp_path) == {str(tmp_path / "thesis.tex"): b"dear"}


@pytest.mark.parametrize("contents", [b"", b"[1, 2", b"\xff\xfe\x00", b"- a\n", b"a: 1\n"])
def test_a_damaged_record_is_refused(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / SPEC).write_bytes(contents)
    with pytest.raises(RunDirectoryError, match=r"spec\.yaml .*choose another output directory") as caught:
        open_run(tmp_path, IDENTITY)
    assert "\n" not in str(caught.value)
    assert (tmp_path / SPEC).read_bytes() == contents


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(RunDirectoryError, match="is a file; give a directory"):
        open_run(tmp_path / "out", IDENTITY)


@pytest.mark.parametrize("place", ["{tmp}/file/run", "/proc/run", "", "nosuch://x/y"])
def test_a_place_that_cannot_be_written_to_is_one_clear_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunDirectoryError, match="choose another output directory") as caught:
        open_run(place.format(tmp=tmp_path), IDENTITY)
    assert "\n" not in str(caught.value)


def test_a_filesystem_that_is_not_this_disk() -> None:
    place = Location("memory://runs/a", fs._MockFileSystem(), "runs/a")  # Arrow's own, in memory
    run = open_run(place, IDENTITY)
    (run.location / CANDIDATES).write_bytes(b"table")
    run.finish([CANDIDATES])
    assert place.entries() == [CANDIDATES, SPEC]
    assert open_run(place, IDENTITY).finished
    with pytest.raises(RunDirectoryError, match="memory://runs/a holds another run"):
        open_run(place, changed("search.base", "MgB2"))


def test_what_json_lacks_cannot_be_given(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        open_run(tmp_path, {"search": {"alpha": float("nan")}})
    assert everything(tmp_path) == {}
