from __future__ import annotations

from kiago_ray.search.result import RowStatus


def test_every_status_has_a_label_and_a_meaning() -> None:
    assert [status.label for status in RowStatus] == [
        "ok",
        "nothing_allowed",
        "not_finite",
        "no_integer_formula",
        "unknown_element",
    ]
    assert len({status.meaning for status in RowStatus}) == len(RowStatus)
