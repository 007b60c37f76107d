from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from smact.screening import smact_validity

from kiago_ray.chemistry import neutrality
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import parse, reduce_counts, write_row
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.data.compositions import composition_key
from kiago_ray.screening.candidates import (
    FIRST_ROWS,
    RANKED,
    collect,
    identity,
    improvement_key,
    order,
    pareto_front,
    unique,
)
from kiago_ray.screening.known import EXTRAPOLATED, TriedMaterials, trusted_tc_k
from kiago_ray.search.result import SearchResult
from kiago_ray.search.sections import RankBy, ScreensSpec
from kiago_ray.search.spec import SearchSpec
from kiago_ray.storage.table import schema

from ..conftest import known_of

MakeResult = Callable[[list[tuple[str | None, float, float]]], SearchResult]
FORMULAS = ["LaNiAsO", "MgB2", "La2CuO4", "NaCl2", "MgCoNi3", "YBa2Cu3O7", "H3S", "Fe", "FeSe", "CsO5Cl"]


SPEC = SearchSpec()


def rows(*formulas: str | None) -> list[tuple[str | None, float, float]]:
    return [(formula, 10.0, -1.0) for formula in formulas]


@pytest.mark.parametrize("oxidation_set", [OxidationSet.SMACT14, OxidationSet.ICSD24])
def test_neutrality_is_that_of_smact_by_the_set_asked_for(
    make_result: MakeResult, oxidation_set: OxidationSet
) -> None:
    candidates = collect(make_result(rows(*FORMULAS)), SearchSpec(oxidation_set=oxidation_set))
    for at, formula in enumerate(FORMULAS):
        expected = smact_validity(formula, use_pauling_test=True, oxidation_states_set=oxidation_set.value)
        assert candidates["pauling"][at].as_py() == expected, formula


def test_states_of_each_row_are_its_own(make_result: MakeResult) -> None:
    candidates = collect(make_result(rows(None, "LaNiAsO", "H3S", "LaNiAsO")), SPEC)
    texts = candidates["oxidation_states"].to_pylist()
    assert texts[0] is None
    assert texts[1] == texts[3] == "La+3 Ni+2 As-3 O-2"


def test_the_likeliest_states_are_given(make_result: MakeResult) -> None:
    """Sc(3+) with Cu(1+) balances as Sc(2+) with Cu(2+) does; the ICSD holds far more of the former."""
    candidates = collect(make_result(rows("BaCa3Sc4Cu4O12", "LaNi3Sn", "NaCl2")), SPEC)
    assert candidates["oxidation_states"].to_pylist() == ["Ba+2 Ca+2 Sc+3 Cu+1 O-2", "metallic", None]


def test_rows_without_a_formula_have_nothing(make_result: MakeResult) -> None:
    candidates = collect(make_result(rows(None, "MgB2")), SPEC)
    assert candidates["formula"].to_pylist() == [None, "MgB2"]
    assert candidates["n_elements"].to_pylist() == [None, 2]
    for name in ("tc_k", "neutral"):
        assert candidates[name].is_valid().to_pylist() == [False, True]


def test_a_search_in_which_every_row_failed(make_result: MakeResult) -> None:
    known = known_of(["MgB2"], [39.0])
    tried = TriedMaterials.from_table(pd.DataFrame({"formula": ["MgB2"], "tc_k": [39.0]}))
    spec = SearchSpec(screens={"names": ["neutral_atoms"]}, charge={"mixed_valence": True})
    candidates = collect(make_result(rows(None, None)), spec, known=known, tried=tried)
    for name in ("formula", "nearest_known", "tried", "neutral_atoms", "neutral_mixed"):
        assert candidates[name].to_pylist() == [None, None]


def test_counts_are_reduced(make_result: MakeResult) -> None:
    candidates = collect(make_result(rows("Mg2B4")), SPEC)
    assert candidates["formula"].to_pylist() == ["MgB2"]
    assert candidates["n_atoms"].to_pylist() == [3]


