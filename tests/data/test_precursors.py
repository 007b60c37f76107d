"""The shipped precursors and hazards cover what superconductors hold; files of one's own are read strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from kiago_ray.chemistry.elements import GROUPS, SYMBOLS
from kiago_ray.chemistry.formula import parse
from kiago_ray.data.files import DataError
from kiago_ray.data.precursors import load_hazards, load_precursors


def test_every_element_that_a_laboratory_has_can_be_weighed() -> None:
    held = {symbol for each in load_precursors() for symbol in parse(each.formula)}
    without = {*GROUPS["noble-gas"], *GROUPS["radioactive"]} - {"Th", "U"}
    assert held == set(SYMBOLS) - without


def test_what_is_toxic_or_radioactive_is_said_to_be() -> None:
    warned = {symbol for hazard in load_hazards() if hazard.form == "any" for symbol in hazard.elements}
    assert warned >= {*GROUPS["toxic"], *GROUPS["arsenic"], "Se", "Te", "H"}
    assert warned >= {*GROUPS["radioactive"]} - {"Og", "Rn"}
    pure = {symbol for hazard in load_hazards() if hazard.form == "element" for symbol in hazard.elements}
    assert pure >= {"Li", "Na", "K", "Rb", "Cs", "P", "S"}


def test_a_table_of_ones_own_takes_the_place_of_the_shipped_one(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text("route,formula,note\nany,FeAs,prereacted\nair,CuO,\n")
    fe_as, cuo = load_precursors(file)
    assert (fe_as.formula, fe_as.route, fe_as.rank, fe_as.note) == ("FeAs", "any", 1.0, "prereacted")
    assert cuo.route == "air"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("formula\nCuO\n", "lacks 'route'"),
        ("formula,route\nCuX,air\n", "line 2: the formula 'CuX'"),
        ("formula,route\nCuO,oven\n", "route is 'oven'"),
        ("formula,route,rank\nCuO,air,0\n", "rank is '0'"),
        ("formula,route\nCuO,air\nCuO,any\n", "line 3: CuO is given twice"),
    ],
)
def test_a_table_that_cant_be_meant_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "own.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=told):
        load_precursors(file)
