"""What a predictor is: a differentiable map from compositions to one property.

The search (eq. 13, eq. 16) asks nothing more of a model than this, so any other differentiable
predictor can stand in for the shipped ones. `check_contract` tests one against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS
from kiago_ray.errors import InputError

BATCH_ROWS = 4096


class ContractError(InputError):
    """A predictor that breaks the contract; the message says which clause and by how much."""


class Predictor(Protocol):
    """One property of a composition.

    Called with atomic fractions (rows, 118), every row summing to 1, it returns (rows,) values with
    gradients to its input: T_c in K *before* the final ReLU (a search needs a slope at 0 K, so callers
    clip), E_f in eV/atom, or ln P in nats. Rows never influence one another.
    """

    @property
    def supported(self) -> Tensor:
        """(118,) bool: the elements that the predictor knows."""
        ...

    def __call__(self, fractions: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Predictors:
    """The predictors of a search: `tc` in K before the final ReLU, `ef` in eV/atom, and `plausibility`, where there is
    one, ln P in nats. others: T_c predictors by name, of which a search may ask for one instead of `tc`.
    """

    tc: Predictor
    ef: Predictor
    others: Mapping[str, Predictor] = field(default_factory=dict)
    plausibility: Predictor | None = None

    def named(self, name: str) -> Predictor:
        """The T_c predictor of this name or, where there is none, `tc`."""
        return self.others.get(name, self.tc)

    def following(self, name: str) -> Predictors:
        """The same with the T_c predictor of this name as `tc`."""
        return replace(self, tc=self.named(name))

    @property
    def supported(self) -> Tensor:
        """(118,) bool: the elements that both `tc` and `ef` know."""
        return self.tc.supported & self.ef.supported

    def unknown_elements(self) -> tuple[str, ...]:
        """The symbols of the elements that one of them doesn't know, by atomic number."""
        return tuple(s for s, ok in zip(SYMBOLS, self.supported.tolist(), strict=True) if not ok)


@torch.no_grad()
def predict(predictor: Predictor, fractions: NDArray[np.float32]) -> NDArray[np.float64]:
    """Values (N,) of atomic fractions (N, 118), in batches, on the predictor's device."""
    device = predictor.supported.device
    batches = [fractions[start : start + BATCH_ROWS] for start in range(0, len(fractions), BATCH_ROWS)]
    parts = [predictor(torch.from_numpy(batch).to(device)).cpu() for batch in batches]
    return torch.cat(parts).double().numpy() if parts else np.empty(0)


def check_contract(predictor: Predictor, *, rows: int = 7, seed: int = 0, tolerance: float = 1e-4) -> None:
    """Run `predictor` on made compositions and raise ContractError at the first broken clause.

    Shapes, finite values and gradients, an input left unchanged, a batch that equals its rows (within
    `tolerance`, relative), a batch of one that keeps its axis, and an empty batch.
    """
    generator = torch.Generator().manual_seed(seed)
    supported = predictor.supported
    if supported.shape != (N_ELEMENTS,) or supported.dtype != torch.bool:
        raise ContractError(
            f"`supported` must be ({N_ELEMENTS},) bool, not {tuple(supported.shape)} {supported.dtype}"
        )
    order = torch.rand(rows, N_ELEMENTS, generator=generator).masked_fill(~supported, 2).argsort(1)
    amounts = torch.zeros(rows, N_ELEMENTS)
    amounts.scatter_(1, order[:, :4], torch.rand(rows, 4, generator=generator) + 0.05)
    amounts *= supported
    fractions = (amounts / amounts.sum(1, keepdim=True)).requires_grad_()
    before = fractions.detach().clone()
    values = predictor(fractions)
    if values.shape != (rows,):
        raise ContractError(f"{rows} rows must give ({rows},) values, not {tuple(values.shape)}")
    if not bool(torch.isfinite(values).all()):
        raise ContractError(f"{int((~torch.isfinite(values)).sum())} of {rows} values are not finite")
    (gradient,) = torch.autograd.grad(values.sum(), fractions)
    if not bool(torch.isfinite(gradient).all()):
        raise ContractError("gradients are not finite")
    if not torch.equal(before, fractions.detach()):
        raise ContractError("the input was changed in place")
    with torch.no_grad():
        for row in range(rows):
            alone = predictor(fractions[row : row + 1])
            if alone.shape != (1,):
                raise ContractError(f"a batch of one must give (1,), not {tuple(alone.shape)}")
            gap = float((alone[0] - values[row]).abs() / values[row].abs().clamp(min=1))
            if gap > tolerance:
                raise ContractError(f"row {row} alone differs from the batch by {gap:.2g}")
        if predictor(fractions[:0]).shape != (0,):
            raise ContractError("an empty batch must give (0,)")
