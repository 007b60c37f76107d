"""The service on real Ray Serve over real HTTP: batches, searches, lost replicas, other models, too many requests."""

from __future__ import annotations

import json
import random
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from kiago_ray.api import score
from kiago_ray.client import Client
from kiago_ray.models import load_models
from kiago_ray.predictors.weights import load_card, load_energies, load_network, save_network, shipped_weights
from kiago_ray.search.spec import load_preset
from kiago_ray.service.jobs import JobStore
from kiago_ray.service.settings import Limits, ServiceSettings

from .strange_requests import HALF, asked, strange_request

FORMULAS = [f"Mg{1 + at % 9}B{1 + at // 9}" for at in range(54)]
TOLERANCE_K = 0.01  # a batch's other rows move the last bits


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def deploy(settings: ServiceSettings, weights: str | None = None) -> None:
    from ray import serve

    from kiago_ray.distributed.service import APPLICATION, application

    serve.run(application(settings, weights), name=APPLICATION, route_prefix="/")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> ServiceSettings:
    return ServiceSettings(
        data=str(tmp_path_factory.mktemp("service") / "data"),
        known="landmarks",
        threads=1,
        require_token=False,
        search_shard_rows=8,
        limits=Limits(requests_per_client=24, search_candidates=64, body_timeout_s=3),
    )


@pytest.fixture(scope="module")
def url(cluster: None, settings: ServiceSettings) -> Iterator[str]:
    from ray import serve

    port = free_port()
    serve.start(
        proxy_location="HeadOnly",
        http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": 60},
        logging_config={"log_level": "ERROR", "enable_access_log": False},
    )
    deploy(settings)
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


@pytest.fixture(scope="module")
def truth() -> dict[str, float]:
    values = score(FORMULAS, load_models())["tc_k"].to_pylist()
    return dict(zip(FORMULAS, values, strict=True))


def replicas(name: str) -> list[psutil.Process]:
    """The processes of a deployment's replicas, of this cluster alone."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if f"ServeReplica:kiago:{name}" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def under_load(
    url: str, truth: dict[str, float], clients: int, until: Callable[[], bool], **options: Any
) -> Counter[str]:
    """What that many clients get, each asking for one formula after another until `until` says so."""
    counts: Counter[str] = Counter()
    lock = threading.Lock()

    def ask(number: int) -> None:
        with Client(url, **options) as client:
            at = number
            while not until():
                formula = FORMULAS[at % len(FORMULAS)]
                at += 1
                try:
                    (row,) = client.predict([formula])
                    right = row["formula"] == formula and abs(row["tc_k"] - truth[formula]) < TOLERANCE_K
                    outcome = "right" if right else "wrong"
                except Exception as error:
                    outcome = str(error)
                with lock:
                    counts[outcome] += 1

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(clients)))
    return counts


def for_seconds(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def test_it_answers_as_the_predictors_do_here(url: str, truth: dict[str, float]) -> None:
    with Client(url) as client:
        rows = client.predict([*FORMULAS, "Xx2", ""])
        assert client.models()["version"]
    assert [row["formula"] for row in rows] == [*FORMULAS, "Xx2", ""]
    assert {row["formula"]: row["tc_k"] for row in rows[:-2]} == pytest.approx(truth, abs=TOLERANCE_K)
    assert "unknown element" in rows[-2]["error"]
    assert rows[-1]["error"]
    health = httpx.get(f"{url}/healthz")
    assert health.json()["status"] == "ok"
    assert len(health.headers.get_list("x-request-id")) == 1


def test_no_header_is_an_order_to_ray_serve(url: str) -> None:
    """Serve itself would give up at once for the first, wait for ever for the second, and tell the third as it is."""
    strange = {
        "X-Request-Id": "a b",
        "X-Request-Disconnect-Disabled": "?1",
        "serve_multiplexed_model_id": "\xff",
    }
    for given in ("0.0001", "0", "\xff"):
        headers = {"X-Request-Timeout-Seconds": given, **strange}
        sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        answer = httpx.post(f"{url}/v1/predict", json={"formulas": ["MgB2"]}, headers=sent, timeout=60)  # type: ignore[arg-type]
        assert answer.status_code == 200
        (request_id,) = answer.headers.get_list("x-request-id")
        assert request_id.isalnum()
    place = httpx.URL(url)
    with socket.create_connection((place.host, place.port or 0), timeout=60) as connection:
        head = (
            f"POST /v1/predict HTTP/1.1\r\nHost: {place.netloc.decode()}\r\nX-Request-Timeout-Seconds: 0\r\n"
        )
        connection.sendall(f"{head}Content-Length: 99\r\n\r\n{{".encode())
        answered = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answered.startswith(b"HTTP/1.1 408 ")
    assert b"didn't come within 3 s" in answered


@pytest.mark.long
def test_no_request_makes_it_fail(url: str, truth: dict[str, float]) -> None:
    """2,000 of all kinds: no answer is a failure, each of the service's has one id, and it lives on."""
    with Client(url) as client:
        done = client.wait(client.search(base="MgB2", candidates=8, steps=[1, 1])["id"])["id"]
    rng, place = random.Random(24), httpx.URL(url)
    requests = [strange_request(rng, done) for _ in range(2000)]
    before = [process.pid for process in replicas("Predictor")]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda request: asked((place.host, place.port or 0), request), requests))
    came = Counter((request.kind, status) for request, (status, _) in zip(requests, answers, strict=True))
    print(*sorted(came.items()), sep="\n")
    failed = [
        (request, status) for request, (status, _) in zip(requests, answers, strict=True) if status >= "5"
    ]
    assert not [each for each in failed if each[1].isdigit()], failed[:5]
    assert {"200", "400", "404", "422"} <= {status for _, status in came}
    assert came[HALF, "408"] > 10
    assert all(len(ids) == 1 for status, ids in answers if status.isdigit() and status != "400")
    assert [process.pid for process in replicas("Predictor")] == before
    assert under_load(url, truth, 4, for_seconds(1)).keys() == {"right"}


