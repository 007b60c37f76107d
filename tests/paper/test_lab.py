"""Every method through the same judge, with the shipped models at the smallest size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kiago_ray.baselines.superdiff import load_superdiff, sample
from kiago_ray.chemistry.formula import parse_amounts
from kiago_ray.data import NONE
from kiago_ray.models import load_models
from kiago_ray.paper.cells import Store
from kiago_ray.paper.lab import Lab
from kiago_ray.paper.sizes import EXPERIMENTS, QUICK
from kiago_ray.paper.tasks import METHODS, Task

SIZE = replace(
    QUICK, candidates=dict.fromkeys(EXPERIMENTS, 8), steps=(2, 2), ours_steps=(2, 2), diffusion_steps=5
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    store = Store.open(str(tmp_path_factory.mktemp("lab") / "out"), {})
    return Lab(load_models(known=NONE), store, SIZE)


def test_every_method_gives_a_cell_of_the_same_form(lab: Lab) -> None:
    task = Task("sites", "LaFeAsO")
    cells = {method: lab.one(task, method, 0) for method in METHODS}
    assert not lab.failures
    for method, cell in cells.items():
        assert cell is not None
        assert cell["rows"] == 8, method
        assert cell["passed"] >= len(cell["best"])
        assert cell["base"]["tc_k"] == pytest.approx(cells["kiago"]["base"]["tc_k"])  # type: ignore[index]
        tc = [row["tc_k"] for row in cell["best"]]
        assert tc == sorted(tc, reverse=True)
    for method in ("kiago", "ours", "substitution"):
        assert cells[method]["right_rows"] == cells[method]["neutral_rows"] == 1  # type: ignore[index]


def test_what_differs_is_another_cell(lab: Lab) -> None:
    task = Task("materials", "LaNiAsO")
    abouts = [str(lab._about(task, method, 0)) for method in METHODS]
    assert len(set(abouts)) == len(METHODS)
    other = replace(lab, size=replace(SIZE, diffusion_steps=10))
    assert other._about(task, "superdiff", 0) != lab._about(task, "superdiff", 0)
    assert other._about(task, "kiago", 0) == lab._about(task, "kiago", 0)


def test_guidance_weighs_a_step_as_many_times_more_as_there_are_fewer(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []

    def watched(*arguments: object, **options: object) -> object:
        weights.append(options["guidance"].weight)  # type: ignore[attr-defined]
        return sample(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("kiago_ray.paper.lab.sample", watched)
    for steps in (5, 10):
        lab.diffused("LaNiAsO", 1, 1e-3, 0, steps)
    assert weights == pytest.approx([1e-3 / 256 * 200, 1e-3 / 256 * 100])


def test_models_of_formulas(lab: Lab) -> None:
    found = lab.predicted(["YBa2Cu3O7", "PoO2", "YBa2Cu3O7"])
    assert set(found) == {"YBa2Cu3O7"}
    assert set(found["YBa2Cu3O7"]) == {"tc_k", "tc_oracle_k", "ef_ev_per_atom"}
    assert found["YBa2Cu3O7"]["tc_k"] > 50
    assert lab.predicted(["PoO2"]) == {}


def test_a_failure_is_recorded_and_told(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[str] = []
    monkeypatch.setattr("kiago_ray.paper.lab.load_superdiff", lambda: load_superdiff(tmp_path))
    broken = replace(lab, diffusion=None, failures={}, tell=told.append)
    assert broken.one(Task("materials", "LaNiAsO"), "superdiff", 3) is None
    assert list(broken.failures) == ["materials-LaNiAsO-superdiff-3"]
    assert told[-1].startswith("failed: materials-LaNiAsO-superdiff-3")


def test_amounts_are_atoms_as_written() -> None:
    assert parse_amounts("La2Ni2As2O2").sum() == 8
