"""The same behaviour on a local path, file:// and s3://, seen independently: by the file system and by boto3."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kiago_ray.errors import InputError
from kiago_ray.storage import location
from kiago_ray.storage.location import Location, StorageError
from kiago_ray.storage.run_directory import RunDirectoryError, open_run
from kiago_ray.storage.table import parquet_bytes, read_table, schema

BIG = bytes(range(256)) * (11_500_000 // 256)  # two parts of an upload
ODD_NAMES = ["LaNiAsO-x=0.1+y=2-s0", "a b", "100%", "a%20b", ".driver.json", "Ni₂", "a#b?c&d", "a.b.c"]


@dataclass(frozen=True)
class Storage:
    """A new, empty place. files: path below it → bytes of every file, temporary ones too."""

    place: Location
    files: Callable[[], dict[str, int]]
    content: Callable[[str], bytes]


@pytest.fixture(params=["path", "file://", "s3://"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "s3://":
        bucket: Any = request.getfixturevalue("bucket")
        return Storage(
            Location.of(f"s3://{bucket.name}/out/put"),
            lambda: {key.removeprefix("out/put/"): size for key, size in bucket.objects().items()},
            lambda name: bucket.content(f"out/put/{name}"),
        )
    folder = tmp_path / "out" / "put"
    folder.mkdir(parents=True)
    return Storage(
        Location.of(folder if request.param == "path" else folder.as_uri()),
        lambda: {str(p.relative_to(folder)): p.stat().st_size for p in folder.rglob("*") if p.is_file()},
        lambda name: (folder / name).read_bytes(),
    )


@pytest.mark.parametrize("content", [b"", b"x", BIG], ids=["empty", "small", "big"])
def test_what_is_written_is_there_and_is_read_back(storage: Storage, content: bytes) -> None:
    place = storage.place / "table.bin"
    place.write_bytes(content)
    assert storage.content("table.bin") == content
    assert place.read_bytes() == content
    assert place.kind() == "file"
    assert place.sha256() == hashlib.sha256(content).hexdigest()
    place.write_bytes(pa.py_buffer(content + b"!"))
    assert storage.content("table.bin") == content + b"!"
    assert list(storage.files()) == ["table.bin"]


def test_writing_again_replaces(storage: Storage) -> None:
    place = storage.place / "x"
    place.write_bytes(b"long content")
    place.write_bytes(b"short")
    assert place.read_bytes() == b"short"
    assert storage.files() == {"x": 5}


def test_removed_is_gone_and_what_is_not_there_needs_no_removing(storage: Storage) -> None:
    for name in ("a", "b"):
        (storage.place / name).write_bytes(b"x")
    (storage.place / "a").delete()
    (storage.place / "a").delete()
    assert storage.place.entries() == ["b"]
    assert (storage.place / "a").kind() == "nothing"
    (storage.place / "b").delete()
    assert storage.place.entries() == []


def test_nothing_half_written_is_ever_visible(tmp_path: Path) -> None:
    place, contents = Location.of(tmp_path) / "table.bin", (b"old" * 2_000_000, BIG)
    place.write_bytes(contents[0])
    seen = set()
    with ThreadPoolExecutor(1) as aside:
        writing = aside.submit(lambda: [place.write_bytes(contents[turn % 2]) for turn in range(6)])
        while not writing.done():
            seen.add(place.read_bytes())
        writing.result()
    assert seen <= set(contents)
    assert [path.name for path in tmp_path.iterdir()] == ["table.bin"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    place = Location.of(tmp_path)
    (place / "table.bin").write_bytes(b"old")

    def interrupted(filesystem: Any, path: str, contents: bytes) -> None:
        Path(path).write_bytes(contents[: len(contents) // 2])
        raise error

    monkeypatch.setattr(location, "_put", interrupted)
    for name in ("table.bin", "another.bin"):
        with pytest.raises(StorageError if error is OSError else error):
            (place / name).write_bytes(BIG)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("table.bin", b"old")]


def test_entries_and_kinds(storage: Storage) -> None:
    place = storage.place
    assert place.entries() == []
    (place / "a").make_directory()
    (place / "a" / "inside").write_bytes(b"x")
    (place / "b").write_bytes(b"x")
    assert place.entries() == ["a", "b"]
    assert [(place / name).kind() for name in ("a", "b", "c")] == ["directory", "file", "nothing"]
    assert (place / "a").entries() == ["inside"]
    assert (place / "c").entries() == []


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_is_kept_letter_by_letter_and_its_text_is_the_same_place(storage: Storage, name: str) -> None:
    place = storage.place / "shards" / name
    (storage.place / "shards").make_directory()
    place.write_bytes(name.encode())
    assert place.name == name
    assert storage.files() == {f"shards/{name}": len(name.encode())}
    assert (storage.place / "shards").entries() == [name]
    assert Location.of(place.text).read_bytes() == name.encode()


def test_what_is_not_there_cannot_be_read(storage: Storage) -> None:
    with pytest.raises(StorageError, match=r"can't read .*gone: No such file or directory$"):
        (storage.place / "gone").read_bytes()


def test_a_run_directory_is_made_found_again_and_refused_to_another_search(storage: Storage) -> None:
    place = storage.place / "run=1"
    run = open_run(place, {"spec": {"seed": 1}})
    assert place.entries() == ["spec.yaml"]
    assert not run.finished
    (run.location / "top.csv").write_bytes(b"x")
    run.finish(["top.csv"])
    assert open_run(place, {"spec": {"seed": 1}}).finished
    with pytest.raises(RunDirectoryError, match="holds another"):
        open_run(place, {"spec": {"seed": 2}})
    (run.location / "top.csv").delete()
    assert not open_run(place, {"spec": {"seed": 1}}).finished


def test_a_table_is_read_back_and_a_cut_off_one_is_found(storage: Storage) -> None:
    place = storage.place / "candidates.parquet"
    table = schema().empty_table()
    place.write_bytes(parquet_bytes(table))
    assert read_table(place) == table
    place.write_bytes(storage.content("candidates.parquet")[:-20])
    with pytest.raises(StorageError, match=r"candidates\.parquet is not a whole Parquet file"):
        read_table(place)
    with pytest.raises(StorageError, match=r"can't read .*gone: No such file or directory$"):
        read_table(storage.place / "gone")


def test_a_path_and_its_file_uri_are_the_same_place(tmp_path: Path) -> None:
    (Location.of(tmp_path) / "one.txt").write_bytes(b"x")
    assert (Location.of(tmp_path.as_uri()) / "one.txt").read_bytes() == b"x"


def test_a_relative_path_is_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Location.of("runs/a")
    place.make_directory()
    (place / "x").write_bytes(b"1")
    assert (tmp_path / "runs" / "a" / "x").read_bytes() == b"1"


def test_a_place_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    place = Location.of(tmp_path / "file" / "below")
    with pytest.raises(StorageError, match=r"can't write .*file/below: Not a directory"):
        place.write_bytes(b"x")
    with pytest.raises(StorageError, match=r"can't make the directory .*below: Not a directory"):
        place.make_directory()


@pytest.mark.parametrize("text", ["", "a\0b", "nosuchscheme://bucket/x", "gs://me:hidden@bucket/x"])
def test_places_that_cannot_be_opened(text: str) -> None:
    with pytest.raises(StorageError) as caught:
        Location.of(text)
    assert "\n" not in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("s3:/bucket/x", "s3://bucket/x"),
        ("s3:bucket/x", "s3://bucket/x"),
        ("gs:/b", "gs://b"),
        ("file:/tmp/x", "file:///tmp/x"),
    ],
)
def test_a_uri_that_lacks_a_slash_is_no_folder(given: str, meant: str) -> None:
    with pytest.raises(InputError) as caught:
        Location.of(given)
    assert f"{given} lacks a slash; write {meant}, or ./{given}" in str(caught.value)
    assert Location.of(f"./{given}").filesystem.type_name == "local"
