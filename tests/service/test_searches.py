"""Searches over HTTP: which may be asked for, and how many; watched, cancelled, read."""

from __future__ import annotations

import csv
import io
import json
import threading
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.search.problem import Substitutions
from kiago_ray.search.sections import SpecError
from kiago_ray.search.spec import SearchSpec, load_preset
from kiago_ray.service.searches import requested_search
from kiago_ray.service.settings import Limits

from ..conftest import models_of
from .conftest import Listen, MakeService, Service

LIMITS = Limits(search_candidates=100, search_row_steps=10_000, search_atoms=60)
SMALL = {"base": "LaNiAsO", "candidates": 8, "steps": [3, 3]}


def check(spec: SearchSpec, substitutions: Substitutions | None = None) -> None:
    """What a service does whose predictors know all elements but Og."""
    known = np.ones(N_ELEMENTS, dtype=np.bool_)
    known[INDEX["Og"]] = False
    models_of(known).check(spec, substitutions)


def submit(service: Service, **changes: Any) -> Any:
    return service.client.post("/v1/searches", json={**SMALL, **changes})


@pytest.fixture
def done(service: Service) -> tuple[Service, str]:
    """A service with a search that is done."""
    job_id = submit(service).json()["id"]
    assert service.run_searches() == 1
    return service, f"/v1/searches/{job_id}"


def test_what_is_asked_for_waits_and_is_found_where_it_says(service: Service) -> None:
    answer = submit(service)
    job = answer.json()
    assert answer.status_code == 202
    assert (job["state"], job["base"], job["candidates"], job["place_in_queue"]) == (
        "queued",
        "LaNiAsO",
        8,
        1,
    )
    assert job["spec"]["steps"] == [3, 3]
    again = service.client.get(answer.headers["Location"]).json()
    assert again == job
    assert [submit(service).json()["place_in_queue"] for _ in range(3)] == [2, 3, 4]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "no JSON"),
        (b"[" * 980 + b"]" * 980, "more than 64 levels"),
        (b"[1]", "a search is a mapping"),
        (b'{"alfa": 3}', "did you mean 'alpha'?"),
        (b'{"seed": 1,\n"seed": 2}', "body: the key 'seed' is given twice, in lines 1 and 2; give it once"),
        (b'{"base": "YBCO"}', "did you mean YBa2Cu3O7?"),
        (b'{"base": "LaNiAsO", "candidates": -1}', "candidates"),
        (b'{"preset": "../../etc"}', "choose one of"),
        (b'{"base": "LaNiAsO", "steps": [NaN, 1]}', "steps"),
        (b'{"base": "\\ud800"}', "base"),
        (b'{"\\ud800": 1}', "unable to parse raw data as a unicode string"),
        (b'{"' + b"a." * 3000 + b'b": 1}', "unknown key"),
        (b'{"base": "MgB2", "fixed": {"O": "1' + b"0" * 400 + b'/1"}}', "fixed"),
        (b'{"elements": {"forbid": [' + b'"H", ' * 200 + b'"H"]}}', "elements.forbid"),
    ],
)
def test_what_cannot_be_run_is_told(body: bytes, told: str, service: Service) -> None:
    answer = service.client.post("/v1/searches", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert service.store.ids() == []


def test_a_search_is_json(service: Service) -> None:
    answer = service.client.post(
        "/v1/searches", content=b"a: 1", headers={"Content-Type": "application/yaml"}
    )
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("limits", "status", "told"),
    [
        ({"searches_per_client": 2}, 429, "2 searches of yours"),
        ({"searches_waiting": 2}, 429, "too many searches wait"),
        ({"searches_kept": 2}, 503, "keeps no more searches"),
    ],
)
def test_there_is_an_end_to_how_many(
    limits: dict[str, int], status: int, told: str, make_service: MakeService
) -> None:
    service = make_service(limits=limits)
    assert [submit(service).status_code for _ in range(2)] == [202, 202]
    refused = submit(service)
    assert refused.status_code == status
    assert told in refused.json()["detail"]
    assert int(refused.headers["Retry-After"]) > 0
    if status == 429:
        service.client.delete(f"/v1/searches/{service.store.waiting()[0]}")
        assert submit(service).status_code == 202


