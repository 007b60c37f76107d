"""What each method is run with, and who judges it."""

from __future__ import annotations

import pytest

from kiago_ray.paper.tasks import Task, tasks_of
from kiago_ray.search import load_preset

CHANGES = {"candidates": 4, "seed": 1, "steps": (1, 1)}


def test_the_papers_search_is_its_preset() -> None:
    task = Task("materials", "LaNiAsO")
    assert task.search("kiago", CHANGES) == load_preset("paper", {"base": "LaNiAsO", **CHANGES})
    assert task.search("ours", CHANGES) == load_preset("open", {"base": "LaNiAsO", **CHANGES})
    assert task.judge() == load_preset("paper", {"base": "LaNiAsO"})


def test_a_site_keeps_section_3_5s_settings() -> None:
    task = Task("sites", "Bi2CaSr2Cu2O8")
    kiago, ours = task.search("kiago", CHANGES), task.search("ours", CHANGES)
    for spec in (kiago, ours):
        assert spec.substitute == {"Bi": 3}
        assert (spec.beta.start, spec.beta.end) == (0, 0)
        assert spec.projection.kind == "none"
    assert (kiago.tc_predictor, ours.tc_predictor) == ("resnet18", "ensemble")
    assert task.sites == {"Bi": 3}


def test_hydrides() -> None:
    task = Task("hydrides", "LaH10")
    assert task.kept == ("H",)
    assert task.judge().screens.names == ("neutral_atoms", "hydride", "ef_negative")
    assert task.search("ours", CHANGES).n_unit.max == 15


@pytest.mark.parametrize(("family", "bases"), [("materials", 8), ("sites", 11), ("hydrides", 5)])
def test_every_search_can_be_made(family: str, bases: int) -> None:
    tasks = tasks_of(family)  # type: ignore[arg-type]
    assert len(tasks) == bases
    for task in tasks:
        for method in ("kiago", "ours"):
            assert task.search(method, CHANGES).base == task.base  # type: ignore[arg-type]
