from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from typing import Any

import pytest

from kiago_ray.report import reasons
from kiago_ray.report.page import TABLE_ROWS, candidates_table, search_page
from kiago_ray.report.plots import Plot
from kiago_ray.screening.known import BaseMaterial
from kiago_ray.screening.screens import Summary

MakePage = Callable[..., str]
VOID = {"meta", "img", "br", "hr", "link", "input"}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


class Reader(HTMLParser):
    """Checks that every tag is closed in turn, and collects texts, attributes and the tags met."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture
def page(summary: Summary, rows: list[dict[str, Any]]) -> MakePage:
    plots = [
        Plot("a.png", "T_c against E_f of all candidates", PNG),
        Plot("b.png", "T_c over the search", PNG),
    ]
    text = "search:\n  base: LaNiAsO\n"
    return partial(
        search_page,
        summary=summary,
        rows=rows,
        ef_error_ev_per_atom=None,
        title="Proposals around LaNiAsO",
        plots=plots,
        spec_text=text,
    )


def test_well_formed_and_complete(page: MakePage) -> None:
    html = page()
    reader = read(html)
    assert html.startswith("<!DOCTYPE html>\n<html lang=")
    assert ("charset", "utf-8") in reader.attributes
    assert ("name", "viewport") in reader.attributes
    text = "".join(reader.texts)
    for part in (
        "Proposals around LaNiAsO",
        "La2Ba3Cu4HgO11",
        "81.3",
        "metals only",
        "fails neutral, pauling",
    ):
        assert part in text
    for part in ("Nothing on this page has been made or measured", "base: LaNiAsO", "not finite", "+39.7"):
        assert part in text
    assert reader.tags.count("img") == 2


def test_reasons_and_the_gap_are_on_it(
    page: MakePage, trusted_summary: Summary, trusted_rows: list[dict[str, Any]]
) -> None:
    rows = [*trusted_rows, {**trusted_rows[0], "rank": 4, "formula": "FeSe"}]
    html = page(rows=rows, summary=trusted_summary, ef_error_ev_per_atom=0.069)
    text = "".join(read(html).texts)
    section = text[text.index("Why these may be believed, and why not") : text.index("How rows ended")]
    for part in (
        "1. La2Ba3Cu4HgO11: trusted Tc 60.1 K",
        "put Tc at 60 K, 21 K below the 81 K of the search's model",
        "Its extrapolation score is 1.37: it lies further",
        "Cl in 99 of 11,853 known superconductors",
        "its error on chemical systems never seen is 0.069 eV/atom",
        "It fails screens: charge neutral, neutral and Pauling rule.",
    ):
        assert part in section
    assert "FeSe" not in section
    assert section.count("For") == section.count("Against") == 3
    assert "exploitation gap: the first less the second (K)19.017.0–" in text
    assert "19.0 Kexploitation gap of the best 10" in text
    assert "trusted Tc (K)" in text
    assert '1.37 <span class="badge">beyond</span>' in html


def test_without_second_opinions_nothing_is_said_of_them(page: MakePage) -> None:
    text = "".join(read(page()).texts)
    assert "No independent model has been asked" in text
    for part in ("exploitation gap", "oracle", "trusted", "Pareto"):
        assert part not in text


def test_nothing_is_asked_from_the_network(page: MakePage) -> None:
    html = page()
    reader = read(html)
    for name, value in reader.attributes:
        if name in ("src", "href", "srcset", "action", "data", "poster"):
            assert value.startswith("data:image/png;base64,")
    assert "link" not in reader.tags
    assert not re.search(r"https?:|//[a-z]|@import|url\(", html)


def test_everything_given_is_escaped(
    summary: Summary, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reasons, "parse", lambda formula: {})
    evil = '<script>alert("1")</script>&'
    base = BaseMaterial(evil, tc_predicted_k=4.3, ef_predicted_ev_per_atom=-2.0, tc_measured_k=2.7)
    texts = dict.fromkeys(("formula", "nearest_known", "oxidation_states"), evil)
    html = search_page(
        title=evil,
        summary=replace(summary, base=base, statuses={evil: 1}, required=(evil,), screens={evil: 1}),
        rows=[{**rows[0], **texts}, {**texts, evil: False, "passed": False}],
        ef_error_ev_per_atom=None,
        plots=[Plot("a.png", evil, PNG)],
        spec_text=evil,
        model_notes=[evil],
        remark=evil,
    )
    reader = read(html)
    assert reader.tags.count("script") == 1
    assert "<script>alert" not in html
    assert "".join(reader.texts).count('<script>alert("1")</script>&') >= 12


def test_formulas_and_charges_are_set_as_chemists_do(page: MakePage) -> None:
    html = page()
    assert "La<sub>1.85</sub>Sr<sub>0.15</sub>CuO<sub>4</sub>" in html
    assert "Cu<sup>2+</sup> Hg<sup>2+</sup> O<sup>2−</sup>" in html


def test_the_nearest_known_links_to_its_report(page: MakePage, rows: list[dict[str, Any]]) -> None:
    told = {"nearest_known": "MgB2", "nearest_reference": "Phys. Rev. B 63 (2001) 224522"}
    html = page(rows=[{**rows[0], **told}])
    link = '<a href="https://doi.org/10.1103/PhysRevB.63.224522" title="Phys. Rev. B 63 (2001) 224522">'
    assert f"{link}MgB<sub>2</sub></a>" in html


def test_numbers_sort_by_their_value(page: MakePage) -> None:
    html = page()
    assert '<td class="n" data-v="81.26171875">81.3</td>' in html
    assert '<td class="n">–</td>' in html


def test_the_best_fifty_and_a_remark_where_none_passed(page: MakePage, rows: list[dict[str, Any]]) -> None:
    many = [{**rows[2], "rank": rank} for rank in range(1, 81)]
    html = page(rows=many, remark="Stopped at step 120 of 400.")
    assert html.count('<tr class="failed">') == TABLE_ROWS == 50
    assert "No formula passed every screen." in html
    assert "Stopped at step 120 of 400." in html
    assert "No formula passed" not in page()


def test_a_search_without_formulas_or_base(page: MakePage, summary: Summary) -> None:
    empty = replace(summary, base=None, unique=0, passed=0, top=())
    html = page(rows=[], plots=[], summary=empty)
    read(html)
    assert "No row has a formula" in html


def test_columns_are_there_where_they_are_known(page: MakePage, rows: list[dict[str, Any]]) -> None:
    headers = {column.header for column in candidates_table(rows, ("neutral",)).columns}
    assert not headers & {"ΔE_hull (eV/atom)", "Plausibility", "Best known nearby", "at (GPa)"}
    known = {"e_hull_ev_per_atom": 0.0456, "plausibility": 0.0123, "best_nearby": "La1.85Sr0.15CuO4"}
    judged = [{**rows[0], **known, "nearest_pressure_gpa": 8.0}, {**rows[1], "nearest_pressure_gpa": 0.0}]
    html = page(rows=judged)
    assert "Δ<i>E</i><sub>hull</sub> (eV/atom)" in html
    assert 'data-v="0.0456">0.046<' in html
    assert 'data-v="0.0123">0.012<' in html
    assert "<td>La<sub>1.85</sub>Sr<sub>0.15</sub>CuO<sub>4</sub></td>" in html
    assert "at (GPa)" in html


def test_where_nothing_is_a_gain_it_is_said_before_the_table(page: MakePage, summary: Summary) -> None:
    assert "nothing here is a gain" not in page()
    html = page(summary=replace(summary, gains=0))
    assert "nothing here is a gain" in html[: html.index("<table")]