def test_a_client_is_who_connects(url: str, settings: ServiceSettings) -> None:
    """Whatever it says of others, which Serve's own server would believe of this machine's clients."""
    headers = {"X-Forwarded-For": "192.0.2.7"}
    search = {"base": "MgB2", "candidates": 8, "steps": [1, 1]}
    answer = httpx.post(f"{url}/v1/searches", json=search, headers=headers, timeout=60)
    asked = (Path(settings.data) / "searches" / answer.json()["id"] / "job.json").read_text("utf-8")
    assert json.loads(asked)["client"] == "127.0.0.1"


def test_a_request_of_thousands_goes_through_in_pieces(url: str, truth: dict[str, float]) -> None:
    with Client(url) as client:
        rows = client.predict(FORMULAS * 60)
    assert [row["formula"] for row in rows] == FORMULAS * 60
    assert max(abs(row["tc_k"] - truth[row["formula"]]) for row in rows) < TOLERANCE_K


def test_a_bad_formula_is_refused_across_processes(url: str) -> None:
    answer = httpx.post(f"{url}/v1/explain", json={"formula": "Xx2"})
    assert answer.status_code == 422
    assert "unknown element: 'Xx'" in answer.json()["detail"]
    whole = httpx.post(f"{url}/v1/explain", json={"formula": "MgB2"}, timeout=60).json()
    assert whole["neighbours"][0]["formula"] == "MgB2"


def test_requests_at_one_time_share_batches(url: str, truth: dict[str, float]) -> None:
    before = scraped()
    counts = under_load(url, truth, 16, for_seconds(4))
    assert set(counts) == {"right"}
    batches, rows = (
        scraped_at_least(name, before) - before.get(name, 0.0)
        for name in ("ray_kiago_batch_rows_count", "ray_kiago_batch_rows_sum")
    )
    assert rows / batches > 2