def test_fractional_amounts_that_add_up_are_neutral(make_result: MakeResult) -> None:
    # Y and Al can be +3 as La is, so what they share of its site keeps LaNiAsO's balance. K is +1 and Ca +2.
    candidates = collect(make_result(rows("Y0.1234Al0.8766NiAsO", "K0.1234Ca0.8766NiAsO")), SPEC)
    assert candidates["neutral"].to_pylist() == [True, False]
    assert candidates["n_atoms"].null_count == 2
    assert candidates["n_elements"].to_pylist() == [5, 5]


def test_fractional_amounts_that_cannot_be_judged_are_not_neutral(make_result: MakeResult) -> None:
    too_large = f"Y0.1234Ga0.8766N{neutrality.MAX_ATOMS}"
    candidates = collect(make_result(rows("Y0.12345Ga0.87655N", too_large)), SPEC)
    assert candidates["neutral"].to_pylist() == [False, False]


def test_nearest_known_composition(make_result: MakeResult) -> None:
    known = known_of(["MgB2", "La1.9Sr0.1CuO4", "Nb3Sn"], [39.0, 25.0, 18.0])
    candidates = collect(make_result(rows("La2CuO4", None, "Mg2B4")), SPEC, known=known)
    for name in ("nearest_known", "nearest_emd_known"):
        assert candidates[name].to_pylist() == [known.formulas[1], None, "MgB2"]
    # 0.1 of 7 atoms is exchanged: twice that in L1.
    np.testing.assert_allclose(candidates["nearest_distance"], [0.2 / 7, np.nan, 0], atol=1e-12)
    # From La, the 32nd place of the modified Pettifor scale, to Sr, the 15th.
    np.testing.assert_allclose(candidates["nearest_emd"], [17 * 0.1 / 7, np.nan, 0], atol=1e-12)


def test_a_row_does_not_depend_on_the_others(make_result: MakeResult) -> None:
    known = known_of(["MgB2", "LaFeAsO"], [39.0, 26.0])
    together = collect(make_result(rows(*FORMULAS, None, *FORMULAS)), SPEC, known=known).drop_columns("row")
    for at, formula in enumerate(FORMULAS):
        alone = collect(make_result(rows(formula)), SPEC, known=known).drop_columns("row").to_pylist()
        assert together.slice(at, 1).to_pylist() == alone
        assert together.slice(at + len(FORMULAS) + 1, 1).to_pylist() == alone


def test_what_was_tried_nearby_is_told_and_re_weighs(make_result: MakeResult) -> None:
    table = pd.DataFrame({"formula": ["LaNiAsO"], "tc_k": [0.0], "down_to_k": [4.0]})
    tried = replace(TriedMaterials.from_table(table), tc_predicted_k=np.array([12.0]))
    formulas = rows("LaNiAsO", "CeNiAsO", None, "MgB2", "La2Ni2As2O2")
    found = collect(make_result(formulas), SPEC, tried=tried)
    told = "LaNiAsO: none down to 4 K"
    assert found["tried_nearby"].to_pylist() == [
        f"{told} (0 places away)",
        f"{told} (0.25 places away)",  # Ce stands beside La on the scale, and is a quarter of the atoms
        None,
        None,
        f"{told} (0 places away)",
    ]
    assert found["tried"].to_pylist() == [told, None, None, None, told]
    weight = np.exp(-0.25 / 0.5)
    # 2 K, the middle of 0 to 4 K, less the 12 K that the model says of it.
    expected = [max(0.0, 10 - 10 / 1.1), 10 - 10 * weight / (0.1 + weight), np.nan, 10.0, 10 - 10 / 1.1]
    np.testing.assert_allclose(found["tc_given_tried_k"], expected, atol=1e-6)
    odds = found["tried_log_odds"].to_pylist()
    assert odds[0] < odds[1] < -0.1
    assert (odds[2], odds[3]) == (None, pytest.approx(0.0, abs=1e-6))


NAN = float("nan")


def bound(tc: float, std: float = NAN, oracle: float = NAN, score: float = NAN) -> float:
    columns = (np.array([value]) for value in (tc, std, oracle, score))
    return float(trusted_tc_k(*columns)[0])


