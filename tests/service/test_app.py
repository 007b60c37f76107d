"""The application: what stands before every request (the token, sizes, how many at once, ids and headers); the page
and the description of the API, whole, from here alone, without scripts of others.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.errors import InputError
from kiago_ray.models import Models
from kiago_ray.report.page import render
from kiago_ray.service.app import SECURITY_HEADERS
from kiago_ray.service.backend import Backend
from kiago_ray.service.proxy import ORDERS, middlewares
from kiago_ray.service.settings import Limits, ServiceSettings, is_loopback
from kiago_ray.storage.location import StorageError

from .conftest import Listen, MakeService, Service

PAGE = {each.name: each.read_text("utf-8") for each in files("kiago_ray.service").joinpath("page").iterdir()}
PAGE["index.html"] = render("service.html.j2")
TOKEN = "a-token-of-the-test-0123456789"
BODY = {"formulas": ["MgB2"]}


class Raising(Backend):
    """A backend whose predictions end with an error."""

    def __init__(self, models: Models, error: Exception | None, slow_s: float = 0.0) -> None:
        super().__init__(models)
        self.error, self.slow_s = error, slow_s

    async def score(self, formulas: Sequence[str]) -> tuple[str, Any]:
        await asyncio.sleep(self.slow_s)
        if self.error is not None:
            raise self.error
        return await super().score(formulas)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (None, 401),
        ("Bearer ", 401),
        ("Bearer wrong", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        (f"Bearer {TOKEN}x", 401),
        ("Bearer tök".encode().decode("latin-1"), 401),
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN} ", 200),
    ],
)
def test_only_the_token_opens(sent: str | None, status: int, make_service: MakeService) -> None:
    service = make_service(token=TOKEN)
    headers = {} if sent is None else {"Authorization": sent.encode("latin-1")}
    answer = service.client.get("/v1/searches", headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.headers["content-type"] == "application/problem+json"
    for path in ("/", "/docs", "/healthz", "/assets/app.js"):
        assert service.client.get(path).status_code == 200


@pytest.mark.parametrize("token", [None, "", "  ", "short"])
def test_without_a_good_token_it_does_not_start(token: str | None, make_service: MakeService) -> None:
    with pytest.raises(InputError, match="KIAGO_TOKEN"):
        make_service(token=token, require_token=True)


def test_every_answer_is_guarded(service: Service) -> None:
    for path in ("/", "/v1/models", "/v1/searches/none", "/nothing", "/assets/none.js", "/docs"):
        answer = service.client.get(path, headers={"X-Request-Id": "mine-1"})
        assert {name: answer.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert answer.headers["X-Request-Id"] == "mine-1"
    strange = service.client.get("/nothing", headers={"X-Request-Id": "a b\t<script>"})
    assert strange.headers["X-Request-Id"] == strange.json()["request_id"]
    assert strange.headers["X-Request-Id"].isalnum()
    twice = service.client.get("/nothing", headers=[("X-Request-Id", "mine-1"), ("X-Request-Id", "mine-2")])
    assert twice.headers.get_list("X-Request-Id") == [twice.json()["request_id"]]
    assert twice.json()["request_id"].isalnum()
    assert service.client.put("/v1/models").status_code == 405


def test_a_body_that_is_too_large_is_refused(make_service: MakeService, listen: Listen) -> None:
    service = make_service(limits={"body_bytes": 1000})
    large = {"formulas": ["MgB2"] * 200}
    assert service.client.post("/v1/predict", json=large).status_code == 413

    def endless() -> Iterator[bytes]:
        yield b'{"formulas": ["'
        for _ in range(500):
            yield b"x" * 100

    url = listen(service.app)
    answer = httpx.post(f"{url}/v1/predict", content=endless(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert "send fewer formulas" in answer.json()["detail"]
    assert httpx.post(f"{url}/v1/predict", json=BODY).status_code == 200


def test_a_client_has_no_more_at_once_than_it_may(
    make_service: MakeService, models: Models, listen: Listen
) -> None:
    service = make_service(
        limits={"requests_per_client": 3},
        backend=Raising(models, None, 0.8),
        client_header="X-Client",
        trusted_proxies=("127.0.0.0/8",),
    )
    url = listen(service.app)

    def ask(client: str) -> httpx.Response:
        return httpx.post(f"{url}/v1/predict", json=BODY, headers={"X-Client": client}, timeout=30)

    with ThreadPoolExecutor(12) as pool:
        mine = [pool.submit(ask, "10.0.0.1") for _ in range(8)]
        others = [pool.submit(ask, "10.0.0.2, 10.9.9.9") for _ in range(3)]
        answers = [each.result() for each in mine]
        assert [each.result().status_code for each in others] == [200] * 3
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [429] * 5
    assert all(int(each.headers["Retry-After"]) >= 1 for each in answers if each.status_code == 429)
    assert ask("10.0.0.1").status_code == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("secret at /the/inside"), 500),
        (StorageError("can't read s3://secret-bucket/x: secret"), 503),
    ],
)
def test_errors_tell_nothing_of_the_inside(
    error: Exception, status: int, make_service: MakeService, models: Models
) -> None:
    service = make_service(backend=Raising(models, error))
    answer = service.client.post("/v1/predict", json=BODY)
    assert answer.status_code == status
    assert "secret" not in answer.text
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    assert answer.headers["Content-Security-Policy"]
    assert ("Retry-After" in answer.headers) == (status != 500)


def test_a_prediction_that_takes_too_long_is_given_up(make_service: MakeService, models: Models) -> None:
    service = make_service(limits={"predict_timeout_s": 0.2}, backend=Raising(models, None, 5))
    assert service.client.post("/v1/predict", json=BODY).status_code == 504


def test_the_log_names_requests_and_nothing_else(
    make_service: MakeService, caplog: pytest.LogCaptureFixture
) -> None:
    service = make_service(token=TOKEN)
    with caplog.at_level(logging.INFO, "kiago_ray.service.access"):
        service.client.post("/v1/predict", json=BODY, headers={"Authorization": f"Bearer {TOKEN}"})
    (line,) = (record.getMessage() for record in caplog.records if record.name.endswith("access"))
    told: dict[str, Any] = json.loads(line)
    assert (told["method"], told["route"], told["status"]) == ("POST", "/v1/predict", 200)
    assert TOKEN not in line
    assert "MgB2" not in line


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/searches/x", "/v1/searches/{search_id}"),
        ("/assets/app.js", "/assets"),
        ("/assets/none.js", "/assets"),
        ("/nothing", "other"),
    ],
)
def test_requests_are_counted_by_route(
    path: str, route: str, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "kiago_ray.service.access"):
        service.client.get(path)
    assert json.loads(caplog.messages[-1])["route"] == route


def test_without_a_token_other_sites_pages_get_nothing(make_service: MakeService) -> None:
    client = make_service(allowed_hosts=("lab",)).client
    assert client.get("/v1/models").status_code == 200
    assert client.get("/v1/models", headers={"Origin": "http://localhost"}).status_code == 200
    assert client.get("/v1/models", headers={"Host": "lab:8000"}).status_code == 200
    for headers in (
        {"Origin": "https://evil.example"},
        {"Host": "evil.example"},  # a name that was pointed at this machine
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "["},
        {"Host": "[::1"},
        {"Host": "[localhost]"},
        {"Origin": "http://["},
    ):
        assert client.post("/v1/predict", json=BODY, headers=headers).status_code == 403
    with_token = make_service(token=TOKEN).client
    told = {"Host": "kiago.example", "Authorization": f"Bearer {TOKEN}"}
    assert with_token.post("/v1/predict", json=BODY, headers=told).status_code == 200


NAMED = "X-Forwarded-For"


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("10.1.2.3", ["192.0.2.7"], "192.0.2.7"),
        ("10.1.2.3", ["10.0.0.1, 192.0.2.7"], "192.0.2.7"),
        (
            "10.1.2.3",
            ["10.0.0.1", "10.0.0.2,192.0.2.7 "],
            "192.0.2.7",
        ),  # as its own line, after what was sent
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["192.0.2.7", ""], "10.1.2.3"),
        ("fd00::5", ["192.0.2.7"], "192.0.2.7"),
        ("10.2.0.1", ["192.0.2.7"], "10.2.0.1"),  # no proxy of ours
        ("testclient", ["192.0.2.7"], "testclient"),
    ],
)
def test_a_proxys_word_counts_and_not_what_came_before_it(
    peer: str, lines: list[str], client: str, make_service: MakeService, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_service(client_header=NAMED, trusted_proxies=("10.1.0.0/16", "fd00::/8")).app
    with (
        TestClient(app, base_url="http://localhost", client=(peer, 50000)) as asking,
        caplog.at_level(logging.INFO, "kiago_ray.service.access"),
    ):
        asking.get("/docs", headers=[(NAMED, line) for line in lines])
    assert json.loads(caplog.messages[-1])["client"] == client


def test_a_header_that_nobody_vouches_for_is_no_setting() -> None:
    with pytest.raises(ValidationError, match="name in trusted_proxies the networks"):
        ServiceSettings(client_header=NAMED)


@pytest.mark.parametrize("name", ORDERS)
def test_a_header_is_no_order_to_the_server(name: str, service: Service) -> None:
    answer = service.client.get("/v1/models", headers={name: "0"})
    assert answer.status_code == 400
    assert f"{name} isn't taken here" in answer.json()["detail"]


@pytest.mark.parametrize("size", ["-1", "1e3", "²", "9" * 5000, ""])
def test_a_size_that_is_none_is_refused(size: str, service: Service) -> None:
    headers = [(b"content-length", size.encode("latin-1")), (b"content-type", b"application/json")]
    assert service.client.post("/v1/predict", content=b"{}", headers=headers).status_code == 413  # type: ignore[arg-type]


def held(url: str, path: str) -> socket.socket:
    """A connection with a request of which half is sent."""
    place = urlsplit(url)
    connection = socket.create_connection((str(place.hostname), place.port or 0), timeout=30)
    head = f"POST {path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\nContent-Length: 99\r\n"
    connection.sendall(f'{head}\r\n{{"formulas": ['.encode())
    return connection


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/explain", "/v1/searches", "/v1/scan", "/v1/section"])
def test_a_body_that_does_not_come_is_not_waited_for(
    path: str, make_service: MakeService, listen: Listen
) -> None:
    with held(listen(make_service(limits={"body_timeout_s": 0.2}).app), path) as connection:
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))  # until it is closed
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"didn't come within 0.2 s" in answer


def test_the_health_of_the_service_is_told_whatever_else_runs(
    make_service: MakeService, listen: Listen
) -> None:
    url = listen(make_service(limits={"requests_per_client": 2}).app)
    with held(url, "/v1/predict"), held(url, "/v1/predict"), httpx.Client(base_url=url) as client:
        while client.get("/v1/searches").status_code != 429:  # until both hold a place
            continue
        assert client.get("/healthz").status_code == 200


def asked_through_gate(headers: list[tuple[str, str]]) -> tuple[httpx.Headers, httpx.Headers]:
    """The headers that Ray Serve gets, and those that a client gets, where it answers with the id as it came."""
    seen: list[httpx.Headers] = []

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        seen.append(httpx.Headers(scope["headers"]))
        echoed = [(b"x-request-id", value.encode()) for value in seen[0].get_list("x-request-id")]
        await send({"type": "http.response.start", "status": 204, "headers": echoed * 2})
        await send({"type": "http.response.body"})

    (gate,) = middlewares()
    answer = TestClient(gate.cls(serve)).get("/", headers=headers)
    return seen[0], answer.headers


@pytest.mark.parametrize(
    ("given", "kept"),
    [(["mine-1"], True), ([], False), (["a b<script>"], False), (["mine-1", "mine-2"], False)],
)
def test_before_the_server_each_request_has_one_good_id(
    given: list[str], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    served, answered = asked_through_gate([("X-Request-Id", each) for each in given])
    (request_id,) = served.get_list("x-request-id")
    assert answered.get_list("x-request-id") == [request_id]
    assert (request_id == "mine-1") is kept
    assert kept or request_id.isalnum()
    assert not os.environ["FORWARDED_ALLOW_IPS"]  # else uvicorn takes anybody's word on who asks


def test_before_the_server_no_order_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    others = [
        ("serve_multiplexed_model_id", "m"),
        ("X-Request-Timeout-Seconds", "0"),
        ("Accept", "text/html"),
    ]
    served, _ = asked_through_gate([*((name, "0") for name in ORDERS), *others])
    assert not {name.replace("_", "-") for name in served} & set(ORDERS)
    assert served["accept"] == "text/html"


def test_other_sites_may_ask_only_where_that_is_set(make_service: MakeService) -> None:
    origin = {"Origin": "https://lab.example.org", "Access-Control-Request-Method": "POST"}
    closed = make_service().client
    assert "access-control-allow-origin" not in closed.options("/v1/predict", headers=origin).headers
    opened = make_service(allowed_origins=("https://lab.example.org",), token=TOKEN).client
    answer = opened.options("/v1/predict", headers=origin)
    assert answer.headers["access-control-allow-origin"] == "https://lab.example.org"
    other = {**origin, "Origin": "https://evil.example.org"}
    assert "access-control-allow-origin" not in opened.options("/v1/predict", headers=other).headers
    refused = opened.post("/v1/predict", json=BODY, headers={"Origin": "https://lab.example.org"})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://lab.example.org"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("", False),
    ],
)
def test_what_only_this_machine_reaches_is_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_every_count_of_the_settings_is_bounded() -> None:
    counts = [(kind, name) for kind in (Limits, ServiceSettings) for name in kind.model_fields]
    counts = [(kind, name) for kind, name in counts if isinstance(getattr(kind(), name), int)]
    assert len(counts) > 14
    for kind, name in counts:
        if name != "require_token":
            with pytest.raises(ValidationError, match="less than or equal"):
                kind.model_validate({name: 10**13})
    with pytest.raises(ValidationError, match="less than or equal"):
        ServiceSettings.model_validate({"threads": 1025})


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
    hosts = set(re.findall(r"https?://[^\s\"'`)$]+", text))
    hosts -= {"http://www.w3.org/2000/svg", "https://doi.org/"}  # a name, and links that a person follows
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
        "/v1/scan",
        "/v1/section",
        "/v1/runs",
        "/v1/runs/{name}",
        "/v1/runs/{name}/candidates",
        "/v1/runs/{name}/files/{file}",
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
