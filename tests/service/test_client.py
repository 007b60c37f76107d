"""The client against a real server: pages, errors, coming back when told to, what is never asked twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kiago_ray.client import Client, ServiceError


class Scripted(BaseHTTPRequestHandler):
    """Answers one after another of `answers`: a status and headers, or None: the connection breaks."""

    answers: list[tuple[int, dict[str, str]] | None]
    asked: list[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append(f"{self.command} {self.path} {self.headers.get('Authorization')}")
        answer = self.answers.pop(0)
        if answer is None:
            self.connection.close()
            return
        status, headers = answer
        body = b'{"predictions": [], "id": "1"}' if status < 400 else b'{"detail": "told", "request_id": "r"}'
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[tuple[str, type[Scripted]]]:
    class Handler(Scripted):
        answers: list[tuple[int, dict[str, str]] | None] = []  # noqa: RUF012 - a class for each test
        asked: list[str] = []  # noqa: RUF012

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", Handler
    server.shutdown()
    server.server_close()


def client_of(url: str, slept: list[float], **options: Any) -> Client:
    return Client(url, sleep=slept.append, **options)


def test_it_comes_back_when_it_is_told_to(scripted: tuple[str, type[Scripted]]) -> None:
    url, handler = scripted
    slept: list[float] = []
    handler.answers += [(429, {"Retry-After": "7"}), (503, {"Retry-After": "3"}), (503, {}), (200, {})]
    with client_of(url, slept, token="secret-token") as client:
        assert client.predict(["MgB2"]) == []
    assert [7 <= slept[0] <= 7.5, 3 <= slept[1] <= 3.5, slept[2] <= 1] == [True] * 3
    assert handler.asked == ["POST /v1/predict Bearer secret-token"] * 4


def test_a_proxy_is_asked_for_other_machines_and_never_for_this_one(
    scripted: tuple[str, type[Scripted]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = scripted
    for name in ("no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # where nobody listens
    handler.answers += [(200, {})] * 3
    for own in (url, url.replace("127.0.0.1", "localhost")):
        with client_of(own, [], retries=0) as client:
            assert client.predict(["MgB2"]) == []
    monkeypatch.setenv("http_proxy", url)
    with client_of("http://kiago.invalid", [], retries=0) as client:
        assert client.predict(["MgB2"]) == []
    assert handler.asked[-1] == "POST http://kiago.invalid/v1/predict None"


@pytest.mark.parametrize(("options", "most_s"), [({}, 60.5), ({"longest_pause_s": 5.0}, 5.5)])
def test_it_gives_up_with_what_the_service_said(
    options: dict[str, float], most_s: float, scripted: tuple[str, type[Scripted]]
) -> None:
    url, handler = scripted
    slept: list[float] = []
    handler.answers += [(429, {"Retry-After": "900"})] * 3
    with (
        client_of(url, slept, retries=2, **options) as client,
        pytest.raises(ServiceError, match="told") as error,
    ):
        client.predict(["MgB2"])
    assert (error.value.status, error.value.request_id) == (429, "r")
    assert most_s - 1 <= max(slept) <= most_s


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 500, 504])
def test_what_was_refused_is_not_asked_again(status: int, scripted: tuple[str, type[Scripted]]) -> None:
    url, handler = scripted
    handler.answers += [(status, {"Content-Type": "application/problem+json"})]
    with client_of(url, []) as client, pytest.raises(ServiceError) as error:
        client.explain("MgB2")
    assert error.value.status == status
    assert len(handler.asked) == 1


def test_what_a_lost_replica_was_asked_is_asked_again_where_nothing_is_done_twice(
    scripted: tuple[str, type[Scripted]],
) -> None:
    """Then Serve's proxy answers, in words of its own."""
    url, handler = scripted
    handler.answers += [
        (500, {"Content-Type": "text/plain"}),
        (200, {}),
        (500, {"Content-Type": "text/plain"}),
    ]
    with client_of(url, []) as client:
        assert client.predict(["MgB2"]) == []
        with pytest.raises(ServiceError):
            client.search(base="MgB2")
    assert len(handler.asked) == 3


def test_a_broken_connection_is_repaired_where_nothing_is_done_twice(
    scripted: tuple[str, type[Scripted]],
) -> None:
    url, handler = scripted
    handler.answers += [None, (200, {}), None]
    with client_of(url, []) as client:
        assert client.predict(["MgB2"]) == []
        with pytest.raises(ServiceError, match="can't be reached"):
            client.search(base="MgB2")  # it might have been taken
    assert len(handler.asked) == 3


def test_nobody_there_is_told() -> None:
    with client_of("http://127.0.0.1:9", [], retries=1) as client, pytest.raises(ServiceError) as error:
        client.models()
    assert error.value.status == 0


def test_a_search_from_a_script(make_service: Any, listen: Any, tmp_path: Path) -> None:
    service = make_service(limits={"stream_s": 0.3})
    with client_of(listen(service.app), []) as client:
        rows = client.predict(["MgB2", "Xx", "LaNiAsO", "Nb3Sn"], at_once=3)
        assert [row["formula"] for row in rows] == ["MgB2", "Xx", "LaNiAsO", "Nb3Sn"]
        assert client.explain("MgB2")["neighbours"][0]["formula"] == "MgB2"
        assert client.models()["limits"]["formulas"] == 10_000
        job = client.search(base="LaNiAsO", candidates=8, steps=[40, 40])
        worker = threading.Thread(target=service.run_searches)
        worker.start()
        done = client.wait(job["id"])  # over several streams
        worker.join()
        assert done["state"] == "done"
        best = client.candidates(job["id"], limit=3)
        assert [row["rank"] for row in best] == [1, 2, 3]
        file = client.download(job["id"], tmp_path / "all.parquet")
        assert pq.read_table(file)["formula"].to_pylist()[:3] == [row["formula"] for row in best]
        assert [each["id"] for each in client.searches()] == [job["id"]]
        assert client.cancel(job["id"])["state"] == "done"


def test_a_search_that_failed_is_an_error(make_service: Any, listen: Any) -> None:
    service = make_service()
    with client_of(listen(service.app), []) as client:
        job = client.search(base="LaNiAsO", candidates=8, steps=[4, 4])
        service.store.update(service.store.get(job["id"]), begun=3)
        service.run_searches()
        with pytest.raises(ServiceError, match="its worker was lost"):
            client.wait(job["id"])
