from __future__ import annotations

import io

import pytest
from rich.console import Console

from kiago_ray.report.terminal import RowTable, in_ascii

LONG = "Hg0.75Tl0.25Ba2.07Ca2.07Cu3.11O8.136"
ROWS = [
    {
        "formula": formula,
        "T_c\n(K)": t_c,
        "oracle": "124.4",
        "plau-\nsible": "0.0031",
        "would decompose so": reaction,
        "known": known,
    }
    for formula, t_c, reaction, known in (
        ("MgB2", "38.0 ± 4", "", "MgB2"),
        (LONG, "129.5 ± 37", "2 TiO → Ti2O3 and " * 9, "Ba2Ca2Tl0.3Cu3Hg0.7O8"),
        ("La1.85Sr0.15CuO4", "–", "6 TiO → 2 Ti2O3 + 2 Ti", "–"),
    )
]
TABLE = RowTable(ROWS, names=("formula", "known"), texts=("would decompose so",))


def lines_of(table: RowTable, width: int, encoding: str = "utf-8") -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=file, width=width, color_system=None).print(table)
    file.seek(0)
    return [line.rstrip() for line in file.read().splitlines()]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 150, 400])
def test_nothing_is_cut_at_any_width(width: int) -> None:
    lines = lines_of(TABLE, width)
    assert max(map(len, lines)) <= width
    shown = "".join("".join(lines).split())
    for row in ROWS:
        for word in " ".join(row.values()).replace("–", "").split():
            assert word in shown
    if width >= len(LONG):
        assert any(LONG in line for line in lines)


def test_each_row_is_one_line_where_there_is_room() -> None:
    header, units, *rows = lines_of(TABLE, 400)
    assert header.split() == ["formula", "T_c", "oracle", "plau-", "would", "decompose", "so", "known"]
    assert units.split() == ["(K)", "sible"]
    assert [row.split()[0] for row in rows] == [row["formula"] for row in ROWS]


def test_the_last_columns_go_below_their_row_and_a_long_name_on_a_line_of_its_own() -> None:
    assert lines_of(TABLE, 48)[2:6] == [
        "MgB2                38.0 ± 4   124.4  0.0031",
        "    known MgB2",
        LONG,
        "                  129.5 ± 37   124.4  0.0031",
    ]
    spared = RowTable(ROWS, names=("formula", "known"), texts=TABLE.texts, spare=("plau-\nsible",))
    assert lines_of(spared, 48)[2:4] == [
        "MgB2                38.0 ± 4   124.4",
        "    plausible 0.0031; known MgB2",
    ]


def test_what_no_row_has_is_left_out() -> None:
    assert lines_of(RowTable([{"formula": "MgB2", "gain": "–", "known": ""}], names=("formula",)), 80) == [
        "formula",
        "MgB2",
    ]
    assert lines_of(RowTable([]), 80) == [""]


def test_a_terminal_without_unicode_shows_the_same_in_ascii() -> None:
    lines = lines_of(TABLE, 48, "ascii")
    assert lines[2] == "MgB2                38.0 +/- 4   124.4  0.0031"
    assert "would decompose so 6 TiO -> 2 Ti2O3 + 2 Ti" in " ".join(line.strip() for line in lines)
    assert in_ascii("ΔE ≤ 0.1 ± σ, Müller, Tₘ, 鉄") == "dE <= 0.1 +/- sigma, Muller, Tm, ?"
