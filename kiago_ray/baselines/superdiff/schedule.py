"""The noise: 1,000 steps of a cosine schedule (Nichol & Dhariwal 2021), as SuperDiff has it, stepped by diffusers.

x_t = √ᾱ_t·x₀ + √(1 − ᾱ_t)·ε. Amounts go in as they are, in atoms of the formula as written, not divided by anything:
as SuperDiff does it, and because their root mean square over the 118 elements, 0.56 in SuperCon, is already near
the noise's 1. Amounts are not clipped on the way.
"""

from __future__ import annotations

from typing import Any

from kiago_ray.errors import InputError

STEPS = 1000


def noise_scheduler(steps: int = STEPS) -> Any:
    """diffusers' DDPMScheduler, ready to step `steps` times from the last noise level to none.

    Fewer steps skip levels, all equally many. Raises InputError without diffusers, and ValueError for a number of
    steps that can't do so.
    """
    check_steps(steps)
    try:
        import diffusers
    except ImportError:
        raise InputError(
            "SuperDiff needs the package diffusers: pip install 'kiago-ray[superdiff]'"
        ) from None
    ddpm: Any = diffusers.DDPMScheduler
    scheduler = ddpm(
        num_train_timesteps=STEPS,
        beta_schedule="squaredcos_cap_v2",
        variance_type="fixed_large",  # σ² = β, SuperDiff's section II B
        clip_sample=False,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    return scheduler


def check_steps(steps: int) -> None:
    """ValueError where `steps` don't divide the 1,000 levels evenly."""
    if not 1 <= steps <= STEPS or STEPS % steps:
        raise ValueError(f"steps is {steps!r}: give a divisor of {STEPS}, such as {STEPS} or {STEPS // 10}")
