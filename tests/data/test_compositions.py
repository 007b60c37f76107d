from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import fractions as fractions_of
from kiago_ray.chemistry.formula import parse, parse_fractions, write_integers
from kiago_ray.data.compositions import (
    canonical,
    chemical_system,
    composition_key,
    composition_keys,
    compositions,
    finite,
    fractions,
    sparse_fractions,
)

whole_amounts = st.dictionaries(st.sampled_from(SYMBOLS), st.integers(1, 60), min_size=1, max_size=7)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("LaNiAsO", "La2Ni2As2O2"),
        ("LaNiAsO", "OAsNiLa"),
        ("La1.85Sr0.15CuO4", "La3.7Sr0.3Cu2O8"),
        ("La1.85Sr0.15CuO4", "La37Sr3Cu20O80"),
        ("Nb75Al25", "Nb3Al"),
        ("Nb0.75Al0.25", "Nb3Al"),
        ("(La0.9Sr0.1)2CuO4", "La1.8Sr0.2CuO4"),
    ],
)
def test_same_composition(one: str, other: str) -> None:
    assert composition_key(parse(one)) == composition_key(parse(other))


@pytest.mark.parametrize(
    ("one", "other"), [("FeSe", "FeS"), ("YBa2Cu3O6.99", "YBa2Cu3O7"), ("Al99.995Mn0.005", "Al99.99Mn0.01")]
)
def test_different_composition(one: str, other: str) -> None:
    assert composition_key(parse(one)) != composition_key(parse(other))


@given(amounts=whole_amounts, scale=st.floats(0.01, 100))
def test_key_does_not_change_with_scale(amounts: dict[str, int], scale: float) -> None:
    assert composition_key({s: n * scale for s, n in amounts.items()}) == composition_key(amounts)


@pytest.mark.parametrize("scale", [0.1, 0.3, 0.7, 1.1, 3.3])
def test_key_on_a_rounding_boundary(scale: float) -> None:
    # 1/128 = 7812.5 millionths
    assert composition_key({"Al": 127 * scale, "Mn": scale}) == composition_key({"Al": 127, "Mn": 1})


@given(amounts=whole_amounts)
def test_key_is_rounded_fractions(amounts: dict[str, int]) -> None:
    key = composition_key(amounts)
    row = fractions_of(amounts)
    assert key[::2] == tuple(np.flatnonzero(row))
    np.testing.assert_allclose(np.array(key[1::2]) / 1e6, row[row > 0], atol=0.51e-6)


@given(amounts=whole_amounts)
def test_canonical_whole_amounts_agree_with_the_integer_writer(amounts: dict[str, int]) -> None:
    counts = np.zeros(N_ELEMENTS, dtype=np.int64)
    for symbol, count in amounts.items():
        counts[INDEX[symbol]] = count
    assert canonical(amounts) == write_integers(counts)


def test_canonical_keeps_fractional_amounts_as_given() -> None:
    assert canonical(parse("CuO4La1.85Sr0.15")) == "Sr0.15La1.85CuO4"
    assert canonical(parse("Hg1Ba2Ca2Cu3O8.3")) == "Ba2Ca2Cu3HgO8.3"


def test_chemical_system_is_alphabetical() -> None:
    assert chemical_system(parse("LaNiAsO")) == "As-La-Ni-O"


def test_rows_of_one_composition_share_the_shortest_formula() -> None:
    formulas, systems = compositions([parse("La1.5Ni1.5"), parse("Ni2La2"), parse("FeSe")])
    assert formulas == ["LaNi", "LaNi", "FeSe"]
    assert systems == ["La-Ni", "La-Ni", "Fe-Se"]


@settings(max_examples=50)
@given(
    rows=st.lists(st.tuples(whole_amounts, st.sampled_from([0.5, 1, 1.5, 3])), max_size=8),
    data=st.data(),
)
def test_formulas_do_not_depend_on_the_order(
    rows: list[tuple[dict[str, int], float]], data: st.DataObject
) -> None:
    amounts = [{s: n * scale for s, n in row.items()} for row, scale in rows]
    order = data.draw(st.permutations(range(len(rows))))
    formulas, _ = compositions(amounts)
    shuffled, _ = compositions([amounts[i] for i in order])
    assert shuffled == [formulas[i] for i in order]


def test_accessors_follow_the_table() -> None:
    table = pd.DataFrame({"formula": ["H3S", "LaNiAsO"]})
    rows = fractions(table)
    assert rows.shape == (2, N_ELEMENTS)
    assert rows.dtype == np.float64
    assert rows[0, INDEX["H"]] == 0.75
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-15)
    assert composition_keys(table)[0] == (INDEX["H"], 750_000, INDEX["S"], 250_000)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4.2", 4.2),
        ("-1e-3", -0.001),
        ("", None),
        ("<4.2", None),
        ("nan", None),
        ("inf", None),
        ("1_0", None),
    ],
)
def test_finite(text: str, value: float | None) -> None:
    assert finite(text) == value


def test_it_reads_what_the_parser_reads() -> None:
    formulas = ["MgB2", "La1.85Sr0.15CuO4", "H", "Ba0.000001Y2Cu3O7", "Og118"]
    found = sparse_fractions(formulas)
    np.testing.assert_allclose(found.toarray(), parse_fractions(formulas), rtol=1e-15)
    assert found.nnz == sum([2, 4, 1, 4, 1])
    assert sparse_fractions([]).shape == (0, 118)


def test_a_symbol_that_is_none_is_told() -> None:
    with pytest.raises(KeyError, match="Xx"):
        sparse_fractions(["Xx2O3"])