def scraped() -> dict[str, float]:
    """Our metrics as Prometheus reads them, summed over their tags."""
    import ray

    (node,) = (node for node in ray.nodes() if node["Alive"])
    text = httpx.get(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics", timeout=30).text
    totals: Counter[str] = Counter()
    for line in text.splitlines():
        if line.startswith("ray_kiago_"):
            name, _, value = line.rpartition(" ")
            totals[name.partition("{")[0]] += float(value)
    return dict(totals)


def scraped_at_least(name: str, before: dict[str, float]) -> float:
    """Ray exports every few seconds: waits for more than there was."""
    end = time.monotonic() + 40
    while time.monotonic() < end:
        value = scraped().get(name, 0.0)
        if value > before.get(name, 0.0):
            return value
        time.sleep(1)
    raise AssertionError(f"{name} did not rise; there are {sorted(scraped())}")


@pytest.mark.slow
def test_a_search_runs_to_its_candidates(url: str) -> None:
    with Client(url) as client:
        job = client.search(base="LaNiAsO", candidates=16, steps=[5, 5], seed=3)
        states = [each["state"] for each in client.watch(job["id"])]
        assert states[-1] == "done"
        done = client.job(job["id"])
        rows = client.candidates(job["id"])
    assert done["summary"]["rows"] == 16
    assert len(rows) == done["summary"]["unique"]
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(row["seed"] == 3 for row in rows)


@pytest.mark.slow
def test_a_search_that_runs_is_cancelled(url: str) -> None:
    with Client(url) as client:
        job = client.search(base="LaNiAsO", candidates=64, steps=[2000, 2000])
        for state in client.watch(job["id"]):
            if state["state"] == "running":
                client.cancel(job["id"])
                break
        assert client.wait(job["id"])["state"] == "cancelled"


@pytest.mark.slow
def test_a_killed_predictor_costs_time_and_no_wrong_answer(url: str, truth: dict[str, float]) -> None:
    recovered = threading.Event()

    def kill() -> None:
        time.sleep(1.5)
        (process,) = replicas("Predictor")
        process.kill()
        with Client(url, retries=40) as client:
            client.predict(["MgB2"])
        recovered.set()

    killer = threading.Thread(target=kill)
    killer.start()
    end = for_seconds(90)
    counts = under_load(url, truth, 8, lambda: recovered.is_set() or end(), retries=40)
    killer.join()
    assert recovered.is_set()
    assert set(counts) == {"right"}
    assert under_load(url, truth, 4, for_seconds(1)).keys() == {"right"}


@pytest.mark.long
def test_searches_that_wait_wake_as_many_workers_as_there_may_be(
    url: str, settings: ServiceSettings, tmp_path: Path
) -> None:
    """As after a restart: nobody submits anything to this service."""
    from ray import serve

    from kiago_ray.distributed.code import Code
    from kiago_ray.distributed.service import APPLICATION, Predictor, Searcher

    store = JobStore.of(str(tmp_path / "waiting"))
    spec = load_preset("default", {"base": "LaNiAsO", "candidates": 64, "steps": [2000, 2000]})
    for _ in range(4):
        store.submit(spec, "default", "me", 64)
    scaled = {"min_replicas": 0, "max_replicas": 2, "target_ongoing_requests": 1, "upscale_delay_s": 1}
    other, code = settings.model_copy(update={"data": store.place.text}), Code.imported()
    searcher = Searcher.options(autoscaling_config=scaled).bind(other, code)  # type: ignore[attr-defined]
    serve.run(Predictor.bind(other, code, searcher), name=APPLICATION, route_prefix="/")  # type: ignore[attr-defined]
    end = for_seconds(180)
    try:
        while (running := store.counts()["running"]) < 2 and not end():
            time.sleep(0.5)
    finally:
        for job_id in store.waiting():
            store.cancel(job_id)
        deploy(settings)
    assert running == 2


@pytest.mark.long
def test_a_killed_searcher_loses_no_search(url: str, settings: ServiceSettings) -> None:
    with Client(url) as client:
        job = client.search(base="LaNiAsO", candidates=24, steps=[80, 80])
        shards = Path(settings.data) / "searches" / job["id"] / "result" / "shards" / "search"
        end = for_seconds(120)
        while not (first := shards / "00000.json").exists() and not end():
            time.sleep(0.05)
        kept = {path: path.read_bytes() for path in shards.glob("00000*")}
        for process in replicas("Searcher"):
            process.kill()
        assert client.wait(job["id"])["state"] == "done"
        assert client.job(job["id"])["summary"]["rows"] == 24
    assert first in kept
    assert {path: path.read_bytes() for path in kept} == kept


@pytest.mark.long
def test_other_models_come_without_a_failed_request(
    url: str, truth: dict[str, float], settings: ServiceSettings, tmp_path: Path
) -> None:
    for kind in ("tc_ensemble", "tc"):
        for ending in ("json", "safetensors"):
            shutil.copy(shipped_weights() / f"{kind}.{ending}", tmp_path)
    save_network(load_network("ef"), "ef", {**load_card("ef")}, tmp_path)
    energies = load_energies()
    for member in energies.members:
        member.head.bias.data += 1.0  # eV/atom
    save_network(energies, "ef_ensemble", {**load_card("ef_ensemble")}, tmp_path)
    with Client(url) as client:
        before, old = client.models()["version"], client.predict(["MgB2"])[0]["ef_ev_per_atom"]
    switched = threading.Event()

    def switch() -> None:
        time.sleep(1)
        deploy(settings, str(tmp_path))
        switched.set()

    other = threading.Thread(target=switch)
    other.start()
    end = for_seconds(120)
    counts = under_load(url, truth, 6, lambda: switched.is_set() or end(), retries=0)
    other.join()
    assert switched.is_set()
    assert set(counts) == {"right"}
    with Client(url) as client:
        assert client.models()["version"] != before
        assert client.predict(["MgB2"])[0]["ef_ev_per_atom"] == pytest.approx(old + 1.0, abs=1e-3)
    deploy(settings)


@pytest.mark.slow
def test_more_than_a_client_may_have_is_told_when_to_come_back(url: str, truth: dict[str, float]) -> None:
    """96 clients of one address, of whom 24 may ask at a time: 200 with the right value, or 429 with Retry-After."""
    end, statuses = for_seconds(6), Counter[str]()
    lock = threading.Lock()

    def ask(number: int) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not end():
                formula = FORMULAS[number % len(FORMULAS)]
                answer = client.post("/v1/predict", json={"formulas": [formula]})
                outcome = str(answer.status_code)
                if answer.status_code == 200:
                    (row,) = answer.json()["predictions"]
                    outcome += " right" if abs(row["tc_k"] - truth[formula]) < TOLERANCE_K else " wrong"
                elif int(answer.headers["Retry-After"]) < 1:
                    outcome += " at once"
                with lock:
                    statuses[outcome] += 1

    with ThreadPoolExecutor(96) as pool:
        list(pool.map(ask, range(96)))
    assert set(statuses) == {"200 right", "429"}
