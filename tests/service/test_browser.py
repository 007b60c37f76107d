"""The page in a real browser: a formula is typed, an element clicked, a search run; axe finds nothing."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kiago_ray.report.page import search_page
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import CANDIDATES, SearchResults, read_results
from kiago_ray.storage.table import first_rows

from .conftest import Listen, Service
from .test_runs import finished_runs

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
CHROMIUM = os.environ.get("KIAGO_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; name one in KIAGO_CHROMIUM"),
]


@pytest.fixture
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        # Without a sandbox of its own, as containers have none to give; it sees this server alone.
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def opened(browser: Any, url: str, **options: Any) -> tuple[Any, list[str]]:
    """A page, and what goes wrong on it."""
    page = browser.new_page(**options)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda told: problems.append(told.text) if "Content Security" in told.text else None)
    page.goto(url)
    return page, problems


def violations(page: Any) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]


def fits(page: Any) -> list[str]:
    """What is wrong with the page at a phone's, a tablet's and a desk's width."""
    wrong = []
    for width in (390, 768, 1300):
        page.set_viewport_size({"width": width, "height": 900})
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wrong.append(f"wider than {width}")
        wrong += [f"{width}: {each}" for each in violations(page)]
    return wrong


def test_from_a_formula_to_a_downloaded_table(
    browser: Any, service: Service, listen: Listen, tmp_path: Path
) -> None:
    page, problems = opened(browser, listen(service.app))
    page.fill("#formula", "Xx2")
    expect(page.locator("#formula-status")).to_contain_text("Xx")
    page.fill("#formula", "MgB2")
    page.wait_for_selector("#prediction h3")
    assert re.search(r"MgB2.*3\d\.\d ± \d+\.\d K", page.inner_text("#prediction h3").replace("\n", ""))
    assert fits(page) == []

    page.click("#grid button:has-text('Al')")
    page.wait_for_selector("#element-dialog[open]")
    assert violations(page) == []
    page.click("#element-add")
    expect(page.locator("#formula")).to_have_value("MgB2Al")
    expect(page.locator("#prediction h3").first).to_contain_text("Al")
    page.go_back()
    expect(page.locator("#formula")).to_have_value("MgB2")

    page.fill("#s-base", "Qq")
    page.click("#search-form button[type=submit]")
    page.wait_for_selector("#search-problem:not([hidden])")
    assert "unknown element" in page.inner_text("#search-problem")
    for field, value in {
        "#s-base": "LaNiAsO",
        "#s-candidates": "8",
        "#s-steps1": "5",
        "#s-steps2": "5",
    }.items():
        page.fill(field, value)
    page.click("#search-form button[type=submit]")
    page.wait_for_selector("#job:not([hidden])")
    worker = threading.Thread(target=service.run_searches)
    worker.start()
    page.wait_for_selector("#candidates-table tbody tr", timeout=90_000)
    worker.join()
    assert fits(page) == []
    page.set_viewport_size({"width": 1920, "height": 900})
    sizes = "[...document.querySelectorAll('#candidates > .scroll')].map(box => [box.clientWidth, box.scrollWidth])"
    ((room, width),) = page.evaluate(sizes)
    assert room == width > 1300  # all columns are seen
    with page.expect_download() as download:
        page.click("[data-download=csv]")
    file = tmp_path / "table.csv"
    download.value.save_as(file)
    shown = page.inner_text("#candidates-table tbody tr >> nth=0")
    best = file.read_text().splitlines()[1].split(",")[1].strip('"')
    assert best in shown.replace("\n", "")
    assert problems == []


def test_what_is_pressed_does_not_move_away(browser: Any, service: Service, listen: Listen) -> None:
    """A chip that appears as its field is left moved the button below it from under the pointer."""
    page, problems = opened(browser, f"{listen(service.app)}#MgB2")
    page.wait_for_selector("#prediction h3")
    page.click("#constraints summary")
    page.fill("#s-steps1", "1")
    page.fill("#s-steps2", "1")
    page.fill("#s-forbid", "Hg Xx")
    page.locator("#search-start").scroll_into_view_if_needed()
    box = page.locator("#search-start").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.up()
    page.wait_for_selector("#search-problem:not([hidden])")
    assert "Xx" in page.inner_text("#search-problem")
    page.fill("#s-forbid", "Tl")
    page.click("#search-start")
    page.wait_for_selector("#job:not([hidden])")
    (job,) = service.client.get("/v1/searches").json()["searches"]
    spec = service.client.get(job["links"]["self"]).json()["spec"]
    assert spec["elements"]["forbid"] == ["Hg", "Tl"]
    assert problems == []


def test_numbers_go_with_their_formula(browser: Any, service: Service, listen: Listen) -> None:
    page, problems = opened(browser, f"{listen(service.app)}#MgB2")
    for unreadable in ("MgB2Xx", "", "MgB2)", "Mg" * 120):
        page.fill("#formula", "MgB2")
        page.wait_for_selector("#prediction h3")
        page.fill("#formula", unreadable)
        page.wait_for_selector("#prediction:empty", state="attached")
        assert page.is_hidden("#elements")
        assert page.title() == "kiago-ray"
    assert problems == []


def test_a_section_of_the_hull(browser: Any, service: Service, listen: Listen) -> None:
    page, problems = opened(browser, f"{listen(service.app)}#La1.85Sr0.15CuO4")
    expect(page.locator("#prediction")).to_contain_text(re.compile(r"0\.\d{3} ± 0\.\d{3} eV/atom"))
    page.fill("#section-from", "La2CuO4")
    page.keyboard.press("Enter")
    expect(page.locator("#section-desc")).to_contain_text("La2CuO4: 0 at 0")
    expect(page.locator("#prediction")).to_contain_text("La2CuO4 + La2O3 + LaCu2O4 + SrCuO2")
    assert fits(page) == []
    page.fill("#section-from", "La3.7Sr0.3Cu2O8")
    page.keyboard.press("Enter")
    expect(page.locator("#prediction form .status")).to_contain_text("one composition")
    assert problems == []


