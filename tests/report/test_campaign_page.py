from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from kiago_ray.report import reasons
from kiago_ray.report.page import CAMPAIGN_ROWS, LISTED, campaign_page, search_page
from kiago_ray.report.plots import Plot, foremost
from kiago_ray.screening.known import BaseMaterial
from kiago_ray.screening.screens import Summary, TopMean
from kiago_ray.storage.run_directory import CampaignResults, SearchResults

VOID = {"meta", "img", "input"}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
MEANS, CANDIDATES, SEARCHES = "Means over seeds by base and variant", "Candidates", "Searches"
TOP = "The best as a whole"


class Reader(HTMLParser):
    """Checks that every tag is closed in turn. tables: aria-label → rows of texts, keys: the same of data-v."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.keys: dict[str, list[list[str]]] = {}
        self._region = ""
        self.feed(html)
        self.close()
        assert self.open == []

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append((tag, given))
        if tag not in VOID:
            self.open.append(tag)
        if given.get("role") == "region":
            self._region = given["aria-label"]
            self.tables[self._region], self.keys[self._region] = [], []
        elif tag == "tr":
            self.tables[self._region].append([])
            self.keys[self._region].append([])
        elif tag in ("td", "th"):
            self.tables[self._region][-1].append("")
            self.keys[self._region][-1].append(given.get("data-v", ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[self._region][-1][-1] += data


def line(
    base: str | None,
    variant: str,
    seed: int,
    gains: tuple[float | None, ...],
    used: tuple[int, ...] = (10, 30),
) -> SearchResults:
    """A complete search of 4 shards whose best 10 and 30 have the ΔT_c `gains`."""
    material = BaseMaterial(base, 4.0 + len(base), -2.0, 2.5 if base == "LaNiAsO" else None) if base else None
    tc_k = 0.0 if material is None else material.tc_predicted_k
    top = tuple(
        TopMean(
            k, n if value is not None else 0, None if value is None else tc_k + value, value if base else None
        )
        for k, n, value in zip((10, 30), used, gains, strict=True)
    )
    passed = 0 if gains[0] is None else 100 + seed
    summary = Summary(
        512, {"ok": 512}, 400 + 10 * seed, {"neutral": 300}, ("neutral",), passed, top, material, passed // 2
    )
    return SearchResults(f"{base}-{variant}-s{seed}", base, variant, seed, 4, 4, summary, 1.0, 0.0, "", {})


@pytest.fixture
def lines() -> list[SearchResults]:
    return [
        line("LaNiAsO", "default", 0, (60.0, 40.0)),
        line("LaNiAsO", "default", 1, (70.0, 44.0), used=(10, 17)),
        line("LaNiAsO", "default", 2, (65.0, 48.0)),
        line("LaNiAsO", "paper", 0, (None, None)),
        line("LaNiAsO", "paper", 1, (-3.0, -5.5)),
        line("LaNiAsO", "paper", 2, (1.0, -4.5)),
        line("MgB2", "default", 0, (12.25, 8.0)),
        line("MgB2", "paper", 0, (None, None)),
    ]


@pytest.fixture
def page(lines: list[SearchResults], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The arguments of `campaign_page`."""
    given = {"base": "LaNiAsO", "search": "LaNiAsO-default-s0"}
    results = CampaignResults(
        name="laptop",
        searches=8,
        searches_complete=8,
        shards=32,
        shards_done=32,
        candidates=4096,
        rows=4096,
        unique=3210,
        passed=615,
        statuses={"ok": 4090, "no_integer_formula": 6},
        top=(),
        best=(),
        ranked_by="trusted",
        gains=None,
        left_out=0,
        new_systems=None,
        sources={},
        failures={},
        damaged=(),
        outputs={},
    )
    return {
        "results": results,
        "searches": lines,
        "rows": [{**row, **given} for row in rows],
        "plots": [Plot("tc.png", "T_c against E_f", PNG)],
        "required": ("neutral", "pauling"),
        "ef_error_ev_per_atom": None,
        "spec_text": "campaign:\n  name: laptop\n",
        "model_notes": ["T_c is off by 6.7 K."],
    }


def rendered(page: dict[str, Any], results: dict[str, Any] | None = None, **changes: Any) -> str:
    """The page with some of its arguments, or of its results, changed."""
    return campaign_page(**{**page, **changes, "results": replace(page["results"], **(results or {}))})


