"""POST /v1/section: heights over the hull from one composition to another."""

from __future__ import annotations

from typing import Any

import pytest

from kiago_ray.service.hull import SectionView

from .conftest import Service


def test_a_section_goes_from_phase_to_phase(service: Service) -> None:
    answer = service.client.post("/v1/section", json={"first": "La2CuO4", "last": "Sr2CuO4"})
    found: Any = SectionView.model_validate(answer.json())
    assert found.series == "La₂₋ₓSrₓCuO₄"
    first, *between, last = found.points
    assert (first.x, first.phase, first.e_hull_std_ev_per_atom) == (0, "La2CuO4", None)
    assert last.x == pytest.approx(2)
    assert all(point.e_hull_std_ev_per_atom > 0 for point in between if point.phase is None)
    ends = [(each.first_x, each.last_x) for each in found.stretches]
    assert ends[0][0] == 0
    assert ends[-1][1] == pytest.approx(2)
    assert [right for _, right in ends[:-1]] == [left for left, _ in ends[1:]]
    assert all("La2CuO4" in each.phases for each in found.stretches[:1])


@pytest.mark.parametrize(
    ("first", "last", "told"),
    [
        ("La2CuO4", "La4Cu2O8", "one composition"),
        ("La2CuO4", "Xx", "unknown element"),
        ("La2CuO4", "PoO2", "predictor doesn't know Po"),
        ("La2CuO4", "La" * 500, "too long"),
    ],
)
def test_what_has_no_section_is_told(service: Service, first: str, last: str, told: str) -> None:
    answer = service.client.post("/v1/section", json={"first": first, "last": last})
    assert answer.status_code == 422
    assert told in answer.json()["detail"]
    assert "--section" not in answer.text