def test_searches_are_listed_the_newest_first(service: Service) -> None:
    ids = [submit(service, seed=seed).json()["id"] for seed in range(3)]
    found = service.client.get("/v1/searches?limit=2").json()
    assert (found["total"], len(found["searches"])) == (3, 2)
    rest = service.client.get("/v1/searches?limit=2&offset=2").json()["searches"]
    listed = [job["id"] for job in (*found["searches"], *rest)]
    assert sorted(listed) == sorted(ids)
    assert [each[:15] for each in listed] == sorted((each[:15] for each in ids), reverse=True)
    assert all(job["spec"] is None for job in found["searches"])
    assert service.client.get("/v1/searches?limit=0").status_code == 422


def test_a_search_that_waits_is_cancelled_at_once(service: Service) -> None:
    place = submit(service).headers["Location"]
    first = service.client.delete(place)
    assert (first.status_code, first.json()["state"]) == (202, "cancelled")
    again = service.client.delete(place)
    assert (again.status_code, again.json()["state"]) == (200, "cancelled")
    assert service.run_searches() == 0
    assert service.client.get(f"{place}/candidates").status_code == 409


@pytest.mark.parametrize("job_id", ["none", "..%2F..%2Fetc", "20260101T000000000000-0123456789abcdef"])
def test_what_is_no_search_is_not_found(job_id: str, service: Service) -> None:
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/events"),
        ("GET", "/candidates"),
        ("GET", "/plots/x.png"),
    ):
        assert service.client.request(method, f"/v1/searches/{job_id}{path}").status_code == 404


def test_all_forms_of_the_candidates_are_the_same(done: tuple[Service, str]) -> None:
    service, place = done
    client = service.client
    rows = client.get(f"{place}/candidates").json()["candidates"]
    table = client.get(f"{place}/candidates?format=parquet")
    lines = list(csv.DictReader(io.StringIO(client.get(f"{place}/candidates?format=csv").text)))
    assert "attachment" in table.headers["Content-Disposition"]
    whole = pq.read_table(io.BytesIO(table.content)).to_pylist()
    assert [row["formula"] for row in rows] == [row["formula"] for row in whole]
    assert [row["formula"] for row in rows] == [line["formula"] for line in lines]
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))


def test_candidates_come_in_pages(done: tuple[Service, str]) -> None:
    service, place = done
    rows = service.client.get(f"{place}/candidates").json()["candidates"]
    page = service.client.get(f"{place}/candidates?limit=2&offset=1").json()
    assert page["candidates"] == rows[1:3]
    assert page["total"] == len(rows)
    passed = service.client.get(f"{place}/candidates?passed=true").json()["candidates"]
    assert passed == [row for row in rows if row["passed"]]
    assert service.client.get(f"{place}/candidates?limit=1001").status_code == 422


def test_plots_are_those_it_names(done: tuple[Service, str]) -> None:
    service, place = done
    names = service.client.get(place).json()["plots"]
    assert names
    for name in names:
        assert service.client.get(f"{place}/plots/{name}").content.startswith(b"\x89PNG")
    for name in ("summary.json", "..%2F..%2Fjob.json", "candidates.parquet"):
        assert service.client.get(f"{place}/plots/{name}").status_code == 404


def test_what_is_done_says_what_came_of_it(done: tuple[Service, str]) -> None:
    job = done[0].client.get(done[1]).json()
    assert (job["state"], job["progress"]["phase"]) == ("done", "done")
    assert job["summary"]["rows"] == 8
    assert job["summary"]["base"]["formula"] == "LaNiAsO"
    assert job["ended_at"] >= job["started_at"] >= job["submitted_at"]


