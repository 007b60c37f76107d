"""The data file: every table complete, numbers as printed, what each method is run with, and sizes."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from kiago_ray.chemistry.formula import parse
from kiago_ray.errors import InputError
from kiago_ray.paper.experiments import EXPERIMENTS
from kiago_ray.paper.measures import MEASURES
from kiago_ray.paper.tables import Declaration, comparison
from kiago_ray.search import load_preset

TABLES, FAMILIES, SIZES = comparison().tables, comparison().families, comparison().sizes
CHANGES = {"candidates": 4, "seed": 1, "steps": (1, 1)}


def test_every_table_is_there() -> None:
    assert set(TABLES) == {*(f"table{n}" for n in range(1, 12)), "fig2", "fig3", "seeds", "screens"}
    counts = {name: len(table.rows) for name, table in TABLES.items()}
    assert counts["table1"] == 5
    assert counts["table2"] == 8
    assert counts["table3"] == 16
    assert counts["table4"] == 9
    assert {counts[f"table{n}"] for n in (5, 6, 7, 8)} == {11}
    assert {counts[f"table{n}"] for n in (9, 10)} == {5}
    assert counts["table11"] == 4


def test_every_table_can_be_made() -> None:
    for table in TABLES.values():
        assert table.measure in MEASURES
        assert set(table.experiments) <= set(EXPERIMENTS)
    assert {table.measure for table in TABLES.values()} == set(MEASURES)


@pytest.mark.parametrize(
    ("table", "row", "column", "value"),
    [
        ("table1", "15", "rounding", -7.65),
        ("table1", "100", "loss", -0.13),
        ("table2", "Bi2Sr2CuO6", "kiago", 129.63),
        ("table2", "CeBi2O3", "superdiff", None),
        ("table3", "16", "tc_k", 18.46),
        ("table4", "1e-3", "guide", 3.2),
        ("table4", "100", "ilvr", -3746.6),
        ("table4", "0", "guide", ""),
        ("table5", "Bi2CaSr2Cu2O8", "superdiff", 0.23),
        ("table6", "MgCoNi3", "superdiff", 0.71),
        ("table7", "RuSr2GdCu2O8", "kiago", -3.38),
        ("table7", "YIrSi", "superdiff_cg", None),
        ("table8", "LaFeAsO", "best", "Sm0.65Th0.35FeAsO"),
        ("table9", "LaH10", "kiago", 3.84),
        ("table10", "PtH", "superdiff_cg", 0.05),
        ("table11", "ScH", "refs", "ScH2"),
        ("fig2", "0.25", "Ca", 0.02),
    ],
)
def test_as_printed(table: str, row: str, column: str, value: float | str | None) -> None:
    assert TABLES[table].value(row, column) == value


def test_rows_are_the_bases_that_are_run() -> None:
    for family, names in (("materials", [2]), ("sites", [5, 6, 7, 8]), ("hydrides", [9, 10])):
        for number in names:
            assert list(TABLES[f"table{number}"].rows) == list(FAMILIES[family].bases)
    assert len(set(comparison().integers)) == 15


def test_formulas_can_be_read() -> None:
    for name, column in (("table3", "formula"), ("table8", "proposed"), ("table8", "best")):
        for row in TABLES[name].rows.values():
            assert parse(str(row[column]))


@pytest.mark.parametrize(
    ("change", "message"), [({"rows": {"a": {"y": 1}}}, "row a has the columns"), ({"unknown": 1}, "unknown")]
)
def test_a_wrong_declaration_is_refused(change: dict, message: str) -> None:
    content = {"label": "T", "title": "t", "experiments": (), "measure": "rates"}
    with pytest.raises(ValidationError, match=message):
        Declaration.model_validate({**content, "columns": {"x": "x"}, **change})


def test_the_papers_search_is_its_preset() -> None:
    family = FAMILIES["materials"]
    assert family.search("LaNiAsO", "kiago", CHANGES) == load_preset("paper", {"base": "LaNiAsO", **CHANGES})
    assert family.search("LaNiAsO", "ours", CHANGES) == load_preset("open", {"base": "LaNiAsO", **CHANGES})
    assert family.judge("LaNiAsO") == load_preset("paper", {"base": "LaNiAsO"})


def test_a_site_keeps_section_3_5s_settings() -> None:
    kiago, ours = (FAMILIES["sites"].search("Bi2CaSr2Cu2O8", each, CHANGES) for each in ("kiago", "ours"))
    for spec in (kiago, ours):
        assert spec.substitute == {"Bi": 3}
        assert (spec.beta.start, spec.beta.end) == (0, 0)
        assert spec.projection.kind == "none"
    assert (kiago.tc_predictor, ours.tc_predictor) == ("resnet18", "ensemble")


def test_hydrides() -> None:
    family = FAMILIES["hydrides"]
    assert family.keep == ("H",)
    assert family.judge("LaH10").screens.names == ("neutral_atoms", "hydride", "ef_negative")
    assert family.search("LaH10", "ours", CHANGES).n_unit.max == 15


def test_every_search_can_be_made() -> None:
    assert {name: len(family.bases) for name, family in FAMILIES.items()} == {
        "materials": 8,
        "sites": 11,
        "hydrides": 5,
    }
    for family in FAMILIES.values():
        for base in family.bases:
            for method in ("kiago", "ours"):
                assert family.search(base, method, CHANGES).base == base


def test_the_full_size_is_the_papers() -> None:
    size = SIZES["full"].changed()
    assert size == SIZES["full"]
    for each in SIZES.values():
        assert set(each.candidates) == set(EXPERIMENTS)
        assert set(each.spread_bases) <= set(FAMILIES["materials"].bases)
    assert set(size.candidates.values()) == {4096}
    assert size.steps["kiago"] == (500, 500)


def test_options_go_above_the_size() -> None:
    size = SIZES["quick"].changed(candidates=8, steps=(3, 4), seeds=(7, 9))
    assert size.name == "quick, changed by options"
    assert set(size.candidates.values()) == {8}
    assert size.steps == {"kiago": (3, 4), "ours": (3, 4)}
    assert size.start_steps == 3
    assert size.seeds == size.spread_seeds == (7, 9)
    assert SIZES["quick"].candidates["materials"] > 8


@pytest.mark.parametrize(
    "options",
    [
        {"candidates": 0},
        {"candidates": 10**9},
        {"steps": (0, 5)},
        {"steps": (5, 10**9)},
        {"seeds": ()},
        {"seeds": (1, 1)},
        {"seeds": (-1,)},
    ],
)
def test_sizes_that_cant_be_run(options: dict) -> None:
    with pytest.raises(InputError, match="--"):
        SIZES["quick"].changed(**options)
