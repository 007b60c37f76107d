"""What `--known` may name: a file, the fetched SuperCon, the landmarks, nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from kiago_ray.datasets.cache import store
from kiago_ray.datasets.fetch import supercon_folder
from kiago_ray.datasets.known_tables import LANDMARKS_SOURCE, known_table

from kiago_ray.datasets.files import DataError, sha256

WriteSupercon = Callable[[Sequence[tuple[str, str, str, str]]], Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIAGO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def table(write_supercon: WriteSupercon) -> Path:
    return write_supercon([("Nb3Sn1", "K", "18", "A,1(1954)1"), ("Mg1B2", "K", "39", "B,1(2001)1")])


def test_a_file_is_read_and_named(table: Path) -> None:
    found = known_table(str(table))
    assert found is not None
    assert found.table["formula"].tolist() == ["MgB2", "Nb3Sn"]
    assert found.sha256 == sha256(table)
    assert found.source == f"SuperCon (2 rows, {table})"


def test_without_a_choice_it_is_the_landmarks_until_supercon_was_fetched(table: Path) -> None:
    landmarks = known_table()
    assert landmarks is not None
    assert landmarks.source == LANDMARKS_SOURCE
    assert len(landmarks.table) == 275
    with pytest.raises(DataError, match="`kiago data fetch supercon`"):
        known_table("supercon")

    supercon_folder().mkdir(parents=True)
    digest = sha256(table)
    store(supercon_folder(), table, {"fetched_at": "2026-11-23T00:00:00+00:00"})
    for choice in (None, "supercon"):
        fetched = known_table(choice)
        assert fetched is not None
        # The same table by another way is the same: a run's identity holds this hash.
        assert fetched.sha256 == digest
        assert fetched.source == "SuperCon (2 rows, fetched on 2026-11-23)"
    again = known_table("landmarks")
    assert again is not None
    assert again.sha256 == landmarks.sha256 != digest
    assert known_table("none") is None


def test_a_fetched_table_that_changed_is_not_passed_over_for_the_landmarks(table: Path) -> None:
    supercon_folder().mkdir(parents=True)
    stored = store(supercon_folder(), table, {})
    record = json.loads((supercon_folder() / "fetched.json").read_text())
    assert record == {"sha256": stored.sha256}
    stored.path.write_text("other")
    with pytest.raises(DataError, match="has changed"):
        known_table()
    assert known_table("landmarks") is not None


def test_tables_of_which_nothing_can_be_used(write_supercon: WriteSupercon) -> None:
    with pytest.raises(DataError, match="no such file"):
        known_table("nowhere.tsv")
    with pytest.raises(DataError, match="holds no composition that can be read"):
        known_table(str(write_supercon([("Mg1B2OZ", "K", "39", "")])))
