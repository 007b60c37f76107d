"""`kiago train plausibility` from SuperCon's format to weights that a search can be given."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from kiago_ray.plausibility.prospects import load_prospects
from kiago_ray.predictors.weights import PLAUSIBILITY, load_card

from .conftest import Kiago

HEADER = "a\tb\nc\td\nnum\tname\telement\tstr3\tutc\ttc\tjournal\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """24 pnictides, two a year from 1995 to 2006."""
    formulas = itertools.product(("La", "Ce", "Pr", "Nd"), ("Fe", "Ni", "Co"), ("As", "P"))
    rows = [
        f"{number}\t\t{a}1{b}1{c}1O1\t\tK\t{5 + number}\tJ. ({1995 + 5 * number % 12})"
        for number, (a, b, c) in enumerate(formulas)
    ]
    path = tmp_path / "primary.tsv"
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


def test_it_learns_from_what_was_printed_before_a_year(kiago: Kiago, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = kiago("train", "plausibility", "--data", table, "--before", 2003, "--out", out, "--threads", 1)
    assert ended.code == 0, ended.err
    prospects, card = load_prospects(out), load_card(PLAUSIBILITY, out)
    assert prospects.literature.year == card["year"] == 2003
    assert prospects.literature.first_year.max() == 2002
    assert card["compositions"] == len(prospects.literature.fractions) == 16
    assert card["data"][0]["dropped"] == {"not printed before 2003": 8}
    assert card["command"] == "kiago train plausibility --seed 0 --data primary.tsv --before 2003"
    assert 0 <= json.loads(ended.out)["held_out"]["auc"] <= 1
    assert "fitting to all 16 chemical systems" in ended.err


def test_wrong_input_ends_with_2(kiago: Kiago, table: Path, tmp_path: Path) -> None:
    for arguments, told in (
        (("--before", 2003), "give SuperCon's primary.tsv as --data"),
        (("--data", table, "--before", 1990), "no dated superconductor"),
    ):
        ended = kiago("train", "plausibility", "--out", tmp_path / "out", *arguments)
        assert (ended.code, ended.out) == (2, "")
        assert told in ended.err
        assert ended.err.count("\n") == 1
