"""CSV, Markdown and page: both columns are there, text stays text; how presets differ is read off them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from kiago_ray.paper.run import PAGE, PRESETS, TEXT, differences, differences_markdown, write_report
from kiago_ray.paper.tables import Column, Panel, PaperTable
from kiago_ray.search import load_preset
from kiago_ray.storage.location import Location

TABLE = PaperTable(
    name="table2",
    label="Table 2",
    title="ΔT_c",
    size="8 candidates",
    panels=(
        Panel(
            "By | model",
            "base",
            (Column("kiago", "KIAGO", sign=True), Column("kiago_paper", "KIAGO, paper", "paper", 2, True)),
            {
                "LaNiAsO": {"kiago": 5.0, "kiago_paper": 104.39},
                "CeBi2O3": {"kiago": None, "kiago_paper": 92.12},
            },
        ),
    ),
    verdicts=("KIAGO < 1 & more",),
    notes=("Because.",),
    captions=("A plot",),
    drawn=(b"\x89PNG",),
)


def test_csv_has_a_line_a_value() -> None:
    rows = list(csv.DictReader(io.StringIO(TABLE.as_csv())))
    assert [(row["row"], row["source"], row["value"]) for row in rows] == [
        ("LaNiAsO", "ours", "5.0"),
        ("LaNiAsO", "paper", "104.39"),
        ("CeBi2O3", "ours", ""),
        ("CeBi2O3", "paper", "92.12"),
    ]


def test_markdown_has_both_columns() -> None:
    text = TABLE.as_markdown()
    assert "## Table 2: ΔT_c" in text
    assert "| base | KIAGO | KIAGO, paper |" in text
    assert "| LaNiAsO | +5.0 | +104.39 |" in text
    assert "| CeBi2O3 | N/A | +92.12 |" in text
    assert "**By \\| model**" in text
    assert "![A plot](table2-1.png)" in text
    assert "KIAGO &lt; 1" in text


def test_page_has_both_columns_and_escapes(tmp_path: Path) -> None:
    write_report([TABLE], Location.of(tmp_path), [("size", "quick <b>")], ["a & b failed"])
    html = (tmp_path / PAGE).read_text()
    assert "Failed: a & b failed" in (tmp_path / TEXT).read_text()
    assert '<td class="n">+5.0</td><td class="paper n">+104.39</td>' in html
    assert 'href="#table2"' in html
    assert 'id="table2"' in html
    assert "quick &lt;b&gt;" in html
    assert "a &amp; b failed" in html
    assert "KIAGO &lt; 1 &amp; more" in html
    assert "http" not in html.replace("http-equiv", "")
    assert 'src="data:image/png;base64,' in html


def test_every_difference_is_one_and_has_a_reason() -> None:
    found = {name: others for name, *others in differences()}
    ours, paper, reference = (load_preset(name) for name in PRESETS)
    assert found["alpha"][:3] == ["20", "4", "4"]
    assert found["n_unit.max"][:3] == ["25", "25", "199"]
    assert found["integer_norm"][:3] == ["l1", "l1", "l2"]
    assert found["beta.end"][3].startswith("Weight of the integer loss")
    assert "steps" in found
    assert "seed" not in found
    for name, (*values, reason) in found.items():
        assert len(set(values)) > 1, name
        assert reason, name
    # Nothing that differs is left out.
    plain = [each.model_dump() for each in (ours, paper, reference)]
    for name in plain[0]:
        if any(one[name] != plain[0][name] for one in plain):
            assert any(field.split(".")[0] == name for field in found), name


def test_differences_as_markdown() -> None:
    text = differences_markdown()
    assert "| field | `open` | `paper` | `reference` | what it is, and why |" in text
    assert "| `alpha` | 20 | 4 | 4 |" in text
    assert "each row has a loss of its own" in text.lower()
