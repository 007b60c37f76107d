"""Structures on Ray workers are those of this process."""

from __future__ import annotations

import pytest

pytest.importorskip("chgnet", reason="the extra `structures` is not installed")

from kiago_ray.distributed.structures import found_on_ray
from kiago_ray.hull import EnergyHull
from kiago_ray.plausibility.model import load_prospects
from kiago_ray.structures.proposals import Request, Settings, structure_of
from kiago_ray.structures.relaxation import Potential


@pytest.mark.slow
def test_workers_find_what_this_process_finds() -> None:
    hull, odds, settings = EnergyHull.of(), load_prospects().odds, Settings(prototypes=1, modes=False)
    asked = list(enumerate([Request("NbC"), Request("Xx2"), Request("TaC")]))
    found = dict(found_on_ray(asked, settings, hull, odds, workers=1))
    assert sorted(found) == [0, 1, 2]
    here = structure_of(asked[0][1], settings, Potential(), hull, odds)
    assert found[0].relaxed is not None
    assert found[0].values["energy_ev_per_atom"] == pytest.approx(here.values["energy_ev_per_atom"], abs=1e-4)
    assert found[1].error == structure_of(asked[1][1], settings, Potential(), hull, odds).error
