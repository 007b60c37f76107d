"""Hulls of a few phases with given energies, and an empty cache for each test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from kiago_ray.hull import EnergyHull

MakeHull = Callable[[Mapping[str, float]], EnergyHull]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("KIAGO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hull"


@pytest.fixture
def make_hull(tmp_path: Path) -> MakeHull:
    """The hull of phases by formula → formation energy in eV/atom."""

    def make(phases: Mapping[str, float]) -> EnergyHull:
        path = tmp_path / "phases.csv"
        rows = "".join(f"{formula},{ef!r}\n" for formula, ef in phases.items())
        path.write_text("formula,ef_ev_per_atom\n" + rows)
        return EnergyHull.of(path, energies="file")

    return make
