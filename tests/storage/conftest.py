"""S3 over real HTTP: moto's server in front of which a test may watch, answer or hold back requests."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

Answer = tuple[str, str]
"""Status line and body of an answer that a test gives instead of the server."""


class Quiet(WSGIRequestHandler):
    """Prints no requests."""

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


@dataclass
class S3Server:
    """A server of S3. requests: (method and path, headers) of each. answer: what a test says instead of it."""

    url: str = ""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    answer: Callable[[str], Answer | None] = lambda request: None
    app: Any = field(default_factory=lambda: DomainDispatcherApplication(create_backend_app))

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        query = environ["QUERY_STRING"]
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{'?' if query else ''}{query}"
        self.requests.append((request, {k: str(v) for k, v in environ.items() if k.startswith("HTTP_")}))
        answer = None if "boto" in environ.get("HTTP_USER_AGENT", "").lower() else self.answer(request)
        if answer is None:
            return iter(self.app(environ, start))
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status, body = answer
        content = b"" if request.startswith("HEAD") else body.encode()
        start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(content)))])
        return [content]

    def client(self) -> Any:
        """boto3's view of the same buckets: nothing of pyarrow's."""
        return boto3.client("s3", endpoint_url=self.url)


@dataclass(frozen=True)
class Bucket:
    """One bucket of its own for a test."""

    server: S3Server
    name: str

    def objects(self) -> dict[str, int]:
        """Key → bytes of every object."""
        listed = self.server.client().list_objects_v2(Bucket=self.name)
        return {item["Key"]: item["Size"] for item in listed.get("Contents", [])}

    def content(self, key: str) -> bytes:
        """What an object holds."""
        return bytes(self.server.client().get_object(Bucket=self.name, Key=key)["Body"].read())


@pytest.fixture(scope="session")
def s3_process() -> Iterator[S3Server]:
    application = S3Server()
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    application.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield application
    server.shutdown()


@pytest.fixture
def s3_server(s3_process: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """The server, and an environment that names it and nothing else of AWS."""
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "dummy-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "dummy-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_process.url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    yield s3_process
    s3_process.answer = lambda request: None
    s3_process.requests.clear()


@pytest.fixture
def bucket(s3_server: S3Server) -> Bucket:
    name = f"kiago-{uuid.uuid4().hex[:12]}"
    s3_server.client().create_bucket(Bucket=name)
    s3_server.requests.clear()
    return Bucket(s3_server, name)
