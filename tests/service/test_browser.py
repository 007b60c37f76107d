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

from .conftest import Listen, Service

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
    return [
        f"{each['id']}: {each['nodes'][0]['html']}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


def test_from_a_formula_to_a_downloaded_table(
    browser: Any, service: Service, listen: Listen, tmp_path: Path
) -> None:
    page, problems = opened(browser, listen(service.app))
    page.fill("#formula", "Xx2")
    expect(page.locator("#formula-status")).to_contain_text("Xx")
    page.fill("#formula", "MgB2")
    page.wait_for_selector("#prediction h3")
    assert re.search(r"MgB2.*3\d\.\d ± \d+\.\d K", page.inner_text("#prediction h3").replace("\n", ""))
    assert violations(page) == []

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
    assert violations(page) == []
    with page.expect_download() as download:
        page.click("[data-download=csv]")
    file = tmp_path / "table.csv"
    download.value.save_as(file)
    shown = page.inner_text("#candidates-table tbody tr >> nth=0")
    best = file.read_text().splitlines()[1].split(",")[1].strip('"')
    assert best in shown.replace("\n", "")
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
