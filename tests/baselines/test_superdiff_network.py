"""The network sees every place as itself; the noise is the published schedule, a step of it the posterior."""

from __future__ import annotations

import math
import sys

import pytest
import torch

from kiago_ray.baselines.superdiff import STEPS, NetworkSettings, SuperDiff, UNet, noise_scheduler
from kiago_ray.errors import InputError


@pytest.mark.parametrize(("width", "depth"), [(8, 1), (8, 2), (16, 3)])
def test_shapes_at_any_size(width: int, depth: int) -> None:
    network = UNet(NetworkSettings(width, depth))
    x, step = torch.randn(3, 120), torch.tensor([0, 500, 999])
    assert network(x, step).shape == (3, 120)
    network(x, step).square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_rows_do_not_influence_one_another_and_the_step_matters(untrained: SuperDiff) -> None:
    x = torch.randn(4, 120, generator=torch.Generator().manual_seed(0))
    step = torch.tensor([10, 400, 700, 990])
    together = untrained.network(x, step)
    for row in range(4):
        alone = untrained.network(x[row : row + 1], step[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)
    assert float((untrained.network(x, step.flip(0)) - together).abs().max()) > 1e-3


def test_elements_are_no_translations_of_one_another(untrained: SuperDiff) -> None:
    x = torch.zeros(1, 120)
    x[0, 40] = 1
    step = torch.tensor([300])
    shifted = untrained.network(x.roll(8, dims=1), step)
    assert float((shifted - untrained.network(x, step).roll(8, dims=1))[0, 30:80].abs().max()) > 1e-2


@pytest.mark.parametrize(("width", "depth"), [(12, 1), (0, 1), (1024, 1), (32, 0), (32, 9)])
def test_sizes_out_of_bounds_are_refused(width: int, depth: int) -> None:
    with pytest.raises(InputError, match="give"):
        NetworkSettings(width, depth)


def test_the_levels_are_nichol_and_dhariwals() -> None:
    levels = noise_scheduler().alphas_cumprod.double()

    def f(t: int) -> float:
        return math.cos((t / STEPS + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = [f(t + 1) / f(0) for t in range(STEPS - 1)]
    torch.testing.assert_close(levels[:-1], torch.tensor(expected, dtype=torch.float64), rtol=2e-4, atol=1e-9)
    assert 0 < float(levels[-1]) < 1e-5  # β is capped there


def test_steps_go_from_the_last_level_to_the_first() -> None:
    assert noise_scheduler().timesteps.tolist() == list(range(999, -1, -1))
    assert noise_scheduler(10).timesteps.tolist() == list(range(999, 0, -100))


def test_a_step_is_the_posterior_of_the_denoised_sample() -> None:
    """Ho et al. 2020, eq. 7, with σ² = β; v is turned into x₀ by hand."""
    scheduler = noise_scheduler()
    levels = scheduler.alphas_cumprod.double()
    generator = torch.Generator().manual_seed(0)
    x, v = (torch.randn(2, 120, generator=generator) for _ in range(2))
    for step in (1, 400, 990):
        level, before = levels[step], levels[step - 1]
        alpha = level / before
        beta = 1 - alpha
        clean = level.sqrt() * x - (1 - level).sqrt() * v
        mean = (before.sqrt() * beta * clean + alpha.sqrt() * (1 - before) * x) / (1 - level)
        generators = [torch.Generator().manual_seed(row) for row in range(2)]
        noise = torch.stack([torch.randn(120, generator=torch.Generator().manual_seed(r)) for r in range(2)])
        found = scheduler.step(v, step, x, generator=generators).prev_sample
        expected = (mean + beta.sqrt() * noise).float()
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("steps", [0, 300, 1001])
def test_steps_divide_the_levels(steps: int) -> None:
    with pytest.raises(ValueError, match="give a divisor of 1000"):
        noise_scheduler(steps)


def test_without_diffusers_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(InputError, match=r"pip install 'kiago-ray\[superdiff\]'"):
        noise_scheduler()
