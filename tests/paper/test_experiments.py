"""Cells are computed once; every method goes through the same judge, with the shipped models at the smallest size."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from kiago_ray.baselines.superdiff import SuperDiff, load_superdiff, sample
from kiago_ray.data import NONE
from kiago_ray.models import load_models
from kiago_ray.paper.experiments import EXPERIMENTS, Figures, Lab, diffusion, open_cells
from kiago_ray.paper.tables import METHODS, comparison
from kiago_ray.storage.run_directory import RunDirectoryError

NAME, ABOUT = "materials-LaNiAsO-kiago-0", {"search": {"steps": [1, 2], "beta": None}}
SIZE = (
    comparison().sizes["quick"].changed(candidates=8, steps=(2, 2)).model_copy(update={"diffusion_steps": 5})
)


def without_models(folder: Path) -> Lab:
    return Lab(cast(Any, None), cast(Any, None), open_cells(str(folder / "out"), {"weights": "a"}), SIZE)


def never() -> Figures:
    pytest.fail("it was computed again")


def found(**figures: Any) -> Callable[[], Figures]:
    return lambda: figures


def test_a_cell_is_computed_once(tmp_path: Path) -> None:
    first = without_models(tmp_path).cell(NAME, ABOUT, found(value=0.5, rows=(1, 2)))
    assert {**first, "seconds": 0} == {"value": 0.5, "rows": [1, 2], "seconds": 0}
    assert without_models(tmp_path).cell(NAME, ABOUT, never) == first


def test_another_size_lies_beside_it(tmp_path: Path) -> None:
    lab, larger = without_models(tmp_path), {"search": {"steps": [5, 5], "beta": None}}
    assert lab.cell(NAME, ABOUT, found(value=1))["value"] == 1
    assert lab.cell(NAME, larger, found(value=2))["value"] == 2
    assert [lab.cell(NAME, about, never)["value"] for about in (ABOUT, larger)] == [1, 2]


def test_a_failing_cell_leaves_nothing(tmp_path: Path) -> None:
    def compute() -> Figures:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        without_models(tmp_path).cell(NAME, ABOUT, compute)
    assert not list((tmp_path / "out" / "cells").iterdir())


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b'{"about": {}, "found": {}}',
        b'{"found": 3}',
        json.dumps({"about": ABOUT}).encode(),
        json.dumps({"about": ABOUT, "found": 3}).encode(),
        json.dumps({"about": ABOUT, "found": [["value", 1]]}).encode(),
    ],
)
def test_a_damaged_cell_is_computed_again(tmp_path: Path, content: bytes) -> None:
    lab = without_models(tmp_path)
    lab.cell(NAME, ABOUT, found(value=1))
    (file,) = (tmp_path / "out" / "cells").iterdir()
    assert json.loads(file.read_bytes())["found"]["value"] == 1
    file.write_bytes(content)
    assert lab.cell(NAME, ABOUT, found(value=2))["value"] == 2


def test_other_weights_are_refused(tmp_path: Path) -> None:
    without_models(tmp_path).cell(NAME, ABOUT, found(value=1))
    with pytest.raises(RunDirectoryError, match=r"paper\.weights is a there, b here"):
        open_cells(str(tmp_path / "out"), {"weights": "b"})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    location = open_cells(str(tmp_path_factory.mktemp("lab") / "out"), {})
    return Lab(load_models(known=NONE), load_superdiff(), location, SIZE)


def test_every_method_gives_a_cell_of_the_same_form(lab: Lab) -> None:
    found = lab.cells("sites", [("LaFeAsO", method) for method in METHODS], [0])
    assert not lab.failures
    cells = {method: found["LaFeAsO", method, 0] for method in METHODS}
    for method, cell in cells.items():
        assert cell["rows"] == 8, method
        assert cell["passed"] >= len(cell["best"])
        assert cell["base"]["tc_k"] == pytest.approx(cells["kiago"]["base"]["tc_k"])
        tc = [row["tc_k"] for row in cell["best"]]
        assert tc == sorted(tc, reverse=True)
    for method in ("kiago", "ours", "substitution"):
        assert cells[method]["right_rows"] == cells[method]["neutral_rows"] == 1


def test_what_differs_is_another_cell(lab: Lab) -> None:
    plan = EXPERIMENTS["materials"]
    abouts = [str(plan(lab, "LaNiAsO", method, 0)[0]) for method in METHODS]
    assert len(set(abouts)) == len(METHODS)
    other = replace(lab, size=SIZE.model_copy(update={"diffusion_steps": 10}))
    for method in METHODS:
        same = plan(other, "LaNiAsO", method, 0)[0] == plan(lab, "LaNiAsO", method, 0)[0]
        assert same is (method not in ("superdiff", "superdiff_cg"))


def test_guidance_weighs_a_step_as_many_times_more_as_there_are_fewer(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []

    def watched(*arguments: object, **options: object) -> object:
        weights.append(options["guidance"].weight)  # type: ignore[attr-defined]
        return sample(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("kiago_ray.paper.experiments.sample", watched)
    for steps in (5, 10):
        diffusion(lab, "LaNiAsO", 1, 1e-3, 0, steps)[1]()
    assert weights == pytest.approx([1e-3 / 256 * 200, 1e-3 / 256 * 100])


def test_models_of_formulas(lab: Lab) -> None:
    found = lab.predicted(["YBa2Cu3O7", "PoO2", "YBa2Cu3O7"])
    assert set(found) == {"YBa2Cu3O7"}
    assert set(found["YBa2Cu3O7"]) == {"tc_k", "tc_oracle_k", "ef_ev_per_atom", "e_hull_ev_per_atom"}
    assert found["YBa2Cu3O7"]["tc_k"] > 50
    assert lab.predicted(["PoO2"]) == {}


def test_a_failure_is_recorded_and_said(lab: Lab) -> None:
    said: list[str] = []
    broken = replace(lab, superdiff=SuperDiff(cast(Any, None), {"sha256": ""}), failures={}, say=said.append)
    assert not broken.cells("materials", [("LaNiAsO", "superdiff")], [3])
    assert list(broken.failures) == ["materials-LaNiAsO-superdiff-3"]
    assert said[-1].startswith("failed: materials-LaNiAsO-superdiff-3")
