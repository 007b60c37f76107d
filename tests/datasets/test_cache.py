"""Where fetched files are kept, and records that can't be trusted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from kiago_ray.datasets.cache import RECORD, CachedFile, cache_directory, find, store
from kiago_ray.datasets.files import DataError, sha256

AGAIN = "fetch it again"


@pytest.fixture
def stored(tmp_path: Path) -> CachedFile:
    """A table of one word in the folder `kept`."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "table.tsv").write_text("superconductors")
    return store(tmp_path / "kept", tmp_path / "table.tsv", {"licence": "CC BY 4.0"})


def test_what_is_stored_is_found_with_its_record(tmp_path: Path, stored: CachedFile) -> None:
    assert stored.path.read_text() == "superconductors"
    assert stored.sha256 == sha256(stored.path)
    assert dict(stored.about) == {"licence": "CC BY 4.0", "sha256": stored.sha256}
    assert find(tmp_path / "kept", "table.tsv", AGAIN) == stored
    assert not (tmp_path / "table.tsv").exists()


def test_nothing_stored_is_none(tmp_path: Path) -> None:
    assert find(tmp_path / "nowhere", "table.tsv", AGAIN) is None
    (tmp_path / "file").write_text("")
    assert find(tmp_path / "file", "table.tsv", AGAIN) is None


def test_one_changed_byte_is_seen(tmp_path: Path, stored: CachedFile) -> None:
    stored.path.write_text("superconductorS")
    with pytest.raises(DataError, match="has changed since it was fetched; `fetch it again`"):
        find(tmp_path / "kept", "table.tsv", AGAIN)


def test_a_record_of_another_table_does_not_lead_out_of_the_folder(
    tmp_path: Path, stored: CachedFile
) -> None:
    record = tmp_path / "kept" / RECORD
    record.write_text(json.dumps({"sha256": "../../" + "0" * 58}))
    with pytest.raises(DataError, match="no record of a fetched file"):
        find(tmp_path / "kept", "table.tsv", AGAIN)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"sha256": "../../x"}', '{"sha256": 1}', '{"sha256": "', "\x00"]
)
def test_a_damaged_record_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD).write_text(text)
    with pytest.raises(DataError, match=r"fetched\.json: .*fetch it again"):
        find(tmp_path, "table.tsv", AGAIN)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KIAGO_CACHE", str(tmp_path / "cache"))
    assert cache_directory() == tmp_path / "cache"
    monkeypatch.delenv("KIAGO_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_directory() == tmp_path / "xdg" / "kiago-ray"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification says to ignore it
    assert cache_directory() == tmp_path / ".cache" / "kiago-ray"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_directory() == tmp_path / "Library" / "Caches" / "kiago-ray"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "Local"))
    assert cache_directory() == tmp_path / "Local" / "kiago-ray" / "Cache"
