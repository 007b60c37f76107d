""""""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.search.errors import SpecError
from kiago_ray.search.family import Substitutions
from kiago_ray.search.presets import load_preset
from kiago_ray.search.problem import Problem, resolve
from kiago_ray.search.run import begin
from kiago_ray.search.space import OpenSpace
from kiago_ray.search.start import Begun, canonical_text, drawing_weights, open_space, row_generator, starts

Frequencies = Mapping[str, np.ndarray]
NOTHING_ADDED = {"add_number": 0, "substitute_probability": 0}


def problem(*, base: str | None = "LaNiAsO", start: Mapping[str, Any] = {}, **values: Any) -> Problem:
    spec = load_preset("open", {"base": base, "start": dict(start), **values})
    return resolve(spec, np.ones(N_ELEMENTS, dtype=bool))


def held(row: np.ndarray) -> set[str]:
    return {SYMBOLS[z] for z in np.flatnonzero(row)}


def test_with_nothing_substituted_or_added_a_start_is_the_base(frequencies: Frequencies) -> None:
    rows = starts(problem(start=NOTHING_ADDED), frequencies, range(3))
    assert rows == pytest.approx(np.tile(fractions(parse("LaNiAsO")), (3, 1)))


def test_elements_are_substituted_as_often_as_asked(frequencies: Frequencies) -> None:
    rows = starts(problem(start={"add_number": 0, "substitute_probability": 0.22}), frequencies, range(4000))
    stayed = rows[:, INDEX["Ni"]] > 0
    # Ni stays with 0.78, or comes back in place of another element with at most 3 · 0.22 · 5/170
    assert stayed.mean() == pytest.approx(0.78 + 0.22 * 0.019, abs=0.03)
    assert rows.sum(axis=1) == pytest.approx(np.ones(4000))


def test_substitutes_follow_the_frequencies(frequencies: Frequencies) -> None:
    only_ni = problem(base="Ni", start={"add_number": 0, "substitute_probability": 1})
    rows = starts(only_ni, frequencies, range(6000))
    expected = frequencies["supercon"].copy()
    expected[INDEX["Ni"]] = 0  # a substitute is another element
    assert (rows > 0).mean(axis=0) == pytest.approx(expected / expected.sum(), abs=0.025)


def test_frequencies_can_be_joined_or_uniform(frequencies: Frequencies) -> None:
    both = drawing_weights("supercon+non_superconductors", frequencies)
    assert np.array_equal(both, frequencies["supercon"] + frequencies["non_superconductors"])
    assert np.array_equal(drawing_weights("uniform", {}), np.ones(N_ELEMENTS))


def test_missing_or_malformed_frequencies_are_named() -> None:
    with pytest.raises(SpecError, match="needs the element frequencies 'supercon', which aren't given"):
        drawing_weights("supercon", {})
    with pytest.raises(SpecError, match="'supercon' must be 118 finite numbers of 0 or more"):
        drawing_weights("supercon", {"supercon": np.ones(86)})


def test_a_number_of_other_elements_is_added_at_up_to_the_ratio(frequencies: Frequencies) -> None:
    start = {"add_number": 3, "add_by": "uniform", "add_max_ratio": 0.3, "substitute_probability": 0}
    rows = starts(problem(start=start), frequencies, range(500))
    assert ((rows > 0).sum(axis=1) == 7).all()
    base = fractions(parse("LaNiAsO"))
    added = np.where(base > 0, 0, rows / (rows[:, [INDEX["La"]]] / 0.25))
    assert 0.28 < added.max() < 0.3
    assert added[added > 0].mean() == pytest.approx(0.15, abs=0.01)


def test_elements_are_added_by_probability(frequencies: Frequencies) -> None:
    start = {"add_number": 0, "add_probability": 0.22, "add_max_ratio": 0.03, "substitute_probability": 0}
    rows = starts(problem(start=start), frequencies, range(500))
    base = fractions(parse("LaNiAsO"))
    assert (rows[:, base == 0] > 0).mean() == pytest.approx(0.22, abs=0.01)


def test_elements_added_by_frequency_occur_in_the_data(frequencies: Frequencies) -> None:
    start = {"add_number": 2, "add_by": "frequencies", "substitute_probability": 0}
    rows = starts(problem(start=start), frequencies, range(300))
    assert held(rows.sum(axis=0)) == {"La", "Ni", "As", "O", "Cu", "Fe", "Ba", "Y"}


def test_a_random_start_holds_so_many_elements_and_needs_no_base(frequencies: Frequencies) -> None:
    rows = starts(problem(base=None, start={"kind": "random"}), frequencies, range(400))
    assert ((rows > 0).sum(axis=1) == 4).all()
    assert ((rows > 0).sum(axis=0) > 0).all()
    everything = {"kind": "random", "random_elements": None}
    rows = starts(problem(base=None, start=everything, elements={"allow": ["H", "S"]}), frequencies, range(5))
    assert (rows > 0).sum() == 10


def test_given_rows_are_taken_as_they_are(frequencies: Frequencies) -> None:
    rows = {"kind": "rows", "rows": ["H3S", "LaH10", "NaCl"]}
    found = starts(problem(base=None, start=rows, elements={"forbid": ["Cl"]}), frequencies, range(1, 3))
    assert held(found[0]) == {"La", "H"}
    assert found[1, INDEX["Na"]] == 1


