from __future__ import annotations

import torch

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.search.losses import integer_loss
from kiago_ray.search.space import OpenSpace, compose, has_something, limit_mask

HYDROGEN = torch.zeros(N_ELEMENTS)
HYDROGEN[INDEX["H"]] = 0.4
SPACE = OpenSpace(HYDROGEN, limit=2, always=HYDROGEN > 0, totals=torch.arange(1, 16), width=3)


def test_the_open_space_is_equations_5_to_12() -> None:
    x_base = torch.as_tensor(parse_fractions(["LaFeAsO", "La2CuO4"]), dtype=torch.float32)
    mask = torch.ones(2, N_ELEMENTS, dtype=torch.bool)
    x = SPACE.compose(x_base, mask)
    assert torch.equal(x, compose(x_base, HYDROGEN, mask))
    assert torch.equal(SPACE.has_something(x_base, mask), has_something(x_base, mask))
    assert torch.equal(SPACE.off_grid(x_base, mask, x, "l1"), integer_loss(x, SPACE.totals, "l1", 3))
    again, limited = SPACE.limited(x_base, mask)
    assert again is SPACE
    assert torch.equal(limited, limit_mask(x_base, mask, 2, HYDROGEN > 0))
