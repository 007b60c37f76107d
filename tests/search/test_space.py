""""""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.autograd import gradcheck

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.search.losses import integer_loss
from kiago_ray.search.space import OpenSpace, compose, has_something, limit_mask

ROWS = 4
values = arrays(np.float32, (ROWS, N_ELEMENTS), elements=st.floats(-2, 2, width=32))
masks = arrays(np.bool_, (N_ELEMENTS,))


def const_of(**amounts: float) -> torch.Tensor:
    const = torch.zeros(N_ELEMENTS)
    for symbol, amount in amounts.items():
        const[INDEX[symbol]] = amount
    return const


def test_equation_12_by_hand() -> None:
    x_base = torch.zeros(1, N_ELEMENTS)
    x_base[0, [INDEX["La"], INDEX["Fe"], INDEX["O"], INDEX["As"]]] = torch.tensor([3.0, 1.0, 5.0, -2.0])
    mask = torch.ones(N_ELEMENTS, dtype=torch.bool)
    mask[INDEX["O"]] = False
    x = compose(x_base, const_of(H=0.2), mask)
    assert x[0, INDEX["H"]] == torch.tensor(0.2)
    assert x[0, INDEX["La"]].item() == pytest.approx(0.8 * 0.75)
    assert x[0, INDEX["Fe"]].item() == pytest.approx(0.8 * 0.25)
    assert int((x > 0).sum()) == 3


@settings(max_examples=100, deadline=None)
@given(x=values, allowed=masks, amount=st.floats(0.015625, 0.875, width=32), leak=st.booleans())
def test_sums_masks_and_fixed_amounts_hold(
    x: np.ndarray, allowed: np.ndarray, amount: float, leak: bool
) -> None:
    fixed = INDEX["H"]
    allowed[fixed] = False
    mask = torch.as_tensor(allowed)
    const = const_of(H=amount)
    found = compose(torch.as_tensor(x), const, mask, straight_through=leak)
    alive = has_something(torch.as_tensor(x), mask)
    assert torch.isfinite(found).all()
    assert (found >= 0).all()
    assert torch.equal(found[:, fixed], const[fixed].expand(ROWS))
    masked = ~mask
    masked[fixed] = False
    assert (found[:, masked] == 0).all()
    assert found.sum(dim=1)[alive].numpy() == pytest.approx(np.ones(int(alive.sum())), abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(x=values, amount=st.floats(0.015625, 0.875, width=32))
def test_a_fixed_amount_that_may_grow_is_a_floor(x: np.ndarray, amount: float) -> None:
    everything = torch.ones(N_ELEMENTS, dtype=torch.bool)
    found = compose(torch.as_tensor(x), const_of(H=amount), everything)
    assert (found[:, INDEX["H"]] >= torch.tensor(amount)).all()


def test_a_row_with_nothing_left_is_known_and_finite() -> None:
    x_base = -torch.ones(2, N_ELEMENTS)
    x_base[1, 3] = 1
    everything = torch.ones(N_ELEMENTS, dtype=torch.bool)
    assert has_something(x_base, everything).tolist() == [False, True]
    assert torch.isfinite(compose(x_base, const_of(H=0.4), everything)).all()


@pytest.mark.parametrize("leak", [False, True])
def test_gradients_match_finite_differences(leak: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    x_base = (
        torch.rand(3, N_ELEMENTS, generator=generator, dtype=torch.float64) + 0.05
    )  # away from ReLU's corner
    mask = torch.rand(3, N_ELEMENTS, generator=generator) < 0.3
    const = const_of(H=0.3).double()
    assert gradcheck(
        lambda x: compose(x, const, mask, straight_through=leak), x_base.requires_grad_(), atol=1e-6
    )


def test_absent_elements_have_the_gradient_of_coming_back_only_where_asked() -> None:
    generator = torch.Generator().manual_seed(4)
    weights = torch.rand(N_ELEMENTS, generator=generator, dtype=torch.float64)
    everything, none = torch.ones(N_ELEMENTS, dtype=torch.bool), torch.zeros(N_ELEMENTS, dtype=torch.float64)
    start = torch.zeros(1, N_ELEMENTS, dtype=torch.float64)
    start[0, :3] = 1 / 3

    def loss(x_base: torch.Tensor, leak: bool) -> torch.Tensor:
        return (compose(x_base, none, everything, straight_through=leak) * weights).sum()

    step = 1e-7
    for leak in (True, False):
        leaf = start.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaf, leak), leaf)
        for z in (0, 50, 117):
            nudged = start.clone()
            nudged[0, z] += step
            slope = (loss(nudged, leak) - loss(start, leak)).item() / step
            expected = slope if leak or z == 0 else 0.0
            assert gradient[0, z].item() == pytest.approx(expected, abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(x=values, allowed=masks, limit=st.integers(1, 12))
def test_the_limit_keeps_the_largest(x: np.ndarray, allowed: np.ndarray, limit: int) -> None:
    mask = torch.as_tensor(allowed).expand(ROWS, N_ELEMENTS)
    never = torch.zeros(N_ELEMENTS, dtype=torch.bool)
    kept = limit_mask(torch.as_tensor(x), mask, limit, never).numpy()
    for row in range(ROWS):
        present = np.where(allowed & (x[row] > 0), x[row], 0)
        expected = sorted(np.flatnonzero(present), key=lambda z: (-present[z], z))[:limit]
        assert sorted(expected) == np.flatnonzero(kept[row]).tolist()


def test_of_equal_amounts_the_lower_atomic_number_stays() -> None:
    x_base = torch.zeros(1, N_ELEMENTS)
    x_base[0, [80, 20, 60, 40]] = 0.25
    everything = torch.ones(1, N_ELEMENTS, dtype=torch.bool)
    never = torch.zeros(N_ELEMENTS, dtype=torch.bool)
    assert torch.nonzero(limit_mask(x_base, everything, 2, never)[0]).flatten().tolist() == [20, 40]


def test_elements_that_always_stay_take_no_place() -> None:
    x_base = torch.zeros(1, N_ELEMENTS)
    x_base[0, [0, 20, 40, 60]] = torch.tensor([0.7, 0.1, 0.15, 0.05])
    everything = torch.ones(1, N_ELEMENTS, dtype=torch.bool)
    always = torch.zeros(N_ELEMENTS, dtype=torch.bool)
    always[0] = True
    assert torch.nonzero(limit_mask(x_base, everything, 2, always)[0]).flatten().tolist() == [0, 20, 40]


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
