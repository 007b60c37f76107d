"""A web server on this machine whose every answer a test decides."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Route = Callable[[BaseHTTPRequestHandler], None]


def answer(body: bytes, *, length: int | None = -1, status: int = 200, location: str = "") -> Route:
    """A server's answer; `length` -1 announces the truth, None announces nothing."""

    def route(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        if length is not None:
            handler.send_header("Content-Length", str(len(body) if length < 0 else length))
        if location:
            handler.send_header("Location", location)
        handler.end_headers()
        handler.wfile.write(body)

    return route


class Site:
    """A web server: `site(path, route)` is the address at which it answers so."""

    def __init__(self) -> None:
        routes: dict[str, Route] = {}
        self.asked: list[str] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                routes.get(self.path, answer(b"", status=404))(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.routes = routes
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def __call__(self, path: str, route: Route) -> str:
        self.routes[path] = route
        return self.address(path)

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}{path}"
