"""What stands in Ray Serve's proxy, before it: a header is no order to the server, and each request has one good id.

Serve calls `middlewares` in each process that listens, where RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names it.
"""

from __future__ import annotations

import os
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID = "X-Request-Id"
ORDERS = (
    "x-request-timeout-seconds",
    "x-request-disconnect-disabled",
    "x-session-id",
    "serve-multiplexed-model-id",
)
"""Headers by which Serve's proxy would have anybody lift its time limit, or choose the replica."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Gate:
    """Plain ASGI around Serve's proxy, which takes these orders, and answers with the id that it was sent, raw."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = request_id_of(Headers(scope=scope))
        dropped = (*ORDERS, REQUEST_ID.lower())
        kept = [
            each for each in scope["headers"] if each[0].decode("latin-1").replace("_", "-") not in dropped
        ]
        scope = {**scope, "headers": [*kept, (REQUEST_ID.lower().encode(), request_id.encode())]}

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        await self.app(scope, receive, answer)


def request_id_of(headers: Headers) -> str:
    """The id that a request came with, if that is one and harmless; else a new one."""
    given = headers.getlist(REQUEST_ID)
    return given[0] if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]) else uuid.uuid4().hex


def middlewares() -> list[Middleware]:
    """For Serve's proxy, before it listens. Its server would believe X-Forwarded-For of all on this machine; who is
    believed is a setting of the application.
    """
    os.environ["FORWARDED_ALLOW_IPS"] = ""
    return [Middleware(Gate)]
