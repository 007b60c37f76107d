"""Tables of made-up cells: means, N/A, who is ahead, all of it worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from kiago_ray.paper.compare import contest, disagreements
from kiago_ray.paper.hydride_tables import table9, table10, table11
from kiago_ray.paper.material_tables import screens, seeds, table2, table3
from kiago_ray.paper.site_tables import table5, table6, table7, table8
from kiago_ray.paper.sizes import QUICK
from kiago_ray.paper.tables import NOT_RUN, Column, PaperTable, over_seeds, top_delta, top_mean, wins
from kiago_ray.paper.tasks import HYDRIDES, MATERIALS, METHODS, SITES

MakeCell = Callable[..., dict]
SIZE = replace(QUICK, seeds=(0, 1))


def row_of(table: PaperTable, panel: int, label: str) -> dict:
    found = dict(table.panels[panel].rows)[label]
    return {column.name: value for column, value in zip(table.panels[panel].columns, found, strict=True)}


def test_means_of_the_top(make_cell: MakeCell) -> None:
    cell = make_cell([30, 20, 10], [9, 6, 3], base=(10, 8))
    assert top_mean(2, "tc_k")(cell) == 25
    assert top_mean(30, "tc_k")(cell) == 20
    assert top_delta(2, "tc_k")(cell) == 15
    assert top_delta(2, "tc_oracle_k")(cell) == -0.5
    assert top_mean(2, "tc_k")(make_cell([])) is None


def test_means_over_seeds(make_cell: MakeCell) -> None:
    found = {("a", "kiago", 0): make_cell([20]), ("a", "kiago", 1): make_cell([40])}
    assert over_seeds(found, "a", "kiago", (0, 1), top_mean(1, "tc_k")) == 30
    assert over_seeds(found, "a", "kiago", (0, 2), top_mean(1, "tc_k")) == NOT_RUN
    found["a", "kiago", 1] = make_cell([])
    assert over_seeds(found, "a", "kiago", (0, 1), top_mean(1, "tc_k")) is None


def test_who_is_ahead() -> None:
    values = {
        "a": {"kiago": 5.0, "superdiff": 4.0},
        "b": {"kiago": 5.0, "superdiff": None},  # nothing passed: any number is more
        "c": {"kiago": None, "superdiff": None},
        "d": {"kiago": 5.0, "superdiff": 5.0},
        "e": {"kiago": 5.0, "superdiff": NOT_RUN},
        "f": {"kiago": None, "superdiff": -3.0},
    }
    assert wins(values, "kiago", "superdiff") == (2, 5)


def test_where_the_oracle_disagrees() -> None:
    both = ("kiago", "ours", "superdiff", "superdiff_cg", "substitution")
    raw = {"a": dict(zip(both, (5.0, 1.0, 4.0, 6.0, NOT_RUN), strict=True))}
    oracle = {"a": dict(zip(both, (3.0, 1.0, 4.0, 6.0, NOT_RUN), strict=True))}
    assert disagreements(raw, oracle, "kiago") == ["a against SD"]
    lines, facts = contest(raw, oracle)
    assert facts["kiago"] == {
        "superdiff": [1, 0, 1],
        "superdiff_cg": [0, 0, 1],
        "substitution": [0, 0, 0],
        "all": [0, 0, 0],
    }
    assert "above SD's on 1 of 1 bases by the search's model and 0 by the oracle" in lines[0]
    assert "The oracle disagrees for KIAGO: a against SD." in lines


def test_an_empty_method_is_told() -> None:
    both = ("kiago", "ours", "superdiff", "superdiff_cg", "substitution")
    raw = {base: dict(zip(both, (5.0, 1.0, None, 6.0, NOT_RUN), strict=True)) for base in "ab"}
    lines, facts = contest(raw, raw)
    assert lines[-1] == "Nothing passes for SD on 2 of 2 bases, which counts as behind."
    assert facts["ours"]["superdiff"] == [2, 2, 2]


def materials(make_cell: MakeCell) -> dict:
    gains = dict(zip(METHODS, (10, 20, -5, -4, 5), strict=True))
    return {
        (base, method, seed): make_cell(
            [10 + gains[method] + seed], [8 + gains[method] - 9 * (method == "ours")]
        )
        for base in MATERIALS
        for method in METHODS
        for seed in (0, 1)
    }


def test_table2(make_cell: MakeCell) -> None:
    table = table2(materials(make_cell), SIZE)
    row = row_of(table, 0, "LaNiAsO")
    assert row["kiago"] == 10.5
    assert row["kiago_paper"] == 104.39
    assert row["ours"] == 20.5
    assert "ours_paper" not in row
    assert row["substitution_paper"] == 13.54
    assert row_of(table, 0, "CeBi2O3")["superdiff_paper"] is None
    assert row_of(table, 1, "LaNiAsO")["ours"] == 11
    assert row_of(table, 2, "LaNiAsO") == {"model": 10, "oracle": 8, "measured": None}
    assert table.facts["ahead"]["kiago"]["substitution"] == [8, 8, 8]
    assert table.facts["ahead"]["kiago"]["all"] == [8, 8, 8]
    assert any(note.startswith("Fewer than 30 formulas passed") for note in table.notes)
    assert all(png.startswith(b"\x89PNG") for _, png in table.plots)


def test_table3_shows_the_hull_where_phases_were_given(make_cell: MakeCell) -> None:
    found = materials(make_cell)
    model = {"tc_k": 1.0, "tc_oracle_k": 2.0, "ef_ev_per_atom": -1.0}
    without = table3(found, SIZE, {"Ca5Cu4Sr5O11": model})
    assert row_of(without, 1, "Ca5Cu4Sr5O11 (KIAGO)")["tc_oracle_k"] == 2
    assert any("give --phases" in note for note in without.notes)
    hull = table3(found, SIZE, {"Ca5Cu4Sr5O11": {**model, "e_hull_ev_per_atom": 0.05}})
    assert row_of(hull, 1, "Ca5Cu4Sr5O11 (KIAGO)")["e_hull_ev_per_atom"] == 0.05
    assert row_of(hull, 0, "LaNiAsO, KIAGO")["e_hull_ev_per_atom"] == ""


def test_screens_are_shares_of_unique_formulas(make_cell: MakeCell) -> None:
    row = row_of(screens(materials(make_cell), SIZE), 0, "LaNiAsO, KIAGO")
    assert row == {
        "rows": 4,
        "unique": 1,
        "neutral": 0.75,
        "pauling": 0.5,
        "ef_negative": 1,
        "few_elements": 1,
        "passed": 0.25,
    }


def test_spread_over_seeds(make_cell: MakeCell) -> None:
    size = replace(SIZE, spread_seeds=(0, 1))
    table = seeds(materials(make_cell), size, ["LaNiAsO"], {0: {"existing": 1.0, "random": 2.0}})
    row = row_of(table, 0, "LaNiAsO, KIAGO")
    assert (row["0"], row["1"], row["mean"]) == (10, 11, 10.5)
    assert row["spread"] == pytest.approx(0.5**0.5)
    assert row_of(table, 1, "from random compositions")["1"] == NOT_RUN


def sites(make_cell: MakeCell) -> dict:
    return {
        (base, method, seed): make_cell([14 if method in ("kiago", "ours") else 12], [9])
        for base in SITES
        for method in METHODS
        for seed in (0, 1)
    }


def test_tables_5_to_7(make_cell: MakeCell) -> None:
    found = sites(make_cell)
    assert row_of(table5(found, SIZE), 0, "YIrSi") == {
        "kiago": 1,
        "kiago_paper": 1,
        "ours": 1,
        "superdiff": 1,
        "superdiff_paper": 0,
        "superdiff_cg": 1,
        "superdiff_cg_paper": 0,
        "substitution": 1,
        "substitution_paper": 1,
    }
    assert "KIAGO: 1.00 on every base that was run." in table5(found, SIZE).verdicts
    assert table6(found, SIZE).verdicts[0].startswith("KIAGO: below 1.00 on CeFeAsF0.2O0.8 0.75")
    seventh = table7(found, SIZE)
    assert row_of(seventh, 0, "YIrSi")["kiago"] == 4
    assert seventh.facts["ahead"]["ours"]["substitution"] == [11, 0, 11]


def test_table8(make_cell: MakeCell) -> None:
    known = {"LaFeAsO": {"formula": "SmFeAsO", "tc_k": 13.0, "tc_measured_k": 12.0}}
    table = table8(sites(make_cell), SIZE, {}, known, "made up")
    row = row_of(table, 0, "LaFeAsO, La3+")
    assert row["proposed"] == "LaNi2As"
    assert row["best"] == "SmFeAsO"
    assert table.facts["ahead"] == {"kiago": [1, 1], "ours": [1, 1]}
    assert row_of(table, 2, "LaFeAsO")["best_paper_tc_k"] == 52.9


def test_hydrides(make_cell: MakeCell) -> None:
    found = {
        (base, method, seed): make_cell([3, 1] if base == "PdH" else [2])
        for base in HYDRIDES
        for method in METHODS
        for seed in (0, 1)
    }
    assert row_of(table9(found, SIZE), 0, "PdH")["kiago"] == 2
    assert row_of(table9(found, SIZE), 0, "PdH")["kiago_paper"] == 4.06
    assert table10(found, SIZE).verdicts[2].startswith("C-ES: below 1.00 on PdH 0.50")
    similar = {"LaNi2As": {"formula": "LaNiAs", "tc_k": 3.0, "pressure_gpa": 5.0}}
    table = table11(found, SIZE, {}, similar, "made up")
    row = row_of(table, 0, "LaNi2As")
    assert (row["base"], row["tc_k"], row["similar"]) == ("PdH", 3, "LaNiAs (5 GPa)")
    assert row_of(table, 2, "ZrH")["refs"] == "ZrH3"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "N/A"), ("x", "x"), (1.25, "+1.2"), (-0.04, "+0.0"), (3, "+3.0")]
)
def test_numbers_for_a_person(value: float | str | None, text: str) -> None:
    assert Column("a", "a", sign=True).text(value) == text
