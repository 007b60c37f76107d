"""Whole searches, and formulas given from outside in the shape of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS
from kiago_ray.chemistry.formula import amounts_row, parse, parse_amounts, parse_fractions
from kiago_ray.chemistry.neutrality import check
from kiago_ray.predictors.base import Predictors, check_contract
from kiago_ray.predictors.ensemble import CalibratedEnsemble
from kiago_ray.predictors.weights import load_network
from kiago_ray.screening.candidates import collect
from kiago_ray.screening.screens import apply_screens
from kiago_ray.search.problem import Substitutions, resolve
from kiago_ray.search.result import RowStatus, SearchResult
from kiago_ray.search.run import given_result, run_search, search_stage, shard_size
from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import PRESETS, SearchSpec, load_preset
from kiago_ray.search.stages import Progress

Frequencies = Mapping[str, np.ndarray]
SMALL = {"base": "LaNiAsO", "candidates": 24, "steps": (12, 12)}
OF_ALL = ("trajectory", "wall_s", "seconds", "stopped_at_step", "texts", "source")
PER_ROW = [field.name for field in fields(SearchResult) if field.name not in OF_ALL]


def spec_of(preset: str = "open", **values: Any) -> SearchSpec:
    return load_preset(preset, {**SMALL, **values})


def same_rows(some: SearchResult, many: SearchResult) -> None:
    """Every array of `some` is bit for bit what `many` has for the same rows."""
    at = np.searchsorted(many.rows, some.rows)
    for name in PER_ROW:
        assert np.array_equal(getattr(some, name), getattr(many, name)[at], equal_nan=name != "rows"), name
    assert some.formulas() == [many.formulas()[row] for row in at]
    if some.source is not None and many.source is not None:
        assert some.source.tolist() == many.source[at].tolist()


def test_the_test_predictors_keep_the_contract(predictors: Predictors) -> None:
    check_contract(predictors.tc)
    check_contract(predictors.ef)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_runs(
    preset: str, predictors: Predictors, frequencies: Frequencies, substitutions: Substitutions
) -> None:
    extra = {"base": "LaFeAsO", "substitute": {"La": 3}} if preset == "substitution" else {}
    extra |= {"base": "LaH10"} if preset == "hydride" else {}
    extra |= {"plausibility_weight": 0} if preset == "default" else {}
    spec = spec_of(preset, **extra)
    result = run_search(spec, predictors, frequencies, substitutions=substitutions)
    assert result.status_counts()["ok"] == 24
    x = parse_fractions(result.formulas())
    assert result.tc_k == pytest.approx(predictors.tc(torch.as_tensor(x)).relu().numpy(), abs=1e-3)
    assert result.ef_ev_per_atom == pytest.approx(predictors.ef(torch.as_tensor(x)).numpy(), abs=1e-4)
    assert result.x_final.sum(axis=1) == pytest.approx(np.ones(24), abs=1e-5)
    assert result.tc_relaxed_k.mean() >= result.trajectory.tc_k[0].mean() - 1


def test_a_search_climbs(predictors: Predictors, frequencies: Frequencies) -> None:
    result = run_search(spec_of(steps=(60, 60), alpha=0), predictors, frequencies)
    begin, end = result.trajectory.tc_k[0], result.trajectory.tc_k[-1]
    assert end.mean() > begin.mean() + 10
    assert result.trajectory.tc_k[60].mean() > begin.mean() + 10
    assert result.distance.max() < 0.2
    assert result.tc_k.max() > 60


def test_open_proposes_what_smact_accepts(predictors: Predictors, frequencies: Frequencies) -> None:
    """T_c is highest at LaFeAsO, where the search starts from too much metal."""
    steered = run_search(spec_of(base="La2Fe3AsO"), predictors, frequencies)
    plain = {"charge": {"weight": 0}, "projection": {"neutral": False}}
    free = run_search(spec_of(base="La2Fe3AsO", **plain), predictors, frequencies)
    assert check(steered.counts).pauling.mean() > max(0.9, check(free.counts).pauling.mean() + 0.2)
    assert (steered.status == RowStatus.OK).all()


@pytest.mark.parametrize("number", [1, 2])
def test_both_stages_heed_the_charge_where_it_has_a_weight(number: int) -> None:
    supported = np.ones(118, dtype=np.bool_)
    for weight in (0.0, 30.0):
        problem = resolve(spec_of(charge={"weight": weight}), supported)
        objective = search_stage(problem, number, torch.device("cpu")).objective
        assert [term.keywords["weight"] for term in objective.further] == ([weight] if weight else [])


def test_the_integer_loss_falls_in_stage_2_with_a_large_beta(
    predictors: Predictors, frequencies: Frequencies
) -> None:
    result = run_search(spec_of(steps=(20, 100)), predictors, frequencies)
    loss = result.trajectory.integer_loss
    assert np.isnan(loss[:20]).all()
    assert np.median(loss[-1]) < 0.5 * np.median(loss[20])


def test_a_row_is_the_same_alone_and_with_others(predictors: Predictors, frequencies: Frequencies) -> None:
    spec = spec_of(candidates=40)
    whole = run_search(spec, predictors, frequencies, shard_rows=16)
    same_rows(run_search(spec, predictors, frequencies, rows=range(21, 22), shard_rows=16), whole)
    same_rows(run_search(spec, predictors, frequencies, rows=range(10, 35), shard_rows=16), whole)
    same_rows(run_search(spec, predictors, frequencies, shard_rows=16), whole)


def test_another_shard_size_changes_rounding_only(predictors: Predictors, frequencies: Frequencies) -> None:
    spec = spec_of(candidates=40)
    one, other = (run_search(spec, predictors, frequencies, shard_rows=rows) for rows in (16, 40))
    assert np.array_equal(one.start, other.start)
    after_stage_1 = [each.trajectory.tc_k[spec.steps[0]] for each in (one, other)]
    assert after_stage_1[0] == pytest.approx(after_stage_1[1], abs=0.1)


def test_shards_of_a_small_search_are_small() -> None:
    assert [shard_size(rows, 512) for rows in (1, 8, 9, 24, 511, 512, 4096)] == [8, 8, 16, 24, 512, 512, 512]


def test_nan_in_one_row_leaves_the_others_bit_identical(
    predictors: Predictors, poisoned: Predictors, frequencies: Frequencies
) -> None:
    start = {"kind": "rows", "rows": ["LaNiAsO", "BaFe2As2", "LaFeAs", "YBa2Cu3O7"]}
    clean = run_search(spec_of(start=start), predictors, frequencies)
    start["rows"] = ["LaNiAsO", "AuO", "LaFeAs", "YBa2Cu3O7"]
    sick = run_search(spec_of(start=start), poisoned, frequencies)
    assert sick.status.tolist() == [RowStatus.OK, RowStatus.NOT_FINITE, RowStatus.OK, RowStatus.OK]
    assert sick.formulas()[1] == ""
    assert np.isnan(sick.tc_k[1])
    assert sick.x_final[1, INDEX["Au"]] == 0.5
    for name in PER_ROW:
        assert np.array_equal(getattr(sick, name)[[0, 2, 3]], getattr(clean, name)[[0, 2, 3]]), name


def test_a_row_with_nothing_allowed_is_reported(predictors: Predictors, frequencies: Frequencies) -> None:
    start = {"kind": "rows", "rows": ["NaCl", "LaFeO"]}
    result = run_search(spec_of(start=start, elements={"forbid": ["Na", "Cl"]}), predictors, frequencies)
    assert result.status.tolist() == [RowStatus.NOTHING_ALLOWED, RowStatus.OK]
    assert result.formulas()[0] == ""
    assert not result.start[0].any()
    assert not result.x_final[0].any()
    assert np.isnan(result.tc_relaxed_k[0])


def test_seeds_differ_and_repeat(predictors: Predictors, frequencies: Frequencies) -> None:
    first = run_search(spec_of(seed=1), predictors, frequencies)
    same_rows(run_search(spec_of(seed=1), predictors, frequencies), first)
    assert not np.array_equal(run_search(spec_of(seed=2), predictors, frequencies).start, first.start)


def test_a_substituted_site_keeps_the_rest_and_its_total(
    predictors: Predictors, frequencies: Frequencies
) -> None:
    spec = spec_of("substitution", base="CeFeAsF0.2O0.8", substitute={"Ce": 4})
    result = run_search(spec, predictors, frequencies)
    for formula in result.formulas():
        amounts = parse(formula)
        assert {s: amounts.pop(s) for s in ("Fe", "As", "F", "O")} == {"Fe": 1, "As": 1, "F": 0.2, "O": 0.8}
        assert sum(amounts.values()) == pytest.approx(1)
        assert len(amounts) <= 6


def test_substitutes_of_another_state_carry_the_same_charge(
    predictors: Predictors, frequencies: Frequencies
) -> None:
    sites = {"Ti": 4, "O": {"state": -2, "atoms": 1}}
    spec = spec_of("substitution", base="Ti2O4", substitute=sites, substitute_by=3)
    for formula in run_search(spec, predictors, frequencies).formulas():
        amounts = parse(formula)
        assert amounts.pop("O") == 3
        assert sum(amounts.values()) == pytest.approx(2)  # +3 each: charges add up to 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    preset=st.sampled_from(["open", "paper", "reference"]),
    fixed=st.sampled_from([{}, {"H": 0.4}, {"O": "1/3"}, {"Cu": 0.25, "O": 0.5}]),
    may_grow=st.booleans(),
    counts_fixed=st.booleans(),
    limit=st.integers(3, 6),
    elements=st.sampled_from([{}, {"forbid": ["As", "O"]}, {"allow": ["La", "Fe", "As", "H", "O"]}]),
    most=st.sampled_from([12, 25]),
    kind=st.sampled_from(["perturb", "random"]),
    revive=st.sampled_from(["none", "start", "allowed"]),
    projection=st.sampled_from(["nearest", "best", "none"]),
    seed=st.integers(0, 99),
)
def test_every_constraint_holds(
    predictors: Predictors,
    frequencies: Frequencies,
    preset: str,
    fixed: dict[str, Any],
    may_grow: bool,
    counts_fixed: bool,
    limit: int,
    elements: dict[str, Any],
    most: int,
    kind: str,
    revive: str,
    projection: str,
    seed: int,
) -> None:
    if set(fixed) & set(elements.get("forbid", ())):
        return
    spec = spec_of(
        preset,
        fixed=fixed,
        fixed_may_grow=may_grow,
        limit_counts_fixed=counts_fixed,
        max_elements=limit,
        elements=elements,
        n_unit={"min": 1, "max": most},
        start={"kind": kind},
        revive=revive,
        projection={"kind": projection},
        seed=seed,
        candidates=8,
        steps=(6, 6),
        learning_rate=0.05,
    )
    result = run_search(spec, predictors, frequencies)
    assert (result.status == RowStatus.OK).all()
    const = amounts_row(spec.fixed)
    held_exactly = (const > 0) & (not may_grow)
    forbidden = np.isin(SYMBOLS, elements.get("forbid", ()))
    if "allow" in elements:
        forbidden |= ~np.isin(SYMBOLS, elements["allow"])
    most_elements = limit + (0 if counts_fixed else len(fixed))
    final = result.amounts / result.amounts.sum(axis=1, keepdims=True)
    assert (result.x_final[:, held_exactly] == const[held_exactly].astype(np.float32)).all()
    written = 1e-4 if projection == "none" else 1e-6  # fractional formulas have four decimals
    assert final[:, held_exactly] == pytest.approx(np.tile(const[held_exactly], (8, 1)), abs=written)
    for x, tolerance in ((result.x_final, 1e-6), (final, written)):
        assert x.sum(axis=1) == pytest.approx(np.ones(8), abs=1e-5)
        assert (x >= 0).all()
        assert (x[:, forbidden & (const == 0)] == 0).all()
        assert ((x > 0).sum(axis=1) <= most_elements).all()
        assert (x >= const.astype(np.float32) - tolerance).all()
    if projection != "none":
        totals = result.counts.sum(axis=1)
        assert ((totals >= 1) & (totals <= most)).all()
        assert np.array_equal(result.amounts, result.counts)


@pytest.mark.parametrize("steps", [(3, 0), (0, 3), (3, 3)])
def test_either_stage_may_be_left_out(
    steps: tuple[int, int], predictors: Predictors, frequencies: Frequencies
) -> None:
    result = run_search(spec_of(steps=steps), predictors, frequencies)
    assert result.trajectory.tc_k.shape == (sum(steps) + 1, 24)
    assert result.trajectory.tc_k[-1] == pytest.approx(result.tc_relaxed_k)
    assert (result.status == RowStatus.OK).all()


def test_the_curve_of_t_c_is_t_c_itself_where_a_lower_bound_is_climbed(
    predictors: Predictors, frequencies: Frequencies
) -> None:
    seen: list[Progress] = []
    ensemble = load_network("tc_ensemble")
    assert isinstance(ensemble, CalibratedEnsemble)
    careful = spec_of(steps=(4, 3), kappa=1.0, extrapolation_weight=20.0, precision="float32")
    result = run_search(careful, replace(predictors, tc=ensemble), frequencies, progress=seen.append)
    path = result.trajectory
    bound = ensemble.lower_bound(1.0, 20.0)
    for at, rows in ((0, result.start), (-1, result.x_final)):
        x = torch.from_numpy(rows)
        assert path.tc_k[at] == pytest.approx(ensemble(x).relu().numpy(), abs=0.02)
        assert path.climbed_k[at] == pytest.approx(bound(x).numpy(), abs=0.05)
    assert path.tc_k[-1] == pytest.approx(result.tc_relaxed_k)
    assert [each.mean_tc_k for each in seen] == pytest.approx(path.tc_k[:-1].mean(axis=1), abs=0.01)
    assert [each.mean_climbed_k for each in seen] == pytest.approx(path.climbed_k[:-1].mean(axis=1), abs=0.05)
    plain = run_search(spec_of(steps=(1, 1)), predictors, frequencies, progress=seen.append)
    assert np.isnan(plain.trajectory.climbed_k).all()
    assert seen[-1].mean_climbed_k is None


def test_progress_counts_every_step_of_every_shard(predictors: Predictors, frequencies: Frequencies) -> None:
    seen: list[Progress] = []
    run_search(spec_of(steps=(3, 2)), predictors, frequencies, shard_rows=8, progress=seen.append)
    assert [each.step for each in seen] == list(range(1, 16))
    assert {each.total for each in seen} == {15}
    assert [each.stage for each in seen] == [1, 1, 1, 2, 2] * 3
    assert all(each.best_tc_k >= each.mean_tc_k for each in seen)


@pytest.mark.parametrize(
    ("after", "rows", "stopped"), [(2, 8, 2), (4, 8, 4), (7, 16, 2), (10, 16, 5), (99, 24, None)]
)
def test_a_stop_returns_what_there_is(
    after: int, rows: int, stopped: int | None, predictors: Predictors, frequencies: Frequencies
) -> None:
    steps_seen: list[Progress] = []
    result = run_search(
        spec_of(steps=(3, 2), candidates=24, max_elements=4),
        predictors,
        frequencies,
        shard_rows=8,
        progress=steps_seen.append,
        should_stop=lambda: len(steps_seen) >= after,
    )
    assert len(steps_seen) == min(after, 15)
    assert (len(result.rows), result.stopped_at_step) == (rows, stopped)
    assert all(result.formulas())
    assert ((result.counts > 0).sum(axis=1) <= 4).all()


def test_the_trajectory_is_kept_for_so_many_rows(predictors: Predictors, frequencies: Frequencies) -> None:
    result = run_search(spec_of(steps=(3, 2)), predictors, frequencies, shard_rows=8, trajectory_rows=10)
    assert result.trajectory.rows.tolist() == list(range(10))
    assert result.trajectory.tc_k.shape == (6, 10)
    assert np.isfinite(result.trajectory.summary()["tc_k_mean"]).all()
    nothing = run_search(spec_of(steps=(3, 2)), predictors, frequencies, trajectory_rows=0)
    assert nothing.trajectory.tc_k.shape == (6, 0)


def test_rows_that_the_search_does_not_have_are_refused(
    predictors: Predictors, frequencies: Frequencies
) -> None:
    for rows in (range(20, 25), range(3, 3), range(0, 10, 2)):
        with pytest.raises(ValueError, match=r"is not a range of the 24 rows of this search"):
            run_search(spec_of(), predictors, frequencies, rows=rows)
    with pytest.raises(ValueError, match="shard_rows: 0 rows can't run"):
        run_search(spec_of(), predictors, frequencies, shard_rows=0)
    with pytest.raises(SpecError, match=r"^base: "):
        run_search(spec_of(base=None), predictors, frequencies)


def family_spec(**values: Any) -> SearchSpec:
    return spec_of("default", **{"plausibility_weight": 0, "candidates": 40, **values})


def test_a_family_row_is_the_same_alone_and_with_others(
    predictors: Predictors, frequencies: Frequencies, substitutions: Substitutions
) -> None:
    def found(**options: Any) -> SearchResult:
        return run_search(
            family_spec(base="LaFeAsO"),
            predictors,
            frequencies,
            shard_rows=16,
            substitutions=substitutions,
            **options,
        )

    whole = found()
    assert whole.source is not None
    assert set(whole.source) == {"family", "swap", "made", "plus one"}
    same_rows(found(rows=range(21, 22)), whole)
    same_rows(found(rows=range(10, 35)), whole)
    same_rows(found(), whole)


def test_rows_that_only_hold_a_proposal_are_not_moved(
    predictors: Predictors, frequencies: Frequencies, substitutions: Substitutions
) -> None:
    result = run_search(family_spec(), predictors, frequencies, substitutions=substitutions)
    assert result.source is not None
    held = result.source != "family"
    assert held.any()
    assert not held.all()
    assert result.x_final[held] == pytest.approx(result.start[held], abs=1e-6)
    assert result.distance[held] == pytest.approx(0, abs=1e-6)
    assert (np.abs(result.x_final - result.start).sum(axis=1)[~held] > 1e-3).any()


def test_a_family_search_climbs_by_its_plausibility_too(
    predictors: Predictors, frequencies: Frequencies, substitutions: Substitutions
) -> None:
    @dataclass(frozen=True)
    class LikesSamarium:
        supported: torch.Tensor

        def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
            return -40 * (0.25 - x[:, INDEX["Sm"]]).square()

    alone = {"sources": {"family": 1, "swap": 0, "made": 0, "plus_one": 0}, "base": "LaFeAsO"}
    plausible = replace(predictors, plausibility=LikesSamarium(predictors.supported))
    samarium = []
    for weight in (0, 200):
        spec = family_spec(**alone, plausibility_weight=weight)
        result = run_search(spec, plausible, frequencies, substitutions=substitutions)
        samarium.append(result.amounts[:, INDEX["Sm"]].mean())
    assert samarium[1] > samarium[0] + 0.2


def test_a_family_search_says_what_it_lacks(
    predictors: Predictors, frequencies: Frequencies, substitutions: Substitutions
) -> None:
    with pytest.raises(
        SpecError, match=r"^family\.enabled: .* give substitutions, or choose the preset 'open'"
    ):
        run_search(family_spec(), predictors, frequencies)
    with pytest.raises(
        SpecError, match=r"^plausibility_weight: 5, but these predictors have no plausibility"
    ):
        run_search(family_spec(plausibility_weight=5), predictors, frequencies, substitutions=substitutions)
    but_lanthanum = torch.arange(118) != INDEX["La"]
    narrow = replace(predictors, tc=replace(predictors.tc, supported=but_lanthanum))  # type: ignore[type-var]
    with pytest.raises(SpecError, match="base: the predictors don't know La"):
        run_search(family_spec(), narrow, frequencies, substitutions=substitutions)


def test_searches_that_keep_no_sites_name_no_source(predictors: Predictors, frequencies: Frequencies) -> None:
    result = run_search(spec_of(), predictors, frequencies)
    assert result.source is result.texts is None


class Linear:
    """weight · x, of all elements but plutonium and beyond."""

    def __init__(self, symbol: str, weight: float) -> None:
        self.supported = torch.arange(N_ELEMENTS) < INDEX["Pu"]
        self.weights = torch.zeros(N_ELEMENTS)
        self.weights[INDEX[symbol]] = weight

    def __call__(self, fractions: Tensor, /) -> Tensor:
        return fractions @ self.weights


PREDICTORS = Predictors(tc=Linear("Cu", 100.0), ef=Linear("O", -2.0))


def test_scores_and_statuses() -> None:
    formulas = ("CuO", "Cu0.5O0.5", "PuO2", "Cu3O")
    amounts = np.stack([*map(parse_amounts, formulas), np.zeros(N_ELEMENTS)])
    result = given_result(amounts, PREDICTORS)
    ok, unknown, none = RowStatus.OK, RowStatus.UNKNOWN_ELEMENT, RowStatus.NO_INTEGER_FORMULA
    assert result.status.tolist() == [ok, ok, unknown, ok, none]
    assert result.tc_k[[0, 1, 3]] == pytest.approx([50, 50, 75])
    assert result.ef_ev_per_atom[[0, 3]] == pytest.approx([-1, -0.5])
    assert np.isnan(result.tc_k[[2, 4]]).all()
    texts = result.formulas()
    assert texts[0] == "CuO"
    assert texts[1] == "Cu0.5O0.5"
    assert texts[2] == texts[4] == ""


def test_a_negative_prediction_is_no_tc() -> None:
    result = given_result(parse_amounts("CuO")[None], Predictors(tc=Linear("Cu", -1.0), ef=Linear("O", 1.0)))
    assert result.tc_k.tolist() == [0]


@pytest.mark.parametrize(
    "amounts", [np.ones((2, 3)), np.full((1, N_ELEMENTS), -1.0), np.full((1, N_ELEMENTS), np.nan)]
)
def test_what_are_no_amounts(amounts: np.ndarray) -> None:
    with pytest.raises(ValueError, match="amounts"):
        given_result(amounts, PREDICTORS)


def test_fractional_amounts_are_judged_exactly() -> None:
    """SMACT would cut 0.5 off to 0 and 1.99 to 1."""
    formulas = {
        "Fe0.5O0.5": True,  # Fe+2 O-2
        "Ca0.99O0.99": True,
        "Ca1.99O0.99": False,
        "La1.5Sr0.5CuO3.75": True,  # 4.5 + 1 + 2 = 7.5
        "La1.5Sr0.5CuO3.74": False,
    }
    result = given_result(np.stack([parse_amounts(each) for each in formulas]), PREDICTORS)
    assert collect(result, SearchSpec())["neutral"].to_pylist() == list(formulas.values())


def test_fractional_hydrides_are_judged_by_atoms() -> None:
    # 25 La and 249 H, each with a valence of its own; 25 Na+1 can't be balanced by 9 H-1.
    amounts = np.stack([parse_amounts(each) for each in ("LaH9.96", "Na0.5H0.5", "NaH0.36")])
    spec = SearchSpec(screens={"names": ["neutral_atoms"]})
    rows = apply_screens(collect(given_result(amounts, PREDICTORS), spec), spec.screens)
    assert rows["neutral_atoms"].to_pylist() == [True, True, False]
    assert rows["hydride"].to_pylist() == [False] * 3  # a fraction has no number of atoms
