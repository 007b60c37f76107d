"""Structures on Ray workers are those of this process, and a row outlives the worker that it kills."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("chgnet", reason="the extra `structures` is not installed")

from pymatgen.core import Structure

from kiago_ray.distributed.structures import found_on_ray
from kiago_ray.hull import EnergyHull
from kiago_ray.plausibility.model import load_prospects
from kiago_ray.structures.proposals import Request, Settings, structure_of
from kiago_ray.structures.prototypes import Prototype, shipped
from kiago_ray.structures.relaxation import Potential

ASKED = ("NbC", "Xx2", "NbN", "ZrN", "TaC")


def killing(name: str, marker: Path | None) -> Prototype:
    """A prototype of the table that kills the process that builds it; with a marker only the first."""
    own = next(each for each in shipped() if each.name == name)

    def build() -> Structure:
        if marker is None or not marker.exists():
            if marker is not None:
                marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return own.structure

    return Prototype(name, f"own structure {name}", f"{name}.cif", own.amounts, build)


@pytest.mark.slow
def test_rows_outlive_workers_and_are_those_of_this_process(tmp_path: Path) -> None:
    hull, odds = EnergyHull.of(), load_prospects().odds
    own = (killing("NbN", tmp_path / "killed"), killing("ZrN", None))
    settings = Settings(own, prototypes=1, modes=False)
    asked = [(at, Request(each, "NbC" if each == "Xx2" else each)) for at, each in enumerate(ASKED)]
    found = {at: each.values for at, each in found_on_ray(asked, settings, hull, odds, workers=2)}
    assert sorted(found) == [0, 1, 2, 3, 4]
    made = partial(structure_of, potential=Potential(), hull=hull, odds=odds)
    here = made(asked[0][1], Settings(prototypes=1, modes=False)).values
    assert found[0]["energy_ev_per_atom"] == pytest.approx(here["energy_ev_per_atom"], abs=1e-4)
    assert "unknown element" in found[1]["error"]
    assert (tmp_path / "killed").exists()
    assert found[2]["prototype_source"] == "NbN.cif"
    assert found[3]["error"].startswith("its worker failed")
    assert found[4]["error"] is None