def test_what_a_reader_looks_for_is_there(page: dict[str, Any]) -> None:
    html = rendered(page)
    reader = Reader(html)
    assert html.startswith("<!DOCTYPE html>\n<html lang=")
    for part in ("8 of 8searches complete", "32 of 32shards done", "4,096 of 4,096candidates done", "81.3 K"):
        assert part in reader.text
    for part in ("3,210", "615", "The best 3 of 3,210", "Nothing on this page has been made", "name: laptop"):
        assert part in reader.text
    assert ["no integer formula", "6"] in [row[:2] for row in reader.tables["How rows ended"]]
    assert not any(given.get("class") == "remark" for _, given in reader.tags)


def test_rows_of_several_kinds_of_machine_are_told(page: dict[str, Any]) -> None:
    amd = {"device": "cpu", "name": "AMD <EPYC>", "instructions": "AVX512", "auto_precision": "bfloat16"}
    old = {**amd, "instructions": "AVX2", "auto_precision": "float32"}
    kinds = ({**amd, "shards": 30}, {**old, "shards": 2})
    told = "on 2 kinds of machine and may differ by rounding: AMD <EPYC>, AVX512, bfloat16: 30 shards; AMD"
    assert told in Reader(rendered(page, {"machines": kinds})).text
    assert "kinds of machine" not in rendered(page, {"machines": kinds[:1]})


def test_means_agree_with_numpy(page: dict[str, Any]) -> None:
    header, *body = Reader(rendered(page)).tables[MEANS]
    assert [name for name in header if "top" in name] == ["ΔTc top 10 (K)", "ΔTc top 30 (K)"]
    tables = [dict(zip(header, row, strict=True)) for row in body]
    assert [(row["Base"], row["Variant"], row["Seeds"]) for row in tables] == [
        ("LaNiAsO", "default", "3"),
        ("LaNiAsO", "paper", "3"),
        ("MgB2", "default", "1"),
        ("MgB2", "paper", "1"),
    ]
    first = np.array([60.0, 70.0, 65.0])
    assert tables[0]["ΔTc top 10 (K)"] == f"+{first.mean():.1f} ± {first.std(ddof=1):.1f}"
    unique = 100 * np.array([400, 410, 420]) / 512
    assert tables[0]["Unique (%)"] == f"{unique.mean():.1f} ± {unique.std(ddof=1):.1f}"
    passed = 100 * np.array([100 / 400, 101 / 410, 102 / 420])
    assert tables[0]["Passed (%)"] == f"{passed.mean():.1f} ± {passed.std(ddof=1):.1f}"
    assert (tables[0]["Tc of base (K)"], tables[0]["measured (K)"]) == ("11.0", "2.5")
    assert (tables[2]["ΔTc top 10 (K)"], tables[2]["measured (K)"]) == ("+12.2", "–")
    assert tables[3]["ΔTc top 10 (K)"] == "–"


def judged(line: SearchResults, oracle_gain: float, gap: float) -> SearchResults:
    """The same search where the oracle was asked."""
    top = tuple(replace(each, delta_tc_oracle_k=oracle_gain, gap_k=gap) for each in line.summary.top)
    return replace(line, summary=replace(line.summary, top=top))


def test_the_gap_by_base_and_search(page: dict[str, Any], trusted_rows: list[dict[str, Any]]) -> None:
    lines = [
        judged(page["searches"][0], 10.0, 30.0),
        judged(page["searches"][1], 14.0, 28.0),
        *page["searches"][6:],
    ]
    top = [TopMean(30, 30, 60.0, None, 40.0, None, 20.0, 35.0, 0.1, 12, 0.3, 0)]
    html = rendered(page, {"top": top}, searches=lines, rows=trusted_rows)
    reader = Reader(html)
    header, first, second = reader.tables[MEANS][:3]
    columns = "oracle ΔTc top 30 (K)", "gap top 30 (K)"
    assert [first[header.index(name)] for name in columns] == ["+12.0 ± 2.8", "29.0 ± 1.4"]
    assert [second[header.index(name)] for name in columns] == ["–", "–"]
    header, first, *_ = reader.tables[SEARCHES]
    assert [first[header.index(name)] for name in columns] == ["+10.0", "30.0"]
    assert "20.0 Kexploitation gap of the best 30" in reader.text
    assert ["exploitation gap: the first less the second (K)", "20.0"] in reader.tables[TOP]
    assert "Why these may be believed, and why not" in reader.text
    assert "1. La2Ba3Cu4HgO11: trusted Tc 60.1 K" in reader.text