def test_forbidden_elements_of_the_base_are_substituted_and_fixed_ones_left_out(
    frequencies: Frequencies,
) -> None:
    rows = starts(problem(start=NOTHING_ADDED, elements={"forbid": ["As"]}), frequencies, range(50))
    assert not rows[:, INDEX["As"]].any()
    assert rows.sum(axis=1) == pytest.approx(np.ones(50))
    assert rows[:, INDEX["La"]].min() >= 0.25
    fixed = starts(problem(start=NOTHING_ADDED, fixed={"O": 0.25}), frequencies, range(5))
    assert held(fixed.sum(axis=0)) == {"La", "Ni", "As"}
    assert fixed[0, INDEX["La"]] == pytest.approx(1 / 3)


def test_a_row_with_nothing_left_is_zero(frequencies: Frequencies) -> None:
    rows = starts(problem(base="H2", start=NOTHING_ADDED, fixed={"H": 0.4}), frequencies, range(3))
    assert not rows.any()


def test_a_row_does_not_depend_on_which_others_are_drawn(frequencies: Frequencies) -> None:
    found = problem()
    together = starts(found, frequencies, range(10))
    assert np.array_equal(starts(found, frequencies, [7, 3]), together[[7, 3]])


def test_seed_base_and_row_decide(frequencies: Frequencies) -> None:
    first = starts(problem(seed=0), frequencies, range(8))
    assert np.array_equal(first, starts(problem(seed=0, candidates=99, alpha=1), frequencies, range(8)))
    assert not np.array_equal(first, starts(problem(seed=1), frequencies, range(8)))
    assert len(np.unique(first, axis=0)) == 8


def test_every_way_to_write_a_base_draws_the_same() -> None:
    assert canonical_text(fractions(parse("LaNiAsO"))) == canonical_text(fractions(parse("O2As2Ni2La2")))
    assert canonical_text(fractions(parse("H3S"))) == "H0.750000000 S0.250000000"


def test_the_generator_is_the_same_on_every_machine() -> None:
    drawn = row_generator(0, "H0.750000000 S0.250000000", 5).integers(0, 2**32, 3)
    assert drawn.tolist() == [609204832, 4065475564, 320195488]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    forbid=st.lists(st.sampled_from(["La", "Ni", "As", "O", "Cu", "Fe"]), unique=True),
    kind=st.sampled_from(["perturb", "random"]),
    by=st.sampled_from([{"add_number": 3}, {"add_number": 0, "add_probability": 0.3}]),
    fixed=st.sampled_from([{}, {"O": 0.25}]),
    seed=st.integers(0, 2**63 - 1),
)
def test_starts_keep_to_the_mask(
    frequencies: Frequencies,
    forbid: list[str],
    kind: str,
    by: dict[str, Any],
    fixed: dict[str, float],
    seed: int,
) -> None:
    fixed = {symbol: amount for symbol, amount in fixed.items() if symbol not in forbid}
    found = problem(start={"kind": kind, **by}, elements={"forbid": forbid}, fixed=fixed, seed=seed)
    rows = starts(found, frequencies, range(5))
    assert (rows >= 0).all()
    assert not rows[:, ~found.allowed].any()
    assert rows.sum(axis=1) == pytest.approx(np.ones(5))


CPU = torch.device("cpu")


def begun(preset: str, substitutions: Substitutions, rows: range, size: int, **values: Any) -> Begun:
    spec = load_preset(preset, {"base": "LaFeAsO", "start.frequencies": "uniform", **values})
    problem = resolve(spec, np.ones(N_ELEMENTS, dtype=np.bool_), substitutions)
    numbers = np.array(rows)
    return begin(problem, {}, numbers, numbers % size, size, CPU)


def test_padding_of_a_family_holds_the_base_and_stays(substitutions: Substitutions) -> None:
    found = begun("default", substitutions, range(5, 8), 8)
    x = found.space.compose(found.state.x_base, found.state.mask).numpy()
    assert x[:5] == pytest.approx(np.tile(fractions(parse("LaFeAsO")), (5, 1)), abs=1e-6)
    assert found.state.rate[:5].tolist() == [0] * 5
    assert found.family is not None
    assert found.family.source[:5].tolist() == [""] * 5
    assert all(found.family.source[5:])


def test_a_place_begins_alike_whichever_other_rows_there_are(substitutions: Substitutions) -> None:
    for preset in ("open", "default"):
        few, many = (begun(preset, substitutions, rows, 8) for rows in (range(11, 13), range(8, 16)))
        assert torch.equal(few.state.x_base[3:5], many.state.x_base[3:5])
        assert torch.equal(few.state.mask[3:5], many.state.mask[3:5])


def test_an_open_search_begins_in_the_open_space(substitutions: Substitutions) -> None:
    found = begun("open", substitutions, range(8), 8, fixed={"O": 0.25})
    assert isinstance(found.space, OpenSpace)
    assert found.family is None
    assert found.space.const[7] == 0.25
    assert (found.space.limit, found.space.width) == (6, 7)
    assert not found.space.always.any()
    spec = load_preset("hydride", {"base": "LaH10"})
    grown = open_space(resolve(spec, np.ones(N_ELEMENTS, dtype=np.bool_)), CPU)
    assert grown.always.nonzero().flatten().tolist() == [0]
    assert grown.totals.tolist() == list(range(1, 16))


def test_rows_that_hold_a_proposal_have_no_rate_and_no_limits(substitutions: Substitutions) -> None:
    found = begun("default", substitutions, range(40), 40, family={"range": [0.1, 0.4]})
    held = found.state.rate == 0
    assert held.any()
    assert not held.all()
    assert (found.space.low[held] == 0).all()  # type: ignore[attr-defined]
    assert (found.space.high[held] == 1).all()  # type: ignore[attr-defined]
    assert (found.space.high[~held] == 0.4).all()  # type: ignore[attr-defined]
