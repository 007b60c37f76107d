"""Sentences on why something is plausible."""

from __future__ import annotations

import pytest

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.plausibility.reasons import Reasons

from .conftest import MakeLiterature

KNOWN = ("LaFeAsO", "LaNiAsO", "LaFeAsO0.8F0.2", "CeFeAsO", "CeNiAsO", "LaFePO", "MgB2")


@pytest.mark.parametrize(
    ("formula", "base", "told"),
    [
        ("CeFePO", "CeFeAsO", "P replaced As wholly in 1 known relative"),
        ("LaFe0.5Ni0.5AsO", "LaFeAsO", "Ni replaced Fe wholly in 2 known relatives"),
        ("LaFeAsO0.5", "LaFeAsO", "other amounts of a known system"),
        ("LaFeAs", "LaFeAsO", "a part of a known system"),
        ("LaFeAsOXe", "LaFeAsO", "Xe replaced none of its elements in a known relative"),
        ("CeNiPO", None, "P replaced As wholly in 1 known relative"),
        ("NaCl", None, "no known system is one element away"),
    ],
)
def test_what_is_said(make_literature: MakeLiterature, formula: str, base: str | None, told: str) -> None:
    row = parse_fractions([formula])[0]
    origin = None if base is None else parse_fractions([base])[0]
    assert Reasons(make_literature(KNOWN)).of(row, origin) == told


def test_what_happened_elsewhere_is_told_with_the_largest_part(make_literature: MakeLiterature) -> None:
    row, base = parse_fractions(["CeFeAsO0.9F0.1", "CeFeAsO"])
    elsewhere = (*KNOWN, "SrO", "SrF2", "CaO", "CaF2")
    sentence = Reasons(make_literature(elsewhere)).of(row, base)
    assert sentence == "F replaced O elsewhere (2 times), never beside these; in part up to 20 %"


def test_several_new_elements_are_told_one_by_one(make_literature: MakeLiterature) -> None:
    row, base = parse_fractions(["CeNiAsO", "LaFeAsO"])
    sentence = Reasons(make_literature(KNOWN)).of(row, base)
    assert sentence.split("; ")[0].startswith("Ni replaced Fe")
    assert sentence.split("; ")[1].startswith("Ce replaced La")
