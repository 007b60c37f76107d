"""What a search may say, what is refused in one line, and what the presets hold."""

from __future__ import annotations

import reprlib
import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import kiago_ray.search as room
from kiago_ray.search.sections import (
    ChargeSpec,
    ElementsSpec,
    FamilySpec,
    ProjectionSpec,
    RampSpec,
    RangeSpec,
    ScreensSpec,
    Section,
    SourcesSpec,
    SpecError,
    StartSpec,
    spec_error_line,
)
from kiago_ray.search.spec import PRESETS, SearchSpec, build_spec, load_preset, preset_values

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"steps": [0, 0]}, "steps: both stages have 0 steps; give one of them at least 1, such as [200, 200]"),
    ({"steps": [-1, 5]}, "steps.0: input should be greater than or equal to 0, got -1"),
    ({"candidates": 0}, "candidates: input should be greater than or equal to 1, got 0"),
    ({"candidates": 10_000_001}, "candidates: input should be less than or equal to 10000000, got 10000001"),
    (
        {"candidates": "many"},
        "candidates: input should be a valid integer, unable to parse string as an integer",
    ),
    ({"seed": -1}, "seed: input should be greater than or equal to 0, got -1"),
    ({"alpha": float("nan")}, "alpha: input should be a finite number, got nan"),
    ({"fixed": {"H": 1.0}}, "fixed.H: 1 is no fraction of all atoms; a fixed amount lies"),
    ({"fixed": {"H": 2}}, "fixed.H: 2 is no fraction of all atoms; a fixed amount lies"),
    ({"fixed": {"H": 0}}, "fixed.H: 0 is no fraction of all atoms; a fixed amount lies"),
    ({"fixed": {"H": -0.1}}, "fixed.H: -0.1 is no fraction of all atoms; a fixed amount lies"),
    ({"fixed": {"H": 0.5, "O": 0.5}}, "fixed: the amounts add up to 1; they must leave something"),
    ({"fixed": {"Xx": 0.5}}, "fixed.Xx: unknown element 'Xx'; write a symbol such as 'La'"),
    ({"fixed": {"H": "1/0"}}, "fixed.H: '1/0' is not a fraction such as '1/3'"),
    ({"fixed": {"H": 0.5}, "elements": {"forbid": ["H"]}}, "fixed: H is both fixed and forbidden"),
    ({"elements": {"allow": ["Xx"]}}, "elements.allow.0: unknown element 'Xx'"),
    ({"elements": {"allow": []}}, "elements: allow and forbid together leave no element"),
    (
        {"elements": {"allow": ["La"], "forbid": ["La"]}},
        "elements: allow and forbid together leave no element",
    ),
    ({"n_unit": {"min": 9, "max": 3}}, "n_unit: min 9 is above max 3; swap them"),
    ({"n_unit": {"min": 0}}, "n_unit.min: input should be greater than or equal to 1, got 0"),
    ({"base": "Xx2O3"}, "base: unknown element"),
    ({"base": ""}, "base: empty"),
    ({"base": "YBa2Cu3O7-x"}, "base: undetermined amount"),
    ({"start": {"kind": "rows"}}, "start: kind 'rows' and the formulas under 'rows' go together"),
    ({"start": {"rows": ["LaFeAsO"]}}, "start: kind 'rows' and the formulas under 'rows' go together"),
    ({"start": {"kind": "rows", "rows": ["LaFeAsO", "Zz"]}}, "start.rows.1: unknown element"),
    ({"start": {"add_probability": 0.2}}, "start: elements are added by number or by probability, not both"),
    ({"start": {"substitute_probability": 1.5}}, "start.substitute_probability: input should be less than"),
    ({"substitute": {"La": 3, "O": -2}}, "substitute: the sites have different states; say in substitute_by"),
    ({"substitute": {}}, "substitute: it names no site"),
    ({"substitute_by": 3}, "substitute_by: it needs substitute"),
    (
        {"base": "LaFeAsO", "substitute": {"La": {"state": 3, "atoms": 2}}},
        "substitute: LaFeAsO has 1 of La, not 2",
    ),
    (
        {"base": "LaFeAsO", "substitute": {"La": 3}, "substitute_by": -2},
        "substitute_by: no number of atoms with -2 carries the charge +3",
    ),
    (
        {"base": "LaFeAsO", "substitute": {"La": 3, "O": -2}, "substitute_by": 0},
        "substitute_by: no number of atoms with +0 carries the charge +1",
    ),
    (
        {"base": "LaFeAsO", "substitute": {"Cu": 2}},
        "substitute: Cu is not in LaFeAsO; name one of La, Fe, As, O",
    ),
    ({"base": "La2", "substitute": {"La": 3}}, "substitute: La2 holds La alone; nothing would stay fixed"),
    ({"substitute": {"La": 3}, "fixed": {"O": 0.5}}, "substitute: it sets the fixed amounts"),
    ({"substitute": {"La": 3}, "oxidation_state": 3}, "substitute: it sets the fixed amounts"),
    ({"learning_rate": 0}, "learning_rate: input should be greater than 0, got 0"),
    ({"learning_rate": [0, 0.1]}, "learning_rate.0: input should be greater than 0, got 0"),
    ({"integer_norm": "l3"}, "integer_norm: input should be 'l1' or 'l2', got 'l3'"),
    ({"oxidation_set": "mine"}, "oxidation_set: input should be 'smact14'"),
    ({"screens": {"names": ["neutral_mixed"]}}, "screens.names: neutral_mixed needs charge.mixed_valence"),
    ({"projection": {"max_candidates": 0}}, "projection.max_candidates: input should be greater than"),
    ({"screens": {"names": ["pretty"]}}, "screens.names.0: input should be 'neutral'"),
    ({"beta": {"from": 1}}, "beta.from: unknown key"),
    ({"plausibility_weight": -1}, "plausibility_weight: input should be greater than or equal to 0, got -1"),
    ({"family": {"keeep": []}}, "family.keeep: unknown key"),
    ({"family": {"keep": ["Xx"]}}, "family.keep.0: unknown element 'Xx'"),
    ({"family": {"dope": {"La": ["Xx"]}}}, "family.dope.La.0: unknown element 'Xx'"),
    ({"family": {"dope": {"La": ["La"]}}}, "family: dope: no other element for La; name some"),
    ({"family": {"keep": ["La"], "dope": {"La": ["Sr"]}}}, "family: dope: La is to be kept as well"),
    ({"family": {"range": [0.3, 0.1]}}, "family: range: 0.3 is above 0.1; swap them"),
    ({"family": {"range": [0, 0]}}, "family: range: at most 0 of a site leaves nothing to search"),
    ({"family": {"range": [0, 1.5]}}, "family.range.1: input should be less than or equal to 1, got 1.5"),
    ({"family": {"grid": 0}}, "family.grid: input should be greater than or equal to 1, got 0"),
    ({"family": {"grid": 1001}}, "family.grid: input should be less than or equal to 1000, got 1001"),
    (
        {"base": "LaFeAsO", "family": {"keep": ["Cu"]}},
        "family.keep: Cu is not in LaFeAsO; name one of La, Fe",
    ),
    ({"base": "LaFeAsO", "family": {"dope": {"Cu": ["Ni"]}}}, "family.dope: Cu is not in LaFeAsO; name one"),
    (
        {"family": {}, "fixed": {"H": 0.5}},
        "fixed: a search that keeps its base's sites can't have it; choose",
    ),
    (
        {"family": {}, "substitute": {"La": 3}},
        "substitute: a search that keeps its base's sites can't have it",
    ),
    (
        {"family": {}, "oxidation_state": 3},
        "oxidation_state: a search that keeps its base's sites can't have it",
    ),
    (
        {"family": {}, "start": {"kind": "random"}},
        "start.kind: a search that keeps its base's sites can't have it",
    ),
    (
        {"base": "LaFeAsO", "family": {"enabled": False, "keep": ["La"]}},
        "family.keep: this search doesn't keep its base's sites; choose the preset 'default'",
    ),
    ({"family": {"enabled": False, "range": [0, 0.3]}}, "family.range: this search doesn't keep"),
    ({"sources": {"swaps": 1}}, "sources.swaps: unknown key; did you mean 'swap'?"),
    (
        {"sources": {"family": 0, "swap": 0, "made": 0, "plus_one": 0}},
        "sources: all shares are 0; give one of family, swap, made and plus_one more",
    ),
]


