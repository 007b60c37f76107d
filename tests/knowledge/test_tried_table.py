from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

import pytest

from kiago_ray.data.files import DataError
from kiago_ray.data.known import tried_table


def test_nothing_is_heeded_unless_asked_for() -> None:
    assert tried_table(None) is tried_table("none") is None


def test_the_shipped_survey_and_a_file(tmp_path: Path) -> None:
    shipped = tried_table("shipped")
    assert shipped is not None
    content = (resources.files("kiago_ray.data") / "tried.csv").read_bytes()
    assert shipped.sha256 == hashlib.sha256(content).hexdigest()
    assert (len(shipped.table), int((shipped.table["tc_k"] == 0).sum())) == (251, 174)
    file = tmp_path / "mine.csv"
    file.write_text("formula,tc_k\nFeAsLaO,26\n")
    mine = tried_table(str(file))
    assert mine is not None
    assert mine.table["formula"].tolist() == ["LaFeAsO"]
    assert mine.source == str(file)
    with pytest.raises(DataError, match=r"nowhere\.csv"):
        tried_table(str(tmp_path / "nowhere.csv"))