@pytest.mark.parametrize(
    ("given_values", "expected"),
    [
        ((100.0, 10.0, 95.0, 0.5), 85.0),  # σ off the oracle's T_c, the smaller one
        ((100.0, 10.0, 40.0, 0.5), 30.0),
        ((70.0, 10.0, 95.0, 0.5), 60.0),  # off the search's
        ((100.0, 10.0, 95.0, 1.01), 0.0),  # beyond what anybody knows
        ((100.0, 10.0, 95.0, EXTRAPOLATED), 85.0),  # the flag is above 1, not at it
        ((5.0, 10.0, 8.0, 0.5), 0.0),  # never below 0
        ((100.0, NAN, 95.0, NAN), 95.0),  # without a spread
        ((100.0, 10.0, NAN, NAN), 90.0),  # without an oracle
        ((100.0, NAN, NAN, 0.5), 100.0),
        ((100.0, NAN, NAN, 2.0), 0.0),
    ],
)
def test_trusted_tc_by_hand(given_values: tuple[float, float, float, float], expected: float) -> None:
    assert bound(*given_values) == expected


def test_without_any_other_opinion_or_without_tc_it_is_unknown() -> None:
    assert np.isnan(bound(100.0))
    assert np.isnan(bound(NAN, 10.0, 95.0, 0.5))
    assert np.isnan(bound(NAN, 10.0, 95.0, 2.0))


VALUES = st.floats(0, 300)


@given(VALUES, VALUES, VALUES, st.floats(0, 3))
def test_it_is_never_above_any_opinion(tc: float, std: float, oracle: float, score: float) -> None:
    trusted = bound(tc, std, oracle, score)
    assert 0 <= trusted <= min(tc, oracle)
    assert trusted == 0 or score <= EXTRAPOLATED
    assert bound(tc, std, oracle + 1, score) >= trusted
    assert bound(tc, std + 1, oracle, score) <= trusted


NAMES = ("MgB2", "LaNiAsO", "FeSe", "H3S", "NbN")


def ranking(by: RankBy, offset_k: float = 0.1, tc_share: float = 0.0, **others: Any) -> ScreensSpec:
    return ScreensSpec(rank_by=by, improvement_offset_k=offset_k, improvement_tc_share=tc_share, **others)


TEXTS = st.sampled_from([None, *NAMES])


def sourced(formulas: list[str | None], of_families: list[bool]) -> Any:
    sources = ["family" if each else None for each in of_families]
    return pa.table({"formula": pa.array(formulas, pa.string()), "source": pa.array(sources, pa.string())})


@given(st.lists(TEXTS, max_size=40))
def test_unique_keeps_the_first_row_of_each_formula(formulas: list[str | None]) -> None:
    expected = sorted(formulas.index(text) for text in set(formulas) - {None})
    assert unique(sourced(formulas, [False] * len(formulas))).tolist() == expected


COUNTS = st.dictionaries(st.integers(0, N_ELEMENTS - 1), st.integers(1, 9), min_size=1, max_size=6)


@given(COUNTS, COUNTS, st.integers(1, 5))
def test_formulas_are_the_same_text_exactly_when_they_are_the_same_composition(
    one: dict[int, int], other: dict[int, int], times: int
) -> None:
    rows = np.zeros((3, N_ELEMENTS), dtype=np.int64)
    for row, counts in zip(rows, (one, other, one), strict=True):
        row[list(counts)] = list(counts.values())
    rows[2] *= times
    first, second, multiple = (write_row(reduce_counts(row)) for row in rows)
    assert first == multiple
    assert (first == second) == bool((reduce_counts(rows[0]) == reduce_counts(rows[1])).all())


def rows_of(
    formulas: Sequence[str | None], passed: Any, tc_k: Any, trusted_tc_k: Any = None, **given: Any
) -> Any:
    """A table with what ranking reads, of which only what is given is known."""
    columns = {"formula": formulas, "passed": passed, "tc_k": tc_k, "trusted_tc_k": trusted_tc_k, **given}
    if "taken" in columns:
        columns["known"] = [
            text if there else None for text, there in zip(formulas, given["taken"], strict=True)
        ]
    fields = [schema().field(name) for name in RANKED]
    return pa.table(
        {
            each.name: pa.nulls(len(formulas), each.type)
            if columns.get(each.name) is None
            else pa.array(columns[each.name], each.type, from_pandas=True)
            for each in fields
        },
        schema=pa.schema(fields),
    )


