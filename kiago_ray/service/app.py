"""The HTTP application: routes, errors and what stands before them. It knows no server and no Ray."""

from __future__ import annotations

import os

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from kiago_ray import __version__
from kiago_ray.service.backend import Backend
from kiago_ray.service.guard import Guard, Meter
from kiago_ray.service.jobs import JobStore
from kiago_ray.service.page_routes import page_router
from kiago_ray.service.predict_routes import predict_router
from kiago_ray.service.problems import handle_problems
from kiago_ray.service.search_routes import search_router
from kiago_ray.service.settings import ServiceSettings, token_from

_DESCRIPTION = (
    "Critical temperatures and formation energies of compositions, how far each can be believed, and searches for "
    "compositions with a higher one. Errors are problem details (RFC 9457); 429 and 503 say in Retry-After when to "
    "come back. Where the service has a token, send it as 'Authorization: Bearer TOKEN'."
)


def build_app(
    backend: Backend,
    store: JobStore,
    settings: ServiceSettings,
    *,
    meter: Meter | None = None,
    names_requests: bool = True,
) -> FastAPI:
    """The application on a backend and a store. names_requests: as in Guard. Raises InputError."""
    token = token_from(os.environ, required=settings.require_token)
    app = FastAPI(
        title="kiago-ray",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    handle_problems(app)
    app.include_router(predict_router(backend, settings.limits))
    app.include_router(search_router(backend, store, settings))
    app.include_router(page_router(app))
    app.add_middleware(
        Guard,
        limits=settings.limits,
        token=token,
        client_header=settings.client_header,
        allowed_hosts=settings.allowed_hosts,
        allowed_origins=settings.allowed_origins,
        meter=meter,
        names_request=names_requests,
    )
    if settings.allowed_origins:  # outside the guard, so that its refusals can be read there too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allowed_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Accept", "X-Request-Id"],
            expose_headers=["Location", "Retry-After", "X-Request-Id"],
        )
    return app
