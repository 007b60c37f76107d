"""The page and the description of the API: whole, from here alone, without scripts of others."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.report.page import render

from .conftest import Service

PAGE = {each.name: each.read_text("utf-8") for each in files("kiago_ray.service").joinpath("page").iterdir()}
PAGE["index.html"] = render("service.html.j2")


def test_all_that_the_page_asks_for_is_there(service: Service) -> None:
    index = service.client.get("/").text
    asked = set(re.findall(r'(?:href|src)="(assets/[^"]+)"', index))
    for name, content in PAGE.items():
        if name.endswith(".js"):
            asked |= {f"assets/{each}" for each in re.findall(r'from "\./([^"]+)"', content)}
    assert {"assets/app.js", "assets/style.css", "assets/table.js"} <= asked
    for path in asked:
        answer = service.client.get(f"/{path}")
        assert answer.status_code == 200
        kind = "text/javascript" if path.endswith(".js") else "text/css"
        assert answer.headers["content-type"].startswith(kind)


@pytest.mark.parametrize("name", sorted(PAGE))
def test_nothing_comes_from_elsewhere_and_nothing_is_inline(name: str) -> None:
    text = PAGE[name]
    hosts = set(re.findall(r"https?://[^\s\"'`)]+", text)) - {"http://www.w3.org/2000/svg"}
    assert not hosts
    assert "innerHTML" not in text
    assert not re.search(r"<script(?![^>]*src=)|<style|\son[a-z]+=\"|style=\"", text)


def test_every_label_has_its_field() -> None:
    index = PAGE["index.html"]
    ids = re.findall(r'\bid="([^"]+)"', index)
    assert len(ids) == len(set(ids))
    named = re.findall(r'(?:for|aria-labelledby|aria-describedby|data-jump)="([^"]+)"', index)
    assert set(named) <= set(ids)
    scripts = " ".join(text for name, text in PAGE.items() if name.endswith(".js"))
    assert set(re.findall(r'byId\("([^"]+)"\)', scripts)) <= set(ids)


def test_the_pages_elements_are_the_chemists() -> None:
    text = PAGE["elements.js"]
    words = "".join(re.findall(r'"([^"]*)"', text.partition("const words")[0])).split()
    assert words[::2] == list(SYMBOLS)


def test_what_did_not_change_is_not_sent_again(service: Service) -> None:
    first = service.client.get("/assets/app.js")
    again = service.client.get("/assets/app.js", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/assets/../settings.py", "/assets/..%2Fsettings.py", "/assets/index.html", "/assets/"]
)
def test_no_other_file_is_there(path: str, service: Service) -> None:
    assert service.client.get(path).status_code == 404


def test_the_description_can_be_read(service: Service) -> None:
    docs = service.client.get("/docs").text
    described = service.client.get("/v1/openapi.json").json()
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"]
            assert operation["description"]
            assert f"{method.upper()}</b> {path}" in docs
    assert "<script" not in docs
    assert set(described["paths"]) == {
        "/healthz",
        "/v1/explain",
        "/v1/models",
        "/v1/predict",
        "/v1/searches",
        "/v1/searches/{search_id}",
        "/v1/searches/{search_id}/candidates",
        "/v1/searches/{search_id}/events",
        "/v1/searches/{search_id}/plots/{name}",
    }


def test_its_examples_are_answered(service: Service) -> None:
    paths = service.client.get("/v1/openapi.json").json()["paths"]
    for path in ("/v1/predict", "/v1/searches"):
        for kind, content in paths[path]["post"]["requestBody"]["content"].items():
            example = content["example"]
            sent = {"json": example} if kind == "application/json" else {"content": example}
            answer = service.client.post(path, headers={"Content-Type": kind}, **sent)
            assert answer.status_code in (200, 202), answer.text