KELVIN = st.sampled_from([0.0, 4.5, 4.5, 90.0, float("nan")])
ROWS = st.tuples(st.sampled_from(NAMES), st.booleans(), KELVIN, KELVIN)


@given(st.lists(ROWS, max_size=30), st.booleans())
def test_order_is_passed_then_falling_trusted_tc_then_falling_tc_then_formula(
    rows: list[tuple[str, bool, float, float]], by_trusted: bool
) -> None:
    formulas, passed, tc_k, trusted = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    table = rows_of(formulas, passed, tc_k, trusted)
    best = order(table, ranking("trusted" if by_trusted else "tc"))

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
    best = order(rows_of(formulas, [True, False, True, True], [16.0, 200.0, 39.0, 16.0]))
    assert [formulas[at] for at in best] == ["MgB2", "H3S", "NbN", "FeSe"]


def test_what_is_known_or_was_tried_stands_between_what_is_new_and_what_failed() -> None:
    formulas = ["NbN", "FeSe", "MgB2", "H3S"]
    passed, taken = np.array([True, False, True, True]), np.array([False, True, True, False])
    best = order(rows_of(formulas, passed, [16.0, 200.0, 39.0, 16.0], taken=taken))
    assert [formulas[at] for at in best] == ["H3S", "NbN", "MgB2", "FeSe"]


def test_without_any_trusted_tc_the_order_is_that_of_tc() -> None:
    formulas, passed, tc_k = ["NbN", "FeSe", "MgB2"], np.ones(3, dtype=bool), np.array([16.0, 9.0, 39.0])
    assert order(rows_of(formulas, passed, tc_k)).tolist() == [2, 0, 1]
    assert order(rows_of(formulas, passed, tc_k, [1.0, 2.0, 0.0])).tolist() == [1, 0, 2]


def test_one_composition_has_one_identity() -> None:
    assert identity("La1.85Sr0.15CuO4") == identity("Sr0.15La1.85CuO4") == "Sr3La37Cu20O80"
    assert identity("LaFeAsO0.9F0.1") == identity("La10Fe10As10O9F")
    counts = np.zeros(N_ELEMENTS, dtype=np.int64)
    counts[[INDEX[symbol] for symbol in ("La", "Fe", "As", "O", "F")]] = 10, 10, 10, 9, 1
    assert identity("LaFeAsO0.9F0.1") == write_row(
        reduce_counts(counts)
    )  # as searches without a family write it
    assert identity("YBa2Cu3O6.93333") == "YBa2Cu3O6.93333"  # more decimals than an amount of ours has


@given(st.lists(COUNTS, min_size=2, max_size=6), st.sampled_from([1, 20, 400]))
def test_identities_are_equal_exactly_where_composition_keys_are(
    compositions: list[dict[int, int]], grid: int
) -> None:
    symbols = [[SYMBOLS[z] for z in each] for each in compositions]
    texts = [
        "".join(f"{symbol}{count / grid:.4f}" for symbol, count in zip(held, each.values(), strict=True))
        for held, each in zip(symbols, compositions, strict=True)
    ]
    keys = [composition_key(parse(text)) for text in texts]
    for one, key in zip(texts, keys, strict=True):
        assert [identity(one) == identity(other) for other in texts] == [key == each for each in keys]


def test_a_composition_written_in_the_order_of_two_bases_is_one() -> None:
    whole = identity("La10Fe10As10O9F")  # as a search without a family writes it
    formulas = ["LaFeAsO0.9F0.1", whole, "AsLaFeO0.9F0.1", "MgB2", "LaFeAsO"]
    assert unique(sourced(formulas, [False] * 5)).tolist() == [0, 1, 2, 3, 4]
    assert unique(sourced(formulas, [True, False, True, False, True])).tolist() == [0, 3, 4]


IMPROVEMENT = ranking("improvement")


def proposals(formulas: list[str], **columns: Any) -> Any:
    """Rows that passed and that only the given columns tell apart."""
    n = len(formulas)
    values = {"plausibility": [0.5] * n, "expected_improvement_k": [1.0] * n, "passed": [True] * n}
    return rows_of(formulas, **{**values, "tc_k": np.zeros(n), "gain": [True] * n, **columns})


