from __future__ import annotations

import io
from typing import Any

from rich.console import Console, RenderableType

from kiago_ray.report.terminal import best_table, summary_table
from kiago_ray.screening.summary import Summary

REQUIRED = ("neutral", "pauling", "ef_negative", "few_elements")


def text_of(renderable: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_best_rows_on_a_wide_terminal(rows: list[dict[str, Any]]) -> None:
    lines = text_of(best_table(rows, REQUIRED, title="LaNiAsO"), 140).splitlines()
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


def test_brackets_are_text_not_markup() -> None:
    text = text_of(best_table([{"formula": "[red]FeSe[/red]"}], REQUIRED, title=None), 140)
    assert "[red]FeSe[/red]" in text


def test_no_rows(summary: Summary) -> None:
    assert "formula" in text_of(best_table([], REQUIRED), 80)


def test_summary_as_text(summary: Summary) -> None:
    lines = [line.rstrip() for line in text_of(summary_table(summary), 100).splitlines()]
    assert lines[0].split(maxsplit=2) == ["candidates", "512", "510 ok, 2 not finite"]
    assert any("ΔT_c of the best 10" in line and "+39.7 K" in line for line in lines)
