"""The rediscovery benchmark's bookkeeping: nothing of later is known, and a hit is a hit."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data.sources import load_supercon
from kiago_ray.plausibility.literature import Literature

FOLDER = Path(__file__).parents[1] / "benchmarks"
ROWS = (
    ("MgB2", "39", "Nature, 410(2001)63"),
    ("MgB2", "5", "J.Made.Up, 1(1991)1"),
    ("LaFeAsO0.9F0.1", "26", "J.Am.Chem.Soc., 130(2008)3296"),
    ("Nb3Sn", "18", "Phys.Rev., 95(1954)1435"),
    ("Nb3Al", "18.5", "no year"),
    ("V3Si", "17", "Phys.Rev., 95(1953)1435"),
)


@pytest.fixture(scope="module")
def bench() -> Any:
    sys.path.insert(0, str(FOLDER))  # the benchmark imports `past`, which lies beside it
    try:
        yield importlib.import_module("rediscovery")
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture
def past(bench: ModuleType) -> ModuleType:
    return sys.modules["past"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lines = ["numbers", "descriptions", "num\tname\telement\tstr3\tutc\ttc\tjournal"]
    lines += [
        f"{n}\t\t{formula}\t\tK\t{tc}\t{journal}" for n, (formula, tc, journal) in enumerate(ROWS, start=1)
    ]
    path = tmp_path / "primary.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def then_of(table: pd.DataFrame, year: int) -> Any:
    literature = Literature.of(table.assign(reports=1), year)
    systems = {row.tobytes() for row in literature.systems}
    return SimpleNamespace(literature=literature, systems=systems, year=year)


def rows_of(bench: ModuleType, formulas: list[str], keys: list[float]) -> Any:
    return bench.Rows(parse_fractions(formulas), np.array(keys), np.full(len(keys), "swap"))


def test_before_a_year_holds_what_was_printed_before_it_alone(
    past: ModuleType, data: Path, tmp_path: Path
) -> None:
    table, _ = load_supercon(past.before(data, 2001, tmp_path))
    assert dict(zip(table["formula"], table["tc_k"], strict=True)) == {
        "MgB2": 5.0,
        "Nb3Sn": 18.0,
        "V3Si": 17.0,
    }


def test_later_is_what_was_first_reported_then(past: ModuleType, data: Path, tmp_path: Path) -> None:
    whole, _ = load_supercon(data)
    table, _ = load_supercon(past.before(data, 1954, tmp_path))
    later = past.reported_later(whole, then_of(table, 1954))
    # Nb3Al is undated, so it has no part in it; MgB2 was first reported in 1991.
    assert later.tc_k.tolist() == [26.0, 22.0, 18.0]
    assert later.new.tolist() == [True, True, True]
    assert later.far.all()


def test_each_system_counts_once_and_known_ones_never(bench: ModuleType) -> None:
    known = pd.DataFrame(
        [("Nb3Sn", "Nb-Sn", 18.0, 1954)], columns=["formula", "chemical_system", "tc_k", "year_first"]
    )
    rows = rows_of(bench, ["MgB2", "MgB3", "Nb3Ge", "NbSn"], [1.0, 3.0, 2.0, 9.0])
    kept = bench.distinct(then_of(known, 2000), rows)
    assert kept.fractions == pytest.approx(parse_fractions(["MgB3", "Nb3Ge"]))


def test_a_hit_is_near_a_later_composition_of_its_system(bench: ModuleType, past: ModuleType) -> None:
    known = pd.DataFrame(
        [("Nb3Sn", "Nb-Sn", 18.0, 1954), ("AlB2", "Al-B", 50.0, 1960)],
        columns=["formula", "chemical_system", "tc_k", "year_first"],
    )
    later = past.Later(
        parse_fractions(["MgB2", "Nb3Ge"]),
        np.array([39.0, 23.0]),
        np.ones(2, bool),
        np.full(2, 2001),
        np.ones(2, bool),
    )
    rows = rows_of(bench, ["Mg0.95B2.05", "Nb3Ge", "MgB6"], [3.0, 2.0, 1.0])
    found = bench.literature_hits(then_of(known, 2000), later, rows)
    assert found["hit"].tolist() == [True, True, False]  # MgB6 is further than 0.2 from MgB2
    assert found["tc_k"].tolist() == [39.0, 23.0, 0.0]
    assert found["gain"].tolist() == [False, True, False]  # AlB2 has 50 K, Nb3Sn 18 K


def test_sixteen_are_new_and_apart(bench: ModuleType) -> None:
    known = pd.DataFrame(
        [("MgB2", "B-Mg", 39.0, 2001)], columns=["formula", "chemical_system", "tc_k", "year_first"]
    )
    rows = rows_of(
        bench, ["MgB2", "Mg0.99Al0.01B2", "AlB2", "Al0.99Li0.01B2", "LiB2"], [5.0, 4.0, 3.0, 2.0, 1.0]
    )
    spread = bench.sixteen(then_of(known, 2001), rows, spread=True)
    assert spread == pytest.approx(parse_fractions(["AlB2", "LiB2"]))
    assert len(bench.sixteen(then_of(known, 2001), rows, spread=False)) == 4


def test_an_interval_holds_its_count(bench: ModuleType) -> None:
    low, high = bench.interval(np.arange(100) < 30, 0)
    assert low < 30 < high
    assert bench.interval(np.zeros(0, dtype=bool), 0) == (0.0, 0.0)
