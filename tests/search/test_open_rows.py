"""Open searches: the space of equations 4 to 12, the starts and the formulas that rows end at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.autograd import gradcheck

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import fractions, parse, parse_fractions, reduce_counts, write_row
from kiago_ray.chemistry.neutrality import check
from kiago_ray.search.losses import integer_loss
from kiago_ray.search.open_rows import (
    OpenSpace,
    begin_open,
    drawing_weights,
    exact_fractions,
    starts,
)
from kiago_ray.search.problem import Problem, Substitutions, canonical_text, resolve, row_generator
from kiago_ray.search.result import Proposals, RowStatus, Score
from kiago_ray.search.run import begin
from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import load_preset
from kiago_ray.search.stages import init

ROWS = 4
values = arrays(np.float32, (ROWS, N_ELEMENTS), elements=st.floats(-2, 2, width=32))
masks = arrays(np.bool_, (N_ELEMENTS,))


def space(const: torch.Tensor, limit: int = 1, always: torch.Tensor | None = None) -> OpenSpace:
    always = torch.zeros(N_ELEMENTS, dtype=torch.bool) if always is None else always
    return OpenSpace(const, limit, always, torch.arange(1, 26))


def limited(x_base: torch.Tensor, mask: torch.Tensor, limit: int, always: torch.Tensor) -> torch.Tensor:
    return space(torch.zeros(N_ELEMENTS), limit, always).limited(x_base, mask)[1]


def const_of(**amounts: float) -> torch.Tensor:
    const = torch.zeros(N_ELEMENTS)
    for symbol, amount in amounts.items():
        const[INDEX[symbol]] = amount
    return const


def test_equation_12_by_hand() -> None:
    x_base = torch.zeros(1, N_ELEMENTS)
    x_base[0, [INDEX["La"], INDEX["Fe"], INDEX["O"], INDEX["As"]]] = torch.tensor([3.0, 1.0, 5.0, -2.0])
    mask = torch.ones(N_ELEMENTS, dtype=torch.bool)
    mask[INDEX["O"]] = False
    x = space(const_of(H=0.2)).compose(x_base, mask)
    assert x[0, INDEX["H"]] == torch.tensor(0.2)
    assert x[0, INDEX["La"]].item() == pytest.approx(0.8 * 0.75)
    assert x[0, INDEX["Fe"]].item() == pytest.approx(0.8 * 0.25)
    assert int((x > 0).sum()) == 3


@settings(max_examples=100, deadline=None)
@given(x=values, allowed=masks, amount=st.floats(0.015625, 0.875, width=32), leak=st.booleans())
def test_sums_masks_and_fixed_amounts_hold(
    x: np.ndarray, allowed: np.ndarray, amount: float, leak: bool
) -> None:
    fixed = INDEX["H"]
    allowed[fixed] = False
    mask = torch.as_tensor(allowed)
    const = const_of(H=amount)
    found = space(const).compose(torch.as_tensor(x), mask, straight_through=leak)
    alive = space(const).has_something(torch.as_tensor(x), mask)
    assert torch.isfinite(found).all()
    assert (found >= 0).all()
    assert torch.equal(found[:, fixed], const[fixed].expand(ROWS))
    masked = ~mask
    masked[fixed] = False
    assert (found[:, masked] == 0).all()
    assert found.sum(dim=1)[alive].numpy() == pytest.approx(np.ones(int(alive.sum())), abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(x=values, amount=st.floats(0.015625, 0.875, width=32))
def test_a_fixed_amount_that_may_grow_is_a_floor(x: np.ndarray, amount: float) -> None:
    everything = torch.ones(N_ELEMENTS, dtype=torch.bool)
    found = space(const_of(H=amount)).compose(torch.as_tensor(x), everything)
    assert (found[:, INDEX["H"]] >= torch.tensor(amount)).all()


def test_a_row_with_nothing_left_is_known_and_finite() -> None:
    x_base = -torch.ones(2, N_ELEMENTS)
    x_base[1, 3] = 1
    everything = torch.ones(N_ELEMENTS, dtype=torch.bool)
    assert space(const_of(H=0.4)).has_something(x_base, everything).tolist() == [False, True]
    assert torch.isfinite(space(const_of(H=0.4)).compose(x_base, everything)).all()


@pytest.mark.parametrize("leak", [False, True])
def test_gradients_match_finite_differences(leak: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    x_base = (
        torch.rand(3, N_ELEMENTS, generator=generator, dtype=torch.float64) + 0.05
    )  # away from ReLU's corner
    mask = torch.rand(3, N_ELEMENTS, generator=generator) < 0.3
    const = const_of(H=0.3).double()
    assert gradcheck(
        lambda x: space(const).compose(x, mask, straight_through=leak), x_base.requires_grad_(), atol=1e-6
    )


def test_absent_elements_have_the_gradient_of_coming_back_only_where_asked() -> None:
    generator = torch.Generator().manual_seed(4)
    weights = torch.rand(N_ELEMENTS, generator=generator, dtype=torch.float64)
    everything, none = torch.ones(N_ELEMENTS, dtype=torch.bool), torch.zeros(N_ELEMENTS, dtype=torch.float64)
    start = torch.zeros(1, N_ELEMENTS, dtype=torch.float64)
    start[0, :3] = 1 / 3

    def loss(x_base: torch.Tensor, leak: bool) -> torch.Tensor:
        return (space(none).compose(x_base, everything, straight_through=leak) * weights).sum()

    step = 1e-7
    for leak in (True, False):
        leaf = start.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaf, leak), leaf)
        for z in (0, 50, 117):
            nudged = start.clone()
            nudged[0, z] += step
            slope = (loss(nudged, leak) - loss(start, leak)).item() / step
            expected = slope if leak or z == 0 else 0.0
            assert gradient[0, z].item() == pytest.approx(expected, abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(x=values, allowed=masks, limit=st.integers(1, 12))
def test_the_limit_keeps_the_largest(x: np.ndarray, allowed: np.ndarray, limit: int) -> None:
    mask = torch.as_tensor(allowed).expand(ROWS, N_ELEMENTS)
    never = torch.zeros(N_ELEMENTS, dtype=torch.bool)
    kept = limited(torch.as_tensor(x), mask, limit, never).numpy()
    for row in range(ROWS):
        present = np.where(allowed & (x[row] > 0), x[row], 0)
        expected = sorted(np.flatnonzero(present), key=lambda z: (-present[z], z))[:limit]
        assert sorted(expected) == np.flatnonzero(kept[row]).tolist()


def test_of_equal_amounts_the_lower_atomic_number_stays() -> None:
    x_base = torch.zeros(1, N_ELEMENTS)
    x_base[0, [80, 20, 60, 40]] = 0.25
    everything = torch.ones(1, N_ELEMENTS, dtype=torch.bool)
    never = torch.zeros(N_ELEMENTS, dtype=torch.bool)
    assert torch.nonzero(limited(x_base, everything, 2, never)[0]).flatten().tolist() == [20, 40]


def test_elements_that_always_stay_take_no_place() -> None:
    x_base = torch.zeros(1, N_ELEMENTS)
    x_base[0, [0, 20, 40, 60]] = torch.tensor([0.7, 0.1, 0.15, 0.05])
    everything = torch.ones(1, N_ELEMENTS, dtype=torch.bool)
    always = torch.zeros(N_ELEMENTS, dtype=torch.bool)
    always[0] = True
    assert torch.nonzero(limited(x_base, everything, 2, always)[0]).flatten().tolist() == [0, 20, 40]


HYDROGEN = torch.zeros(N_ELEMENTS)
HYDROGEN[INDEX["H"]] = 0.4
SPACE = OpenSpace(HYDROGEN, limit=2, always=HYDROGEN > 0, totals=torch.arange(1, 16), width=3)


def test_the_open_space_stays_and_measures_its_totals() -> None:
    x_base = torch.as_tensor(parse_fractions(["LaFeAsO", "La2CuO4"]), dtype=torch.float32)
    mask = torch.ones(2, N_ELEMENTS, dtype=torch.bool)
    x = SPACE.compose(x_base, mask)
    assert torch.equal(SPACE.off_grid(x_base, mask, x, "l1"), integer_loss(x, SPACE.totals, "l1", 3))
    assert SPACE.limited(x_base, mask)[0] is SPACE


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


def test_missing_frequencies_are_named() -> None:
    with pytest.raises(SpecError, match="needs the element frequencies 'supercon', which aren't given"):
        drawing_weights("supercon", {})


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


def begun(preset: str, substitutions: Substitutions, rows: range, size: int, **values: Any) -> Any:
    spec = load_preset(preset, {"base": "LaFeAsO", "start.frequencies": "uniform", **values})
    problem = resolve(spec, np.ones(N_ELEMENTS, dtype=np.bool_), substitutions)
    return begin(problem, {}, np.array(rows), size, CPU)


def test_padding_of_a_family_holds_the_base_and_stays(substitutions: Substitutions) -> None:
    space, state = begun("default", substitutions, range(5, 8), 8)
    x = space.compose(state.x_base, state.mask).numpy()
    assert x[:5] == pytest.approx(np.tile(fractions(parse("LaFeAsO")), (5, 1)), abs=1e-6)
    assert state.rate[:5].tolist() == [0] * 5
    assert space.source[:5].tolist() == [""] * 5
    assert all(space.source[5:])


def test_a_place_begins_alike_whichever_other_rows_there_are(substitutions: Substitutions) -> None:
    for preset in ("open", "default"):
        few, many = (begun(preset, substitutions, rows, 8)[1] for rows in (range(11, 13), range(8, 16)))
        assert torch.equal(few.x_base[3:5], many.x_base[3:5])
        assert torch.equal(few.mask[3:5], many.mask[3:5])


def test_an_open_search_begins_in_the_open_space(substitutions: Substitutions) -> None:
    space, _ = begun("open", substitutions, range(8), 8, fixed={"O": 0.25})
    assert isinstance(space, OpenSpace)
    assert space.const[7] == 0.25
    assert (space.limit, space.width) == (6, 7)
    assert not space.always.any()
    spec = load_preset("hydride", {"base": "LaH10"})
    problem = resolve(spec, np.ones(N_ELEMENTS, dtype=np.bool_))
    grown, _ = begin_open(problem, {"supercon": np.ones(N_ELEMENTS)}, np.arange(8), 8, CPU)
    assert grown.always.nonzero().flatten().tolist() == [0]
    assert grown.totals.tolist() == list(range(1, 16))


def test_rows_that_hold_a_proposal_have_no_rate_and_no_limits(substitutions: Substitutions) -> None:
    space, state = begun("default", substitutions, range(40), 40, family={"range": [0.1, 0.4]})
    held = state.rate == 0
    assert held.any()
    assert not held.all()
    assert (space.low[held] == 0).all()
    assert (space.high[held] == 1).all()
    assert (space.high[~held] == 0.4).all()


def project_rows(
    problem: Problem, x: np.ndarray, status: np.ndarray, score: Score, climbed: Score
) -> Proposals:
    """The formulas of rows that ended at x (rows, 118) with a status."""
    frequencies = {"supercon": np.ones(N_ELEMENTS), "non_superconductors": np.ones(N_ELEMENTS)}
    space, _ = begin_open(problem, frequencies, np.arange(len(x)), len(x), CPU)
    state = init(torch.as_tensor(x), torch.as_tensor(problem.allowed), "none", space)
    state = replace(state, status=torch.as_tensor(status))
    return space.propose(problem, state, x, score, climbed, lambda _: np.zeros(len(x)))


def near_lafeaso(**values: Any) -> Problem:
    return problem(base="LaFeAsO", **values)


def score(fractions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """T_c = 100 K · x(La), E_f = x(O) eV/atom; gold has none."""
    tc = np.where(fractions[:, INDEX["Au"]] > 0, np.nan, 100 * fractions[:, INDEX["La"]])
    return tc.astype(np.float32), fractions[:, INDEX["O"]].astype(np.float32)


def rows(*formulas: str) -> np.ndarray:
    return parse_fractions(formulas).astype(np.float32)


def test_the_nearest_formula_is_scored_as_that_formula() -> None:
    near = rows("La0.99FeAsO1.01")
    found = project_rows(near_lafeaso(projection={"kind": "nearest"}), near, np.array([0]), score, score)
    assert found.counts[0, [INDEX[s] for s in ("La", "Fe", "As", "O")]].tolist() == [1, 1, 1, 1]
    assert found.tc_k[0] == pytest.approx(25)
    assert found.ef_ev_per_atom[0] == pytest.approx(0.25)
    assert found.distance[0] == pytest.approx(0.005, abs=1e-6)


def test_best_prefers_the_better_of_near_formulas() -> None:
    between = rows("La1.02FeAsO")
    nearest = project_rows(near_lafeaso(projection={"kind": "nearest"}), between, np.array([0]), score, score)
    best = project_rows(
        near_lafeaso(projection={"kind": "best", "max_distance": 0.1, "neutral": False}, alpha=1),
        between,
        np.array([0]),
        score,
        score,
    )
    assert nearest.tc_k[0] == pytest.approx(25)
    assert best.tc_k[0] > 26
    assert best.distance[0] <= 0.1
    strict = project_rows(
        near_lafeaso(projection={"kind": "best", "max_distance": 0.0, "neutral": False}),
        between,
        np.array([0]),
        score,
        score,
    )
    assert np.array_equal(strict.counts, nearest.counts)


def test_only_rows_that_are_ok_get_a_formula() -> None:
    x = rows("LaFeAsO", "LaFeAsO", "LaAuO")
    status = np.array([RowStatus.OK, RowStatus.NOT_FINITE, RowStatus.OK])
    for kind in ("nearest", "best", "none"):
        found = project_rows(near_lafeaso(projection={"kind": kind}), x, status, score, score)
        assert found.status.tolist() == [RowStatus.OK, RowStatus.NOT_FINITE, RowStatus.NOT_FINITE]
        assert found.amounts.any(axis=1).tolist() == [True, False, False]
        assert np.isfinite(found.tc_k).tolist() == [True, False, False]


def test_fractions_can_be_kept() -> None:
    found = project_rows(
        near_lafeaso(projection={"kind": "none"}), rows("La0.98765FeAsO1.01235"), np.array([0]), score, score
    )
    assert not found.counts.any()
    assert found.amounts.sum() == pytest.approx(4)
    assert found.amounts[0, INDEX["La"]] == pytest.approx(0.9876, abs=2e-4)


def test_float32_rounding_is_taken_out() -> None:
    fixed = near_lafeaso(fixed={"O": "1/3"})
    x = rows("LaFeO")
    assert exact_fractions(x.astype(np.float64), fixed)[0, INDEX["O"]] == 1 / 3
    assert exact_fractions(x.astype(np.float64), fixed).sum() == pytest.approx(1, abs=1e-15)


def neutral_problem(**values: Any) -> Problem:
    return near_lafeaso(projection={"kind": "best", "max_distance": 0.1, "neutral_distance": 0.4}, **values)


def test_neutral_formulas_alone_are_proposed_where_there_are_any() -> None:
    x = rows("NaF2", "La2Pt9B9C", "La1.02FeAsO")
    found = project_rows(neutral_problem(), x, np.array([0, 0, 0]), score, score)
    assert found.status.tolist() == [RowStatus.OK] * 3
    assert check(found.counts).pauling.tolist() == [True, False, True]
    assert found.distance[0] == pytest.approx(1 / 3, abs=1e-6)
    as_before = project_rows(
        near_lafeaso(projection={"kind": "best", "neutral": False}), x, np.array([0, 0, 0]), score, score
    )
    assert np.array_equal(found.counts[1], as_before.counts[1])


def test_of_neutral_formulas_the_best_by_the_objective_is_taken() -> None:
    x = rows("La2.05CuO4", "Fe2O3")
    status = np.array([0, 0])
    unweighted = {"weight": 0}
    lanthanum = project_rows(neutral_problem(alpha=0, charge=unweighted), x, status, score, score)

    def reversed_(f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return score(f)[0], -score(f)[1]

    oxygen = project_rows(neutral_problem(alpha=1000, charge=unweighted), x, status, reversed_, reversed_)
    assert lanthanum.tc_k[0] > oxygen.tc_k[0]
    assert check(lanthanum.counts).pauling.all()
    assert check(oxygen.counts).pauling.all()


def test_likelier_states_weigh_as_much_as_the_specification_says() -> None:
    """Nearly FeO3, with T_c for oxygen: at no weight the most oxygen wins, at a great one likelier states do."""
    x = rows("FeO2.2")

    def oxygen_tc(fractions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        oxygen = fractions[:, INDEX["O"]].astype(np.float32)
        return oxygen, np.zeros_like(oxygen)

    projection = {"kind": "best", "max_distance": 0.4, "neutral_distance": 0.4, "max_candidates": 64}
    found = {
        weight: project_rows(
            near_lafeaso(projection=projection, charge={"weight": weight}, n_unit={"max": 12}),
            x,
            np.array([0]),
            oxygen_tc,
            oxygen_tc,
        )
        for weight in (0, 1000)
    }
    assert found[0].tc_k[0] > found[1000].tc_k[0]
    assert write_row(reduce_counts(found[1000].counts[0])) == "Fe2O3"