def test_without_an_oracle_there_is_no_gap(page: dict[str, Any]) -> None:
    reader = Reader(rendered(page))
    assert not any(
        "gap" in name or "oracle" in name for name in reader.tables[MEANS][0] + reader.tables[SEARCHES][0]
    )
    assert TOP not in reader.tables


def test_means_say_what_they_leave_out(page: dict[str, Any]) -> None:
    reader = Reader(rendered(page))
    texts = [row[-3] for row in reader.tables[MEANS]]
    assert texts == ["ΔTc top 30 (K)", "+44.0 ± 4.0*", "-5.0 ± 0.7 [2]", "+8.0", "–"]
    assert "fewer formulas passed" in reader.text
    assert "something passed in n of the seeds only" in reader.text
    plain = Reader(rendered(page, searches=page["searches"][6:7]))
    for note in ("standard deviation", "fewer formulas passed", "in n of the seeds"):
        assert note not in plain.text


def test_a_row_a_search_sorts_by_value(page: dict[str, Any]) -> None:
    reader = Reader(rendered(page))
    header, *body = reader.tables[SEARCHES]
    assert [row[0] for row in body] == [each.name for each in page["searches"]]
    keys = reader.keys[SEARCHES][2]
    assert dict(zip(header, body[1], strict=True))["ΔTc top 30 (K)"] == "+44.0*"
    assert dict(zip(header, keys, strict=True))["ΔTc top 30 (K)"] == "44.0"
    assert dict(zip(header, keys, strict=True))["Shards"] == "4.0"


def test_candidates_have_base_and_search_and_a_filter(page: dict[str, Any], summary: Summary) -> None:
    reader = Reader(rendered(page))
    header, first, *_ = reader.tables[CANDIDATES]
    found = dict(zip(header, first, strict=True))
    assert (found["Formula"], found["Base"], found["Search"]) == (
        "La2Ba3Cu4HgO11",
        "LaNiAsO",
        "LaNiAsO-default-s0",
    )
    assert found["Nearest known"] == "La1.85Sr0.15CuO4"
    filtered = [given for tag, given in reader.tags if tag == "th" and given.get("class") == "f"]
    assert len(filtered) == 3
    named = {given["name"]: (tag, given) for tag, given in reader.tags if "name" in given and tag != "meta"}
    assert named["text"][1]["type"] == "search"
    assert named["passed"][1]["type"] == "checkbox"
    assert named["count"] == ("output", {"name": "count", "aria-live": "polite"})
    alone = Reader(search_page(summary, page["rows"], None, title="t", plots=[], spec_text=""))
    assert "Search" not in alone.tables[CANDIDATES][0]
    assert not any(tag == "form" for tag, _ in alone.tags)


def test_what_is_missing_comes_first(page: dict[str, Any]) -> None:
    lines = [*page["searches"][:-1], replace(page["searches"][-1], shards_done=1)]
    part = {
        "searches_complete": 7,
        "shards_done": 29,
        "rows": 3712,
        "damaged": ("00000.parquet was cut off",),
    }
    failures = {"MgB2-paper-s0/00002": "out of memory"}
    reader = Reader(rendered(page, {**part, "failures": failures}, searches=lines))
    said = [
        "7 of 8 searches, 29 of 32 shards, 3,712 of 4,096 candidates are done.",
        "Files found damaged, and made again: 00000.parquet was cut off",
        "Shards that failed: 1. The same command tries them again.",
        "Best candidates",
    ]
    found = [reader.text.index(text) for text in said]
    assert found == sorted(found)
    assert reader.tables["Shards that failed"][1] == ["MgB2-paper-s0/00002", "out of memory"]
    assert reader.tables[MEANS][-1][2] == "1, 1 in part"


