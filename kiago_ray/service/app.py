"""The HTTP application, which knows no server and no Ray: what stands before every request (its id and log line, the
token, the size of its body, how many a client may have), the routes, the page at /, the API's description at /docs.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from pydantic import IPvAnyNetwork
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kiago_ray import __version__
from kiago_ray.report.page import render
from kiago_ray.service import hull, predictions, runs, scans, searches
from kiago_ray.service.backend import Backend, Service, counted
from kiago_ray.service.jobs import JobStore
from kiago_ray.service.problems import ProblemError, handle_problems
from kiago_ray.service.problems import log as errors
from kiago_ray.service.proxy import ORDERS, REQUEST_ID, request_id_of
from kiago_ray.service.settings import ServiceSettings, is_loopback
from kiago_ray.service.tokens import Tokens

_DESCRIPTION = (
    "Critical temperatures and formation energies of compositions, how far each can be believed, and searches for "
    "compositions with a higher one. Errors are problem details (RFC 9457); 429 and 503 say in Retry-After when to "
    "come back. Where the service has a token, send it as 'Authorization: Bearer TOKEN'."
)
_LONGEST_EXAMPLE = 1500
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
RETRY_S = 1
HEALTH = "/healthz"
_STREAM = re.compile(r"/v1/searches/[^/]+/events")

log = logging.getLogger("kiago_ray.service.access")

# Open to all: it is nobody's data.
page = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

Count = Callable[[str, int, float], None]
"""Counts a request: its route, a pattern such as /v1/searches/{search_id}, its status, its seconds."""


@dataclass
class Guard:
    """Plain ASGI around the application, so that streams pass piece by piece. tokens: none where anybody may ask."""

    app: ASGIApp
    settings: ServiceSettings
    tokens: Tokens = field(default_factory=Tokens)
    count: Count | None = None
    _running: Counter[str] = field(default_factory=Counter)
    _streams: Counter[str] = field(default_factory=Counter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0
        headers, path = Headers(scope=scope), scope["path"].removeprefix(scope.get("root_path", ""))
        request_id = request_id_of(headers)
        owner = self.tokens.owner(headers.get("authorization", ""))
        client = owner or self._client(scope, headers)
        scope.setdefault("state", {}).update(request_id=request_id, client=client, owner=owner)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                sent = MutableHeaders(scope=message)
                sent[REQUEST_ID] = request_id
                for name, value in SECURITY_HEADERS.items():
                    sent.setdefault(name, value)
                sent.setdefault("Cache-Control", "no-store" if path.startswith("/v1/") else "no-cache")
            await send(message)

        try:
            with self._admitted(scope, path, headers):
                await self.app(scope, _whole_in_time(receive, self.settings.limits.body_timeout_s), answer)
        except ProblemError as refused:
            await refused.response(scope)(scope, receive, answer)
        except Exception:
            errors.exception("request %s failed", request_id)
            if status:  # the answer has begun; its end tells the client that it isn't whole
                raise
            failed = ProblemError(500, "the service failed on this request; tell its operator the request_id")
            await failed.response(scope)(scope, receive, answer)
        finally:
            route = "/assets" if path.startswith("/assets/") else getattr(scope.get("route"), "path", "other")
            seconds = time.perf_counter() - began
            if self.count is not None:
                self.count(route, status, seconds)
            line = {"request_id": request_id, "client": client, "method": scope["method"], "route": route}
            log.info(json.dumps({**line, "status": status, "ms": round(seconds * 1000, 1)}))

    def _client(self, scope: Scope, headers: Headers) -> str:
        peer = str((scope.get("client") or ("unknown",))[0])
        if self.settings.client_header and _is_in(peer, self.settings.trusted_proxies):
            # The last of all: a proxy appends who asks it, and what stands before that was sent by anybody.
            *_, last = ["", *headers.getlist(self.settings.client_header)]
            return last.rpartition(",")[2].strip()[:64] or peer
        return peer

    def _admitted(self, scope: Scope, path: str, headers: Headers) -> AbstractContextManager[None]:
        """A request counts for its client in the block. Raises ProblemError for one that may not be asked."""
        limits, owner, client = self.settings.limits, scope["state"]["owner"], scope["state"]["client"]
        if ordered := [name for name in ORDERS if name in headers]:  # no Gate took it out
            raise ProblemError(400, f"the header {ordered[0]} isn't taken here; leave it out")
        if path.startswith("/v1/") and scope["method"] != "OPTIONS" and owner is None:
            needed = "this service needs a token: send the header 'Authorization: Bearer TOKEN'"
            raise ProblemError(401, needed, headers={"WWW-Authenticate": "Bearer"})
        if not self.tokens and not self._from_here(headers):
            raise ProblemError(
                403,
                "without a token this service answers this machine's own pages alone; set a token, or name the host "
                "in allowed_hosts",
            )
        size = headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,18}", size) or int(size) > limits.body_bytes:
            many = f"a request may have {limits.body_bytes:,} bytes; send fewer formulas at a time"
            raise ProblemError(413, many)
        if path == HEALTH:  # who watches over the service hears of it, whatever else its address asks
            return nullcontext()
        running, allowed = self._running, limits.requests_per_client
        if _STREAM.fullmatch(path):
            running, allowed = self._streams, limits.streams_per_client
            if running.total() >= limits.streams:
                many = "too many watch searches now; ask for the search itself"
                raise ProblemError(429, many, retry_after_s=RETRY_S)
        if running[client] >= allowed:
            many = f"{allowed} requests of yours are running; wait for one of them"
            raise ProblemError(429, many, retry_after_s=RETRY_S)
        return counted(running, client)

    def _from_here(self, headers: Headers) -> bool:
        """Whether a request was sent to a name of this machine, and by no other site's page that a browser shows."""
        host, origin = headers.get("host", ""), headers.get("origin")
        try:
            name = urlsplit(f"//{host}").hostname or ""
            same = origin is None or urlsplit(origin).netloc == host
        except ValueError:  # such as a bracket that isn't closed
            return False
        here = is_loopback(name) or name in self.settings.allowed_hosts
        return here and (same or origin in self.settings.allowed_origins)


