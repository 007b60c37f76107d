from __future__ import annotations

from pathlib import Path

import pytest

from kiago_ray.storage.location import Location, StorageError


def test_a_path_and_its_file_uri_are_the_same_place(tmp_path: Path) -> None:
    (Location.of(tmp_path) / "one.txt").write_bytes(b"x")
    place = Location.of(tmp_path.as_uri()) / "one.txt"
    assert place.read_bytes() == b"x"
    assert place.kind() == "file"
    assert place.name == "one.txt"


def test_a_relative_path_is_below_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Location.of("runs/a")
    place.make_directory()
    (place / "x").write_bytes(b"1")
    assert (tmp_path / "runs" / "a" / "x").read_bytes() == b"1"


def test_nothing_half_written_is_ever_visible(tmp_path: Path) -> None:
    place = Location.of(tmp_path / "table.bin")
    place.write_bytes(b"old")
    with place.writing() as stream:
        stream.write(b"half of the n")
        stream.flush()
        assert place.read_bytes() == b"old"
        stream.write(b"ew")
    assert place.read_bytes() == b"half of the new"
    assert [path.name for path in tmp_path.iterdir()] == ["table.bin"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    place = Location.of(tmp_path / "table.bin")
    place.write_bytes(b"old")

    def interrupted() -> None:
        with place.writing() as stream:
            stream.write(b"new")
            raise error

    with pytest.raises(error):
        interrupted()
    assert place.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.bin"]


def test_entries_and_kinds(tmp_path: Path) -> None:
    place = Location.of(tmp_path)
    (tmp_path / "b").write_text("x")
    (tmp_path / "a").mkdir()
    assert place.entries() == ["a", "b"]
    assert [(place / name).kind() for name in ("a", "b", "c")] == ["directory", "file", "nothing"]
    assert (place / "c").entries() == []


def test_a_place_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    place = Location.of(tmp_path / "file" / "below")
    with pytest.raises(StorageError, match=r"can't write .*file/below: Not a directory"):
        place.write_bytes(b"x")
    with pytest.raises(StorageError, match=r"can't make the directory .*below: Not a directory"):
        place.make_directory()


def test_what_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"can't read .*gone: No such file or directory"):
        (Location.of(tmp_path) / "gone").read_bytes()


@pytest.mark.parametrize("text", ["", "a\0b", "nosuchscheme://bucket/x"])
def test_places_that_cannot_be_opened(text: str) -> None:
    with pytest.raises(StorageError) as caught:
        Location.of(text)
    assert "\n" not in str(caught.value)
