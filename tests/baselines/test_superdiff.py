"""SuperDiff: the network sees each place as itself; noise, ILVR, guidance, the account of T_c; wrong calls."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from kiago_ray.baselines.superdiff import (
    STEPS,
    Guidance,
    NetworkSettings,
    Samples,
    SampleStatus,
    SuperDiff,
    UNet,
    check_factor,
    cleaned,
    formulas,
    low_pass,
    mean_changes,
    noise_scheduler,
    positive_fractions,
    predicted_tc_k,
    refine,
    sample,
)
from kiago_ray.chemistry.elements import INDEX
from kiago_ray.errors import InputError
from kiago_ray.predictors.weights import load_predictors

SHORT = 10
FACTORS = [1, 2, 3, 4, 6, 12, 120]
Make = Callable[[int, float], Any]


@pytest.mark.parametrize("guided", [False, True])
def test_batches_do_not_matter_and_seeds_do(
    untrained: SuperDiff, lanthanum_base: np.ndarray, smooth: Make, guided: bool
) -> None:
    guidance = Guidance(smooth(0, 50.0), smooth(1, 2.0)) if guided else None

    def draw(count: int, batch_rows: int, seed: int = 5) -> np.ndarray:
        return sample(
            untrained,
            count,
            base=lanthanum_base,
            scale_factors=(2, 4),
            guidance=guidance,
            seed=seed,
            steps=SHORT,
            batch_rows=batch_rows,
        ).signal

    whole = draw(7, 7)
    np.testing.assert_allclose(draw(7, 3), whole, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(draw(4, 1), whole[:4], rtol=1e-3, atol=1e-4)
    assert np.array_equal(draw(7, 7), whole)
    assert np.abs(draw(7, 7, seed=6) - whole).max(axis=1).min() > 1e-2
    assert np.abs(whole[0] - whole[2]).max() > 1e-2  # of one factor, yet other noise


def test_factor_1_returns_the_base_with_the_least_noise(
    untrained: SuperDiff, lanthanum_base: np.ndarray
) -> None:
    """Whatever the network says; the lowest level's noise is 0.0064."""
    samples = sample(untrained, 40, base=lanthanum_base, scale_factors=(1,), seed=0, steps=SHORT)
    noise = samples.signal - lanthanum_base
    assert np.abs(noise).max() < 0.04
    assert noise.std() == pytest.approx(0.0064, rel=0.1)
    assert samples.counts() == {"ok": 40, "empty": 0, "diverged": 0}
    for amounts in samples.amounts:
        assert set(np.flatnonzero(amounts)) == set(np.flatnonzero(lanthanum_base))


def test_the_bases_low_pass_content_is_kept_at_each_factor(
    untrained: SuperDiff, lanthanum_base: np.ndarray, smooth: Make
) -> None:
    guidance = Guidance(smooth(0, 50.0), smooth(1, 2.0), weight=1.0)
    samples = sample(untrained, 8, base=lanthanum_base, guidance=guidance, seed=0, steps=SHORT)
    assert samples.scale_factors.tolist() == [1, 2, 4, 6] * 2
    base = torch.nn.functional.pad(torch.from_numpy(lanthanum_base).float()[None], (0, 2))
    signal = torch.nn.functional.pad(torch.from_numpy(samples.signal), (0, 2))
    for row, factor in enumerate(samples.scale_factors.tolist()):
        kept = low_pass(signal[row : row + 1], factor) - low_pass(base, factor)
        whole = slice(0, 118 - 118 % factor)  # the last block holds places that are no element
        assert float(kept[0, whole].abs().max()) < 0.04
    assert np.abs(samples.signal[1::4] - lanthanum_base).max() > 0.1


