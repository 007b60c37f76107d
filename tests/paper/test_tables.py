"""Tables of made-up cells: means, N/A, who is ahead, known compounds, all of it worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.models import Models
from kiago_ray.paper.experiments import Lab, integer_groups, open_cells, stage_1, stage_2
from kiago_ray.paper.measures import (
    Evidence,
    best_substituted,
    contest_verdicts,
    mean_change,
    same_elements,
    top,
)
from kiago_ray.paper.run import table_of
from kiago_ray.paper.tables import METHODS, NOT_RUN, Column, PaperTable, comparison, starts_plot
from kiago_ray.predictors.base import Predictors

from ..conftest import known_of

MakeCell = Callable[..., dict]
FAMILIES = comparison().families
KNOWN = known_of(
    ["LaFeAsO", "SmFeAsO", "Sm0.5Ho0.5FeAsO", "PuFeAsO", "SmCoAsO", "LaH10", "LaH4"],
    [5.0, 55.0, 50.0, 99.0, 1.0, 250.0, 10.0],
    pressure_gpa=[float("nan")] * 5 + [170.0, float("nan")],
)


class Share:
    """T_c: 100 K times the share of an element."""

    def __init__(self, symbol: str) -> None:
        self.supported = torch.arange(N_ELEMENTS) < INDEX["Pu"]
        self.at = INDEX[symbol]

    def __call__(self, fractions: Tensor, /) -> Tensor:
        return 100 * fractions[:, self.at]


class KnowingLab(Lab):
    """A lab whose models know the formulas in `answers` and no others."""

    answers: dict[str, dict[str, float]]

    def predicted(self, formulas: Collection[str]) -> dict[str, dict[str, float]]:
        return {formula: self.answers[formula] for formula in formulas if formula in self.answers}


@pytest.fixture
def lab(tmp_path: Path) -> KnowingLab:
    predictors = Predictors(tc=Share("Ho"), ef=Share("O"))
    size = comparison().sizes["quick"].changed(seeds=(0, 1))
    made = KnowingLab(Models(predictors), cast(Any, None), open_cells(str(tmp_path / "out"), {}), size)
    made.answers = {}
    return made


def row_of(table: PaperTable, panel: int, label: str) -> dict:
    return table.panels[panel].lines[label]


def test_means_of_the_top(make_cell: MakeCell) -> None:
    cell = make_cell([30, 20, 10], [9, 6, 3], base=(10, 8))
    assert top(2, "tc_k", gain=False)(cell) == 25
    assert top(30, "tc_k", gain=False)(cell) == 20
    assert top(2, "tc_k", gain=True)(cell) == 15
    assert top(2, "tc_oracle_k", gain=True)(cell) == -0.5
    assert top(2, "tc_k", gain=False)(make_cell([])) is None


def test_means_over_seeds(make_cell: MakeCell, lab: Lab) -> None:
    found = {("a", "kiago", 0): make_cell([20]), ("a", "kiago", 1): make_cell([40])}
    read = top(1, "tc_k", gain=False)
    evidence = Evidence(comparison().tables["table2"], found, lab)
    assert evidence.mean("a", "kiago", read) == 30
    assert evidence.mean("a", "kiago", read, (0, 2)) == NOT_RUN
    found["a", "kiago", 1] = make_cell([])
    assert evidence.mean("a", "kiago", read) is None


@pytest.mark.parametrize(
    ("mine", "other", "counts"),
    [
        (5.0, 4.0, [1, 1, 1]),
        (5.0, None, [1, 1, 1]),  # nothing passed: any number is more
        (None, None, [0, 0, 1]),
        (5.0, 5.0, [0, 0, 1]),
        (5.0, NOT_RUN, [0, 0, 0]),
        (None, -3.0, [0, 0, 1]),
    ],
)
def test_who_is_ahead(mine: float | None, other: float | str | None, counts: list[int]) -> None:
    values = {"a": {**dict.fromkeys(METHODS, NOT_RUN), "kiago": mine, "superdiff": other}}
    assert contest_verdicts(values, values, "T_c")[1]["kiago"]["superdiff"] == counts


def test_where_the_oracle_disagrees() -> None:
    both = ("kiago", "ours", "superdiff", "superdiff_cg", "substitution")
    raw = {"a": dict(zip(both, (5.0, 1.0, 4.0, 6.0, NOT_RUN), strict=True))}
    oracle = {"a": dict(zip(both, (3.0, 1.0, 4.0, 6.0, NOT_RUN), strict=True))}
    lines, facts = contest_verdicts(raw, oracle, "ΔT_c")
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
    lines, facts = contest_verdicts(raw, raw, "ΔT_c")
    assert lines[-1] == "Nothing passes for SD on 2 of 2 bases, which counts as behind."
    assert facts["ours"]["superdiff"] == [2, 2, 2]


def materials(make_cell: MakeCell) -> dict:
    gains = dict(zip(METHODS, (10, 20, -5, -4, 5), strict=True))
    return {
        (base, method, seed): make_cell(
            [10 + gains[method] + seed], [8 + gains[method] - 9 * (method == "ours")]
        )
        for base in FAMILIES["materials"].bases
        for method in METHODS
        for seed in (0, 1)
    }


def test_who_needs_superdiff() -> None:
    without = {"fig2", "fig3", "table1", "table8", "table11", "seeds"}
    assert {name for name, table in comparison().tables.items() if not table.diffused} == without


def test_table2(make_cell: MakeCell, lab: Lab) -> None:
    table = table_of("table2", materials(make_cell), lab)
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
    assert table.heading.startswith("Table 2: ")
    assert table.size == (
        "128 candidates from each base and method, 80 + 80 steps (ours: 50 + 50; SuperDiff: 100), seeds 0, 1. "
        "The paper has 4,096 and 500 + 500 (1,000)."
    )
    assert len(table.plots) == 2
    assert all(plot.png.startswith(b"\x89PNG") for plot in table.plots)


def test_table3_shows_the_hull_where_phases_were_given(make_cell: MakeCell, lab: KnowingLab) -> None:
    found = materials(make_cell)
    model = {"tc_k": 1.0, "tc_oracle_k": 2.0, "ef_ev_per_atom": -1.0}
    lab.answers = {"Ca5Cu4Sr5O11": model}
    without = table_of("table3", found, lab)
    assert row_of(without, 1, "Ca5Cu4Sr5O11 (KIAGO)") == {"paper_tc_k": 127.16, **model}
    assert any("give --phases" in note for note in without.notes)
    lab.answers = {"Ca5Cu4Sr5O11": {**model, "e_hull_ev_per_atom": 0.05}}
    lab.models = replace(lab.models, hull=cast(Any, object()))
    hull = table_of("table3", found, lab)
    assert row_of(hull, 1, "Ca5Cu4Sr5O11 (KIAGO)")["e_hull_ev_per_atom"] == 0.05
    assert row_of(hull, 0, "LaNiAsO, KIAGO")["e_hull_ev_per_atom"] == ""
    assert not any("give --phases" in note for note in hull.notes)


def test_screens_are_shares_of_unique_formulas(make_cell: MakeCell, lab: Lab) -> None:
    row = row_of(table_of("screens", materials(make_cell), lab), 0, "LaNiAsO, KIAGO")
    assert row == {
        "rows": 4,
        "unique": 1,
        "neutral": 0.75,
        "pauling": 0.5,
        "ef_negative": 1,
        "few_elements": 1,
        "passed": 0.25,
    }


def test_spread_over_seeds(make_cell: MakeCell, lab: Lab) -> None:
    ends = {("LaNiAsO", "existing", 0): {"mean": [0.0, 1.0]}, ("LaNiAsO", "random", 0): {"mean": [0.0, 2.0]}}
    table = table_of("seeds", materials(make_cell) | ends, lab)
    row = row_of(table, 0, "LaNiAsO, KIAGO")
    assert (row["0"], row["1"], row["mean"]) == (10, 11, 10.5)
    assert row["spread"] == pytest.approx(0.5**0.5)
    assert "Sr4V2Fe2As2O6, KIAGO" not in table.panels[0].rows  # no base of the quick size's spread
    end = row_of(table, 1, "from random compositions")
    assert (end["0"], end["1"], end["mean"]) == (2, NOT_RUN, None)


def sites(make_cell: MakeCell) -> dict:
    return {
        (base, method, seed): make_cell([14 if method in ("kiago", "ours") else 12], [9])
        for base in FAMILIES["sites"].bases
        for method in METHODS
        for seed in (0, 1)
    }


def test_tables_5_to_7(make_cell: MakeCell, lab: Lab) -> None:
    fifth, sixth, seventh = (table_of(f"table{n}", sites(make_cell), lab) for n in (5, 6, 7))
    assert row_of(fifth, 0, "YIrSi") == {
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
    assert "KIAGO: 1.00 on every base that was run." in fifth.verdicts
    assert sixth.verdicts[0].startswith("KIAGO: below 1.00 on CeFeAsF0.2O0.8 0.75")
    assert row_of(seventh, 0, "YIrSi")["kiago"] == 4
    assert seventh.facts["ahead"]["ours"]["substitution"] == [11, 0, 11]


def test_table8(make_cell: MakeCell, lab: Lab) -> None:
    lab.models = replace(lab.models, known=KNOWN)
    table = table_of("table8", sites(make_cell), lab)
    row = row_of(table, 0, "LaFeAsO, La3+")
    assert row["proposed"] == "LaNi2As"
    assert (row["best"], row["best_tc_k"], row["best_tc_measured_k"]) == ("Sm0.5Ho0.5FeAsO", 12.5, 50)
    assert table.facts["ahead"] == {"kiago": [1, 1], "ours": [1, 1]}
    assert row_of(table, 2, "LaFeAsO")["best_paper_tc_k"] == 52.9
    assert any(KNOWN.source in note for note in table.notes)


def test_hydrides(make_cell: MakeCell, lab: Lab) -> None:
    found = {
        (base, method, seed): make_cell([3, 1] if base == "PdH" else [2])
        for base in FAMILIES["hydrides"].bases
        for method in METHODS
        for seed in (0, 1)
    }
    known = known_of(["LaNiAs"], [3.0], pressure_gpa=[5.0])
    lab.models = replace(lab.models, known=known)
    ninth = row_of(table_of("table9", found, lab), 0, "PdH")
    assert (ninth["kiago"], ninth["kiago_paper"]) == (2, 4.06)
    assert table_of("table10", found, lab).verdicts[2].startswith("C-ES: below 1.00 on PdH 0.50")
    table = table_of("table11", found, lab)
    row = row_of(table, 0, "LaNi2As")
    assert (row["base"], row["tc_k"], row["similar"]) == ("PdH", 3, "LaNiAs (5 GPa)")
    assert row_of(table, 2, "ZrH")["refs"] == "ZrH3"


def change(loss: float, rounding: float, rows: int) -> dict:
    values = {"loss": loss, "rounding": rounding, "loss_oracle": loss - 1, "rounding_oracle": rounding}
    return {**values, "loss_rows": rows, "rounding_rows": rows}


def test_fig2_by_hand(lab: Lab) -> None:
    table = table_of("fig2", {}, lab)
    assert table.facts == {"loss": pytest.approx(0.04), "equal": True}
    assert len(table.panels[0].rows) == 5
    row = row_of(table, 0, "0.25")
    assert (row["Ca"], row["Sr"], row["O"]) == pytest.approx((0.02, 0.02, 0.25))


def test_stage_2_starts_where_stage_1_ended() -> None:
    first = stage_1("paper", "LaNiAsO", 8, 0, 5)
    assert first.steps == (5, 0)
    assert first.projection.kind == "none"
    rows = parse_fractions(["La0.3333333Ni0.2Cu0.4666667", "YBa2Cu3O7"])
    second = stage_2("paper", rows, 20, 7)
    assert second.steps == (0, 7)
    assert second.n_unit.max == 20
    assert np.abs(parse_fractions(second.start.rows) - rows).max() < 1e-9
    assert (second.alpha, second.beta.end) == (4, 1)


def test_groups_fill_a_shard() -> None:
    assert [len(each) for each in integer_groups(32).values()] == [15]
    assert [len(each) for each in integer_groups(100).values()] == [5, 5, 5]
    assert len(integer_groups(4096)) == 15
    assert sum(integer_groups(200).values(), ()) == comparison().integers


def test_table1_weighs_by_rows(lab: Lab) -> None:
    limits = ("15", "20", "25", "50", "100")
    found = {
        ("A", "kiago", 0): {"rows": 1, "changes": {limit: change(-1, -4, 1) for limit in limits}},
        ("B", "kiago", 0): {"rows": 3, "changes": {limit: change(-3, -2, 3) for limit in limits}},
        ("A", "ours", 0): {"rows": 2, "changes": {limit: change(-5, -1, 2) for limit in limits}},
    }
    evidence = Evidence(comparison().tables["table1"], found, lab)
    assert mean_change(evidence, "kiago", "15", "loss") == -2.5
    assert mean_change(evidence, "kiago", "15", "rounding") == -2.5
    assert mean_change(evidence, "kiago", "15", "loss", "_oracle") == -3.5
    assert mean_change(replace(evidence, found={}), "kiago", "15", "loss") is None
    table = table_of("table1", found, lab)
    assert table.facts["better"] == {"kiago": [0, 5], "ours": [0, 5]}
    assert table.size.endswith("steps (ours: 50 + 50), seeds 0, 1. The paper has 4,096 and 500 + 500.")
    assert [*table.panels[0].lines["15"].values()] == [-2.5, -2.5, -5, -1, -3.59, -7.65]
    assert table.notes[0].startswith("3 compositions of each search, from LaNiAsO, ")


def test_table4_says_where_t_c_comes_from(lab: Lab) -> None:
    parts = {"denoise": 1.0, "ilvr": -20.0, "guide": 30.0, "sum": 11.0, "passed": 0.5}
    found = {
        ("HgBa2Ca2Cu3O8", "1e-5", 0): {**parts, "guide": 1.0, "sum": 100.0},
        ("HgBa2Ca2Cu3O8", "1", 0): parts,
    }
    table = table_of("table4", found, lab)
    row = row_of(table, 0, "1")
    assert (row["ilvr"], row["ilvr_paper"], row["passed"], row["passed_paper"]) == (-20, -1409.6, 0.5, 0)
    assert row_of(table, 0, "100")["guide"] == NOT_RUN
    assert table.verdicts[0].startswith("At weight 1 guidance adds +30 K and ILVR and denoising -19 K.")
    assert table.verdicts[1].startswith("Sums lie between 11 and 100 K")
    assert "here it is HgBa2Ca2Cu3O8" in table.notes[0]
    assert table.size.startswith("24 samples for each weight, 250 steps, seed 0.")


def test_fig3_compares_the_starts(lab: Lab) -> None:
    curve = {"steps": [0, 300], **{key: [1.0, 3.0] for key in ("p10", "p50", "p90")}, "rows": [[1.0, 3.0]]}
    found = {
        ("LaNiAsO", kind, 0): {**curve, "mean": [1.0, end], "best": 9.0, "zero": 0.25}
        for kind, end in (("existing", 40.0), ("random", 30.0))
    }
    table = table_of("fig3", found, lab)
    row = row_of(table, 0, "from random compositions")
    assert (row["first"], row["last"], row["p90"], row["zero"]) == (1, 30, 3, 0.25)
    assert table.facts == {"existing": 40, "random": 30}
    assert table.verdicts[0].startswith(
        "Starts from LaNiAsO end higher than random ones: 40.0 against 30.0 K"
    )
    assert table.size.startswith("128 rows, 300 steps of stage 1, learning rate 0.001, seed 0.")
    assert not table_of("fig3", {}, lab).plots


def test_best_of_those_rightly_substituted() -> None:
    models = Models(Predictors(tc=Share("Ho"), ef=Share("O")), known=KNOWN)
    bases = FAMILIES["sites"].bases
    found = {base: best for base, sites in bases.items() if (best := best_substituted(models, base, *sites))}
    assert found == {
        "LaFeAsO": {"formula": "Sm0.5Ho0.5FeAsO", "tc_k": pytest.approx(12.5), "tc_measured_k": 50}
    }
    assert best_substituted(replace(models, known=None), "LaFeAsO", "La") == {}


def test_same_elements() -> None:
    assert same_elements(KNOWN, "LaH6") == {"similar": "LaH10 (170 GPa)", "similar_tc_k": 250.0}
    assert same_elements(KNOWN, "YH6") == {}
    assert same_elements(KNOWN, "SmCoAsO")["similar"] == "SmCoAsO"  # nobody knows its pressure
    assert same_elements(None, "LaH6") == {}


@pytest.mark.parametrize(
    ("value", "text"), [(None, "N/A"), ("x", "x"), (1.25, "+1.2"), (-0.04, "+0.0"), (3, "+3.0")]
)
def test_numbers_for_a_person(value: float | str | None, text: str) -> None:
    assert Column("a", "a", sign=True).text(value) == text


def test_curves_lie_at_the_steps_that_were_kept() -> None:
    values = [1.0, 2.0, 3.0]
    path: dict[str, Any] = {**dict.fromkeys(("mean", "p10", "p50", "p90"), values), "rows": [values]}
    by_steps = {end: starts_plot({"from LaNiAsO": {**path, "steps": [0, end // 2, end]}}) for end in (2, 500)}
    assert by_steps[2] != by_steps[500]
    assert by_steps[500].startswith(b"\x89PNG")
