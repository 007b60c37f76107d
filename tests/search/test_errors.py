from __future__ import annotations

import pytest
from pydantic import ValidationError

from kiago_ray.search.errors import spec_error_line
from kiago_ray.search.spec import SearchSpec


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
