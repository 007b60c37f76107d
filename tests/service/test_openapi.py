"""Requests made from the API's own description: none ends in a failure, every answer is of a shape that it tells."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.generation import GenerationMode

from kiago_ray.models import Models
from kiago_ray.search.spec import load_preset
from kiago_ray.service.app import build_app
from kiago_ray.service.backend import Backend
from kiago_ray.service.hull import SectionView
from kiago_ray.service.jobs import JobStore, Runner
from kiago_ray.service.predictions import Explanation, Health, ModelsView, Predictions
from kiago_ray.service.problems import Problem
from kiago_ray.service.proxy import ORDERS
from kiago_ray.service.runs import RunDetail
from kiago_ray.service.searches import CandidatePage, JobList, JobView
from kiago_ray.service.settings import Limits, ServiceSettings

from .conftest import MakeService

# A specification can be wrong in more ways than a schema says, so what is refused is not held against it.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def ask_often(operation: Any, mode: GenerationMode, examples: int, statuses: Counter[int], done: str) -> None:
    """Generated requests of one operation, each answer held against the description."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        if "search_id" in (case.path_parameters or {}) and statuses.total() % 2:
            case.path_parameters["search_id"] = (
                done  # no id is guessed, and what there is has to be asked for too
            )
        for field in ("formula", "base"):  # nor is a formula
            if isinstance(case.body, dict) and field in case.body and statuses.total() % 2:
                case.body[field] = "MgB2"
        response = case.call()
        statuses[response.status_code] += 1
        case.validate_response(response, checks=CHECKS)

    with suppress(Unsatisfiable):  # what takes no input can't be asked wrongly
        ask()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("examples", "requests"),
    [(28, 500), pytest.param(112, 2000, marks=pytest.mark.long)],
)
def test_generated_requests_find_no_failure(
    models: Models, tmp_path: Path, examples: int, requests: int
) -> None:
    """examples: of each operation that takes input, as it is described; and as many that are not."""
    limits = Limits(search_candidates=8, search_row_steps=300, searches_per_client=50, stream_s=0.01)
    store = JobStore.of(str(tmp_path / "data"))
    spec = load_preset("default", {"base": "MgB2", "candidates": 8, "steps": [1, 1]})
    done = store.submit(spec, "default", "me", 8).request.id
    assert Runner(store, models).run_next()
    settings = ServiceSettings(require_token=False, allowed_hosts=("testserver",), limits=limits)
    app = build_app(Backend(models), store, settings)
    statuses: Counter[int] = Counter()
    for result in schemathesis.openapi.from_asgi("/v1/openapi.json", app).get_all_operations():
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            ask_often(result.ok(), mode, examples, statuses, done)
    print(sorted(statuses.items()))
    assert not [status for status in statuses if status >= 500]
    assert statuses.total() >= requests
    assert statuses[200] > requests / 10


PATHS = [
    "/",
    "/docs",
    "/healthz",
    "/v1/models",
    "/v1/models/",
    "/v1/runs",
    "/v1/runs/%00",
    "/v1/runs/" + "%E9" * 201,
    "/v1/runs/" + "%E9%89%84" * 201,
    "/v1/searches",
    "/v1/searches/%00",
    "/assets/app.js",
    "/assets",
    "/assets/%00",
    "/assets/" + "a" * 300,
]
POSTED = ["/v1/predict", "/v1/explain", "/v1/scan", "/v1/section", "/v1/searches"]
VALUES = [
    "",
    "[",
    "http://[",
    "http://localhost",
    "localhost",
    "[::1]",
    "0",
    "?1",
    "nan",
    "\xb2",
    "9" * 30,
    "*/*",
    "a,b",
]
NAMES = [
    "Host",
    "Origin",
    "X-Request-Id",
    "X-Forwarded-For",
    "Authorization",
    "Accept",
    "Content-Type",
    "Range",
]
LATIN = strategies.text(strategies.characters(min_codepoint=32, max_codepoint=255), max_size=20)
HEADERS = strategies.lists(
    strategies.tuples(
        strategies.sampled_from([*NAMES, "Content-Length", "If-Modified-Since", "Cookie", *ORDERS]),
        strategies.sampled_from(VALUES) | LATIN,
    ),
    max_size=6,
)


@strategies.composite
def nested(draw: strategies.DrawFn) -> bytes:
    """JSON of up to some thousand levels, below a field that some route knows."""
    depth = draw(strategies.integers(0, 100) | strategies.integers(900, 1100) | strategies.just(20_000))
    left, right = draw(strategies.sampled_from(["[ ]", '{"a": }', '[{"base": }]'])).split(" ")
    field = draw(
        strategies.sampled_from(["formulas", "formula", "base", "preset", "start", "fixed", "changes", "x"])
    )
    return f'{{"{field}": {left * depth}1{right * depth}}}'.encode()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("examples", [200, pytest.param(2000, marks=pytest.mark.long)])
@pytest.mark.parametrize("token", [None, "a-token-of-the-test-0123456789"])
def test_strange_headers_and_deep_bodies_find_no_failure(
    examples: int, token: str | None, make_service: MakeService, tmp_path: Path
) -> None:
    """Without a token the name that was asked for is looked at, with one everything behind it."""
    client = make_service(
        token=token,
        runs=str(tmp_path),
        client_header="X-Forwarded-For",
        trusted_proxies=("127.0.0.0/8",),
    ).client
    known = {} if token is None else {"Authorization": f"Bearer {token}"}
    statuses: Counter[int] = Counter()

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(
        path=strategies.sampled_from(PATHS + POSTED),
        headers=HEADERS,
        body=nested(),
        strange=strategies.booleans(),
    )
    def ask(path: str, headers: list[tuple[str, str]], body: bytes, strange: bool) -> None:
        sent = [(name.encode(), value.encode("latin-1")) for name, value in (headers if strange else [])]
        kind: Any = [
            *sent,
            (b"Content-Type", b"application/json"),
            *((k.encode(), v.encode()) for k, v in known.items()),
        ]
        method, content = ("POST", body) if path in POSTED else ("GET", None)
        statuses[client.request(method, path, content=content, headers=kind).status_code] += 1

    ask()
    print(sorted(statuses.items()))
    assert not [status for status in statuses if status >= 500]
    assert {200, 400, 422} <= set(statuses)


def test_every_answer_has_an_example_of_its_own_shape() -> None:
    shapes = [
        Problem,
        Predictions,
        Explanation,
        JobView,
        JobList,
        CandidatePage,
        ModelsView,
        Health,
        SectionView,
        RunDetail,
    ]
    for shape in shapes:
        example = shape.model_json_schema()["example"]
        assert shape.model_validate(example).model_dump(mode="json") == example
