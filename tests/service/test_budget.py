"""Which searches may be asked for: every limit names the field and the number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.models import check_search
from kiago_ray.search.family import Substitutions
from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import load_preset
from kiago_ray.service.searches import requested_search
from kiago_ray.service.settings import Limits

LIMITS = Limits(search_candidates=100, search_row_steps=10_000, search_atoms=60)
ALL_BUT_OG = np.ones(N_ELEMENTS, dtype=np.bool_)
ALL_BUT_OG[INDEX["Og"]] = False


def test_a_search_within_the_limits_is_the_presets_with_its_fields() -> None:
    spec, preset = requested_search(
        {"base": "LaNiAsO", "preset": "paper", "candidates": 10, "steps": [20, 30], "n_unit": {"max": 60}},
        LIMITS,
    )
    assert preset == "paper"
    changes = {"base": "LaNiAsO", "candidates": 10, "steps": [20, 30], "n_unit": {"max": 60}}
    assert spec == load_preset("paper", changes)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"candidates": 101, "steps": [5, 5]}, "candidates: 101 are more than this service's 100"),
        ({"candidates": 50, "steps": [200, 1]}, r"50 rows of 201 steps are 10,050 row-steps"),
        ({"n_unit": {"max": 61}}, "n_unit: 61 atoms are more than this service's 60"),
        ({"base": "Og2"}, "don't know Og"),
        ({"screens": {"names": ["near_hull"]}}, "near_hull needs competing phases"),
        ({"base": "Xx"}, "unknown element"),
        ({"alfa": 3}, "did you mean 'alpha'"),
        ({"start": {"kid": 3}}, "did you mean 'kind'"),
        ({"preset": "best.yaml"}, "preset: 'best.yaml' is none"),
        ({"preset": "/etc/passwd"}, "is none; choose one of default"),
        ({"preset": {"preset": "paper"}}, "is none"),
        ({"preset": "substitution"}, "needs a site"),
        ({"candidates": 0}, "candidates"),
        ({"base": "MgB2", "elements": {"allow": ["Og"]}}, "the mask leaves no element"),
    ],
)
def test_a_search_beyond_them_is_refused_by_name(values: dict[str, Any], told: str) -> None:
    small = {"base": "LaNiAsO", "preset": "open", "candidates": 10, "steps": [5, 5], **values}
    with pytest.raises(SpecError, match=told) as error:
        check_search(requested_search(small, LIMITS)[0], ALL_BUT_OG)
    assert "\n" not in str(error.value)


def test_given_rows_count_as_candidates() -> None:
    rows = [f"MgB{number}" for number in range(1, 102)]
    with pytest.raises(SpecError, match="candidates: 101"):
        requested_search({"preset": "open", "start": {"kind": "rows", "rows": rows}, "steps": [1, 1]}, LIMITS)


def test_a_family_search_needs_what_replaces_what() -> None:
    spec, preset = requested_search({"base": "LaFeAsO", "candidates": 10, "steps": [5, 5]}, LIMITS)
    assert preset == "default"
    with pytest.raises(SpecError, match="has to be given which elements replace one another"):
        check_search(spec, ALL_BUT_OG)
    odds = np.zeros((N_ELEMENTS, N_ELEMENTS))
    odds[INDEX["La"], INDEX["Ce"]] = 1.0
    known = Substitutions(odds, np.zeros(N_ELEMENTS, dtype=np.bool_))
    check_search(spec, ALL_BUT_OG, known)
    foreign, _ = requested_search({"base": "OgFeAsO", "candidates": 10, "steps": [5, 5]}, LIMITS)
    with pytest.raises(SpecError, match="don't know Og"):
        check_search(foreign, ALL_BUT_OG, known)
