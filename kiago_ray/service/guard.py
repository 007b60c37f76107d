"""What stands before every request: its id and log line, the token, the size of its body, how many a client may have.

Plain ASGI, so that streams pass through piece by piece.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kiago_ray.service.problems import log as errors
from kiago_ray.service.problems import problem_response
from kiago_ray.service.settings import Limits, is_loopback

log = logging.getLogger("kiago_ray.service.access")

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
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STREAM = re.compile(r"/v1/searches/[^/]+/events")


class Meter(Protocol):
    """Counts requests. route: a pattern such as /v1/searches/{search_id}, so that there are few of them."""

    def request(self, route: str, status: int, seconds: float) -> None: ...


@dataclass
class Guard:
    """The ASGI application around the application. token: None where anybody may ask.

    client_header: the header by which a trusted proxy says who asks. allowed_hosts, allowed_origins: as in settings.
    names_request: whether answers get X-Request-Id here; one that chose it gives it by itself.
    """

    app: ASGIApp
    limits: Limits
    token: str | None = None
    client_header: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    meter: Meter | None = None
    names_request: bool = True
    _running: Counter[str] = field(default_factory=Counter)
    _streams: Counter[str] = field(default_factory=Counter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        client = self._client(scope, headers)
        scope.setdefault("state", {}).update(request_id=request_id, client=client)
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                sent = MutableHeaders(scope=message)
                if self.names_request or request_id != given:
                    sent["X-Request-Id"] = request_id
                for name, value in SECURITY_HEADERS.items():
                    sent.setdefault(name, value)
                sent.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self._admitted(scope, headers, client, receive, answer)
        except Exception:
            errors.exception("request %s failed", request_id)
            if status:  # the answer has begun; its end tells the client that it isn't whole
                raise
            told = "the service failed on this request; tell its operator the request_id"
            failed = problem_response(500, told, instance=scope["path"], request_id=request_id)
            await failed(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "other")
            if self.meter is not None:
                self.meter.request(route, status, seconds)
            log.info(
                json.dumps(
                    {
                        "request_id": request_id,
                        "client": client,
                        "method": scope["method"],
                        "route": route,
                        "status": status,
                        "ms": round(seconds * 1000, 1),
                    }
                )
            )

    def _client(self, scope: Scope, headers: Headers) -> str:
        if self.client_header:
            # The last one: a proxy appends who asks it, and what stands before that was sent by anybody.
            return headers.get(self.client_header, "unknown").rpartition(",")[2].strip()[:64]
        return str((scope.get("client") or ("unknown",))[0])

    async def _admitted(
        self, scope: Scope, headers: Headers, client: str, receive: Receive, send: Send
    ) -> None:
        async def refuse(status: int, detail: str, more: dict[str, str] | None = None) -> None:
            response = problem_response(
                status,
                detail,
                instance=scope["path"],
                request_id=scope["state"]["request_id"],
                headers=more,
            )
            await response(scope, receive, send)

        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path.startswith("/v1/") and scope["method"] != "OPTIONS" and not self._knows(headers):
            await refuse(
                401,
                "this service needs a token: send the header 'Authorization: Bearer TOKEN'",
                {"WWW-Authenticate": "Bearer"},
            )
            return
        if self.token is None and not self._from_here(headers):
            await refuse(
                403,
                "without a token this service answers this machine's own pages alone; set a token, or name the host "
                "in allowed_hosts",
            )
            return
        size = headers.get("content-length", "0")
        if not size.isdigit() or int(size) > self.limits.body_bytes:
            await refuse(413, self._too_large)
            return
        counted, allowed = self._running, self.limits.requests_per_client
        if _STREAM.fullmatch(path):
            counted, allowed = self._streams, self.limits.streams_per_client
            if self._streams.total() >= self.limits.streams:
                told = "too many watch searches now; ask for the search itself"
                await refuse(429, told, {"Retry-After": str(RETRY_S)})
                return
        if counted[client] >= allowed:
            await refuse(
                429,
                f"{allowed} requests of yours are running; wait for one of them",
                {"Retry-After": str(RETRY_S)},
            )
            return
        counted[client] += 1
        try:
            whole = await self._whole(receive) if scope["method"] in ("POST", "PUT", "PATCH") else receive
            if whole is None:
                await refuse(413, self._too_large)
            else:
                await self.app(scope, whole, send)
        finally:
            counted[client] -= 1
            if not counted[client]:
                del counted[client]

    @property
    def _too_large(self) -> str:
        return f"a request may have {self.limits.body_bytes:,} bytes; send fewer formulas at a time"

    def _knows(self, headers: Headers) -> bool:
        """Whether the request has the token; as long for a wrong one as for the right one."""
        if self.token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self.token.encode())
        return scheme.lower() == "bearer" and same

    def _from_here(self, headers: Headers) -> bool:
        """Whether a request was sent to a name of this machine, and by no other site's page: without a token nothing
        else tells the owner from a page that their browser happens to show.
        """
        host = headers.get("host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if not is_loopback(name) and name not in self.allowed_hosts:
            return False
        origin = headers.get("origin")
        return origin is None or urlsplit(origin).netloc == host or origin in self.allowed_origins

    async def _whole(self, receive: Receive) -> Receive | None:
        """The body, taken in before anything works on it; None as soon as it is too long, whatever was stated."""
        messages: list[Message] = []
        taken, more = 0, True
        while more:
            message = await receive()
            messages.append(message)
            taken += len(message.get("body", b""))
            more = message.get("more_body", False)
            if taken > self.limits.body_bytes:
                return None
        waiting = iter(messages)

        async def replayed() -> Message:
            return next(waiting, None) or await receive()

        return replayed
