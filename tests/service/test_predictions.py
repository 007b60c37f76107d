"""Formulas in and predictions out: JSON, lines of JSON, CSV say the same; what can't be read is refused."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiago_ray.api import score
from kiago_ray.models import Models
from kiago_ray.service.predictions import read_formulas, wanted, with_reasons, write
from kiago_ray.service.problems import ProblemError
from kiago_ray.service.settings import Limits

from .conftest import MakeService, Service

FORMULAS = ["MgB2", "Xx2", "LaNiAsO", "=1+1"]


def test_all_formats_say_the_same(service: Service) -> None:
    def ask(accept: str) -> str:
        answer = service.client.post("/v1/predict", json={"formulas": FORMULAS}, headers={"Accept": accept})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(accept)
        return answer.text

    rows = json.loads(ask("application/json"))["predictions"]
    assert [row["formula"] for row in rows] == FORMULAS
    assert [json.loads(line) for line in ask("application/x-ndjson").splitlines()] == rows
    lines = list(csv.DictReader(io.StringIO(ask("text/csv"))))
    assert [line["tc_k"] for line in lines] == [
        "" if row["tc_k"] is None else str(row["tc_k"]) for row in rows
    ]
    assert [line["passed"] for line in lines] == ["true", "", (rows[2]["passed"] and "true") or "false", ""]
    assert [line["known"] for line in lines] == [row["known"] or "" for row in rows]
    assert lines[3]["formula"] == "'=1+1"  # a spreadsheet must not compute it


def test_csv_comes_in_as_it_goes_out(service: Service) -> None:
    body = "\ufeffname,formula\r\na,MgB2\r\nb,\r\n\r\nc,LaNiAsO\r\n".encode()
    answer = service.client.post(
        "/v1/predict", content=body, headers={"Content-Type": "text/csv; charset=utf-8"}
    )
    rows = answer.json()["predictions"]
    assert [row["formula"] for row in rows] == ["MgB2", "", "LaNiAsO"]
    assert [row["error"] is None for row in rows] == [True, False, True]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/html, text/csv;q=0.9", "text/csv"),
        ("text/html, */*", "application/json"),
        ("text/*", "text/csv"),
    ],
)
def test_the_first_format_that_is_accepted_is_taken(accept: str, kind: str) -> None:
    assert wanted(accept) == kind


def test_what_nobody_has_is_refused(service: Service) -> None:
    answer = service.client.post("/v1/predict", json={"formulas": ["MgB2"]}, headers={"Accept": "image/png"})
    assert answer.status_code == 406
    answer = service.client.post("/v1/predict", content=b"x", headers={"Content-Type": "application/xml"})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "no JSON"),
        (b"[]", "send a list of formulas"),
        (b'{"formulas": "MgB2"}', "send a list of formulas"),
        (b'{"formulas": []}', "there are none"),
        (b'{"formulas": ["MgB2"], "model": "x"}', "unknown key"),
        (b'{"formulas": ["A", "B", "C", "D"]}', "4 are more than the 3"),
    ],
)
def test_a_wrong_body_is_told(body: bytes, told: str, make_service: MakeService) -> None:
    service = make_service(limits={"formulas": 3})
    answer = service.client.post("/v1/predict", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert told in answer.json()["detail"]
    assert answer.json()["errors"]


@pytest.mark.parametrize("accept", ["application/json", "text/csv", "application/x-ndjson"])
def test_half_a_character_is_an_error_of_its_row(accept: str, service: Service) -> None:
    body = b'{"formulas": ["MgB2", "\\ud800", {"\\udfff": 1}]}'
    headers = {"Content-Type": "application/json", "Accept": accept}
    answer = service.client.post("/v1/predict", content=body, headers=headers)
    assert answer.status_code == 200
    assert "half of a character" in answer.text
    answer = service.client.post(
        "/v1/predict", content=b'{"formulas": ["MgB2"], "\\ud800": 1}', headers=headers
    )
    assert answer.status_code == 422


def test_a_formula_that_is_too_long_is_an_error_of_its_row(make_service: MakeService) -> None:
    service = make_service(limits={"formula_length": 5})
    rows = service.client.post("/v1/predict", json={"formulas": ["LaNiAsO", "MgB2", 3]}).json()["predictions"]
    assert "5 characters" in rows[0]["error"]
    assert rows[1]["error"] is None
    assert "a formula is text" in rows[2]["error"]


@settings(max_examples=150, deadline=None)
@given(body=st.binary(max_size=60), kind=st.sampled_from(["application/json", "text/csv", "text/plain", ""]))
def test_no_bytes_are_anything_but_formulas_or_a_problem(body: bytes, kind: str) -> None:
    status, found = 200, []
    try:
        found = read_formulas(body, kind, Limits(formulas=5))
    except ProblemError as problem:
        status = problem.status
    assert 1 <= len(found) <= 5 if status == 200 else status in (415, 422)


def test_a_table_is_written_whole(models: Models) -> None:
    scores = with_reasons(score(["MgB2"] * 3, models), ["MgB2"] * 3, [None] * 3)
    assert len(json.loads(write(scores, "v", "application/json"))["predictions"]) == 3