def test_nothing_finished_yet(page: dict[str, Any]) -> None:
    none = {"searches_complete": 0, "shards_done": 0, "rows": 0, "unique": 0, "passed": 0, "statuses": {}}
    reader = Reader(rendered(page, none, searches=[], rows=[], plots=[]))
    assert "No search has results yet, of 4,096 candidates planned." in reader.text
    assert not any(tag == "table" for tag, _ in reader.tags)
    assert "name: laptop" in reader.text


def test_random_starts_have_no_base(page: dict[str, Any]) -> None:
    lines = [line(None, "", seed, (50.0 + seed, 40.0)) for seed in range(2)]
    rows = [{**row, "base": None, "delta_tc_k": None} for row in page["rows"]]
    tables = Reader(rendered(page, searches=lines, rows=rows)).tables
    assert tables[MEANS][0][:3] == ["Seeds", "mean Tc top 10 (K)", "mean Tc top 30 (K)"]
    assert tables[MEANS][1][1] == "50.5 ± 0.7"
    assert "Base" not in tables[SEARCHES][0] + tables[CANDIDATES][0]


def test_everything_given_is_escaped(page: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "parse", lambda formula: {})
    evil = "<script>alert('1')</script>&\"T"
    given = dict.fromkeys(("formula", "base", "search", "nearest_known", "oxidation_states"), evil)
    html = rendered(
        page,
        {"name": evil, "statuses": {evil: 1}, "failures": {evil: evil}, "damaged": (evil,)},
        searches=[replace(line(evil, evil, 0, (1.0, 1.0)), name=evil)],
        rows=[{**page["rows"][0], **given}, {**given, evil: False, "passed": False}],
        plots=[Plot("a.png", evil, PNG)],
        required=(evil,),
        spec_text=evil,
        model_notes=[evil],
    )
    reader = Reader(html)
    assert [tag for tag, _ in reader.tags].count("script") == 1
    assert "<script>alert" not in html
    assert reader.text.count(evil) >= 20
    assert all(
        value.startswith("data:image/png")
        for _, tag in reader.tags
        for name, value in tag.items()
        if name == "src"
    )
    assert not any(name.startswith("on") or name == "href" for _, tag in reader.tags for name in tag)


def test_ten_thousand_searches_make_no_monster(page: dict[str, Any]) -> None:
    lines = [line(f"La{n}NiAsO", "default", 0, (float(n % 997), float(n))) for n in range(10_000)]
    rows = [{**page["rows"][0], "rank": rank} for rank in range(1, 601)]
    failures = {f"s/{n:05d}": "x" * 5000 for n in range(300)}
    html = rendered(page, {"failures": failures}, searches=lines, rows=rows)
    assert len(html) < 1_500_000
    reader = Reader(html)
    assert len(reader.tables[SEARCHES]) == len(reader.tables[MEANS]) == LISTED + 1
    assert len(reader.tables[CANDIDATES]) == CAMPAIGN_ROWS + 1
    assert len(reader.tables["Shards that failed"]) == 101
    for said in (
        "9,500 searches with a lower ΔTc are not shown",
        "9,500 pairs of base and variant",
        "200 failed shards are not shown",
    ):
        assert said in reader.text
    column = reader.tables[SEARCHES][0].index("ΔTc top 10 (K)")
    least = min(float(row[column]) for row in reader.keys[SEARCHES][1:])
    assert least >= sorted(n % 997 for n in range(10_000))[-LISTED]


def test_foremost_keeps_the_order() -> None:
    values: list[float | None] = [3.0, None, 9.0, -1.0, 5.0]
    assert foremost(values, 3, lambda value: value) == [3.0, 9.0, 5.0]
    assert foremost(values, 4, lambda value: value) == [3.0, 9.0, -1.0, 5.0]
    assert foremost(values, 5, lambda value: value) == values


def test_wide_tables_can_be_reached_by_keyboard(page: dict[str, Any]) -> None:
    reader = Reader(rendered(page))
    tables = sum(tag == "table" for tag, _ in reader.tags)
    regions = [given for _, given in reader.tags if given.get("role") == "region"]
    assert len(regions) == tables
    assert all(given["tabindex"] == "0" and given["aria-label"] for given in regions)


def test_where_nothing_is_a_gain_it_is_said(page: dict[str, Any]) -> None:
    assert "nothing here is a gain" not in rendered(page)
    assert "nothing here is a gain" in rendered(page, {"gains": 0})