@pytest.mark.parametrize(
    ("conditioned", "guided"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_the_account_adds_up(
    untrained: SuperDiff, lanthanum_base: np.ndarray, smooth: Make, conditioned: bool, guided: bool
) -> None:
    tc = smooth(0, 50.0)
    samples = sample(
        untrained,
        6,
        base=lanthanum_base if conditioned else None,
        guidance=Guidance(tc, smooth(1, 2.0), weight=0.05) if guided else None,
        seed=1,
        steps=SHORT,
        batch_rows=4,
        account=tc,
    )
    changes = samples.changes
    assert changes is not None
    total = changes["denoise"] + changes["guide"] + changes["ilvr"]
    np.testing.assert_allclose(changes["start"] + total, changes["end"], atol=1e-9)
    positive = np.clip(samples.signal, 0, None)
    parts = torch.from_numpy(positive / positive.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(changes["end"], tc(parts).relu().numpy(), rtol=1e-4, atol=1e-3)
    assert bool(changes["ilvr"].any()) is conditioned
    assert bool(changes["guide"].any()) is guided
    means = mean_changes(changes)
    assert means["sum"] == pytest.approx(float((changes["end"] - changes["start"]).mean()))
    unasked = sample(untrained, 1, seed=1, steps=2)
    assert unasked.changes is None


def test_guidance_raises_what_it_climbs(untrained: SuperDiff, smooth: Make) -> None:
    tc, ef = smooth(0, 50.0), smooth(1, 2.0)

    def draw(weight: float) -> Any:
        guidance = Guidance(tc, ef, weight=weight)
        return sample(untrained, 16, guidance=guidance, seed=2, steps=SHORT, account=tc).changes

    little, much = draw(1e-4), draw(1e-1)
    assert 0 < little["guide"].mean() < much["guide"].mean()
    assert much["end"].mean() > little["end"].mean()


def test_amounts_are_cleaned_by_the_rule_and_nothing_is_hidden() -> None:
    signal = np.zeros((4, 118), dtype=np.float32)
    names = {"La": 1.0, "Ni": 0.9949, "As": 0.9871, "O": 1.0129, "H": 0.0499, "F": -0.3, "Fe": 0.0501}
    for symbol, amount in names.items():
        signal[0, INDEX[symbol]] = amount
    signal[1] = -1
    signal[2, 3] = np.nan
    signal[3, 3] = 2e9
    amounts, status = cleaned(signal)
    assert status.tolist() == [0, 1, 2, 2]
    assert not amounts[1:].any()
    samples = Samples(amounts, status, signal, np.zeros(4, dtype=np.int64))
    assert samples.counts() == {"ok": 1, "empty": 1, "diverged": 2}
    assert formulas(samples) == ["LaFe0.05Ni0.99As0.99O1.01"]
    assert SampleStatus(status[1]) is SampleStatus.EMPTY


def test_progress_counts_every_step(untrained: SuperDiff) -> None:
    seen: list[tuple[int, int]] = []
    sample(untrained, 5, seed=0, steps=4, batch_rows=2, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(done, 12) for done in range(1, 13)]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"count": 0}, "count is 0"),
        ({"batch_rows": 0}, "batch_rows is 0"),
        ({"steps": 1001}, "steps is 1001"),
        ({"steps": 300}, "give a divisor of 1000"),
        ({"seed": -1}, "seed is -1"),
        ({"scale_factors": (2, 7)}, "scale factor is 7"),
        ({"scale_factors": ()}, r"scale_factors is \(\): give at least one"),
        ({"base": np.zeros(118)}, "holds no atoms"),
        ({"base": np.full(118, -1.0)}, "not negative"),
        ({"base": np.full(118, np.nan)}, "finite"),
        ({"base": np.ones(86)}, r"\(1, 86\)"),
    ],
)
def test_a_wrong_call_is_told_what_to_change(
    untrained: SuperDiff, wrong: dict[str, Any], message: str
) -> None:
    call: dict[str, Any] = {"count": 1, "seed": 0, "steps": 1, **wrong}
    with pytest.raises(InputError, match=message):
        sample(untrained, **call)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_what_the_cpu_gives(untrained: SuperDiff, lanthanum_base: np.ndarray) -> None:
    def draw(device: str) -> np.ndarray:
        return sample(untrained, 6, base=lanthanum_base, seed=3, steps=SHORT, device=device).signal

    np.testing.assert_allclose(draw("cuda"), draw("cpu"), rtol=1e-2, atol=1e-2)


def noisy(rows: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(11)
    x = torch.randn(rows, 120, generator=generator, dtype=dtype)
    return x + 0.05 * x.sign()  # no place so near 0 that a small step would cross it


def test_the_slope_is_the_derivative(smooth: Make) -> None:
    guidance = Guidance(smooth(0, 50.0), smooth(1, 2.0), alpha=4.0)
    x = noisy(3)
    slope = guidance.slope(x)

    def loss(at: torch.Tensor) -> torch.Tensor:
        parts, _ = positive_fractions(at)
        return guidance.alpha * guidance.ef(parts) - guidance.tc(parts)

    step = 1e-5
    for place in range(120):
        shift = torch.zeros(120, dtype=torch.float64)
        shift[place] = step
        difference = (loss(x + shift) - loss(x - shift)) / (2 * step)
        torch.testing.assert_close(slope[:, place], difference, rtol=1e-5, atol=1e-7)
    assert not slope[:, 118:].any()  # the two places that are no element


def test_a_step_down_the_slope_lowers_the_loss_of_the_shipped_predictors() -> None:
    predictors = load_predictors()
    guidance = Guidance(predictors.named("resnet18"), predictors.ef)
    x = noisy(16, torch.float32)
    slope = guidance.slope(x)
    scale = 1e-3 / slope.square().sum(dim=1, keepdim=True).sqrt()

    def loss(at: torch.Tensor) -> torch.Tensor:
        parts, _ = positive_fractions(at)
        return guidance.alpha * guidance.ef(parts) - guidance.tc(parts)

    assert int((loss(x - scale * slope) < loss(x)).sum()) >= 15  # one may sit on a kink
    assert bool((predicted_tc_k(guidance.tc, x) >= 0).all())


def test_rows_of_nothing_have_no_slope_and_leave_others_alone(smooth: Make) -> None:
    guidance = Guidance(smooth(0, 50.0), smooth(1, 2.0))
    x = noisy(3)
    alone = guidance.slope(x[:1])
    x[1] = -x[1].abs()
    slope = guidance.slope(x)
    assert not slope[1].any()
    assert float(predicted_tc_k(guidance.tc, x)[1]) == 0
    torch.testing.assert_close(slope[0], alone[0])
    parts, alive = positive_fractions(x)
    assert alive.tolist() == [True, False, True]
    torch.testing.assert_close(parts.sum(1), torch.tensor([1.0, 0, 1], dtype=torch.float64))


@pytest.mark.parametrize("wrong", [{"alpha": -1.0}, {"weight": float("nan")}, {"weight": float("inf")}])
def test_wrong_weights_are_named(smooth: Make, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Guidance(smooth(0, 1.0), smooth(1, 1.0), **wrong)


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


@pytest.mark.parametrize("factor", [0, -2, 7, 121])
def test_blocks_must_fill_the_places(factor: int) -> None:
    with pytest.raises(InputError, match="give a divisor of 120"):
        check_factor(factor)


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