def test_a_stream_tells_of_every_change_to_the_end(make_service: MakeService, listen: Listen) -> None:
    service = make_service(limits={"stream_s": 600})
    url = listen(service.app)
    job_id = submit(service, steps=[60, 60]).json()["id"]
    worker = threading.Thread(target=service.run_searches)
    events: list[tuple[str, dict[str, Any]]] = []
    with httpx.stream("GET", f"{url}/v1/searches/{job_id}/events", timeout=120) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
                if len(events) == 1:
                    worker.start()
    worker.join()
    states = [job["state"] for _, job in events]
    assert states == sorted(states, key=["queued", "running", "done"].index)
    assert (states[0], states[-1]) == ("queued", "done")
    assert [name for name, _ in events] == ["progress"] * (len(events) - 1) + ["end"]
    steps = [job["progress"]["done"] for _, job in events]
    assert steps == sorted(steps)


def test_a_stream_ends_after_a_while(make_service: MakeService) -> None:
    service = make_service(limits={"stream_s": 0.2})
    place = submit(service).headers["Location"]
    text = service.client.get(f"{place}/events").text
    assert text.count("event: progress") == 1
    assert "event: end" not in text


def test_a_search_within_the_limits_is_the_presets_with_its_fields() -> None:
    spec, preset = requested_search(
        {"base": "LaNiAsO", "preset": "paper", "candidates": 10, "steps": [20, 30], "n_unit": {"max": 60}},
        LIMITS,
    )
    assert preset == "paper"
    changes = {"base": "LaNiAsO", "candidates": 10, "steps": [20, 30], "n_unit": {"max": 60}}
    assert spec == load_preset("paper", changes)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"candidates": 101, "steps": [5, 5]}, "candidates: 101 are more than this service's 100"),
        (
            {"candidates": 50, "steps": [150, 1]},
            "50 rows of 151 steps, and 50 for each one's formula, are 10,050 row-steps",
        ),
        (
            {"candidates": 25, "steps": [1, 1], "charge": {"mixed_valence": True}},
            "25 rows of 2 steps, and 500 for each one's formula, are 12,550 row-steps",
        ),
        ({"n_unit": {"max": 61}}, "n_unit: 61 atoms are more than this service's 60"),
        ({"base": "Og2"}, "don't know Og"),
        ({"base": "Xx"}, "unknown element"),
        ({"alfa": 3}, "did you mean 'alpha'"),
        ({"start": {"kid": 3}}, "did you mean 'kind'"),
        ({"preset": "best.yaml"}, "preset: 'best.yaml' is none"),
        ({"preset": "/etc/passwd"}, "is none; choose one of default"),
        ({"preset": {"preset": "paper"}}, "is none"),
        ({"preset": "substitution"}, "needs a site"),
        ({"candidates": 0}, "candidates"),
        ({"base": "MgB2", "elements": {"allow": ["Og"]}}, "the mask leaves no element"),
    ],
)
def test_a_search_beyond_them_is_refused_by_name(values: dict[str, Any], told: str) -> None:
    small = {"base": "LaNiAsO", "preset": "open", "candidates": 10, "steps": [5, 5], **values}
    with pytest.raises(SpecError, match=told) as error:
        check(requested_search(small, LIMITS)[0])
    assert "\n" not in str(error.value)


def test_given_rows_count_as_candidates() -> None:
    rows = [f"MgB{number}" for number in range(1, 102)]
    with pytest.raises(SpecError, match="candidates: 101"):
        requested_search({"preset": "open", "start": {"kind": "rows", "rows": rows}, "steps": [1, 1]}, LIMITS)


def test_a_family_search_needs_what_replaces_what() -> None:
    spec, preset = requested_search({"base": "LaFeAsO", "candidates": 10, "steps": [5, 5]}, LIMITS)
    assert preset == "default"
    with pytest.raises(SpecError, match="has to be given which elements replace one another"):
        check(spec)
    odds = np.zeros((N_ELEMENTS, N_ELEMENTS))
    odds[INDEX["La"], INDEX["Ce"]] = 1.0
    known = Substitutions(odds, np.zeros(N_ELEMENTS, dtype=np.bool_))
    check(spec, known)
    foreign, _ = requested_search({"base": "OgFeAsO", "candidates": 10, "steps": [5, 5]}, LIMITS)
    with pytest.raises(SpecError, match="don't know Og"):
        check(foreign, known)