def _whole_in_time(receive: Receive, seconds: float) -> Receive:
    """What a client sends. Its body has to come whole in this time, whatever a server before us allows: then it raises
    HTTPException, 408, which routes let pass.
    """
    until, whole = asyncio.get_running_loop().time() + seconds, False

    async def received() -> Message:
        nonlocal whole
        try:
            async with asyncio.timeout_at(None if whole else until):
                message = await receive()
        except TimeoutError:
            late = (
                f"the request's body didn't come within {seconds:g} s; send it at once, or in smaller parts"
            )
            raise HTTPException(408, late, {"Connection": "close"}) from None
        whole = not message.get("more_body", False)
        return message

    return received


def _is_in(address: str, networks: Iterable[IPvAnyNetwork]) -> bool:
    """Whether an address is of one of these networks; a name is of none."""
    try:
        return any(ipaddress.ip_address(address) in each for each in networks)
    except ValueError:
        return False


def build_app(
    backend: Backend,
    store: JobStore,
    settings: ServiceSettings,
    *,
    count: Count | None = None,
) -> FastAPI:
    """The application on a backend and a store. count: as in Guard. Raises InputError."""
    tokens = Tokens.of(os.environ, settings.tokens, required=settings.require_token)
    app = FastAPI(
        title="kiago-ray",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # where to would be told by the header Host
        separate_input_output_schemas=False,
        max_body_size=settings.limits.body_bytes,
    )
    app.state.service = Service(backend, store, settings)
    handle_problems(app)
    for router in (predictions.router, scans.router, hull.router, searches.router, runs.router, page):
        app.include_router(router)
    app.mount("/assets", StaticFiles(packages=[("kiago_ray.service", "page")]))
    app.add_middleware(Guard, settings=settings, tokens=tokens, count=count)
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
