"""What a predictor is, how frozen networks compute it, and what those of T_c share: functions of the amounts, a scale.

The search (eq. 13, eq. 16) asks no more of a model than a `Predictor`, a differentiable map from compositions to one
property, so any other can stand in for the shipped ones; `check_contract` tests one. A row's value is one number, so
an `Inference` computes its gradient to the input along with it. For the direction of a step bfloat16 may do
(`in_precision`) in the wide layers alone, as small dopings need 24 bits in the first.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kiago_ray.chemistry.elements import N_ELEMENTS
from kiago_ray.errors import InputError

BATCH_ROWS = 4096
CPU_ROWS = 512  # what so many rows leave behind stays in the cache
LEAST_ROWS = 64  # that are worth a thread
DEVICE_ROWS = 16_384  # about 1.3 GB on a GPU
WAVES = (4, 16)  # periods of 1/4 and 1/16 of all atoms
AMOUNTS = 3 + 2 * len(WAVES)

Precision = Literal["float32", "mixed", "bfloat16"]
"""float32: everything. mixed: E_f's wide layers in bfloat16. bfloat16: those of T_c too."""


class ContractError(InputError):
    """A predictor that breaks the contract; the message says which clause and by how much."""


class Predictor(Protocol):
    """One property of a composition. Called with atomic fractions (rows, 118), every row summing to 1, it returns
    (rows,) values with gradients to its input: T_c in K *before* the final ReLU (a search needs a slope at 0 K, so
    callers clip), E_f in eV/atom, or ln P in nats. Rows never influence one another.
    """

    @property
    def supported(self) -> Tensor:
        """(118,) bool: the elements that the predictor knows."""
        ...

    def __call__(self, fractions: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Predictors:
    """The predictors of a search: `tc` in K before the final ReLU, `ef` in eV/atom, and `plausibility`, where there is
    one, ln P in nats. others, energies: predictors of T_c and of E_f by name, of which a search may ask for one
    instead of `tc` or `ef`.
    """

    tc: Predictor
    ef: Predictor
    others: Mapping[str, Predictor] = field(default_factory=dict)
    energies: Mapping[str, Predictor] = field(default_factory=dict)
    plausibility: Predictor | None = None

    def named(self, name: str) -> Predictor:
        """The T_c predictor of this name or, where there is none, `tc`."""
        return self.others.get(name, self.tc)

    def climbed(self, fractions: Tensor) -> tuple[Tensor, Tensor]:
        """What a search climbs of fractions (rows, 118), with slopes, and T_c itself, which that may be a lower bound
        of, both before the final ReLU, (rows,) in K.
        """
        values = self.tc.outputs(fractions) if isinstance(self.tc, Inference) else self.tc(fractions)
        return (values, values) if values.ndim == 1 else (values[:, 0], values[:, 1])

    def following(self, tc: str, ef: str = "elemnet") -> Predictors:
        """The same with the predictors of these names as `tc` and `ef`; where there is none, they stay."""
        return replace(self, tc=self.named(tc), ef=self.energies.get(ef, self.ef))

    @property
    def supported(self) -> Tensor:
        """(118,) bool: the elements that both `tc` and `ef` know."""
        return self.tc.supported & self.ef.supported


@torch.no_grad()
def predict(predictor: Predictor, fractions: NDArray[np.float32]) -> NDArray[np.float64]:
    """Values (N,) of atomic fractions (N, 118), in batches, on the predictor's device."""
    device = predictor.supported.device
    batches = torch.split(torch.from_numpy(fractions), BATCH_ROWS)
    parts = [predictor(batch.to(device)).cpu() for batch in batches]
    return torch.cat(parts).double().numpy()


def check_contract(predictor: Predictor, *, tolerance: float = 1e-4) -> None:
    """Run `predictor` on made compositions and raise ContractError at the first broken clause: shapes, finite values
    and gradients, an input left unchanged, a batch that equals its rows (within `tolerance`, relative), a batch of one
    that keeps its axis, and an empty batch.
    """

    def require(holds: Tensor | bool, complaint: str) -> None:
        if not holds:
            raise ContractError(complaint)

    rows, supported = 7, predictor.supported
    fits = supported.shape == (N_ELEMENTS,) and supported.dtype == torch.bool
    has = f"{tuple(supported.shape)} {supported.dtype}"
    require(fits, f"`supported` must be ({N_ELEMENTS},) bool, not {has}")
    generator = torch.Generator().manual_seed(0)
    order = torch.rand(rows, N_ELEMENTS, generator=generator).masked_fill(~supported, 2).argsort(1)
    drawn = torch.rand(rows, 4, generator=generator) + 0.05
    amounts = torch.zeros(rows, N_ELEMENTS).scatter_(1, order[:, :4], drawn) * supported
    fractions = (amounts / amounts.sum(1, keepdim=True)).requires_grad_()
    before = fractions.detach().clone()
    values = predictor(fractions)
    require(values.shape == (rows,), f"{rows} rows must give ({rows},) values, not {tuple(values.shape)}")
    require(values.isfinite().all(), f"{int((~values.isfinite()).sum())} of {rows} values are not finite")
    (gradient,) = torch.autograd.grad(values.sum(), fractions)
    require(gradient.isfinite().all(), "gradients are not finite")
    require(torch.equal(before, fractions.detach()), "the input was changed in place")
    with torch.no_grad():
        for row, value in enumerate(values):
            alone = predictor(fractions[row : row + 1])
            require(alone.shape == (1,), f"a batch of one must give (1,), not {tuple(alone.shape)}")
            gap = float((alone[0] - value).abs() / value.abs().clamp(min=1))
            require(gap <= tolerance, f"row {row} alone differs from the batch by {gap:.2g}")
        require(predictor(fractions[:0]).shape == (0,), "an empty batch must give (0,)")


class Inference(nn.Module, ABC):
    """A predictor of one number a row: fractions (rows, 118) → (rows,), in chunks of rows."""

    supported: Tensor
    capturable = True
    beside = 0  # further numbers that `direct` gives of each row, without gradients

    @abstractmethod
    def wide_layers(self) -> list[nn.Module]:
        """The layers that may compute in less than single precision; never the first."""

    @abstractmethod
    def direct(self, x: Tensor) -> Tensor:
        """Values (rows,) of a chunk of rows (rows, 118), which autograd follows back to x for `chunk`; with what
        stands beside them, (rows, 1 + beside).
        """

    def chunk(self, x: Tensor, gradients: bool) -> tuple[Tensor, Tensor | None]:
        """Values (rows,) of a chunk of rows (rows, 118) and, where asked for, their gradients (rows, 118): those of
        `direct` by autograd.
        """
        with torch.set_grad_enabled(gradients):
            x = x.detach().requires_grad_(gradients)
            values = self.direct(x)
            first = values if values.ndim == 1 else values[:, 0]
        if not gradients:
            return values, None
        return values.detach(), torch.autograd.grad(first, x, torch.ones_like(first))[0]

    @property
    def single(self) -> torch.dtype:
        """The precision of the first layer and of the values."""
        return next(self.parameters()).dtype

    @property
    def wide(self) -> torch.dtype:
        """The precision of the wide layers."""
        return next(self.wide_layers()[0].parameters()).dtype

    def forward(self, fractions: Tensor) -> Tensor:
        """Values (rows,), to be differentiated once. Fractions of another type of number are converted."""
        values = self.outputs(fractions)
        return values if values.ndim == 1 else values[:, 0]

    def outputs(self, fractions: Tensor) -> Tensor:
        """Values (rows,), with what else the network gives of a row beside them, (rows, 1 + beside)."""
        fractions = fractions.to(self.single)
        if torch.is_grad_enabled() and fractions.requires_grad:
            return cast(Tensor, _RowWise.apply(fractions, self))  # type: ignore[no-untyped-call]
        return self.evaluate(fractions, gradients=False)[0]

    def evaluate(self, fractions: Tensor, *, gradients: bool) -> tuple[Tensor, Tensor | None]:
        """`outputs` and, where asked for, the gradients of the values (rows, 118).

        On a CPU torch's threads share the rows: products as small as these gain nothing from being split themselves.
        """
        shape = (len(fractions), 1 + self.beside) if self.beside else (len(fractions),)
        values = fractions.new_empty(shape)
        slopes = torch.empty_like(fractions) if gradients else None

        @torch.no_grad()
        def compute(rows: slice) -> None:
            values[rows], found = self.chunk(fractions[rows], gradients)
            if slopes is not None and found is not None:
                slopes[rows] = found

        on_cpu = fractions.device.type == "cpu"
        threads, most = (torch.get_num_threads(), CPU_ROWS) if on_cpu else (1, DEVICE_ROWS)
        size = min(most, max(LEAST_ROWS, -(-len(fractions) // threads)))
        chunks = [slice(start, start + size) for start in range(0, len(fractions), size)]
        if threads == 1 or len(chunks) < 2:
            for rows in chunks:
                compute(rows)
            return values, slopes
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                list(pool.map(compute, chunks))
        finally:
            torch.set_num_threads(threads)  # torch takes what the pool's threads said for all new threads
        return values, slopes


class _RowWise(torch.autograd.Function):
    """Lets autograd take the gradients that an `Inference` computes along with its values."""

    @staticmethod
    def forward(ctx: Any, fractions: Tensor, network: Inference) -> Tensor:
        values, gradients = network.evaluate(fractions, gradients=True)
        ctx.save_for_backward(gradients)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (gradients,) = ctx.saved_tensors
        return (gradient if gradient.ndim == 1 else gradient[:, 0])[:, None] * gradients, None


def in_precision(predictors: Predictors, precision: Precision) -> Predictors:
    """Copies of the predictors whose wide layers compute in `precision`; one that is no `Inference` stays as it is.
    Raises ValueError for a predictor whose wide layers have lost digits already.
    """

    def converted(predictor: Predictor, quick: bool) -> Predictor:
        dtype = torch.bfloat16 if quick else torch.float32
        if not isinstance(predictor, Inference) or predictor.wide == dtype:
            return predictor
        if predictor.wide != predictor.single:
            raise ValueError(f"{predictor.wide} has lost digits; start from single precision")
        copied = copy.deepcopy(predictor)
        for layer in copied.wide_layers():
            layer.to(dtype)
        return copied

    tc = converted(predictors.tc, precision == "bfloat16")
    return replace(predictors, tc=tc, ef=converted(predictors.ef, precision != "float32"))


def capturable(predictors: Predictors, energies: bool) -> bool:
    """Whether all never wait for the host, E_f's with `energies`, so that a step can be captured as a CUDA graph."""
    asked = [predictors.tc, predictors.ef if energies else None, predictors.plausibility]
    return all(isinstance(each, Inference) and each.capturable for each in asked if each is not None)


def step_precision(asked: Literal["auto"] | Precision, device: torch.device) -> Precision:
    """What `asked` stands for on this device; "auto" depends on the type of machine alone."""
    if asked != "auto":
        return asked
    return "bfloat16" if multiplies_bfloat16(device) else "float32"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16 (AVX512-BF16 or AMX on a CPU)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def buffer(values: Any) -> nn.Buffer:
    """Numbers that a module holds in single precision and that its weights' file leaves out."""
    return nn.Buffer(torch.tensor(values, dtype=torch.float32), persistent=False)


def amounts(fractions: Tensor) -> Tensor:
    """Functions of the amount, each 0 at 0 with a finite slope there: (rows, 118) → (rows, 7·118). On plain fractions
    a network learns coarse trends long before the small dopings that decide T_c.
    """
    root = torch.sqrt(fractions + 1e-3) - torch.full_like(fractions, 1e-3).sqrt()  # 0 at 0 in any precision
    functions = [fractions, root, torch.log1p(100 * fractions) / 5]
    for wave in WAVES:
        angle = 2 * torch.pi * wave * fractions
        functions += [torch.sin(angle), 1 - torch.cos(angle)]
    return torch.cat(functions, dim=1)


def amount_slopes(fractions: Tensor) -> Tensor:
    """The derivative of each of `amounts` by its fraction: (rows, 118) → (rows, 7·118)."""
    slopes = [torch.ones_like(fractions), 0.5 * torch.rsqrt(fractions + 1e-3), 20 / (1 + 100 * fractions)]
    for wave in WAVES:
        turn = 2 * torch.pi * wave
        slopes += [turn * torch.cos(turn * fractions), turn * torch.sin(turn * fractions)]
    return torch.cat(slopes, dim=1)


class LogScale(NamedTuple):
    """What a network predicts instead of T_c: ln(1 + T_c / scale_k). The inverse is exact and has a slope below 0 K
    too; above `highest` it is clipped, where the exponential would only amplify an error.
    """

    scale_k: float
    highest: float

    def log(self, tc_k: Tensor) -> Tensor:
        """T_c in K → the network's scale."""
        return torch.log1p(tc_k / self.scale_k)

    def tc_k(self, log_tc: Tensor) -> Tensor:
        """The network's scale → T_c in K, negative below 0."""
        return self.scale_k * torch.expm1(log_tc.clamp(max=self.highest))

    def slope(self, tc_k: Tensor) -> Tensor:
        """The derivative of `tc_k` where its value is tc_k in K, 0 where it is clipped."""
        return torch.where(tc_k < self.tc_k(torch.full_like(tc_k, self.highest)), tc_k + self.scale_k, 0)
