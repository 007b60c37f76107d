"""The list for the laboratory: what its rows say, and that every form of the file says it."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from openpyxl import load_workbook
from rich.console import Console
from rich.markdown import Markdown

from kiago_ray.chemistry.synthesis import Batch
from kiago_ray.data.precursors import load_hazards, load_precursors
from kiago_ray.report.shortlist import Entry, csv_of, entry_of, html_of, markdown_of, xlsx_of

Row = dict[str, Any]


@pytest.fixture
def entries(rows: list[Row]) -> list[Entry]:
    """LSCO as a search without sites writes it, what can't be made, what can't be read."""
    screens = dict.fromkeys(("balanced", "plausible", "near_hull"))
    lsco = {
        **rows[0],
        **screens,
        "formula": "La37Sr3Cu20O80",
        "base": "La2CuO4",
        "nearest_known": "Sr0.1La1.9CuO4",
        "nearest_distance": 0.014,
        "nearest_reference": "Phys. Rev. B 65 (2002) 24523",
        "made": "COD 1008481, space group 139",
    }
    plutonium = {**rows[0], **screens, "formula": "PuCoGa5", "nearest_known": None, "nearest_distance": None}
    unread = {"formula": "=1+<b>", "error": "syntax"}
    found = (lsco, plutonium, unread)
    table, hazards = load_precursors(), load_hazards()
    return [entry_of(at, row, Batch(5), table, hazards, 0.04) for at, row in enumerate(found, start=1)]


def test_a_row_says_how_it_is_made_what_is_near_and_why_to_believe_it(entries: list[Entry]) -> None:
    first = entries[0]
    assert first.formula == "La1.85Sr0.15CuO4"
    assert first.nearest == "La1.9Sr0.1CuO4"
    assert first.flat["precursors"] == "La2O3 3.7893 g; SrCO3 0.2784 g; CuO 1.0002 g"
    assert first.flat["formula_in_table"] == "La37Sr3Cu20O80"
    assert first.doi == "https://doi.org/10.1103/PhysRevB.65.024523"
    assert first.made_at == "https://www.crystallography.net/cod/1008481.html"
    assert first.sentences("for")
    assert any("nearest known composition" in text for text in map(str, first.reasons))


def test_what_cant_be_made_or_read_stays_and_says_why(entries: list[Entry]) -> None:
    assert [entry.recipe is None for entry in entries] == [False, True, True]
    assert "no precursor of Pu" in entries[1].remark
    assert any("Radioactive" in text for text in entries[1].hazards)
    assert entries[1].sentences("for")
    assert "can't be read" in entries[2].remark


def test_a_csv_file_has_a_line_each(entries: list[Entry]) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_of(entries, "").decode())))
    assert [row["formula"] for row in rows] == ["La1.85Sr0.15CuO4", "PuCoGa5", "=1+<b>"]
    assert float(rows[0]["tc_k"]) == pytest.approx(81.26, abs=0.01)
    assert rows[1]["precursors"] == ""


def test_a_workbook_has_masses_as_numbers_and_links(entries: list[Entry]) -> None:
    book = load_workbook(io.BytesIO(xlsx_of(entries, "Shortlist of x")))
    names, *rows = book["Candidates"].iter_rows()
    columns = {cell.value: at for at, cell in enumerate(names)}
    assert rows[0][columns["nearest_doi"]].hyperlink.target == entries[0].doi
    assert rows[2][columns["formula"]].data_type == "s"  # no formula of the sheet
    weighed = list(book["Weighing"].iter_rows(min_row=2, values_only=True))
    assert [(row[2], row[4]) for row in weighed] == [("La2O3", 3.7893), ("SrCO3", 0.2784), ("CuO", 1.0002)]
    assert book["Read first"]["A2"].value == "Shortlist of x"


def test_a_page_sets_formulas_and_escapes_the_rest(entries: list[Entry]) -> None:
    page = html_of(entries, "Shortlist of <x>").decode()
    assert "<h2>1. La<sub>1.85</sub>Sr<sub>0.15</sub>CuO<sub>4</sub></h2>" in page
    assert "0.925 La<sub>2</sub>O<sub>3</sub> + 0.15 SrCO<sub>3</sub> + CuO" in page
    assert f'<a href="{entries[0].doi}">' in page
    assert "=1+<b>" not in page
    assert "Shortlist of <x>" not in page


def test_markdown_has_a_section_each(entries: list[Entry]) -> None:
    text = markdown_of(entries, "Shortlist").decode()
    assert "## 1. La1.85Sr0.15CuO4\n" in text
    assert "**Weigh for 5 g:** La2O3 3.7893 g (dry" in text
    assert "**No recipe:** no precursor of Pu" in text


def test_markdown_keeps_the_stars_of_oxidation_states(rows: list[Row]) -> None:
    """Read by an independent library, the reasons are the sentences as they were."""
    states = "Ba+2 Fe+2*1.5 Fe+3*0.5 As-3"
    charges = {"oxidation_states": states, "charge_kind": "ionic", "balanced": True, "undoped": False}
    row = {**rows[0], **charges, "formula": "BaFe2As2", "alloy": False, "mean_valences": "Fe+2.25"}
    entry = entry_of(1, row, Batch(5), load_precursors(), load_hazards(), 0.04)
    told = [text for text in entry.sentences("for") if states in text]
    assert told
    shown = io.StringIO()
    Console(file=shown, width=1000).print(Markdown(markdown_of([entry], "A list").decode()))
    assert all(text in shown.getvalue() for text in told)
