"""The HTTP application: what stands before the routes, the page at /, the API's description at /docs. It knows no
server and no Ray.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware

from kiago_ray import __version__
from kiago_ray.report.page import render
from kiago_ray.service import predictions, searches
from kiago_ray.service.backend import Backend, Service
from kiago_ray.service.guard import Count, Guard
from kiago_ray.service.jobs import JobStore
from kiago_ray.service.problems import ProblemError, handle_problems
from kiago_ray.service.settings import ServiceSettings, token_from

_DESCRIPTION = (
    "Critical temperatures and formation energies of compositions, how far each can be believed, and searches for "
    "compositions with a higher one. Errors are problem details (RFC 9457); 429 and 503 say in Retry-After when to "
    "come back. Where the service has a token, send it as 'Authorization: Bearer TOKEN'."
)
_TYPES = {"js": "text/javascript", "css": "text/css", "html": "text/html"}
_LONGEST_EXAMPLE = 1500

page = APIRouter(include_in_schema=False)  # open to all: nothing of it is anybody's data


def build_app(
    backend: Backend,
    store: JobStore,
    settings: ServiceSettings,
    *,
    count: Count | None = None,
    names_requests: bool = True,
) -> FastAPI:
    """The application on a backend and a store. count, names_requests: as in Guard. Raises InputError."""
    token = token_from(os.environ, required=settings.require_token)
    app = FastAPI(
        title="kiago-ray",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
        max_body_size=settings.limits.body_bytes,
    )
    app.state.service = Service(backend, store, settings)
    handle_problems(app)
    for router in (predictions.router, searches.router, page):
        app.include_router(router)
    app.add_middleware(Guard, settings=settings, token=token, count=count, names_request=names_requests)
    if settings.allowed_origins:  # outside the guard, so that its refusals can be read there too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allowed_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Accept", "X-Request-Id"],
            expose_headers=["Location", "Retry-After", "X-Request-Id"],
        )
    return app


@cache
def page_files() -> dict[str, bytes]:
    """The files of the page by name: read once, no path of a request is ever opened."""
    folder = files("kiago_ray.service").joinpath("page")
    found = {each.name: each.read_bytes() for each in folder.iterdir() if each.name.endswith((".js", ".css"))}
    return {**found, "index.html": render("service.html.j2").encode("utf-8")}


@page.get("/")
def index(request: Request) -> Response:
    """The page."""
    return _file(request, "index.html")


@page.get("/assets/{name}")
def asset(request: Request, name: str) -> Response:
    """A script or the style of the page."""
    if name not in page_files() or name == "index.html":
        raise ProblemError(404, "there is no such file; the page is at /")
    return _file(request, name)


@page.get("/docs")
def docs(request: Request) -> Response:
    """The API's description in one page without scripts."""
    description = request.app.openapi()
    schemas = description["components"]["schemas"]
    text = render("docs.html.j2", **description, example=lambda content: _example(content, schemas))
    return Response(text, media_type="text/html; charset=utf-8")


def _file(request: Request, name: str) -> Response:
    content = page_files()[name]
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"Cache-Control": "no-cache", "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    kind = _TYPES[name.rpartition(".")[2]]
    return Response(content, media_type=f"{kind}; charset=utf-8", headers=headers)


def _example(content: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """An example of a body, its own or that of its schema; "" where there is none."""
    schema = content.get("schema", {})
    named = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
    fields = named.get("properties", {}).items()
    by_field = {name: each["examples"][0] for name, each in fields if each.get("examples")}
    example = content.get("example") or named.get("example") or by_field
    text = example if isinstance(example, str) else json.dumps(example, indent=1, ensure_ascii=False)
    return text[:_LONGEST_EXAMPLE] if example else ""
