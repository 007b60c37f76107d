"""`kiago fields` tells every field of the models, and docs/fields.md is what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kiago_ray.cli.fields import FieldFacts, all_fields, as_markdown

from .conftest import Kiago

PAGE = Path(__file__).parents[2] / "docs" / "fields.md"


@pytest.fixture(scope="module")
def found() -> dict[str, FieldFacts]:
    return {f"{each.of}.{each.name}": each for each in all_fields()}


def test_the_page_is_current(found: dict[str, FieldFacts]) -> None:
    assert PAGE.read_text(encoding="utf-8") == as_markdown([*found.values()]), (
        "say `kiago fields --markdown > docs/fields.md`"
    )


def test_every_field_says_why(found: dict[str, FieldFacts]) -> None:
    assert len(found) > 130
    assert [name for name, each in found.items() if not each.why or not each.values] == []


@pytest.mark.parametrize(
    ("name", "values", "defaults"),
    [
        ("search.alpha", "number, at least 0", "0; 20 in open; 4 in paper, reference, hydride, substitution"),
        (
            "search.steps",
            "[a, b], each a whole number, 0 to 20,000",
            "[30, 30]; [200, 200] in open; [500, 500] in ",
        ),
        ("search.start.kind", "perturb, random, rows", "perturb; random in substitution"),
        ("search.screens", "section", ""),
        ("search.substitute.NAME.state", "whole number, -8 to 9", "required"),
        ("search.fixed", "mapping to number, above 0, below 1", "{}"),
        ("search.preset", "default, open, paper, reference, hydride, substitution, or a file", "default"),
        ("campaign.name", "text", "required"),
        ("campaign.literature.since", "whole number, 1900 to 2200 or null", "null"),
        ("sweep.compare.seeds", "list of whole number, at least 0, below 2^63", "[1000, 1001, 1002]"),
        ("sweep.space.NAME.choice", "list of any value or null", "null"),
        ("service.limits.formulas", "whole number, 1 to 1,000,000", "10000"),
    ],
)
def test_what_a_field_takes_and_where_presets_differ(
    found: dict[str, FieldFacts], name: str, values: str, defaults: str
) -> None:
    assert found[name].values == values
    assert found[name].defaults.startswith(defaults)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("alpha", ["alpha"]),
        ("--max-e-hull-ev-per-atom", ["screens.max_e_hull_ev_per_atom"]),
        ("n_unit", ["n_unit", "n_unit.min", "n_unit.max"]),
        ("hull_ev", ["screens.max_e_hull_ev_per_atom"]),
        ("scheduler", ["scheduler", "scheduler.kind", "scheduler.first", "scheduler.reduction"]),
    ],
)
def test_a_name_a_section_or_a_part_of_one_is_found(kiago: Kiago, asked: str, names: list[str]) -> None:
    ended = kiago("fields", "--json", "--", asked)
    assert ended.code == 0
    assert [each["name"] for each in json.loads(ended.out)["fields"]] == names


def test_a_kind_and_the_width_of_a_terminal(kiago: Kiago, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    ended = kiago("fields", "screens")
    assert ended.code == 0
    assert "screens.rank_by  improvement, trusted, tc, plausibility\n" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 60


@pytest.mark.parametrize(
    ("asked", "near"),
    [("alpa", "alpha"), ("screen_max", "screens.max_elements"), ("qqqq", "`kiago fields` lists all")],
)
def test_what_is_not_there_has_near_names(kiago: Kiago, asked: str, near: str) -> None:
    ended = kiago("fields", asked)
    assert ended.code == 2
    assert ended.err.startswith(f"kiago: fields: there is no field '{asked}'")
    assert near in ended.err
