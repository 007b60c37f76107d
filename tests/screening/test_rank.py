from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.chemistry.formula import reduce_counts, write_integers
from kiago_ray.screening.rank import group, order, unique

FORMULAS = st.sampled_from(["", "MgB2", "LaNiAsO", "FeSe", "H3S", "NbN"])
ENTRIES = st.lists(
    st.tuples(FORMULAS, st.integers(0, 3), st.integers(0, 50)), max_size=40, unique_by=lambda entry: entry[1:]
)


def kept(entries: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    columns = [list(column) for column in zip(*entries, strict=True)] or [[], [], []]
    positions = unique(columns[0], np.array(columns[1], dtype=np.int64), np.array(columns[2], dtype=np.int64))
    assert positions.tolist() == sorted(positions.tolist())
    return [entries[at] for at in positions]


@given(ENTRIES)
def test_unique_keeps_the_lowest_row_of_the_lowest_seed(entries: list[tuple[str, int, int]]) -> None:
    lowest = {
        formula: min((seed, row) for f, seed, row in entries if f == formula)
        for formula, _, _ in entries
        if formula
    }
    assert {formula: (seed, row) for formula, seed, row in kept(entries)} == lowest
    assert len(kept(entries)) == len(lowest)


@given(ENTRIES, st.randoms(use_true_random=False))
def test_unique_does_not_depend_on_the_order_of_rows(
    entries: list[tuple[str, int, int]], random: object
) -> None:
    shuffled = list(entries)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert set(kept(shuffled)) == set(kept(entries))


COUNTS = st.dictionaries(st.integers(0, N_ELEMENTS - 1), st.integers(1, 9), min_size=1, max_size=6)


@given(COUNTS, COUNTS, st.integers(1, 5))
def test_formulas_are_the_same_text_exactly_when_they_are_the_same_composition(
    one: dict[int, int], other: dict[int, int], times: int
) -> None:
    rows = np.zeros((3, N_ELEMENTS), dtype=np.int64)
    for row, counts in zip(rows, (one, other, one), strict=True):
        row[list(counts)] = list(counts.values())
    rows[2] *= times
    first, second, multiple = (write_integers(row) for row in rows)
    assert first == multiple
    assert (first == second) == bool((reduce_counts(rows[0]) == reduce_counts(rows[1])).all())


KELVIN = st.sampled_from([0.0, 4.5, 4.5, 90.0, float("nan")])
ROWS = st.tuples(FORMULAS, st.booleans(), KELVIN, KELVIN)


@given(st.lists(ROWS, max_size=30), st.booleans())
def test_order_is_passed_then_falling_trusted_tc_then_falling_tc_then_formula(
    rows: list[tuple[str, bool, float, float]], by_trusted: bool
) -> None:
    formulas, passed, tc_k, trusted = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    numbers = [np.array(values, dtype=np.float64) for values in (tc_k, trusted)]
    best = order(formulas, np.array(passed, dtype=np.bool_), *(numbers if by_trusted else numbers[:1]))

    def last_if_unknown(value: float) -> float:
        return np.inf if np.isnan(value) else -value

    keys = [
        (
            not passed[at],
            last_if_unknown(trusted[at]) if by_trusted else 0,
            last_if_unknown(tc_k[at]),
            formulas[at],
        )
        for at in best
    ]
    assert sorted(best.tolist()) == list(range(len(rows)))
    assert keys == sorted(keys)


def test_order_of_a_few() -> None:
    formulas = ["NbN", "FeSe", "MgB2", "H3S"]
    best = order(formulas, np.array([True, False, True, True]), np.array([16.0, 200.0, 39.0, 16.0]))
    assert [formulas[at] for at in best] == ["MgB2", "H3S", "NbN", "FeSe"]


def test_what_is_known_or_was_tried_stands_between_what_is_new_and_what_failed() -> None:
    formulas = ["NbN", "FeSe", "MgB2", "H3S"]
    passed, taken = np.array([True, False, True, True]), np.array([False, True, True, False])
    best = order(formulas, passed, np.array([16.0, 200.0, 39.0, 16.0]), taken=taken)
    assert [formulas[at] for at in best] == ["H3S", "NbN", "MgB2", "FeSe"]
    assert group(passed, taken).tolist() == [0, 2, 1, 0]


def test_without_any_trusted_tc_the_order_is_that_of_tc() -> None:
    formulas, passed, tc_k = ["NbN", "FeSe", "MgB2"], np.ones(3, dtype=bool), np.array([16.0, 9.0, 39.0])
    unknown = order(formulas, passed, tc_k, np.full(3, np.nan))
    assert unknown.tolist() == order(formulas, passed, tc_k).tolist() == [2, 0, 1]
    assert order(formulas, passed, tc_k, np.array([1.0, 2.0, 0.0])).tolist() == [1, 0, 2]
