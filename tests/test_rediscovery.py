"""The rediscovery benchmark's bookkeeping: nothing of later is known, and a hit is a hit."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kiago_ray import load_predictors
from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.chemistry.formula import parse, parse_fractions
from kiago_ray.chemistry.neutrality import check
from kiago_ray.datasets.supercon import load_supercon
from kiago_ray.predictors.second_opinion import load_second_opinion
from kiago_ray.screening import KnownMaterials

FILE = Path(__file__).parents[1] / "benchmarks" / "rediscovery.py"
BASES = ({"La", "Sr", "Cu", "O"}, {"La", "Cu", "O"})
ROWS = (
    ("MgB2", "39", "Nature, 410(2001)63"),
    ("MgB2", "5", "J.Made.Up, 1(1991)1"),
    ("LaFeAsO0.9F0.1", "26", "J.Am.Chem.Soc., 130(2008)3296"),
    ("Nb3Sn", "18", "Phys.Rev., 95(1954)1435"),
    ("Nb3Al", "18.5", "no year"),
    ("V3Si", "17", "Phys.Rev., 95(1953)1435"),
)


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kiago_rediscovery", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lines = ["numbers", "descriptions", "num\tname\telement\tstr3\tutc\ttc\tjournal"]
    lines += [
        f"{n}\t\t{formula}\t\tK\t{tc}\t{journal}" for n, (formula, tc, journal) in enumerate(ROWS, start=1)
    ]
    path = tmp_path / "primary.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def then_of(bench: ModuleType, table: pd.DataFrame) -> Any:
    return bench.Then(
        known=KnownMaterials.from_table(table, "then"),
        systems=frozenset(table["chemical_system"]),
        bases=[],
        frequencies={},
        predictors=None,
        second=None,
    )


def test_before_a_year_holds_what_was_printed_before_it_alone(
    bench: ModuleType, data: Path, tmp_path: Path
) -> None:
    table, _ = load_supercon(bench.before(data, 2001, tmp_path))
    assert dict(zip(table["formula"], table["tc_k"], strict=True)) == {
        "MgB2": 5.0,
        "Nb3Sn": 18.0,
        "V3Si": 17.0,
    }


def test_later_are_systems_that_nobody_had_reported(bench: ModuleType, data: Path, tmp_path: Path) -> None:
    whole, _ = load_supercon(data)
    table, _ = load_supercon(bench.before(data, 1954, tmp_path))
    later = bench.reported_later(whole, then_of(bench, table), 1954, near=0.05)
    # Nb3Al is undated, so it may have been known.
    assert later.systems == {"Nb-Sn": 18.0, "B-Mg": 22.0, "As-F-Fe-La-O": 26.0}
    assert len(later.fractions) == 3


def test_a_composition_that_was_nearly_known_is_none_to_find(bench: ModuleType) -> None:
    columns = ["formula", "chemical_system", "tc_k", "year"]
    whole = pd.DataFrame(
        [("Nb3Sn", "Nb-Sn", 18.0, 1954), ("Nb3.1Sn", "Nb-Sn", 17.0, 1970), ("NbSn", "Nb-Sn", 2.0, 1970)],
        columns=columns,
    )
    later = bench.reported_later(whole, then_of(bench, whole[:1]), 1960, near=0.05)
    assert later.systems == {}
    assert later.fractions == pytest.approx(parse_fractions(["NbSn"]))


def test_hits_are_counted_once_and_in_the_order_of_trust(bench: ModuleType) -> None:
    then = then_of(
        bench, pd.DataFrame([("Nb3Sn", "Nb-Sn", 18.0)], columns=["formula", "chemical_system", "tc_k"])
    )
    later = bench.Later({"B-Mg": 39.0, "Al-Nb": 18.5}, parse_fractions(["MgB2", "Nb3Al"]))
    proposals = pd.DataFrame(
        [("MgB3", 3.0, 5.0), ("Nb3Ge", 20.0, 30.0), ("MgB2", 1.0, 9.0), ("Nb3Ge", 20.0, 30.0)],
        columns=["formula", "trusted_tc_k", "tc_k"],
    )
    found = bench.counted(proposals, then, later, near=0.05)
    assert found["found"] == {"B-Mg": [2, 39.0]}
    assert (found["proposals"], found["new_systems_proposed"]) == (3, 2)
    assert (found["systems_found"], found["found_in_first"], found["compositions_found"]) == (1, [1, 1], 1)
    assert found["trusted"] == 3


def test_nothing_proposed_finds_nothing(bench: ModuleType) -> None:
    then = then_of(
        bench, pd.DataFrame([("Nb3Sn", "Nb-Sn", 18.0)], columns=["formula", "chemical_system", "tc_k"])
    )
    none = pd.DataFrame({"formula": [], "trusted_tc_k": [], "tc_k": []})
    found = bench.counted(none, then, bench.Later({"B-Mg": 39.0}, parse_fractions(["MgB2"])), near=0.05)
    assert (found["systems_found"], found["compositions_found"], found["found"]) == (0, 0, {})


def test_bases_are_drawn_from_systems_each_by_its_best(bench: ModuleType) -> None:
    table = pd.DataFrame(
        [("Nb3Sn", "Nb-Sn", 18.0), ("NbSn", "Nb-Sn", 2.0), ("V3Si", "Si-V", 17.0), ("Po", "Po", 1.0)],
        columns=["formula", "chemical_system", "tc_k"],
    )
    assert sorted(bench.drawn(table, {"Po"}, 2, seed=0)) == ["Nb3Sn", "V3Si"]
    with pytest.raises(ValueError, match="larger"):
        bench.drawn(table, {"Po"}, 3, seed=0)


def test_substitution_swaps_one_element_and_keeps_what_passes(bench: ModuleType) -> None:
    predictors = load_predictors()
    then = bench.Then(
        known=KnownMaterials.from_formulas(["La2CuO4", "Nd2CuO4"], [36.0, 0.0]),
        systems=frozenset({"Cu-La-O", "Cu-Nd-O"}),
        bases=["La1.85Sr0.15CuO4", "La2CuO4"],
        frequencies={},
        predictors=predictors,
        second=load_second_opinion(predictors),
    )
    table = bench.substituted(then, 20)
    assert len(table) == 20
    assert "Nd2CuO4" not in set(table["formula"])
    assert table["trusted_tc_k"].is_monotonic_decreasing
    for formula in table["formula"]:
        elements = set(parse(formula))
        assert any(len(elements) == len(base) and len(elements & base) == len(base) - 1 for base in BASES)
    assert check(np.array([[parse(f).get(s, 0) for s in SYMBOLS] for f in table["formula"]])).pauling.all()
