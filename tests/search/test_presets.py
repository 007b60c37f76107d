from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from kiago_ray.search.errors import SpecError
from kiago_ray.search.presets import PRESETS, build_spec, load_preset, preset_values
from kiago_ray.search.spec import SearchSpec


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
