"""The formula reader and writer: known formulas, refusals with their place, round trips."""

from __future__ import annotations

import pickle
from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core.composition import Composition

from kiago_ray.chemistry.elements import INDEX, SYMBOLS
from kiago_ray.chemistry.formula import (
    MAX_DEPTH,
    MAX_LENGTH,
    FormulaError,
    fractions,
    parse,
    parse_fractions,
    reduce_counts,
    sparse_fractions,
    write,
    write_row,
)

amounts_of = (
    st.floats(1e-9, 1e9) | st.integers(1, 999).map(float) | st.integers(1, 9999).map(lambda n: n / 100)
)
compositions = st.dictionaries(st.sampled_from(SYMBOLS), amounts_of, min_size=1, max_size=10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LaNiAsO", {"La": 1, "Ni": 1, "As": 1, "O": 1}),
        ("La1.85Sr0.15CuO4", {"La": 1.85, "Sr": 0.15, "Cu": 1, "O": 4}),
        ("HgBa2Ca2Cu3O8", {"Hg": 1, "Ba": 2, "Ca": 2, "Cu": 3, "O": 8}),
        ("YBa₂Cu₃O₇", {"Y": 1, "Ba": 2, "Cu": 3, "O": 7}),
        ("La₁.₈₅Sr₀·₁₅CuO₄", {"La": 1.85, "Sr": 0.15, "Cu": 1, "O": 4}),
        ("O₆․₉₃", {"O": 6.93}),
        (" Y Ba2\t(Cu O2 ) 3\n", {"Y": 1, "Ba": 2, "Cu": 3, "O": 6}),
        ("Y\u200bBa2\u00a0Cu3O7", {"Y": 1, "Ba": 2, "Cu": 3, "O": 7}),
        ("H.5O2.", {"H": 0.5, "O": 2}),
        ("OY", {"O": 1, "Y": 1}),
        ("CoCO", {"Co": 1, "C": 1, "O": 1}),
        ("(La)", {"La": 1}),
        ("PdD", {"Pd": 1, "H": 1}),
        ("Mg[11B]2", {"Mg": 1, "B": 2}),
        ("CuSO4·5D2O", {"Cu": 1, "S": 1, "O": 9, "H": 10}),
        ("CH3(CH2)2OH", {"C": 3, "H": 8, "O": 1}),
        ("[La(Fe{As}2)3]0.1O", {"La": 0.1, "Fe": 0.3, "As": 0.6, "O": 1}),
        ("Fe0.1O(Fe0.2)", {"Fe": 0.3, "O": 1}),  # 0.1 + 0.2 added exactly
        ("Ca0.7(Sr0.3)1.1", {"Ca": 0.7, "Sr": 0.33}),
    ],
)
def test_known_formulas(text: str, expected: dict[str, float]) -> None:
    amounts = parse(text)
    assert amounts == expected
    assert list(amounts) == list(expected)


