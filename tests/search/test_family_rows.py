"""The rows of a family search: where they start, what they reach and the formulas that they end at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.predictors.base import Predictors
from kiago_ray.search.family_rows import (
    FamilySpace,
    RowSites,
    amounts_of,
    begin_family,
    formula_of,
    nearest_atoms,
    neighbours,
)
from kiago_ray.search.problem import VACANCY, Problem, Substitutions, resolve
from kiago_ray.search.result import SearchResult
from kiago_ray.search.run import begin, run_search
from kiago_ray.search.sections import SourcesSpec
from kiago_ray.search.spec import load_preset
from kiago_ray.search.stages import SearchState, Space, limit

ALONE = {"sources": {"family": 1, "swap": 0, "made": 0, "plus_one": 0}}


def problem_of(base: str, substitutions: Substitutions, **values: Any) -> Problem:
    spec = load_preset("default", {"base": base, **values})
    return resolve(spec, np.ones(N_ELEMENTS, dtype=np.bool_), substitutions)


def starts_of(
    base: str, substitutions: Substitutions, rows: range, shares: SourcesSpec, seed: int = 0, **values: Any
) -> SimpleNamespace:
    """Of each of these rows what begin_family makes of it; atoms: NaN where it moves."""
    problem = problem_of(base, substitutions, **values, sources=shares.model_dump(), seed=seed)
    space, state = begin_family(problem, np.array(rows), len(rows), torch.device("cpu"))
    element = space.element.numpy()
    found = {
        "element": element,
        "share": state.x_base.numpy().reshape(element.shape),
        "exists": state.mask.numpy().reshape(element.shape),
        "moves": state.rate.numpy() == 1,
        "source": space.source,
        "atoms": np.array([np.full(element.shape[1:], np.nan) if x is None else x for x in space.proposals]),
    }
    order = np.array(rows) % len(rows)
    return SimpleNamespace(**{name: array[order] for name, array in found.items()})


DRAWN = SourcesSpec(family=1, swap=0, made=0, plus_one=0)


def test_a_start_holds_one_or_two_substitutes(substitutions: Substitutions) -> None:
    found = starts_of("LaFeAsO", substitutions, range(2000), DRAWN)
    assert found.moves.all()
    assert set(found.source) == {"family"}
    assert found.share.sum(axis=2) == pytest.approx(np.ones((2000, 4)))
    foreign = found.share[..., 1:]
    number = (foreign > 0).sum(axis=(1, 2))
    assert set(number.tolist()) == {1, 2}
    assert np.mean(number == 2) == pytest.approx(0.5, abs=0.1)  # the same may be drawn twice
    one = number == 1
    by_site = (foreign[one] > 0).any(axis=2).mean(axis=0)
    assert by_site == pytest.approx([0.25] * 4, abs=0.08)  # sites are about equally likely
    shares = foreign[one].sum(axis=(1, 2))
    assert np.mean(shares == 1) == pytest.approx(0.3, abs=0.07)
    assert shares.min() >= 0.05


def test_likelier_substitutes_are_drawn_more_often(substitutions: Substitutions) -> None:
    found = starts_of("LaFeAsO", substitutions, range(2000), DRAWN)
    iron = found.share[:, 1, 1:] > 0
    counts = iron.sum(axis=0)[:3]  # Co 0.5, Ni 0.35, Mn 0.2
    assert counts[0] > counts[1] > counts[2] > 0


def test_starts_obey_the_range_and_what_may_stay_empty(substitutions: Substitutions) -> None:
    for base in ("LaFeAsO", "YBa2Cu3O6.93"):
        found = starts_of(base, substitutions, range(300), DRAWN, family={"range": [0.1, 0.3]})
        vacancy = (found.element == VACANCY) & found.exists
        assert (found.share[vacancy] <= 0.3 + 1e-6).all()
        if base == "LaFeAsO":
            left = found.share[..., 1:].max(axis=2)
            assert (left[left > 0] >= 0.1 * 0.7 - 1e-6).all()  # a second one takes of all that is there
            assert left.max() <= 0.3 + 1e-6


def test_a_row_draws_from_its_seed_base_and_number_alone(substitutions: Substitutions) -> None:
    shares = SourcesSpec()
    whole = starts_of("LaFeAsO", substitutions, range(60), shares)
    part = starts_of("LaFeAsO", substitutions, range(37, 45), shares)
    for name in ("element", "share", "exists", "atoms", "moves", "source"):
        equal_nan = name == "atoms"
        assert np.array_equal(getattr(part, name), getattr(whole, name)[37:45], equal_nan), name
    other = starts_of("LaFeAsO", substitutions, range(60), shares, seed=1)
    assert not np.array_equal(other.share[whole.moves], whole.share[whole.moves])
    assert np.array_equal(other.share[~whole.moves], whole.share[~whole.moves])


def test_rows_hold_their_source_s_proposals_until_the_list_ends(substitutions: Substitutions) -> None:
    family = problem_of("LaFeAsO", substitutions).family
    assert family is not None
    rows = starts_of("LaFeAsO", substitutions, range(400), SourcesSpec())
    labels = Counter(rows.source.tolist())
    assert labels["made"] == len(family.lists["made"]) == 2
    assert labels["swap"] == len(family.lists["swap"])
    assert labels["family"] > 280
    assert np.array_equal(rows.moves, rows.source == "family")
    assert rows.atoms[~rows.moves].sum(axis=2) == pytest.approx(np.ones((int((~rows.moves).sum()), 4)))


def test_slots_have_room_for_every_site_s_substitutes(substitutions: Substitutions) -> None:
    family = problem_of("La1.85Sr0.15CuO4", substitutions).family
    assert family is not None
    assert (family.width, family.slots) == (2, 6)  # La, Sr; Sm, Nd, Ba, Th


ROWS = 24


class Begun(NamedTuple):
    space: Space
    state: SearchState


def begun(base: str, substitutions: Substitutions, **values: Any) -> Begun:
    spec = load_preset("default", {"base": base, "plausibility_weight": 0, "candidates": ROWS, **values})
    problem = resolve(spec, np.ones(N_ELEMENTS, dtype=np.bool_), substitutions)
    rows = np.arange(ROWS)
    return Begun(*begin(problem, {}, rows, ROWS, torch.device("cpu")))


def space_of(found: Begun) -> FamilySpace:
    assert isinstance(found.space, FamilySpace)
    return found.space


def exact(space: FamilySpace) -> FamilySpace:
    """The same space in double precision."""
    values = {
        name: value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
        for name, value in vars(space).items()
    }
    return FamilySpace(**values)


def random_x(found: Begun, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = found.state.x_base.shape
    return torch.rand(shape, generator=generator, dtype=torch.float64) - 0.2


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    base=st.sampled_from(["LaFeAsO", "La1.85Sr0.15CuO4", "YBa2Cu3O6.93", "LaFeAsO0.9F0.1", "NbSe2"]),
    seed=st.integers(0, 999),
    family=st.sampled_from([{}, {"range": [0.1, 0.3]}, {"max_foreign": 1}, {"whole_swaps": 0}]),
    straight_through=st.booleans(),
)
def test_sites_keep_their_amounts_and_limits(
    base: str, seed: int, family: dict[str, Any], straight_through: bool, substitutions: Substitutions
) -> None:
    found = begun(base, substitutions, family=family)
    space = exact(space_of(found))
    x_base = random_x(found, seed)
    atoms = space.occupation(x_base, found.state.mask, straight_through=straight_through)
    assert torch.allclose(atoms.sum(dim=2), space.amount, atol=1e-6)
    assert (atoms >= 0).all()
    share = atoms / space.amount[..., None]
    assert (share <= space.most + 1e-9).all()
    left = share[..., space.width :].sum(dim=2)
    assert (left <= space.high + 1e-9).all()
    x = space.compose(x_base, found.state.mask)
    assert x.sum(dim=1).tolist() == pytest.approx([1] * ROWS)
    assert (x >= 0).all()


def test_a_composition_is_its_sites_without_the_vacancies(substitutions: Substitutions) -> None:
    found = begun("YBa2Cu3O6.93", substitutions, family={"dope": {"Y": ["Ca"]}})
    space = exact(space_of(found))
    row = int(torch.nonzero(found.state.rate)[0])
    x_base = torch.zeros_like(found.state.x_base, dtype=torch.float64).view(space.element.shape)
    x_base[:, 0, 0], x_base[:, 0, space.width] = 3, 1
    x = space.compose(x_base.flatten(1), found.state.mask)[row].numpy()
    assert x == pytest.approx(fractions(parse("Y0.75Ca0.25Ba2Cu3O6.93")), abs=1e-6)


def test_the_gradient_of_a_composition_is_right(substitutions: Substitutions) -> None:
    """Where no limit bends it: shares of substitutes are small."""
    found = begun("La1.85Sr0.15CuO4", substitutions)
    space = exact(space_of(found))
    x_base = random_x(found, 3).abs() * 0.1 + 0.01
    x_base.view(space.element.shape)[..., 0] += 3
    weights = torch.cos(torch.arange(N_ELEMENTS, dtype=torch.float64) * 1.7)
    for leak in (False, True):
        assert gradcheck(
            lambda x, leak=leak: space.compose(x, found.state.mask, straight_through=leak) @ weights,
            x_base.requires_grad_(),
            atol=1e-6,
        )


def test_an_absent_substitute_keeps_its_gradient_where_asked(substitutions: Substitutions) -> None:
    found = begun("LaFeAsO", substitutions)
    space = exact(space_of(found))
    row = int(torch.nonzero(found.state.rate)[0])
    x_base = torch.zeros_like(found.state.x_base, dtype=torch.float64).view(space.element.shape)
    x_base[..., 0] = 1
    leaf = x_base.flatten(1).requires_grad_()
    for leak in (False, True):
        x = space.compose(leaf, found.state.mask, straight_through=leak)
        samarium = torch.autograd.grad(x[row, INDEX["Sm"]], leaf)[0].view(space.element.shape)[row]
        at = space.element[row] == INDEX["Sm"]
        assert bool(samarium[at].abs().sum() > 0) is leak


def test_stage_2_keeps_the_largest_foreign_shares_and_half_of_all_sites_but_one(
    substitutions: Substitutions,
) -> None:
    found = begun("LaFeAsO", substitutions)
    for seed in range(5):
        state = found.state.__class__(**{**vars(found.state), "x_base": random_x(found, seed).float()})
        after, space = limit(state, found.space, reset=True)
        assert isinstance(space, FamilySpace)
        assert torch.equal(after.rate, found.state.rate)
        atoms = space.occupation(after.x_base, after.mask)
        left = atoms[..., space.width :].sum(dim=2) / space.amount
        assert ((left > 0.5 + 1e-6).sum(dim=1) <= 1).all()
        foreign = (atoms[..., space.width :] > 1e-6).flatten(1).sum(dim=1)
        assert foreign.max() <= 2
        strict = begun("LaFeAsO", substitutions, family={"max_foreign": 3, "max_foreign_per_site": 1})
        state = strict.state.__class__(**{**vars(strict.state), "x_base": random_x(strict, seed).float()})
        after, space = limit(state, strict.space, reset=True)
        atoms = space.occupation(after.x_base, after.mask)
        per_site = (atoms[..., space.width :] > 1e-6).sum(dim=2)
        assert per_site.max() == 1
        assert per_site.sum(dim=1).max() == 3


def test_what_is_on_the_grid_costs_nothing(substitutions: Substitutions) -> None:
    found = begun("LaFeAsO", substitutions)
    space = exact(space_of(found))
    row = int(torch.nonzero(found.state.rate)[0])

    def loss(share: float, norm: str = "l1") -> float:
        x_base = torch.zeros_like(found.state.x_base, dtype=torch.float64).view(space.element.shape)
        x_base[..., 0] = 1
        x_base[row, 0, 0], x_base[row, 0, space.width] = 1 - share, share
        flat = x_base.flatten(1)
        x = space.compose(flat, found.state.mask)
        return float(space.off_grid(flat, found.state.mask, x, norm)[row])  # type: ignore[arg-type]

    assert loss(0.15) == pytest.approx(0, abs=1e-12)
    assert loss(1.0) == pytest.approx(0, abs=1e-12)
    assert loss(0.17) == pytest.approx(0.02 / 4)
    assert loss(0.17, "l2") == pytest.approx(0.02**2 / 4)


def test_a_site_that_has_to_be_left_needs_a_substitute(substitutions: Substitutions) -> None:
    found = begun("LaFeAsO", substitutions, elements={"forbid": ["As"]})
    space = space_of(found)
    assert space.has_something(found.state.x_base, found.state.mask).all()
    assert found.space.compose(found.state.x_base, found.state.mask)[:, INDEX["As"]].abs().max() < 1e-6
    nothing = torch.zeros_like(found.state.x_base)
    moving = found.state.rate > 0
    assert not space.has_something(nothing, found.state.mask)[moving].any()


Frequencies = Mapping[str, np.ndarray]


@pytest.fixture
def search(predictors: Predictors, frequencies: Frequencies, substitutions: Substitutions) -> Any:
    """`search(base, **values)` → 40 rows of a family search."""

    def run(base: str, **values: Any) -> SearchResult:
        given = {"base": base, "plausibility_weight": 0, "candidates": 40, "steps": (10, 10), **values}
        return run_search(load_preset("default", given), predictors, frequencies, substitutions=substitutions)

    return run


@pytest.mark.parametrize(
    ("base", "values"),
    [
        ("LaFeAsO", {}),
        ("LaFeAsO", {"family": {"max_foreign": 1, "whole_swaps": 0}}),
        ("La1.85Sr0.15CuO4", {"family": {"grid": 10}}),
        ("LaFeAsO0.9F0.1", {"revive": "start"}),
        ("BaFe2As2", {"family": {"grid": 1}, "revive": "none"}),
        ("YBa2Cu3O6.95", {"integer_norm": "l2"}),
    ],
)
def test_every_row_is_a_doping_of_its_base(base: str, values: dict[str, Any], search: Any) -> None:
    result = search(base, **values)
    family = {"max_foreign": 2, "grid": 20, **values.get("family", {})}
    own = parse(base)
    total = sum(own.values())
    for row, text in enumerate(result.formulas()):
        amounts = parse(text)
        assert len(set(amounts) - set(own)) <= family["max_foreign"]
        assert sum(amounts.values()) == pytest.approx(total, abs=1.3)  # at most an atom of vacancies
        assert result.amounts[row] == pytest.approx(
            [amounts.get(s, 0.0) for s in np.array(list(INDEX))], abs=1e-9
        )
        x = torch.as_tensor(fractions(amounts), dtype=torch.float32)[None]
        assert x.sum() == pytest.approx(1, abs=1e-6)
        for symbol, amount in amounts.items():
            if symbol not in own and result.source[row] == "family":
                assert amount * family["grid"] == pytest.approx(round(amount * family["grid"]), abs=1e-6)
    whole = (result.amounts == np.rint(result.amounts)).all(axis=1)
    assert np.array_equal(result.counts, np.where(whole[:, None], result.amounts, 0))
    if family["grid"] == 1:
        assert whole.all()


def test_formulas_keep_the_order_of_the_base(search: Any) -> None:
    texts = search("LaFeAsO").formulas()
    assert "SmFeAsO" in texts
    assert any(text.startswith(("La0.5Sm0.5FeAsO", "La0.75Sm0.25FeAsO")) for text in texts)
    assert all(text[:2] in ("La", "Sm", "Nd", "Sr", "Ba", "Th", "Ce") for text in texts)


def test_kept_sites_dopants_and_range_are_obeyed(search: Any) -> None:
    values = {"keep": ["Fe", "As"]}
    for text in search("LaFeAsO", family=values).formulas():
        amounts = parse(text)
        assert (amounts["Fe"], amounts["As"]) == (1, 1)
    values = {"dope": {"La": ["Sr", "Ba"]}, "range": [0.1, 0.3]}
    for text in search("La2CuO4", family=values).formulas():
        amounts = parse(text)
        assert set(amounts) <= {"La", "Sr", "Ba", "Cu", "O"}
        assert (amounts["Cu"], amounts["O"]) == (1, 4)
        foreign = amounts.get("Sr", 0) + amounts.get("Ba", 0)
        assert foreign == 0 or 0.2 - 1e-9 <= foreign <= 0.6 + 1e-9


def test_a_forbidden_element_of_the_base_is_in_no_row(search: Any) -> None:
    result = search("LaFeAsO", elements={"forbid": ["As", "Sm"]})
    assert (result.amounts[:, [INDEX["As"], INDEX["Sm"]]] == 0).all()
    assert (result.amounts.sum(axis=1) > 3.6).all()


def test_amounts_may_stay_as_they_came_or_go_to_the_nearest(search: Any) -> None:
    free = search("LaFeAsO", projection={"kind": "none"})
    assert free.distance.max() < 1e-3
    assert any(round(amount, 2) != amount for text in free.formulas() for amount in parse(text).values())
    nearest, best = (search("LaFeAsO", projection={"kind": kind}) for kind in ("nearest", "best"))
    assert np.array_equal(nearest.x_final, best.x_final)
    assert (nearest.distance <= best.distance + 1e-9).all()
    assert best.tc_k.mean() >= nearest.tc_k.mean()


def test_elements_that_may_not_occur_do_not(search: Any) -> None:
    allow = ["La", "Fe", "As", "O", "F", "Nd", "P"]
    result = search("LaFeAsO", elements={"allow": allow})
    others = np.ones(N_ELEMENTS, dtype=np.bool_)
    others[[INDEX[symbol] for symbol in allow]] = False
    assert (result.amounts[:, others] == 0).all()


WIDTH = 2


def sites(*slots: list[str], amount: tuple[float, ...], **values: Any) -> RowSites:
    """Sites of four slots: two for own elements, "" for none, "Va" for a vacancy."""
    names = np.array([[*each, *[""] * (4 - len(each))] for each in slots])
    element = np.vectorize(lambda name: INDEX.get(name, VACANCY))(names)
    on_grid = (names != "") & (np.arange(4) > 0)
    most = np.where(names == "Va", 0.3, 1.0)
    zeros = np.zeros(len(slots))
    made = {"low": zeros, "high": zeros + 1, "grid": 20, **values}
    return RowSites(element, on_grid, amount=np.array(amount), most=most, width=WIDTH, **made)


OXIDE = sites(["La", "Sr", "Sm", "Nd"], ["Cu"], ["O", "", "F", "Va"], amount=(2, 1, 4))


def rounded(atoms: list[list[float]], found: RowSites = OXIDE) -> str:
    return formula_of(nearest_atoms(np.array(atoms), found), found.element)


@pytest.mark.parametrize(
    ("atoms", "formula"),
    [
        ([[1.84, 0.16, 0, 0], [1, 0, 0, 0], [4, 0, 0, 0]], "La1.85Sr0.15CuO4"),
        ([[1.84, 0.145, 0.015, 0], [1, 0, 0, 0], [4, 0, 0, 0]], "La1.85Sr0.15CuO4"),  # a trace vanishes
        ([[0.3, 0.15, 1.55, 0], [1, 0, 0, 0], [4, 0, 0, 0]], "Sm1.55La0.3Sr0.15CuO4"),  # the larger first
        ([[0.01, 0, 1.99, 0], [1, 0, 0, 0], [3.88, 0, 0.12, 0]], "Sm2CuO3.9F0.1"),
        ([[2, 0, 0, 0], [1, 0, 0, 0], [3.92, 0, 0, 0.08]], "La2CuO3.9"),
        ([[2, 0, 0, 0], [1, 0, 0, 0], [4, 0, 0, 0]], "La2CuO4"),
    ],
)
def test_amounts_go_to_the_grid_and_formulas_are_written_as_chemists_do(
    atoms: list[list[float]], formula: str
) -> None:
    assert rounded(atoms) == formula


def test_whole_numbers_are_a_grid_too() -> None:
    whole = sites(["Ba"], ["Fe", "", "Co"], ["As"], amount=(1, 2, 2), grid=1)
    assert rounded([[1, 0, 0, 0], [1.3, 0, 0.7, 0], [2, 0, 0, 0]], whole) == "BaFeCoAs2"
    assert rounded([[1, 0, 0, 0], [1.6, 0, 0.4, 0], [2, 0, 0, 0]], whole) == "BaFe2As2"


def test_a_site_whose_amount_is_off_the_grid_is_still_filled_wholly() -> None:
    odd = sites(["O", "", "F"], ["Cu"], amount=(3.93, 1))
    assert rounded([[0.0, 0, 3.93, 0], [1, 0, 0, 0]], odd) == "F3.93Cu"
    assert rounded([[3.8, 0, 0.13, 0], [1, 0, 0, 0]], odd) == "O3.78F0.15Cu"


def test_an_element_on_two_sites_is_written_once() -> None:
    found = sites(["La", "", "Ba"], ["Ba", "", "La"], ["Cu"], amount=(1, 2, 3))
    assert rounded([[0.8, 0, 0.2, 0], [1.9, 0, 0.1, 0], [3, 0, 0, 0]], found) == "La0.9Ba2.1Cu3"


@settings(max_examples=60, deadline=None)
@given(
    shares=st.lists(st.floats(0, 1), min_size=8, max_size=8),
    high=st.sampled_from([0.3, 0.5, 1.0]),
    low=st.sampled_from([0.0, 0.1]),
    grid=st.sampled_from([3, 10, 20, 100]),
)
def test_sites_keep_their_amounts_on_every_grid(
    shares: list[float], high: float, low: float, grid: int
) -> None:
    limits = {"low": np.array([low, 0.0]), "high": np.array([high, high])}
    found = sites(["La", "Sr", "Sm", "Nd"], ["O", "", "F", "Va"], amount=(2, 4), grid=grid, **limits)
    raw = np.array(shares).reshape(2, 4) * (found.element != VACANCY) + 1e-3
    raw[1, 3] = min(raw[1, 3], 0.2)
    atoms = raw / raw.sum(axis=1, keepdims=True) * found.amount[:, None]
    nearest = nearest_atoms(atoms, found)
    for each in neighbours(nearest, atoms, found, keep=16, max_distance=0.3):
        assert each.sum(axis=1) == pytest.approx(found.amount)
        assert (each >= 0).all()
        free = each[:, WIDTH:].sum(axis=1)
        assert (free <= found.high * found.amount + 1e-6).all()
        steps = each[found.on_grid] * grid
        assert steps == pytest.approx(np.rint(steps), abs=1e-6)
        assert ((each > 0) <= (nearest > 0)).all()


def test_neighbours_differ_by_up_to_two_steps_and_the_nearest_come_first() -> None:
    atoms = np.array([[1.86, 0, 0.14, 0], [1, 0, 0, 0], [4, 0, 0, 0]])
    nearest = nearest_atoms(atoms, OXIDE)
    found = [formula_of(each, OXIDE.element) for each in neighbours(nearest, atoms, OXIDE, 16, 0.1)]
    assert found == [
        "La1.85Sm0.15CuO4",
        "La1.9Sm0.1CuO4",
        "La1.8Sm0.2CuO4",
        "La1.95Sm0.05CuO4",
        "La1.75Sm0.25CuO4",
    ]
    assert len(neighbours(nearest, atoms, OXIDE, 3, 0.1)) == 3
    assert len(neighbours(nearest, atoms, OXIDE, 16, 0.0)) == 1


def test_no_amount_carries_the_noise_of_floats() -> None:
    amounts = amounts_of(np.array([[0.1 + 0.2, 0, 1.7, 0], [1, 0, 0, 0], [4, 0, 0, 0]]), OXIDE.element)
    assert amounts[INDEX["La"]] == 0.3
