from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from kiago_ray.report.reasons import Background
from kiago_ray.report.terminal import best_table, reasons_table, summary_table, top_table
from kiago_ray.screening.summary import Summary

REQUIRED = ("neutral", "pauling", "ef_negative", "few_elements")


def text_of(renderable: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_best_rows_on_a_wide_terminal(rows: list[dict[str, Any]]) -> None:
    lines = text_of(best_table(rows, REQUIRED, title="LaNiAsO", width=160), 160).splitlines()
    first, alloy, failed = (next(line for line in lines if row["formula"] in line) for row in rows)
    for part in ("81.3", "+77.0", "-1.235", "La1.85Sr0.15CuO4 (36.0 K)", "0.42", "Ba+2 La+3 Cu+2", "✓"):
        assert part in first
    assert "✓ metals only" in alloy
    assert "✗ neutral, pauling" in failed


def test_formulas_and_numbers_stay_whole_on_80_columns(rows: list[dict[str, Any]]) -> None:
    text = text_of(best_table(rows, REQUIRED, width=80), 80)
    assert max(len(line) for line in text.splitlines()) <= 80
    for part in ("La2Ba3Cu4HgO11", "MgCoNi3", "81.3", "+77.0", "-1.235", "0.42"):
        assert part in text
    assert "oxidation states" not in text


def test_without_known_materials_there_are_no_columns_for_them(rows: list[dict[str, Any]]) -> None:
    text = text_of(best_table(rows[2:], REQUIRED), 140)
    assert "nearest known" not in text
    assert "nearest known" in text_of(best_table(rows, REQUIRED), 140)


def test_with_second_opinions(trusted_rows: list[dict[str, Any]]) -> None:
    lines = text_of(best_table(trusted_rows, REQUIRED, width=118), 118).splitlines()
    first, alloy, failed = (next(line for line in lines if row["formula"] in line) for row in trusted_rows)
    for part in ("60.1", "81.3 ± 9", "-1.235", "0.62", "La1.85Sr0.15CuO4", "✓"):
        assert part in first
    assert "0.62!" not in first
    assert "+77.0" not in first  # ΔT_c gives way
    assert "8.0 ± 2" in alloy
    assert "1.37!" in failed
    assert max(map(len, lines)) <= 118


def test_second_opinions_stay_whole_on_80_columns(trusted_rows: list[dict[str, Any]]) -> None:
    text = text_of(best_table(trusted_rows, REQUIRED, width=80), 80)
    assert max(len(line) for line in text.splitlines()) <= 80
    for part in ("La2Ba3Cu4HgO11", "60.1", "81.3 ± 9", "-1.235", "0.62", "1.37!", "0.42"):
        assert part in text


@pytest.mark.parametrize("width", [80, 110, 119, 150])
def test_the_hull_has_its_column_where_it_is_known(trusted_rows: list[dict[str, Any]], width: int) -> None:
    assert "ΔE_hull" not in text_of(best_table(trusted_rows, REQUIRED, width=width), width)
    rows = [{**row, "e_hull_ev_per_atom": 0.0456} for row in trusted_rows]
    text = text_of(best_table(rows, REQUIRED, width=width), width)
    assert max(len(line) for line in text.splitlines()) <= width
    for part in ("ΔE_hull", "0.046", "La2Ba3Cu4HgO11", "60.1", "0.62", "1.37!", "0.42"):
        assert part in text
    assert ("-1.235" in text) == (width >= 119)


def test_a_pressure_is_told(trusted_rows: list[dict[str, Any]]) -> None:
    row = {**trusted_rows[0], "nearest_known": "H3S", "nearest_tc_k": 203.0, "nearest_pressure_gpa": 155.0}
    assert "H3S (203.0 K at 155 GPa)" in text_of(best_table([row], REQUIRED, width=140), 140)


def test_reasons_in_a_few_words(trusted_rows: list[dict[str, Any]]) -> None:
    many = [*trusted_rows, {**trusted_rows[0], "rank": 4, "formula": "FeSe"}]
    lines = text_of(reasons_table(many, Background()), 160).splitlines()
    assert "+  T_c ± 9.4 K" in lines[0]
    assert lines[0].startswith("1 La2Ba3Cu4HgO11")
    assert "−  oracle says 60 K; far from all known (L1 0.42)" in lines[1]
    assert not lines[1].startswith("1")
    assert any("extrapolated (1.37)" in line for line in lines)
    assert not any("FeSe" in line for line in lines)  # the best three alone


def test_the_best_by_the_oracle(trusted_summary: Summary, summary: Summary) -> None:
    lines = [line.rstrip() for line in text_of(top_table(trusted_summary.top), 80).splitlines()]
    assert lines[0].split() == ["of", "the", "best", "that", "passed", "10", "30", "50"]
    (gap,) = (line for line in lines if line.startswith("exploitation gap"))
    assert gap.split()[-3:] == ["19.0", "17.0", "–"]
    assert "none passed" in text_of(top_table(summary.top[2:]), 80)


def test_brackets_are_text_not_markup() -> None:
    text = text_of(best_table([{"formula": "[red]FeSe[/red]"}], REQUIRED, title=None), 140)
    assert "[red]FeSe[/red]" in text


def test_no_rows(summary: Summary) -> None:
    assert "formula" in text_of(best_table([], REQUIRED), 80)


def test_summary_as_text(summary: Summary) -> None:
    lines = [line.rstrip() for line in text_of(summary_table(summary), 100).splitlines()]
    assert lines[0].split(maxsplit=2) == ["candidates", "512", "510 ok, 2 not finite"]
    assert any(line.startswith("T_c of LaNiAsO") and "4.3 K" in line for line in lines)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_plausibility_and_gain_have_their_columns_and_formulas_stay_whole(
    trusted_rows: list[dict[str, Any]], width: int
) -> None:
    judged = [{**row, "plausibility": 0.000312, "expected_improvement_k": 3.14} for row in trusted_rows]
    text = text_of(best_table(judged, REQUIRED, width=width), width)
    assert max(len(line) for line in text.splitlines()) <= width
    for part in ("La2Ba3Cu4HgO11", "0.00031", "3.1", "plau-"):
        assert part in text
    assert ("trusted" in text) == (width == 140)
    assert "plau-" not in text_of(best_table(trusted_rows, REQUIRED, width=width), width)
