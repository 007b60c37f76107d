"""What a family search is told of its base."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.chemistry.formula import FormulaError, fractions, parse
from kiago_ray.plausibility.shipped import Prospects


def test_lanthanum_is_replaced_by_lanthanides_and_oxygen_by_fluorine(prospects: Prospects) -> None:
    around = prospects.around("LaFeAsO")
    odds = around.odds
    best = {symbol: np.argsort(-odds[INDEX[symbol]])[:8].tolist() for symbol in ("La", "As", "O")}
    assert {INDEX["Ce"], INDEX["Nd"], INDEX["Sm"]} <= set(best["La"])
    assert INDEX["P"] in best["As"]
    assert INDEX["F"] in best["O"]
    assert odds[INDEX["O"], INDEX["La"]] == 0
    held = [INDEX[symbol] for symbol in parse("LaFeAsO")]
    assert odds[held].max() == pytest.approx(1)


def test_oxygen_is_missing_from_ybco_and_not_from_mgb2(prospects: Prospects) -> None:
    assert prospects.around("YBa2Cu3O7").vacancies.nonzero()[0].tolist() == [INDEX["O"]]
    assert not prospects.around("MgB2").vacancies.any()


def test_compounds_that_exist_near_the_base_and_were_never_tested(prospects: Prospects) -> None:
    base = fractions(parse("LaFeAsO"))
    made = prospects.around("LaFeAsO").made
    known = {row.tobytes() for row in prospects.literature.systems}
    assert len(made) > 0
    for row in made:
        assert ((row > 0) & (base > 0)).sum() >= 3
        assert (row > 0).sum() <= 5
        assert (row > 0).tobytes() not in known


def test_what_is_no_formula_is_refused(prospects: Prospects) -> None:
    with pytest.raises(FormulaError):
        prospects.around("LaFeXx")
