"""Small literatures made by hand, and the shipped model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
import torch

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.plausibility.literature import Literature
from kiago_ray.plausibility.model import Prospects, load_prospects

YEAR = 2010
MakeLiterature = Callable[..., Literature]


@pytest.fixture(scope="session")
def make_literature() -> MakeLiterature:
    """`make_literature(formulas, years=..., tc_k=..., reports=...)`, of what was known before 2010."""

    def make(
        formulas: Sequence[str],
        years: Sequence[float] | None = None,
        tc_k: Sequence[float] | None = None,
        reports: Sequence[int] | None = None,
    ) -> Literature:
        n = len(formulas)
        table = pd.DataFrame(
            {
                "formula": list(formulas),
                "tc_k": [5.0] * n if tc_k is None else list(tc_k),
                "reports": [1] * n if reports is None else list(reports),
                "year_first": [2000.0] * n if years is None else list(years),
            }
        )
        return Literature.of(table, YEAR)

    return make


@pytest.fixture(scope="session")
def prospects() -> Prospects:
    return load_prospects()


def presence(symbols: str, shares: Sequence[float] | None = None) -> torch.Tensor:
    """How far elements such as "La O" are present, (1, 118); wholly unless said otherwise."""
    row = torch.zeros(1, N_ELEMENTS)
    row[0, [INDEX[symbol] for symbol in symbols.split()]] = torch.tensor(
        shares or [1.0] * len(symbols.split())
    )
    return row


def mask(symbols: str) -> np.ndarray:
    """Elements such as "La O", (118,)."""
    return presence(symbols)[0].numpy() > 0
