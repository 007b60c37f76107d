"""The HTTP application: what stands before the routes, the page at /, the API's description at /docs. It knows no
server and no Ray.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from kiago_ray import __version__
from kiago_ray.report.page import render
from kiago_ray.service import predictions, searches
from kiago_ray.service.backend import Backend, Service
from kiago_ray.service.guard import Count, Guard
from kiago_ray.service.jobs import JobStore
from kiago_ray.service.problems import handle_problems
from kiago_ray.service.settings import ServiceSettings, token_from

_DESCRIPTION = (
    "Critical temperatures and formation energies of compositions, how far each can be believed, and searches for "
    "compositions with a higher one. Errors are problem details (RFC 9457); 429 and 503 say in Retry-After when to "
    "come back. Where the service has a token, send it as 'Authorization: Bearer TOKEN'."
)
_LONGEST_EXAMPLE = 1500

page = APIRouter(
    include_in_schema=False, default_response_class=HTMLResponse
)  # open to all: it is nobody's data


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
    app.mount("/assets", StaticFiles(packages=[("kiago_ray.service", "page")]))
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


@page.get("/")
def index() -> str:
    """The page."""
    return render("service.html.j2")


@page.get("/docs")
def docs(request: Request) -> str:
    """The API's description in one page without scripts."""
    description = request.app.openapi()
    schemas = description["components"]["schemas"]
    return render("docs.html.j2", **description, example=lambda content: _example(content, schemas))


def _example(content: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """An example of a body, its own or that of its schema; "" where there is none."""
    schema = content.get("schema", {})
    named = schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
    fields = named.get("properties", {}).items()
    by_field = {name: each["examples"][0] for name, each in fields if each.get("examples")}
    example = content.get("example") or named.get("example") or by_field
    text = example if isinstance(example, str) else json.dumps(example, indent=1, ensure_ascii=False)
    return text[:_LONGEST_EXAMPLE] if example else ""
