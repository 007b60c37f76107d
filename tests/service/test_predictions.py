"""Formulas in and predictions out: JSON, lines of JSON, CSV say the same; what can't be read is refused. Of one
formula in full: slopes against finite differences, charges that add up, neighbours by brute force.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kiago_ray.api import score, score_amounts
from kiago_ray.chemistry.elements import INDEX, SYMBOLS
from kiago_ray.chemistry.formula import FormulaError, fractions, parse
from kiago_ray.models import Models
from kiago_ray.service.predictions import explained, read_formulas, wanted, with_reasons, write
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


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        (
            "predict",
            b'{"formulas": ["MgB2"],\n"formulas": ["NbN"]}',
            "the key 'formulas' is given twice, in lines 1",
        ),
        (
            "explain",
            b'{"formula": "MgB2", "formula": "NbN"}',
            "the key 'formula' is given twice; give it once",
        ),
        (
            "section",
            b'{"formula": "MgB2", "formula": "NbN"}',
            "the key 'formula' is given twice; give it once",
        ),
        ("scan", b'{"formula": "MgB2", "formula": "NbN"}', "the key 'formula' is given twice; give it once"),
        ("explain", b"\xff", "this is no JSON; send JSON in UTF-8"),
        ("explain", b"[" * 980 + b" " * 4096 + b"]" * 980, "more than 64 levels"),
        ("explain", b'{"formula": "Bi-2212"}', "did you mean Bi2Sr2CaCu2O8?"),
    ],
)
def test_what_would_mislead_is_refused(service: Service, path: str, body: bytes, told: str) -> None:
    answer = service.client.post(f"/v1/{path}", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert told in answer.json()["detail"]


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
        (b"[" * 980 + b"]" * 980, "more than 64 levels"),
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


@pytest.fixture
def tc_of(models: Models) -> Callable[[np.ndarray], float]:
    """T_c by a copy in double precision, so that small differences mean something; the models are other tests' too."""
    tc = deepcopy(models.predictors.tc).double()  # type: ignore[attr-defined]
    return lambda x: float(tc(torch.tensor(x[None], dtype=torch.float64))[0])


@pytest.mark.parametrize("formula", ["MgB2", "LaNiAsO", "YBa2Cu3O7"])
def test_slopes_are_those_of_finite_differences(
    formula: str, models: Models, tc_of: Callable[[np.ndarray], float]
) -> None:
    found = {each["symbol"]: each for each in explained(formula, models)["gradient"]}
    x = fractions(parse(formula))
    step = 1e-5
    for symbol in parse(formula):
        e = np.zeros_like(x)
        e[INDEX[symbol]] = 1.0
        up, down = ((1 - d) * x + d * e for d in (step, -step))
        slope = (tc_of(up) - tc_of(down)) / (2 * step) / 100
        assert found[symbol]["dtc_k_per_percent"] == pytest.approx(slope, rel=0.02, abs=0.02)


def test_slopes_along_the_formula_itself_are_none(models: Models) -> None:
    """(1 − δ)x + δx is x: the slopes of its elements, weighted by their fractions, add up to 0."""
    found = explained("LaNiAsO", models)
    slopes = {each["symbol"]: each["dtc_k_per_percent"] for each in found["gradient"]}
    total = sum(each["fraction"] * slopes[each["symbol"]] for each in found["elements"])
    assert total == pytest.approx(0, abs=1e-3)


def test_what_five_percent_do_is_what_the_model_predicts(models: Models) -> None:
    found = {each["symbol"]: each["tc_with_5_percent_k"] for each in explained("MgB2", models)["gradient"]}
    x = 0.95 * fractions(parse("MgB2"))
    x[INDEX["Al"]] += 0.05
    value = score_amounts(x[None], models).table["tc_k"][0].as_py()
    assert found["Al"] == pytest.approx(value, abs=1e-3)
    assert set(found) == set(SYMBOLS) - set(models.foreign)
    assert "Og" not in found


def test_neighbours_are_the_nearest_of_all(models: Models) -> None:
    found = explained("MgB2", models)["neighbours"]
    distances = np.abs(models.known.fractions - fractions(parse("MgB2"))).sum(axis=1)
    assert [each["distance"] for each in found] == pytest.approx(np.sort(distances)[:5], abs=1e-6)
    assert (found[0]["formula"], found[0]["tc_k"], found[0]["distance"]) == ("MgB2", 39.0, 0.0)


@pytest.mark.parametrize("formula", ["YBa2Cu3O7", "MgB2", "La1.85Sr0.15CuO4", "LaNiAsO"])
def test_the_oxidation_states_add_up_to_nothing(formula: str, models: Models) -> None:
    charge = explained(formula, models)["charge"]
    amounts = parse(formula)
    total, seen = 0.0, set()
    for word in charge["oxidation_states"].split():
        symbol, state, atoms = re.fullmatch(r"([A-Z][a-z]?)([+-]\d+)(?:\*([\d.]+))?", word).groups()  # type: ignore[union-attr]
        total += int(state) * (amounts[symbol] if atoms is None else float(atoms))
        seen.add(symbol)
    assert seen == set(amounts)
    assert total == pytest.approx(0, abs=1e-9)
    assert charge["balanced"]


def test_what_charges_can_say_is_said(models: Models) -> None:
    doped = explained("La1.85Sr0.15CuO4", models)["charge"]
    assert (doped["neutral"], doped["balanced"]) == (False, True)
    assert (doped["mean_valences"], doped["undoped"]) == ("Cu+2.15", False)
    assert doped["holes_per_cu"] == pytest.approx(0.15)
    assert "two oxidation states" in doped["remark"]
    parent = explained("La2CuO4", models)["charge"]
    assert parent["undoped"]
    assert "undoped as written" in parent["remark"]
    alloy = explained("Nb3Ge", models)["charge"]
    assert alloy["alloy"]
    assert "metals alone" in alloy["remark"]
    hydride = explained("H3S", models)["charge"]
    assert (hydride["neutral"], hydride["charge_kind"]) == (True, "metallic")
    assert "needn't balance" in hydride["remark"]
    assert "No likely" in explained("Ba3Cu5O2", models)["charge"]["remark"]
    odd = explained("La1.00012345Ni1O3", models)["charge"]
    assert odd["neutral"] is False  # SMACT judges whole numbers alone
    assert odd["balanced"]


def test_what_is_measured_is_known_and_what_is_far_is_flagged(models: Models) -> None:
    known, far = explained("MgB2", models), explained("FeBaRuS9Tl7", models)
    assert known["known"] == "MgB2"
    assert known["made"].startswith("COD ")
    assert not known["extrapolated"]
    assert far["known"] is far["made"] is None
    assert (far["extrapolated"], far["trusted_tc_k"]) == (True, 0.0)
    assert any(
        "extrapolation score" in each["sentence"] for each in far["reasons"] if each["side"] == "against"
    )


def test_what_cannot_be_read_is_refused(models: Models) -> None:
    with pytest.raises(FormulaError, match="unknown element"):
        explained("Xx2", models)
    with pytest.raises(FormulaError, match="don't know Og"):
        explained("OgO", models)
