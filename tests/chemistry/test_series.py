"""Doping series: their compositions and names as chemists write them, what lies on one, what is refused and how."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.formula import parse, parse_fractions
from kiago_ray.chemistry.series import MAX_POINTS, Change, SeriesError, amounts_of, series_of


@pytest.mark.parametrize(
    ("formula", "changes", "name", "x", "there"),
    [
        ("La2CuO4", [("La", "Sr", "0:0.3:0.01")], "La2-xSrxCuO4", (0.15,), "La1.85Sr0.15CuO4"),
        ("YBa2Cu3O7", [("O", "vacant", "0:1:0.05")], "YBa2Cu3O7-x", (0.05,), "YBa2Cu3O6.95"),
        ("MgB2", [("Mg", "Al", "0:1:0.1")], "Mg1-xAlxB2", (1.0,), "AlB2"),
        ("La1.85Sr0.15CuO4", [("La", "Sr", "0:0.1:0.05")], "La1.85-xSr0.15+xCuO4", (0.05,), "La1.8Sr0.2CuO4"),
        (
            "LaFeAsO",
            [("La", "Ce", "0:1:0.5"), ("O", "F", "0:0.2:0.1")],
            "La1-xCexFeAsO1-yFy",
            (0.5, 0.1),
            "La0.5Ce0.5FeAsO0.9F0.1",
        ),
        (
            "La2CuO4",
            [("La", "Sr", "0:0.2:0.1"), ("La", "Ca", "0:0.2:0.1")],
            "La2-x-ySrxCayCuO4",
            (0.1, 0.2),
            "La1.7Ca0.2Sr0.1CuO4",
        ),
    ],
)
def test_compositions_of_a_series(
    formula: str, changes: list[Change], name: str, x: tuple[float, ...], there: str
) -> None:
    (series,) = series_of(formula, changes)
    assert series.name == name
    assert x in series.points()
    assert parse(series.formula(x)) == parse(there)


def test_each_site_with_each_dopant_is_a_series() -> None:
    found = series_of("YBa2Cu3O7", [("Y,Ba", ["Ca", "Sr"], [0.1, 0.2])])
    assert [each.name.split("Cu")[0] for each in found] == [
        "Y1-xCaxBa2",
        "Y1-xSrxBa2",
        "YBa2-xCax",
        "YBa2-xSrx",
    ]


def test_a_map_takes_no_more_from_a_site_than_it_has() -> None:
    (series,) = series_of("MgB2", [("Mg", "Al", "0:1:0.25"), ("Mg", "Li", "0:1:0.25")])
    points = series.points()
    assert len(points) == 15  # of 25: a triangle with its diagonal
    assert all(x + y <= 1 for x, y in points)
    assert series.formula((0.5, 0.5)) == "Al0.5Li0.5B2"


def test_amounts_are_exact_and_have_both_ends() -> None:
    assert amounts_of("0:0.3:0.01")[-1] == 0.3
    assert len(amounts_of("0:0.3:0.01")) == 31
    assert amounts_of("0.05, 0.1,0.125") == (0.05, 0.1, 0.125)
    assert amounts_of(np.linspace(0, 0.3, 4).tolist()) == (0, 0.1, 0.2, 0.3)


def test_what_lies_on_a_series() -> None:
    (series,) = series_of("La2CuO4", [("La", "Sr", "0:0.3:0.05")])
    rows = parse_fractions(
        [
            "La1.867Sr0.133CuO4",
            "La37Sr3Cu20O80",
            "La1.85Sr0.15CuO3.98",
            "La1.85Ba0.15CuO4",
            "LaSrCuO4",
            "La2CuO4",
            "Cu",
        ]
    )
    on, x = series.places(rows)
    assert on.tolist() == [True, True, False, False, False, True, False]
    assert x[on, 0] == pytest.approx([0.133, 0.15, 0.0], abs=1e-9)


def test_what_lies_on_a_map() -> None:
    (series,) = series_of("YBa2Cu3O7", [("Y", "Ca", "0:0.3:0.1"), ("O", "vacant", "0:1:0.5")])
    on, x = series.places(parse_fractions(["Y0.8Ca0.2Ba2Cu3O6.5", "YBa2Cu4O8", "Y1.6Ca0.4Ba4Cu6O13.2"]))
    assert on.tolist() == [True, False, True]
    assert x[on] == pytest.approx(np.array([[0.2, 0.5], [0.2, 0.4]]))


@pytest.mark.parametrize(
    ("formula", "change", "message"),
    [
        ("La2CuO4", ("Pr", "Sr", "0:0.3:0.1"), "site: 'Pr' is not in La2CuO4; name one of La, Cu, O"),
        ("La2CuO4", ("La", "Xx", "0:0.3:0.1"), "with: 'Xx' is no element"),
        ("La2CuO4", ("La", "La", "0:0.3:0.1"), "with: La on the site of La"),
        ("La2CuO4", ("La", "Sr,Sr", "0:0.3:0.1"), "with: Sr is named twice"),
        ("La2CuO4", ("La", "Sr,", "0:0.3:0.1"), "with: 'Sr,' leaves a name out"),
        ("La2CuO4", ("La", "Sr", "0:3:0.1"), "x: 3 is more La than La2CuO4 has.*take at most 2"),
        ("La2CuO4", ("La", "Sr", "0:0.3:0"), "x: '0:0.3:0' has a step of 0"),
        ("La2CuO4", ("La", "Sr", "0:0.3:-0.1"), "x: '0:0.3:-0.1' has a step of -0.1"),
        ("La2CuO4", ("La", "Sr", "0.3:0:0.1"), "x: '0.3:0:0.1' has 0 below 0.3"),
        ("La2CuO4", ("La", "Sr", "0:0.3"), "x: '0:0.3' can't be read; write from:to:step"),
        ("La2CuO4", ("La", "Sr", "0:0.3:a"), "x: '0:0.3:a' can't be read"),
        ("La2CuO4", ("La", "Sr", "0:1e99:nan"), "can't be read"),
        ("La2CuO4", ("La", "Sr", "0:1e999999999:1"), "can't be read"),
        ("La2CuO4", ("La", "Sr", "-0.1:0.1:0.1"), "below 0"),
        ("La2CuO4", ("La", "Sr", "0.33333"), "more than 4 decimals"),
        ("La2CuO4", ("La", "Sr", "0:2:0.0001"), f"x: '0:2:0.0001' is more than {MAX_POINTS:,} amounts"),
        ("La2CuO4", ("La", "Sr,Ba,Ca", "0:1:0.0002"), "15,003 compositions are more than"),
        ("Nb", ("Nb", "vacant", "0:0.3:0.1"), "with: vacant places change nothing in Nb"),
        ("La2CuO", ("Q", "Sr", ""), "x: '' can't be read"),
        ("La2Cu4Ox", ("La", "Sr", "0:0.3:0.1"), "undetermined amount"),
    ],
)
def test_what_is_no_series_is_refused_by_its_value(formula: str, change: Change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        series_of(formula, [change])


def test_a_map_has_two_different_changes_of_several_amounts() -> None:
    change = ("La", "Sr", "0:0.3:0.1")
    for changes, message in (
        ([change, change], "both changes are the same"),
        ([change] * 3, "3 changes at once"),
        ([change, ("La", "Ca", "0.1")], "two amounts of each"),
    ):
        with pytest.raises(SeriesError, match=message):
            series_of("La2CuO4", changes)