@pytest.mark.parametrize(("values", "expected"), REFUSED, ids=[str(values) for values, _ in REFUSED])
def test_what_cant_be_run_is_refused_in_one_line(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SearchSpec.model_validate({"family": {"enabled": False}, **values})
    line = spec_error_line(caught.value, SearchSpec)
    assert line.startswith(expected)
    assert "\n" not in line


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    inner = [field.annotation for field in model.model_fields.values()]
    nested = [each for each in inner if isinstance(each, type) and issubclass(each, BaseModel)]
    return [model, *(deep for each in nested for deep in sections(each))]


def test_every_setting_is_described() -> None:
    undescribed = [
        f"{model.__name__}.{name}"
        for model in sections(SearchSpec)
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert undescribed == []


def test_a_spec_is_frozen_and_survives_json() -> None:
    spec = SearchSpec(base="LaFeAsO", family=FamilySpec(enabled=False), fixed={"H": 0.4}, candidates=7)
    with pytest.raises(ValidationError):
        spec.candidates = 8
    assert SearchSpec.model_validate_json(spec.model_dump_json()) == spec
    assert SearchSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_thirds_can_be_fixed_exactly() -> None:
    assert (
        SearchSpec.model_validate({"family": {"enabled": False}, "fixed": {"H": "1/3"}}).fixed["H"] == 1 / 3
    )


def test_one_number_stands_for_both_stages_or_a_constant() -> None:
    spec = SearchSpec.model_validate({"learning_rate": 0.01, "beta": 2})
    assert spec.learning_rate == (0.01, 0.01)
    assert [spec.beta.at(step, 5) for step in range(5)] == [2, 2, 2, 2, 2]


def test_beta_rises_linearly_over_its_stage() -> None:
    beta = SearchSpec.model_validate({"beta": {"start": 10, "end": 50}}).beta
    assert [beta.at(step, 5) for step in range(5)] == [10, 20, 30, 40, 50]
    assert beta.at(0, 1) == 10


def test_given_rows_are_the_rows() -> None:
    spec = SearchSpec.model_validate(
        {"family": {"enabled": False}, "start": {"kind": "rows", "rows": ["LaFeAsO", "H3S"]}}
    )
    assert spec.row_count == 2
    assert SearchSpec(candidates=9).row_count == 9


@pytest.mark.parametrize(
    "section",
    [
        StartSpec,
        ElementsSpec,
        RangeSpec,
        RampSpec,
        ChargeSpec,
        ProjectionSpec,
        ScreensSpec,
        FamilySpec,
        SourcesSpec,
    ],
    ids=lambda s: s.__name__,
)
def test_a_section_is_frozen_and_refuses_unknown_keys(section: type[Section]) -> None:
    made = section()
    with pytest.raises(ValidationError):
        section.model_validate({"nonsense": 1})
    with pytest.raises(ValidationError):
        setattr(made, next(iter(section.model_fields)), None)


def test_a_single_number_is_a_constant_ramp() -> None:
    assert RampSpec.model_validate(3) == RampSpec(start=3, end=3)
    assert RampSpec.model_validate("3") == RampSpec(start=3, end=3)


def line(**values: object) -> str:
    with pytest.raises(ValidationError) as caught:
        SearchSpec.model_validate(values)
    text = spec_error_line(caught.value, SearchSpec)
    assert "\n" not in text
    return text


def test_an_unknown_key_gets_the_nearest_one() -> None:
    assert line(candidate=3) == "candidate: unknown key; did you mean 'candidates'?"
    assert (
        line(start={"substitude_probability": 0.1})
        == "start.substitude_probability: unknown key; did you mean 'substitute_probability'?"
    )


def test_an_unknown_key_like_no_other_gets_the_list() -> None:
    assert line(n_unit={"qqq": 1}) == "n_unit.qqq: unknown key; the known keys are min, max"


def test_a_value_out_of_bounds_is_named_with_the_bound() -> None:
    assert line(candidates=0) == "candidates: input should be greater than or equal to 1, got 0"


def test_further_problems_are_counted() -> None:
    assert line(candidates=0, alpha=-1).endswith("(and 1 more)")


@pytest.mark.parametrize(
    ("values", "start", "end"),
    [
        ({"learning_rate": 0}, "learning_rate: input should be greater than 0, got 0", "got 0"),
        ({"learning_rate": {"end": 1}}, "learning_rate: input should be a valid number", "got {'end': 1}"),
        ({"learning_rate": "x" * 90}, "learning_rate: input should be", f"got {reprlib.repr('x' * 90)}"),
        ({"learning_rate": 0, "seed": -1}, "", "(and 1 more)"),
        ({"learning_rate": [0, 0]}, "learning_rate.0: input should be", "got 0 (and 1 more)"),
        ({"steps": [-1, -1]}, "steps.0: input should be", "got -1 (and 1 more)"),
        ({"family": {"range": [2, 2]}}, "family.range.0: input should be", "got 2 (and 1 more)"),
        (
            {"start": {"kind": "rows", "rows": ["MgB2", "Xx", "Xx"]}},
            "start.rows.1: unknown element",
            "(and 1 more)",
        ),
        ({"family": {"keep": ["Xx", "Xx"]}}, "family.keep.0: unknown element 'Xx'", "(and 1 more)"),
        ({"fixed": {"1": 5, "2": 5}}, "fixed.1: unknown element '1'", "(and 3 more)"),
        ({"1": 5, "2": 5}, "1: unknown key", "(and 1 more)"),
        ({"sources": {"1": 5, "2": 5}}, "sources.1: unknown key", "(and 1 more)"),
    ],
    ids=str,
)
def test_what_is_wrong_of_one_value_for_both_stages_is_said_once(
    values: dict[str, Any], start: str, end: str
) -> None:
    text = line(**values)
    assert text.startswith(start)
    assert text.endswith(end)


def missing(model: type[BaseModel], values: dict[str, Any]) -> list[str]:
    absent = [name for name in model.model_fields if name not in values]
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel) and name in values:
            absent += [f"{name}.{inner}" for inner in missing(section, values[name])]
    return absent


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_states_every_setting(name: str) -> None:
    assert missing(SearchSpec, preset_values(name)) == []
    load_preset(name)


def test_the_default_preset_is_the_default() -> None:
    assert load_preset("default") == SearchSpec()


def test_paper_holds_the_papers_constants() -> None:
    paper = load_preset("paper")
    assert (paper.candidates, paper.steps, paper.learning_rate) == (4096, (500, 500), (0.03, 0.03))
    assert (paper.alpha, paper.beta.start, paper.beta.end, paper.integer_norm) == (4, 1, 1, "l1")
    assert (paper.n_unit.min, paper.n_unit.max, paper.max_elements) == (1, 25, 10)
    assert (paper.start.substitute_probability, paper.start.add_max_ratio) == (0.22, 0.3)
    assert (paper.tc_gradient, paper.revive, paper.projection.kind) == ("after_relu", "none", "nearest")
    assert (paper.oxidation_set, paper.learning_rate_schedule) == ("smact14", "constant")
    assert paper.screens.names == ("neutral", "pauling", "ef_negative", "few_elements")
    assert paper.screens.max_elements == 9


def test_what_is_ours_alone_steers_none_of_the_papers_presets() -> None:
    for name in PRESETS:
        values = {"substitute": {"La": 3}, "base": "LaFeAsO"} if name == "substitution" else {}
        spec = load_preset(name, values)
        ours = (
            spec.family.enabled,
            spec.plausibility_weight > 0,
            spec.charge.weight > 0,
            spec.projection.neutral,
        )
        expected = {"default": (True, True, False, False), "open": (False, False, True, True)}
        assert ours == expected.get(name, (False, False, False, False))


def test_open_is_what_the_default_was() -> None:
    spec = load_preset("open")
    assert (spec.candidates, spec.steps, spec.learning_rate) == (512, (200, 200), (0.03, 0.03))
    assert (spec.alpha, spec.beta.start, spec.beta.end) == (20, 10, 1000)
    assert (spec.start.add_number, spec.start.add_max_ratio, spec.max_elements) == (2, 0.15, 7)


def test_reference_holds_the_reference_codes_constants() -> None:
    reference = load_preset("reference")
    assert (reference.beta.start, reference.beta.end, reference.integer_norm) == (200, 100_000, "l2")
    assert (reference.n_unit.min, reference.n_unit.max, reference.max_elements) == (1, 199, 8)
    start = reference.start
    assert (start.substitute_probability, start.add_probability, start.add_max_ratio) == (0.29, 0.22, 0.03)
    assert (start.add_number, start.frequencies) == (0, "supercon+non_superconductors")
    assert reference.screens.max_elements == 8


def test_hydride_holds_section_3_6() -> None:
    hydride = load_preset("hydride")
    assert (hydride.fixed, hydride.fixed_may_grow) == ({"H": 0.4}, True)
    assert (hydride.max_elements, hydride.limit_counts_fixed, hydride.n_unit.max) == (3, True, 15)
    assert (hydride.start.substitute_probability, hydride.start.add_max_ratio) == (0.29, 0.03)


def test_substitution_holds_section_3_5() -> None:
    spec = load_preset("substitution", {"base": "LaFeAsO", "substitute": {"La": 3}})
    assert (spec.beta.start, spec.beta.end, spec.projection.kind) == (0, 0, "none")
    assert (spec.start.kind, spec.start.random_elements, spec.oxidation_set) == ("random", None, "smact14")


def test_overrides_merge_sections_and_replace_the_rest() -> None:
    spec = load_preset(
        "hydride", {"start": {"add_number": 1}, "n_unit.max": 9, "fixed": {"O": 0.5}, "beta": 3}
    )
    assert (spec.start.add_number, spec.start.substitute_probability) == (1, 0.29)
    assert (spec.n_unit.min, spec.n_unit.max) == (1, 9)
    assert spec.fixed == {"O": 0.5}
    assert (spec.beta.start, spec.beta.end) == (3, 3)


def test_dotted_keys_of_one_section_add_up() -> None:
    spec = load_preset("default", {"start.add_number": 0, "start.add_probability": 0.1})
    assert (spec.start.add_number, spec.start.add_probability) == (0, 0.1)


def test_build_spec_takes_the_preset_along() -> None:
    assert build_spec({"preset": "paper", "candidates": 5}) == load_preset("paper", {"candidates": 5})
    assert build_spec({}) == SearchSpec()


def test_errors_are_one_line() -> None:
    with pytest.raises(
        SpecError, match=r"^preset: there is no preset 'papr'; choose one of default, open, paper"
    ):
        load_preset("papr")
    with pytest.raises(SpecError, match=r"^step: unknown key; did you mean 'steps'\?$"):
        build_spec({"step": [1, 1]})
    with pytest.raises(SpecError, match=r"^start\.kindd: unknown key; did you mean 'kind'\?$"):
        load_preset("paper", {"start.kindd": 1})
    with pytest.raises(SpecError, match=r"^a search is a mapping of keys to values, not list$"):
        build_spec([1])  # type: ignore[arg-type]


def test_every_public_name_loads() -> None:
    for name in room.__all__:
        assert getattr(room, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = room.nonsense


@pytest.mark.parametrize(
    ("fixed", "n_unit", "told"),
    [
        (0.666667, 25, "rounded amounts aren't exact, so write fractions: Se=2/3; N = 3 would do"),
        (0.333, 25, "write fractions: Se=1/3; N = 3 would do"),
        ("2/3", 2, "whole atoms; N = 3 would do, so set n_unit.max to 3"),
        (0.123456, 25, "whole atoms; change fixed or n_unit, or set projection.kind to 'none'"),
    ],
)
def test_the_n_that_would_do_is_told(fixed: object, n_unit: int, told: str) -> None:
    given = {"base": "NbSe2", "fixed": {"Se": fixed}, "n_unit.max": n_unit, "max_elements": 2}
    with pytest.raises(SpecError) as caught:
        load_preset("open", given)
    assert told in str(caught.value)


def test_a_specification_is_read_without_torch() -> None:
    code = (
        "import sys; from kiago_ray.search import build_spec; build_spec({'preset': 'paper'}); "
        "heavy = {'torch', 'pandas', 'ray', 'mlflow', 'smact', 'pymatgen'} & set(sys.modules); "
        "sys.exit(str(sorted(heavy)) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
