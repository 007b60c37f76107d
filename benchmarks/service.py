"""What HTTP and Ray Serve cost: rows a second in bulk, times of a single formula, what batching gains, overload.

    python benchmarks/service.py [--seconds 10] [--overload-seconds 60]

Everything in one run on one machine, so that the ratios mean something; the client takes its share of the cores. Fails
where an answer was wrong, or anything but 200 and 429.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import httpx
import torch

from kiago_ray.api import score
from kiago_ray.cli.serve import SERVE_LOGGING
from kiago_ray.distributed.cluster import EMBEDDED, connected
from kiago_ray.models import load_models
from kiago_ray.service.settings import Limits, ServiceSettings
from kiago_ray.storage.run_directory import cpu_name

ROWS = 10_000
REPEATS = 3
CLIENTS = (1, 16, 64)
TURNS = 3


def formulas(count: int) -> list[str]:
    """Different ones, so that nothing could be remembered."""
    return [
        f"La{1 + at % 10}Ni{1 + at // 10 % 10}As{1 + at // 100 % 10}O{1 + at // 1000}" for at in range(count)
    ]


@contextmanager
def served(batch_formulas: int = 1024, **limits: int) -> Iterator[str]:
    """The service on an embedded Ray; its address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with connected(EMBEDDED), tempfile.TemporaryDirectory() as data:
        from ray import serve

        from kiago_ray.distributed.service import APPLICATION, application

        settings = ServiceSettings(
            data=data,
            known="landmarks",
            require_token=False,
            batch_formulas=batch_formulas,
            limits=Limits(**limits),
        )
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": 120},
            logging_config=SERVE_LOGGING,
        )
        serve.run(application(settings), name=APPLICATION, route_prefix="/", logging_config=SERVE_LOGGING)
        yield f"http://127.0.0.1:{port}"
        serve.shutdown()


def rows_in_process() -> float:
    """Rows a second of the models themselves."""
    models, asked = load_models(phases=None), formulas(ROWS)
    score(asked[:512], models, threads=torch.get_num_threads())
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        score(asked, models, threads=torch.get_num_threads())
        times.append(time.perf_counter() - began)
    return ROWS / min(times)


def rows_through_http(url: str) -> float:
    """Rows a second of requests with 10,000 formulas each."""
    asked, times = formulas(ROWS), []
    with httpx.Client(base_url=url, timeout=120) as client:
        for _ in range(REPEATS):
            began = time.perf_counter()
            rows = (
                client.post("/v1/predict", json={"formulas": asked}).raise_for_status().json()["predictions"]
            )
            times.append(time.perf_counter() - began)
            assert [row["formula"] for row in rows] == asked
    return ROWS / min(times)


async def load(
    url: str, clients: int, seconds: float, truth: dict[str, float] | None = None
) -> dict[str, Any]:
    """Clients that each ask for one formula after another: answers a second, times, statuses, wrong answers."""
    took: list[float] = []
    statuses: Counter[int] = Counter()
    wrong = 0
    asked = formulas(500)
    end = time.perf_counter() + seconds
    async with aiohttp.ClientSession(
        url, connector=aiohttp.TCPConnector(limit=clients), timeout=aiohttp.ClientTimeout(120)
    ) as client:  # the leanest there is: what the client takes of the cores, the service lacks

        async def ask(number: int) -> None:
            nonlocal wrong
            at = number
            while time.perf_counter() < end:
                formula = asked[at % len(asked)]
                at += clients
                began = time.perf_counter()
                async with client.post("/v1/predict", json={"formulas": [formula]}) as answer:
                    told = await answer.json(content_type=None)
                statuses[answer.status] += 1
                if answer.status == 200:
                    took.append(time.perf_counter() - began)
                    (row,) = told["predictions"]
                    right = row["formula"] == formula and (
                        truth is None or abs(row["tc_k"] - truth[formula]) < 0.01
                    )
                    wrong += not right
                else:
                    await asyncio.sleep(float(answer.headers["Retry-After"]) / 2)

        await asyncio.gather(*(ask(number) for number in range(clients)))
    took.sort()
    return {
        "clients": clients,
        "answers_a_second": round(len(took) / seconds, 1),
        "p50_ms": round(1000 * took[len(took) // 2], 1),
        "p99_ms": round(1000 * took[int(0.99 * len(took))], 1),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "wrong": wrong,
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--overload-seconds", type=float, default=60)
    given = parser.parse_args()
    found: dict[str, Any] = {"cpu": cpu_name(), "threads": torch.get_num_threads()}
    truth = dict(
        zip(
            formulas(500),
            score(formulas(500), load_models(phases=None))["tc_k"].to_pylist(),
            strict=True,
        )
    )
    found["rows_a_second_in_process"] = round(rows_in_process())
    with served(requests_per_client=1000, formulas_per_client=10**6) as url:
        asyncio.run(load(url, 4, 3))
        found["rows_a_second_http"] = round(rows_through_http(url))
        found["single"] = [asyncio.run(load(url, clients, given.seconds, truth)) for clients in CLIENTS]
    found["in_turns"] = {
        name: [] for name in ("with_batches", "without")
    }  # what else the machine does, both feel
    for turn in range(2 * TURNS):
        name, most = (("with_batches", 1024), ("without", 1))[turn % 2]
        with served(batch_formulas=most, requests_per_client=1000, formulas_per_client=10**6) as url:
            asyncio.run(load(url, 4, 3))
            found["in_turns"][name].append(asyncio.run(load(url, 64, given.seconds, truth)))
    with served(requests_per_client=100) as url:
        asyncio.run(load(url, 4, 3))
        found["overload"] = asyncio.run(load(url, 200, given.overload_seconds, truth))
    found["http_of_in_process"] = round(found["rows_a_second_http"] / found["rows_a_second_in_process"], 2)
    turns: dict[str, list[dict[str, Any]]] = found["in_turns"]
    answers = {name: sum(each["answers_a_second"] for each in turns[name]) for name in turns}
    found["batching_gains"] = round(answers["with_batches"] / answers["without"], 2)
    print(json.dumps(found, indent=1))
    loads = [*found["single"], *turns["with_batches"], *turns["without"], found["overload"]]
    if any(each["wrong"] or set(each["statuses"]) - {"200", "429"} for each in loads):
        raise SystemExit("there were wrong answers, or others than 200 and 429")


if __name__ == "__main__":
    main()
