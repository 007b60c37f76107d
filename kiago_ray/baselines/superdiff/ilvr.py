"""Conditioning on a reference by iterative latent variable refinement (Choi et al. 2021, ILVR; SuperDiff's II C).

After each step the sample's low-pass content is exchanged for the reference's, noised to the same level:
x ← x + φ(y_t − x). φ averages over blocks of `factor` neighbours by atomic number and spreads the mean over the block.
The larger the factor, the less is taken over: factor 6 keeps the sums over H–C, N–Mg, …, and the model distributes
them. Factor 1 has blocks of one place, so φ is the identity, every sample is the noised reference itself and the model
has no say; what is left at the end is the reference with the noise of the lowest level, 0.006 atoms an element. That
is how the paper's Table 3 comes by Ni0.99LaO1.01As0.99 from LaNiAsO, and a quarter of its samples are of that kind.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from kiago_ray.baselines.superdiff.network import LENGTH


def check_factor(factor: int) -> None:
    """ValueError where blocks of `factor` places don't fill the 120."""
    if not 1 <= factor <= LENGTH or LENGTH % factor:
        divisors = ", ".join(str(n) for n in range(1, LENGTH + 1) if LENGTH % n == 0)
        raise ValueError(f"a scale factor is {factor!r}: give a divisor of {LENGTH} ({divisors})")


def low_pass(x: Tensor, factor: int) -> Tensor:
    """φ: the mean over each block of `factor` places, in all of its places: (rows, 120) → (rows, 120)."""
    check_factor(factor)
    small = functional.interpolate(x[:, None], size=LENGTH // factor, mode="area")
    return functional.interpolate(small, size=LENGTH, mode="nearest")[:, 0]


def refine(x: Tensor, reference: Tensor, factors: Tensor) -> Tensor:
    """x with the low-pass content of the noised reference, both (rows, 120), at each row's own factor (rows,)."""
    refined = x.clone()
    for factor in sorted(set(factors.tolist())):
        rows = factors == factor
        if factor == 1:
            refined[rows] = reference[rows]
        else:
            refined[rows] += low_pass(reference[rows] - x[rows], factor)
    return refined


def noised(clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """The reference at a noise level: √ᾱ·y + √(1 − ᾱ)·ε, all (rows, 120), ᾱ of no dimension."""
    return torch.sqrt(level) * clean + torch.sqrt(1 - level) * noise