def test_of_rows_that_are_no_gain_those_with_a_tc_stand_first() -> None:
    values = {"plausibility": [0.5, 0.4], "expected_improvement_k": [0.0, 0.0]}
    rows = proposals(["MgB2", "NbN"], **values, trusted_tc_k=[1.0, 30.0])
    assert order(rows, ranking("improvement", 0.1)).tolist() == [0, 1]
    assert order(rows, ranking("improvement", 0.1, 0.02)).tolist() == [1, 0]


def test_improvement_weighs_plausibility_against_the_gain() -> None:
    key = improvement_key(np.array([1.0, 0.5]), np.array([0.9, 9.9]), 0.1)
    np.testing.assert_allclose(key, [0.0, np.log(0.5) + np.log(10)], atol=1e-12)
    rows = proposals(["MgB2", "NbN"], plausibility=[1.0, 0.5], expected_improvement_k=[0.9, 9.9])
    assert order(rows, ranking("improvement", 30.0)).tolist() == [0, 1]  # 30.9 against 39.9 / 2
    assert order(rows, ranking("improvement", 0.1)).tolist() == [1, 0]  # 1 against 10 / 2
    assert order(rows, ranking("plausibility")).tolist() == [0, 1]


def test_what_nobody_knows_of_any_row_decides_nothing() -> None:
    formulas = ["MgB2", "NbN", "FeSe"]
    rows = rows_of(formulas, [True] * 3, [1.0, 3.0, 2.0], [2.0, 1.0, 3.0])
    assert order(rows.slice(0, 0), IMPROVEMENT).tolist() == []
    assert order(rows, IMPROVEMENT).tolist() == [2, 0, 1]  # as by trusted T_c
    assert order(proposals(formulas, plausibility=[None, 0.1, 0.2]), IMPROVEMENT).tolist() == [2, 1, 0]


def test_a_row_that_is_no_gain_cannot_stand_first() -> None:
    known: dict[str, Any] = {"formulas": ["MgB2", "NbN", "FeSe", "H3S"], "plausibility": [0.9, 0.8, 0.7, 0.6]}
    rows = proposals(**known, gain=[False, False, True, True])
    assert order(rows, IMPROVEMENT).tolist() == [2, 0, 1, 3]
    assert order(proposals(**known, gain=[False] * 4), IMPROVEMENT).tolist() == [0, 1, 2, 3]
    assert order(rows, ranking("plausibility")).tolist() == [0, 1, 2, 3]
    taken = [False, False, True, False]  # a gain that is known is none to propose
    rows = proposals(**known, gain=[False, False, True, True], taken=taken)
    assert order(rows, IMPROVEMENT).tolist() == [3, 0, 1, 2]


def test_undoped_cuprates_stand_behind_all_others_that_passed() -> None:
    rows = proposals(
        ["La2CuO4", "NbN", "FeSe", "H3S"],
        plausibility=[0.9, 0.8, 0.7, 0.6],
        passed=[True, True, True, False],
        taken=[False, True, False, False],
        undoped=[True, False, False, False],
    )
    for by in ("improvement", "plausibility"):
        assert order(rows, ranking(by)).tolist() == [2, 1, 0, 3]
    assert order(rows, ranking("trusted")).tolist() == [2, 0, 1, 3]  # by formula, as nothing differs


