from __future__ import annotations

import json
import pickle

import pytest

from kiago_ray.data.files import MAX_EXAMPLES, Contents, LoadReport, Tally


def contents(rows: int) -> Contents:
    return Contents("a.csv", "00ff", [("x",)] * rows, list(range(2, rows + 2)), ("a warning",))


def test_tally_adds_up_and_keeps_examples() -> None:
    tally = Tally("oqmd", contents(20))
    tally.drop("rare", 3, "x" * 200)
    for line in range(4, 12):
        tally.drop("frequent", line, f"value {line}")
    report = tally.report(rows_kept=9)
    assert dict(report.dropped) == {"frequent": 8, "rare": 1}
    assert list(report.dropped) == ["frequent", "rare"]
    assert report.duplicates_merged == 2
    assert report.examples["frequent"][0] == "line 4: 'value 4'"
    assert len(report.examples["frequent"]) == MAX_EXAMPLES
    assert len(report.examples["rare"][0]) < 100
    assert report.warnings == ("a warning",)


def test_plain_dict_survives_json_and_the_report_a_pickle() -> None:
    tally = Tally("oqmd", contents(3))
    tally.drop("syntax", 2, "Fe?")
    report = tally.report(rows_kept=2)
    plain = report.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["examples"] == {"syntax": ["line 2: 'Fe?'"]}
    assert pickle.loads(pickle.dumps(report)) == report


def test_rows_must_add_up() -> None:
    with pytest.raises(ValueError, match="10 rows read, 9 accounted for"):
        LoadReport("oqmd", "a.csv", "00", 10, {"syntax": 1}, {"syntax": ()}, 3, 5)
