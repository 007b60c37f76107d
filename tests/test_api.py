"""The front door: what a search returns agrees with itself, with the predictors and with its specification."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kiago_ray import SearchSpec, load_predictors, propose, scan
from kiago_ray.api import SearchOutcome
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.hull import EnergyHull
from kiago_ray.models import Models, load_models
from kiago_ray.search import SpecError

from .conftest import known_of

SMALL = {"candidates": 24, "steps": [12, 12]}


@pytest.fixture(scope="module")
def shipped() -> Models:
    return load_models()


@pytest.fixture(scope="module")
def outcome(shipped: Models) -> SearchOutcome:
    known = known_of(["LaNiAsO", "MgB2"], [2.75, 39.0])
    return propose("LaNiAsO", preset="open", overrides=SMALL, models=replace(shipped, known=known))


def test_a_notebook_is_told_how_far_it_is_and_a_script_is_not(
    shipped: Models, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {
        "preset": "open",
        "overrides": {"candidates": 2, "steps": [2, 2]},
        "models": replace(shipped, hull=None),
    }
    propose("MgB2", **quick)  # type: ignore[arg-type]
    assert capsys.readouterr() == ("", "")
    propose("MgB2", progress=True, **quick)  # type: ignore[arg-type]
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.split(",")[0] for line in said.err.splitlines()] == [
        f"kiago: step {k}/4" for k in (1, 2, 3, 4)
    ]
    monkeypatch.setattr("sys.ps1", ">>> ", raising=False)
    propose("MgB2", **quick)  # type: ignore[arg-type]
    first, *lines = capsys.readouterr().err.split("\r")  # over one another
    assert first == ""
    assert [line.split(",")[0] for line in lines] == [f"step {k}/4" for k in (1, 2, 3, 4)]
    assert lines[-1].rstrip().endswith("0 s left")
    propose("MgB2", progress=False, **quick)  # type: ignore[arg-type]
    assert capsys.readouterr().err == ""


def test_formulas_are_scored_as_themselves(outcome: SearchOutcome) -> None:
    rows = outcome.table.to_pylist()
    x = torch.from_numpy(parse_fractions([row["formula"] for row in rows])).float()
    predictors = load_predictors()
    np.testing.assert_allclose([row["tc_k"] for row in rows], predictors.tc(x).relu(), atol=0.02)
    np.testing.assert_allclose([row["ef_ev_per_atom"] for row in rows], predictors.ef(x), atol=1e-3)


def test_rank_and_summary_agree_with_the_rows(outcome: SearchOutcome) -> None:
    rows = outcome.table.to_pylist()
    passed = [row["passed"] for row in rows]
    assert passed == sorted(passed, reverse=True)
    for part in (True, False):
        keys = [(row["trusted_tc_k"], row["tc_k"]) for row in rows if row["passed"] is part]
        assert keys == sorted(keys, reverse=True)
    summary, base = outcome.summary, outcome.summary.base
    assert base is not None
    assert base.tc_measured_k == 2.75
    assert summary.unique == len(rows)
    assert summary.passed == sum(passed)
    best = [row["tc_k"] for row in rows if row["passed"]][:10]
    if best:
        assert summary.top[0].delta_tc_k == pytest.approx(np.mean(best) - base.tc_predicted_k)
    for row in rows:
        assert row["delta_tc_k"] == pytest.approx(row["tc_k"] - base.tc_predicted_k)
        assert row["nearest_known"] in ("LaNiAsO", "MgB2")


def test_a_seed_gives_the_same_table_and_another_seed_another_one(outcome: SearchOutcome) -> None:
    again = propose("LaNiAsO", preset="open", overrides=SMALL)
    assert again.table["formula"].to_pylist() == outcome.table["formula"].to_pylist()
    assert again.table["tc_k"].to_pylist() == outcome.table["tc_k"].to_pylist()
    other = propose("LaNiAsO", preset="open", overrides={**SMALL, "seed": 1})
    assert other.table["formula"].to_pylist() != outcome.table["formula"].to_pylist()


@pytest.mark.parametrize("preset", ["default", "paper", "reference", "hydride", "substitution"])
def test_every_preset_runs(preset: str) -> None:
    extra = {"substitute": {"La": 3}} if preset == "substitution" else {}
    result = propose("LaNiAsO", preset=preset, overrides={"candidates": 8, "steps": [3, 3], **extra})
    assert result.summary.rows == 8
    assert sum(result.summary.statuses.values()) == 8
    for row in result.table.to_pylist():
        assert 0 < row["plausibility"] <= row["existence"] <= 1
        assert row["plausibility_reason"]


def test_what_cannot_run_is_refused(shipped: Models) -> None:
    with pytest.raises(SpecError, match="not both"):
        propose("LaNiAsO", spec=SearchSpec(base="MgB2"))
    with pytest.raises(SpecError, match="don't know Ra"):
        shipped.base(SearchSpec(base="RaO"))
    with pytest.raises(SpecError, match="base"):
        propose()


def test_a_hull_of_other_energies_than_the_predicted_is_refused(shipped: Models, tmp_path: Path) -> None:
    (tmp_path / "phases.csv").write_text("formula,e_form\nLa2O3,-3\n")
    hull = EnergyHull.of(tmp_path / "phases.csv", energies="file")
    with pytest.raises(SpecError, match="hull: it has a file's energies alone"):
        propose("LaNiAsO", overrides=SMALL, models=replace(shipped, hull=hull))
    bare = replace(shipped, hull=None)
    with pytest.raises(SpecError, match="near_hull needs competing phases"):
        propose("LaNiAsO", overrides={**SMALL, "screens.names": ["near_hull"]}, models=bare)


def test_a_scan_has_the_known_compositions_between_its_own(shipped: Models) -> None:
    known = known_of(["MgB2", "Mg3AlB8", "Mg0.5Al0.5B2", "Mg0.9Li0.1B2"], [39.0, 27.0, 12.0, 38.0])
    found = scan("MgB2", ("Mg", "Al", [0, 0.5, 1]), models=replace(shipped, known=known))
    rows = found.table.to_pylist()
    assert [row["formula"] for row in rows] == ["MgB2", "Mg0.75Al0.25B2", "Mg0.5Al0.5B2", "AlB2"]
    assert [row["on_grid"] for row in rows] == [True, False, True, True]
    assert [row["known_tc_k"] for row in rows] == [39.0, 27.0, 12.0, None]
    predicted = load_predictors().tc(torch.from_numpy(parse_fractions(found.formulas)).float()).relu()
    np.testing.assert_allclose([row["tc_k"] for row in rows], predicted.tolist(), atol=0.02)
