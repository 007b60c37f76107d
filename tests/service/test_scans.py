"""POST /v1/scan: series with known compositions, the same numbers as /v1/predict, and limits."""

from __future__ import annotations

import pytest

from kiago_ray.data.references import doi_of

from .conftest import MakeService, Service

STRONTIUM = {"site": "La", "dopants": "Sr", "x": "0:0.2:0.05"}


def test_a_series_has_what_predict_says(service: Service) -> None:
    body = {"formula": "La2CuO4", "changes": [STRONTIUM]}
    answer = service.client.post("/v1/scan", json=body)
    assert answer.status_code == 200
    (series,) = answer.json()["series"]
    assert (series["series"], series["sites"], series["dopants"]) == ("La2-xSrxCuO4", ["La"], ["Sr"])
    asked = [point for point in series["points"] if point["on_grid"]]
    assert [point["x"] for point in asked] == [0, 0.05, 0.1, 0.15, 0.2]
    rows = service.client.post("/v1/predict", json={"formulas": [each["formula"] for each in asked]}).json()
    for point, row in zip(asked, rows["predictions"], strict=True):
        assert point["formula"] == row["formula"]
        assert point["tc_k"] == pytest.approx(row["tc_k"], abs=1e-3)
        assert point["mean_valences"] == row["mean_valences"]
    assert asked[3]["known_tc_k"] is not None
    assert all(point["known_doi"] == doi_of(point["known_reference"]) for point in series["points"])
    assert asked[0]["doubts"]


def test_limits_and_wrong_input_are_problems(make_service: MakeService) -> None:
    client = make_service(limits={"formulas": 10}).client
    for changes, message in (
        ([{**STRONTIUM, "x": "0:0.3:0.01"}], "more than the 10 of one request"),
        ([{**STRONTIUM, "site": "Pr"}], "site: 'Pr' is not in La2CuO4"),
        ([STRONTIUM] * 3, "changes"),
        ([{**STRONTIUM, "y": 1}], "y"),
    ):
        answer = client.post("/v1/scan", json={"formula": "La2CuO4", "changes": changes})
        assert answer.status_code == 422
        assert message in answer.json()["detail"]
