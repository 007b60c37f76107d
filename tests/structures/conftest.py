from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("chgnet", reason="the extra `structures` is not installed")

from kiago_ray.hull import EnergyHull
from kiago_ray.plausibility.model import load_prospects
from kiago_ray.structures.relaxation import Potential


@pytest.fixture(scope="session")
def potential() -> Potential:
    torch.set_num_threads(1)
    return Potential()


@pytest.fixture(scope="session")
def odds() -> np.ndarray:
    return load_prospects().odds


@pytest.fixture(scope="session")
def hull() -> EnergyHull:
    return EnergyHull.of()