def test_few_rows_of_one_chemical_system_stand_among_the_first() -> None:
    n = 4 * FIRST_ROWS
    formulas = [
        f"Mg{row + 1}B2" if row < n // 2 else f"{SYMBOLS[row % 40 + 40]}{row + 1}H3" for row in range(n)
    ]
    rows = proposals(formulas, plausibility=np.linspace(0.9, 0.1, n))
    best = order(rows, IMPROVEMENT).tolist()
    systems = [frozenset(parse(formulas[row])) for row in best]
    assert sorted(best) == list(range(n))
    assert best[:3] == [0, 1, 2]
    assert max(systems[:FIRST_ROWS].count(each) for each in systems) == 3
    # The surplus follows, in its order, and then the rest in theirs.
    assert best[FIRST_ROWS : FIRST_ROWS + n // 2 - 3] == list(range(3, n // 2))
    assert best[FIRST_ROWS + n // 2 - 3 :] == sorted(best[FIRST_ROWS + n // 2 - 3 :])
    assert order(rows, ranking("improvement", most_per_system=n)).tolist() == list(range(n))


def test_where_there_are_too_few_systems_the_surplus_fills_the_first_rows() -> None:
    rows = proposals([f"Mg{row + 1}B2" for row in range(10)], plausibility=np.linspace(0.9, 0.1, 10))
    assert order(rows, IMPROVEMENT).tolist() == list(range(10))


def test_rows_of_new_chemical_systems_stand_first_where_that_is_asked_for() -> None:
    rows = rows_of(
        ["YBa2Cu3O7", "MgB2", "FeSe", "H3S"],
        [True, True, True, False],
        [90.0, 40.0, 50.0, 99.0],
        taken=[False, False, True, False],
        new_system=[False, True, True, True],
    )
    assert order(rows, ranking("tc")).tolist() == [0, 1, 2, 3]
    assert order(rows, ranking("tc", new_systems_first=True)).tolist() == [1, 0, 2, 3]


Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def brute_force(trusted: Floats, ef: Floats, score: Floats, eligible: Mask) -> list[bool]:
    """The definition, pair by pair."""
    costs = np.stack([-trusted, ef, np.where(np.isnan(score), np.inf, score)], axis=1)
    there = eligible & ~np.isnan(trusted) & ~np.isnan(ef)
    beaten = [
        any(
            there[j] and (costs[j] <= costs[i]).all() and (costs[j] < costs[i]).any()
            for j in range(len(costs))
        )
        for i in range(len(costs))
    ]
    return [bool(ok) and not lost for ok, lost in zip(there, beaten, strict=True)]


@pytest.mark.parametrize("levels", [2, 5, 1000])  # few levels: many ties
def test_agrees_with_the_definition(levels: int) -> None:
    generator = np.random.default_rng(levels)
    for _ in range(40):
        n = int(generator.integers(0, 50))
        values = generator.integers(0, levels, (3, n)).astype(float)
        values[generator.random((3, n)) < 0.1] = np.nan
        eligible = generator.random(n) < 0.8
        assert pareto_front(*values, eligible).tolist() == brute_force(*values, eligible)


def test_a_pareto_front_by_hand() -> None:
    trusted = np.array([90.0, 80.0, 80.0, 80.0, 0.0, 95.0])
    ef = np.array([-1.0, -2.0, -2.0, -1.5, -3.0, -5.0])
    score = np.array([0.5, 0.5, 0.5, 0.4, 0.9, 0.1])
    passed = np.array([True, True, True, True, True, False])  # the last would beat all
    assert pareto_front(trusted, ef, score, passed).tolist() == [True, True, True, True, True, False]
    ef[3], score[3] = -1.0, 0.5  # now the first has a higher T_c and is as good in the rest
    assert pareto_front(trusted, ef, score, passed).tolist() == [True, True, True, False, True, False]


def test_minus_zero_is_zero() -> None:
    zeros = np.array([0.0, -0.0])
    assert pareto_front(np.ones(2), zeros, zeros, np.ones(2, dtype=bool)).all()


def test_where_no_score_is_known_the_other_aims_decide() -> None:
    unknown = np.full(3, np.nan)
    front = pareto_front(
        np.array([9.0, 5.0, 4.0]), np.array([0.0, -1.0, 0.0]), unknown, np.ones(3, dtype=bool)
    )
    assert front.tolist() == [True, True, False]


def test_the_front_of_many_rows_may_be_large() -> None:
    """More than are looked through at a time: the points of a sphere, which no other beats, among points below it."""
    generator = np.random.default_rng(0)
    points = np.abs(generator.normal(size=(3, 300_000)))
    points /= np.linalg.norm(points, axis=0)
    on_sphere = generator.random(300_000) < 0.5
    points[:, ~on_sphere] *= 0.8
    front = pareto_front(points[0], -points[1], -points[2], np.ones(300_000, dtype=bool))
    assert front[on_sphere].all()
    assert front[~on_sphere].mean() < 0.01