@pytest.mark.parametrize(
    ("text", "reason", "position"),
    [
        ("", "empty", None),
        (" \n", "empty", None),
        ("Xx2O3", "unknown element", 1),
        ("XO2", "unknown element", 1),
        ("LaQO", "unknown element", 3),
        ("LaNIas", "unknown element", 4),
        ("lanias", "unknown element", 1),
        ("OJ", "unknown element", 2),
        ("OZ", "undetermined amount", 2),
        ("YBa2Cu3OX", "undetermined amount", 9),
        ("Ox", "undetermined amount", 2),
        ("O7-x", "undetermined amount", 3),
        ("LaO4-Y", "undetermined amount", 5),
        ("O4+d", "undetermined amount", 3),
        ("O-x", "undetermined amount", 2),
        ("O₇₋ₓ", "undetermined amount", 3),
        ("O7\u2212\u03b4", "undetermined amount", 3),
        ("O7±δ", "undetermined amount", 3),
        ("O7-0.1", "undetermined amount", 3),
        ("La2-xSrxCuO4", "undetermined amount", 4),
        ("LaSrxCuO4", "undetermined amount", 5),
        ("Cu(OH)n", "undetermined amount", 7),
        ("La0O", "zero amount", 3),
        ("La0.00O", "zero amount", 3),
        ("(La)0O", "zero amount", 5),
        ("SmBa-1Cu3O7", "negative amount", 5),
        ("O1e5", "syntax", 3),
        ("1e5", "syntax", 1),
        ("2H2O", "syntax", 1),
        ("Fe1 2", "syntax", 5),
        ("O1.2.3", "syntax", 2),
        ("O.", "syntax", 2),
        ("Al2O3·2SiO2", "syntax", 6),
        ("La1·85Sr0·15CuO4", "syntax", 4),
        ("CuSO4·0H2O", "zero amount", 7),
        (":H2O", "empty", None),
        ("CuSO₄5H₂O", "syntax", 5),
        ("Na+", "charge", 3),
        ("Fe²⁺", "charge", 3),
        ("O7-", "charge", 3),
        ("O²", "syntax", 2),
        ("O２", "syntax", 2),  # a full-width digit
        ("O1,5", "syntax", 3),
        ("Fe?", "syntax", 3),
        ("-O", "syntax", 1),
        ("La\x00O", "syntax", 3),
        ("(LaO", "brackets", 1),
        ("La(O", "brackets", 3),
        ("LaO)", "brackets", 4),
        ("(LaO]", "brackets", 5),
        ("La()", "brackets", 4),
        ("(" * 11 + "La" + ")" * 11, "brackets", 11),
        ("O1000000001", "amount out of bounds", 2),
        ("O0.0000000001", "amount out of bounds", 2),
        ("O1." + "0" * 30, "amount out of bounds", 2),
        ("(O1000000)1000000", "amount out of bounds", None),
        ("O" * (MAX_LENGTH + 1), "too long", MAX_LENGTH + 1),
    ],
)
def test_refusals_name_the_character_and_its_position(text: str, reason: str, position: int | None) -> None:
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert (caught.value.reason, caught.value.position) == (reason, position)
    message = str(caught.value)
    assert message.startswith(reason)
    assert "\n" not in message
    if position is not None and reason != "too long":
        assert f"at position {position} of" in message


def test_the_message_shows_the_text_as_given() -> None:
    with pytest.raises(FormulaError, match=r"undetermined amount: '₋ₓ' at position 3 of 'O₇₋ₓ'"):
        parse("O₇₋ₓ")


@pytest.mark.parametrize("other", [None, 5, b"LaO", ["La"], nan])
def test_only_text_is_read(other: object) -> None:
    with pytest.raises(FormulaError, match="a formula is text") as caught:
        parse(other)  # type: ignore[arg-type]
    assert caught.value.reason == "not text"


def test_the_limits_themselves_are_allowed() -> None:
    assert parse("(" * MAX_DEPTH + "La" + ")" * MAX_DEPTH) == {"La": 1}
    assert parse("O" * MAX_LENGTH) == {"O": MAX_LENGTH}
    assert parse("O1000000000La0.000000001") == {"O": 1e9, "La": 1e-9}


def test_errors_survive_pickling() -> None:
    with pytest.raises(FormulaError) as caught:
        parse("O7-x")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.reason, copy.position, str(copy)) == ("undetermined amount", 3, str(caught.value))


@given(compositions)
def test_writing_and_reading_is_exact(amounts: dict[str, float]) -> None:
    text = write(amounts)
    again = parse(text)
    assert again == amounts
    assert list(again) == list(amounts)
    assert write(again) == text


def read(text: str) -> dict[str, float] | FormulaError:
    try:
        return parse(text)
    except FormulaError as refusal:
        return refusal


@given(st.text(alphabet="LaOCuSr2.(){}[] ", max_size=40) | st.text(alphabet="LaOxyz-+₂₃₇·15.", max_size=20))
def test_whatever_is_read_is_canonical_once_written(text: str) -> None:
    amounts = read(text)
    if isinstance(amounts, dict):
        assert parse(write(amounts)) == amounts
        assert write(parse(write(amounts))) == write(amounts)


@given(st.text(alphabet=[*"LaOXxz0.(]-+δ₂₋²·½\n\x00", "\u2028", "\uff12", "\u0663", "\ud800", "\U0001f600"]))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    answer = read(text)
    if isinstance(answer, dict):
        assert all(amount > 0 for amount in answer.values())
    else:
        assert len(str(answer).splitlines()) == 1
        assert answer.position is None or 1 <= answer.position <= max(len(text), MAX_LENGTH + 1)


