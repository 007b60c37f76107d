from __future__ import annotations

import numpy as np
import pytest

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data.compositions import sparse_fractions


def test_it_reads_what_the_parser_reads() -> None:
    formulas = ["MgB2", "La1.85Sr0.15CuO4", "H", "Ba0.000001Y2Cu3O7", "Og118"]
    found = sparse_fractions(formulas)
    np.testing.assert_allclose(found.toarray(), parse_fractions(formulas), rtol=1e-15)
    assert found.nnz == sum([2, 4, 1, 4, 1])
    assert sparse_fractions([]).shape == (0, 118)


def test_a_symbol_that_is_none_is_told() -> None:
    with pytest.raises(KeyError, match="Xx"):
        sparse_fractions(["Xx2O3"])