def test_a_scan_is_dragged(browser: Any, service: Service, listen: Listen) -> None:
    page, problems = opened(browser, f"{listen(service.app)}#La2CuO4")
    expect(page.locator("#x-formula")).to_have_value("La2CuO4")
    page.fill("#x-with", "Sr,Ba")
    page.fill("#x-range", "0:0.3:0.05")
    page.keyboard.press("Enter")
    slider, values = page.locator("#scan-x"), page.locator("#scan .card")
    slider.focus()
    page.keyboard.press("Home")
    expect(values).to_contain_text("x = 0: La2CuO4")
    expect(values).to_contain_text("Undoped as written")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(values).to_contain_text("La1.85Sr0.15CuO4")
    assert slider.get_attribute("aria-valuetext").startswith("x = 0.15: La1.85Sr0.15CuO4")
    assert page.locator("#scan circle.known").count() == 1  # measured, of the landmarks
    assert fits(page) == []
    page.locator("#scan svg").scroll_into_view_if_needed()
    box = page.locator("#scan svg").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.95 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.up()
    expect(values).to_contain_text("x = 0.3: La1.7Sr0.3CuO4")
    page.check("#scan input[type=radio] >> nth=1")
    expect(page.locator("#scan-curve-title")).to_contain_text("La₂₋ₓBaₓCuO₄")
    page.fill("#x-with", "Xx")
    page.keyboard.press("Enter")
    expect(page.locator("#scan-status")).to_contain_text("Xx")
    assert page.locator("#scan-x").count() == 0
    assert problems == []


def test_runs_of_the_command_line_are_shown(
    browser: Any, make_service: Any, listen: Listen, tmp_path: Path
) -> None:
    runs = finished_runs(make_service, tmp_path)
    page, problems = opened(browser, listen(make_service(runs=str(runs)).app))
    expect(page.locator("#runs")).to_contain_text("unreadable spec.yaml")
    page.click("#runs button:has-text('MgB2-first')")
    page.wait_for_selector("#candidates-table tbody tr")
    assert page.url.endswith("#run=MgB2-first")
    with page.expect_download() as download:
        page.click("[data-download=report]")
    assert "<h1>" in Path(download.value.path()).read_text()
    assert fits(page) == []
    assert problems == []


def test_the_report_of_a_run_fits(browser: Any, make_service: Any, tmp_path: Path) -> None:
    place = Location.of(finished_runs(make_service, tmp_path) / "MgB2-first")
    results, rows = read_results(place, SearchResults), first_rows(place / CANDIDATES, 50).to_pylist()
    assert results is not None
    content = {"title": "MgB2", "plots": [], "spec_text": "search:"}
    report = tmp_path / "report.html"
    report.write_text(search_page(results.summary, rows, None, **content), encoding="utf-8")
    page, problems = opened(browser, report.as_uri())
    assert fits(page) == []
    page.set_viewport_size({"width": 2560, "height": 900})
    sizes = "[...document.querySelectorAll('.wide, .tall')].map(box => box.scrollWidth - box.clientWidth)"
    assert set(page.evaluate(sizes)) == {0}  # all columns are seen
    page.focus("table.sortable th >> nth=1 >> button")
    page.keyboard.press("Enter")
    expect(page.locator("table.sortable th >> nth=1")).to_have_attribute("aria-sort", "ascending")
    assert problems == []


def test_the_keyboard_reaches_everything(browser: Any, service: Service, listen: Listen) -> None:
    """Tab goes through all that can be used, in the order of the page, and one sees what has the focus."""
    page, problems = opened(browser, f"{listen(service.app)}#MgB2")
    page.wait_for_selector("#prediction h3")
    page.focus("#constraints summary")
    page.keyboard.press("Enter")
    usable = """[...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')]
        .filter(each => each.tabIndex >= 0 && !each.disabled && each.checkVisibility() && !each.closest('dialog'))
        .filter(each => each.type !== 'radio' || each.checked)"""
    page.evaluate(f"window.usable = {usable}; document.activeElement.blur(); window.scrollTo(0, 0)")
    count = page.evaluate("usable.length")
    assert count > 30
    page.focus(".skip")
    reached = []
    for _ in range(count):
        reached.append(page.evaluate("usable.indexOf(document.activeElement)"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML")
        page.keyboard.press("Tab")
    assert reached == list(range(count))
    assert problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_the_keyboard(
    scheme: str, browser: Any, service: Service, listen: Listen
) -> None:
    page, problems = opened(
        browser, f"{listen(service.app)}#LaNiAsO", viewport={"width": 360, "height": 740}, color_scheme=scheme
    )
    page.wait_for_selector("#prediction h3")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert violations(page) == []
    page.focus("#grid button[tabindex='0']")
    first = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.textContent") != first
    page.keyboard.press("Enter")
    page.wait_for_selector("#element-dialog[open]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#element-dialog:not([open])", state="attached")
    assert problems == []


def test_a_token_is_asked_for_once(browser: Any, make_service: Any, listen: Listen) -> None:
    service = make_service(token="a-token-of-the-test-0123456789")
    page, _ = opened(browser, listen(service.app))
    page.wait_for_selector("#token-dialog[open]")
    page.fill("#token", "a-token-of-the-test-0123456789")
    page.keyboard.press("Enter")
    expect(page.locator("#models")).to_contain_text("Models")
    assert page.evaluate("localStorage.length") == 0
