"""The low-pass filter is linear, a projection, a mean over blocks; refining takes the reference's content over."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from kiago_ray.baselines.superdiff.ilvr import low_pass, noised, refine

FACTORS = [1, 2, 3, 4, 6, 12, 120]


def rows(seed: int) -> torch.Tensor:
    return torch.randn(5, 120, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("factor", FACTORS)
def test_it_is_linear_and_a_projection(factor: int) -> None:
    x, y = rows(0), rows(1)
    torch.testing.assert_close(
        low_pass(2 * x - 3 * y, factor), 2 * low_pass(x, factor) - 3 * low_pass(y, factor)
    )
    torch.testing.assert_close(low_pass(low_pass(x, factor), factor), low_pass(x, factor))


@pytest.mark.parametrize("factor", FACTORS)
def test_it_is_the_mean_of_blocks_as_torch_pools_them(factor: int) -> None:
    x = rows(2)
    pooled = functional.avg_pool1d(x[:, None], factor)[:, 0].repeat_interleave(factor, dim=1)
    torch.testing.assert_close(low_pass(x, factor), pooled)


def test_factor_1_is_everything_and_120_the_total_alone() -> None:
    x = rows(3)
    assert torch.equal(low_pass(x, 1), x)
    torch.testing.assert_close(low_pass(x, 120), x.mean(1, keepdim=True).expand(-1, 120))


def test_refined_samples_have_the_references_low_pass_content_and_their_own_rest() -> None:
    x, y = rows(4), rows(5)
    factors = torch.tensor([1, 2, 4, 6, 2])
    refined = refine(x, y, factors)
    for row, factor in enumerate(factors.tolist()):
        one = slice(row, row + 1)
        torch.testing.assert_close(low_pass(refined[one], factor), low_pass(y[one], factor))
        torch.testing.assert_close(
            refined[one] - low_pass(refined[one], factor), x[one] - low_pass(x[one], factor)
        )
    assert torch.equal(refined[0], y[0])


def test_noise_is_added_as_diffusers_adds_it() -> None:
    from kiago_ray.baselines.superdiff.schedule import noise_scheduler

    scheduler = noise_scheduler()
    clean, noise = rows(6).float(), rows(7).float()
    for step in (0, 17, 500, 999):
        expected = scheduler.add_noise(clean, noise, torch.full((5,), step))
        torch.testing.assert_close(noised(clean, noise, scheduler.alphas_cumprod[step]), expected)


@pytest.mark.parametrize("factor", [0, -2, 7, 121])
def test_blocks_must_fill_the_places(factor: int) -> None:
    with pytest.raises(ValueError, match="give a divisor of 120"):
        low_pass(rows(0), factor)
