"""Options of a search command as overrides."""

from __future__ import annotations

import pytest

from kiago_ray.cli.search import dopants, forbidden, overrides_from
from kiago_ray.search.spec import load_preset


def test_what_isnt_given_is_left_out() -> None:
    assert overrides_from({"base": None, "steps": None, "fixed": []}, []) == {}


def test_easy_words_become_the_family_section() -> None:
    given = overrides_from(
        {"family.keep": "Fe, As", "family.dope": ["La:Sr,Ba", "O:F"], "family.range": "0:0.3"}, []
    )
    assert given == {
        "family.keep": ["Fe", "As"],
        "family.dope": {"La": ["Sr", "Ba"], "O": ["F"]},
        "family.range": [0.0, 0.3],
    }
    spec = load_preset(
        "default", {"base": "LaFeAsO", **{k: v for k, v in given.items() if k != "family.keep"}}
    )
    assert spec.family.dope == {"La": ("Sr", "Ba"), "O": ("F",)}
    assert spec.family.range == (0, 0.3)


@pytest.mark.parametrize("texts", [["La:Sr,Ba;O:F"], ["La:Sr,Ba", "O:F"], [" La : Sr, Ba ", "O:F"]])
def test_dopants_stand_in_one_option_or_in_several(texts: list[str]) -> None:
    assert dopants(texts) == {"La": ["Sr", "Ba"], "O": ["F"]}


def test_without_adds_to_what_is_forbidden_and_spares_a_family_s_base() -> None:
    spec = load_preset("default", {"base": "Tl2Ba2CuO6", "elements.forbid": ["Ni"]})
    found = forbidden("toxic,F", spec)
    assert found == ["Be", "F", "Ni", "Cd", "Os", "Hg", "Pb"]
    assert "Tl" in forbidden("toxic,Tl", spec)
    assert "Tl" in forbidden("toxic", load_preset("open", {"base": "Tl2Ba2CuO6"}))
