"""Many formulas at once: their order, the bad ones among them, the same values as the models themselves."""

from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.formula import fractions, parse
from kiago_ray.predictors.base import predict
from kiago_ray.scoring import VALUES, Scorer, joined
from kiago_ray.service.models import Models

GOOD = ["MgB2", "La1.85Sr0.15CuO4", "Nb3Sn"]


@pytest.fixture(scope="module")
def scorer(models: Models) -> Scorer:
    return models.scorer


def test_the_values_are_those_of_the_models(scorer: Scorer) -> None:
    scores = scorer.score(GOOD)
    rows = np.stack([fractions(parse(each)) for each in GOOD]).astype(np.float32)
    assert scores.values["tc_k"] == pytest.approx(
        np.clip(predict(scorer.predictors.tc, rows), 0, None), abs=1e-3
    )
    assert scores.values["ef_ev_per_atom"] == pytest.approx(predict(scorer.predictors.ef, rows), abs=1e-5)
    opinions = scorer.second.of(rows)
    for name in ("tc_std_k", "tc_oracle_k", "tc_oracle_std_k", "extrapolation"):
        assert scores.values[name] == pytest.approx(getattr(opinions, name), abs=1e-3)


def test_bad_formulas_keep_their_places(scorer: Scorer) -> None:
    scores = scorer.score(["Xx", *GOOD, "", None, 7, "Og2"])
    assert scores.formulas == ("Xx", *GOOD, "", "", "", "Og2")
    assert [error is None for error in scores.errors] == [False, True, True, True, False, False, False, False]
    assert "don't know Og" in str(scores.errors[-1])
    for name in VALUES:
        assert np.isnan(scores.values[name]).tolist() == [error is not None for error in scores.errors]
    assert scores.values["tc_k"][1:4] == pytest.approx(scorer.score(GOOD).values["tc_k"], abs=1e-3)


def test_parts_join_to_the_whole(scorer: Scorer) -> None:
    whole = scorer.score([*GOOD, "Xx"])
    again = joined([whole.part(slice(0, 1)), whole.part(slice(1, 4))])
    assert (again.formulas, again.errors) == (whole.formulas, whole.errors)
    for name in VALUES:
        np.testing.assert_array_equal(again.values[name], whole.values[name])


def test_of_nothing_there_is_nothing(scorer: Scorer) -> None:
    scores = scorer.score([])
    assert scores.formulas == ()
    assert all(len(scores.values[name]) == 0 for name in VALUES)
    assert joined([]).formulas == ()
