"""The page at /, its files, the description of the API at /docs: read once, no path of a request is ever opened."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from fastapi import APIRouter, FastAPI, Request, Response

from kiago_ray.service.docs_page import DOCS_STYLE, docs_page
from kiago_ray.service.problems import ProblemError

_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


@cache
def page_files() -> dict[str, bytes]:
    """The files of the page by name."""
    folder = files("kiago_ray.service").joinpath("page")
    found = {
        each.name: each.read_bytes()
        for each in folder.iterdir()
        if "." + each.name.rpartition(".")[2] in _TYPES
    }
    return {**found, "docs.css": DOCS_STYLE.encode("utf-8")}


def page_router(app: FastAPI) -> APIRouter:
    """Open to all: nothing of it is anybody's data."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def index(request: Request) -> Response:
        return _file(request, "index.html")

    @router.get("/assets/{name}")
    def asset(request: Request, name: str) -> Response:
        if name not in page_files() or name == "index.html":
            raise ProblemError(404, "there is no such file; the page is at /")
        return _file(request, name)

    @router.get("/docs")
    def docs() -> Response:
        return Response(docs_page(app.openapi()), media_type="text/html; charset=utf-8")

    @router.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)

    return router


def _file(request: Request, name: str) -> Response:
    content = page_files()[name]
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"Cache-Control": "no-cache", "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    kind = _TYPES["." + name.rpartition(".")[2]]
    return Response(content, media_type=f"{kind}; charset=utf-8", headers=headers)
