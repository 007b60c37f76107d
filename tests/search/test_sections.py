from __future__ import annotations

import pytest
from pydantic import ValidationError

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
    StartSpec,
)


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