@given(st.dictionaries(st.sampled_from(SYMBOLS), st.integers(1, 200), min_size=1, max_size=8))
def test_pymatgen_reads_the_same(amounts: dict[str, int]) -> None:
    theirs = Composition(write(amounts)).get_el_amt_dict()
    assert theirs == parse(write(amounts)) == amounts


@pytest.mark.parametrize(
    ("amounts", "text"),
    [
        ({"La": 1.0, "O": 2.0}, "LaO2"),
        ({"O": 1e-9}, "O0.000000001"),
        ({"O": 1 / 3, "La": 1.0}, "O0.3333333333333333La"),
        ({"O": 1e9}, "O1000000000"),
    ],
)
def test_written_forms(amounts: dict[str, float], text: str) -> None:
    assert write(amounts) == text


@pytest.mark.parametrize(
    ("amounts", "reason"),
    [
        ({}, "empty"),
        ({"Xx": 1.0}, "unknown element"),
        ({"La": 0.0}, "zero amount"),
        ({"La": -1.0}, "negative amount"),
        ({"La": nan}, "amount out of bounds"),
        ({"La": 1e10}, "amount out of bounds"),
    ],
)
def test_amounts_that_are_none_are_refused(amounts: dict[str, float], reason: str) -> None:
    for function in (write, fractions):
        with pytest.raises(FormulaError) as caught:
            function(amounts)
        assert caught.value.reason == reason


@given(compositions)
def test_fractions_sum_to_one_and_keep_the_ratios(amounts: dict[str, float]) -> None:
    row = fractions(amounts)
    assert row.shape == (118,)
    assert row.sum() == pytest.approx(1, abs=1e-12)
    assert {SYMBOLS[z] for z in np.flatnonzero(row)} == set(amounts)
    first = next(iter(amounts))
    for symbol, amount in amounts.items():
        assert row[INDEX[symbol]] * amounts[first] == pytest.approx(row[INDEX[first]] * amount)


def test_many_formulas_keep_their_order() -> None:
    rows = parse_fractions(["LaNiAsO", "MgB2"])
    assert rows.shape == (2, 118)
    assert rows[0, INDEX["La"]] == 0.25
    assert rows[1, INDEX["B"]] == pytest.approx(2 / 3)
    assert parse_fractions([]).shape == (0, 118)
    with pytest.raises(FormulaError, match="'OZ'"):
        parse_fractions(["MgB2", "OZ"])


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("OAsNiLa", "LaNiAsO"),
        ("Ni2O2As2La2", "LaNiAsO"),
        ("SH3", "H3S"),
        ("B2Mg", "MgB2"),
        ("H10La", "LaH10"),
        ("HeO", "OHe"),
        ("YBa2Cu3O7", "Ba2YCu3O7"),
    ],
)
def test_integer_formulas_by_electronegativity(formula: str, expected: str) -> None:
    counts = np.zeros(118, dtype=np.int64)
    for symbol, amount in parse(formula).items():
        counts[INDEX[symbol]] = int(amount)
    assert write_row(reduce_counts(counts)) == expected


def test_a_row_of_amounts_needs_not_be_whole_and_may_be_empty() -> None:
    assert write_row(fractions({"O": 3.0, "La": 1.0})) == "La0.25O0.75"
    assert write_row(np.zeros(118)) == ""


def test_counts_are_reduced_by_row() -> None:
    counts = np.zeros((2, 3, 118), dtype=np.int32)
    counts[0, 0, [0, 7]] = 4, 6
    counts[1, 2, 5] = 9
    reduced = reduce_counts(counts)
    assert reduced.shape == counts.shape
    assert reduced.dtype == counts.dtype
    assert reduced[0, 0, [0, 7]].tolist() == [2, 3]
    assert reduced[1, 2, 5] == 1
    assert reduced.sum() == 6


def test_sparse_fractions_are_those_that_the_parser_reads() -> None:
    formulas = ["MgB2", "La1.85Sr0.15CuO4", "H", "Ba0.000001Y2Cu3O7", "Og118"]
    found = sparse_fractions(formulas)
    np.testing.assert_allclose(found.toarray(), parse_fractions(formulas), rtol=1e-15)
    assert found.nnz == sum([2, 4, 1, 4, 1])
    assert sparse_fractions([]).shape == (0, 118)


def test_a_symbol_that_is_none_is_told() -> None:
    with pytest.raises(KeyError, match="Xx"):
        sparse_fractions(["Xx2O3"])
