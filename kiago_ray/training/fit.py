"""Fit one network: AdamW on a one-cycle schedule, averaged weights, checkpoints that resume exactly.

Nothing here knows what is fitted: `sample_epoch` supplies the rows. All randomness comes from one
generator whose state is in the checkpoint, and dropout's from the number of the epoch, so a run that was killed
ends with the same weights.
Checkpoints are safetensors; no pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional

from kiago_ray.errors import InputError

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """Everything that defines a fit beside its data. huber_width: the error, on the network's scale, up to which it is
    squared; None for the absolute error everywhere."""

    epochs: int
    batch_rows: int
    learning_rate: float
    weight_decay: float
    average_decay: float
    warmup_share: float
    seed: int
    huber_width: float | None = None


@dataclass(frozen=True)
class Epoch:
    """The rows of one epoch: fractions (rows, 118), targets (rows,) on the network's own scale.

    weights: (rows, members) of a network that predicts (rows, members), such as an ensemble's folds; None for a
    network that predicts (rows,).
    """

    fractions: Tensor
    targets: Tensor
    weights: Tensor | None = None


@dataclass(frozen=True)
class EpochReport:
    """What a progress display needs after an epoch; `seconds` is the wall time so far, resumes included."""

    epoch: int
    epochs: int
    loss: float
    seconds: float


def fit(
    network: Network,
    forward: Callable[[Network, Tensor], Tensor],
    sample_epoch: Callable[[torch.Generator], Epoch],
    settings: FitSettings,
    *,
    checkpoint: Path,
    data_id: str,
    compile_network: bool = False,
    bfloat16: bool = False,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
) -> tuple[Network, float]:
    """Minimise the mean error of `forward(network, fractions)`; return (averaged network, seconds).

    Of an ensemble the sum of its members' weighted means is minimised, so each learns as if alone.

    The weights returned are the exponential average over steps (in evaluation mode). `checkpoint` is
    written after every epoch and resumed from if it is there; `data_id` guards against resuming on other
    data. Raises InputError. `compile_network` needs a C++ compiler and changes speed only.
    """
    device = next(network.parameters()).device
    state = _State.of(network, settings)
    average, optimizer, generator = cast(Network, state.average), state.optimizer, state.generator
    identity = run_identity(settings, data_id, network)
    done, seconds = state.restore(checkpoint, identity) if checkpoint.exists() else (0, 0.0)
    network.train()
    predict: Callable[[Tensor], Tensor] = partial(forward, network)
    if compile_network:
        predict = torch.compile(predict, dynamic=False)
    precision = torch.autocast(device.type, torch.bfloat16) if bfloat16 else nullcontext()
    for epoch in range(done, settings.epochs):
        start, total = time.monotonic(), 0.0
        rows = sample_epoch(generator)
        order = torch.randperm(len(rows.targets), generator=generator)
        batches = len(order) // settings.batch_rows
        if not batches:
            raise InputError(
                f"{len(order)} training rows don't fill one batch of {settings.batch_rows}: use more data"
            )
        torch.manual_seed(settings.seed * settings.epochs + epoch)  # of dropout, which takes no generator
        for batch in range(batches):
            pick = order[batch * settings.batch_rows : (batch + 1) * settings.batch_rows]
            rate = one_cycle(epoch * batches + batch, settings.epochs * batches, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with precision:
                predicted = predict(rows.fractions[pick].to(device))
            loss = mean_error(predicted, rows, pick, settings.huber_width)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item() / (1 if rows.weights is None else rows.weights.shape[1])
            accumulate(average, network, settings.average_decay, epoch * batches + batch)
        seconds += time.monotonic() - start
        state.save(checkpoint, identity, epoch + 1, seconds)
        on_epoch(EpochReport(epoch + 1, settings.epochs, total / batches, seconds))
    return average, seconds


def mean_error(predicted: Tensor, rows: Epoch, pick: Tensor, huber_width: float | None) -> Tensor:
    """The mean over the picked rows; for an ensemble the sum of the members' weighted means."""
    targets = rows.targets[pick].to(predicted.device)
    if rows.weights is None:
        return _error(predicted, targets, huber_width).mean()
    weights = rows.weights[pick].to(predicted.device)
    errors = weights * _error(predicted, targets[:, None].expand_as(predicted), huber_width)
    return (errors.sum(dim=0) / weights.sum(dim=0).clamp(min=1)).sum()


def _error(predicted: Tensor, targets: Tensor, huber_width: float | None) -> Tensor:
    if huber_width is None:
        return (predicted - targets).abs()
    return functional.smooth_l1_loss(predicted, targets, beta=huber_width, reduction="none")


def one_cycle(step: int, steps: int, settings: FitSettings) -> float:
    """Learning rate: a cosine up over the warm-up, a cosine down to nothing over the rest."""
    warmup = max(1.0, settings.warmup_share * steps)
    if step < warmup:
        share = 0.04 + 0.96 * cosine_rise(step / warmup)
    else:
        share = 1 - cosine_rise((step - warmup) / max(1.0, steps - warmup))
    return settings.learning_rate * share


def cosine_rise(share: float) -> float:
    """0 → 1 along half a cosine."""
    return 0.5 * (1 - float(torch.cos(torch.tensor(share * torch.pi))))


@torch.no_grad()
def accumulate(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights and norms towards the network's; faster at first, when there is little to keep."""
    pull = 1 - min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, pull)
    for kept, latest in zip(average.buffers(), network.buffers(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(latest, pull)
        else:
            kept.copy_(latest)


def run_identity(settings: FitSettings, data_id: str, network: nn.Module) -> str:
    """A hash of what must not change between the parts of one run."""
    parts = [
        asdict(settings),
        data_id,
        type(network).__name__,
        [tuple(p.shape) for p in network.parameters()],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _State:
    """All that a run changes, as a checkpoint keeps it. `parameters` are in the optimizer's order."""

    network: nn.Module
    average: nn.Module
    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    generator: torch.Generator

    @classmethod
    def of(cls, network: nn.Module, settings: FitSettings) -> _State:
        """At the start of a run: matrices decay, vectors don't."""
        # Of an ensemble's members, side by side, a vector is (members, 1, width).
        vectors = [p for p in network.parameters() if p.ndim <= 1 or (p.ndim == 3 and p.shape[1] == 1)]
        matrices = [p for p in network.parameters() if all(p is not vector for vector in vectors)]
        groups = [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return cls(
            network,
            deepcopy(network).eval().requires_grad_(False),
            torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True),
            matrices + vectors,
            torch.Generator().manual_seed(settings.seed),
        )

    def save(self, path: Path, identity: str, epoch: int, seconds: float) -> None:
        """Write it all, whole or not at all."""
        tensors = {f"network.{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for i, parameter in enumerate(self.parameters):
            tensors |= {f"optimizer.{i}.{k}": v for k, v in self.optimizer.state[parameter].items()}
        tensors["generator"] = self.generator.get_state()
        tensors = {
            k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()
        }
        metadata = {"identity": identity, "epoch": str(epoch), "seconds": repr(seconds)}
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(save(tensors, metadata=metadata))
        os.replace(part, path)

    def restore(self, path: Path, identity: str) -> tuple[int, float]:
        """Take up a checkpoint; return (epochs done, seconds spent). Raises InputError for another run's."""
        content = path.read_bytes()
        try:
            tensors = load(content)
            header = int.from_bytes(content[:8], "little")
            metadata = json.loads(content[8 : 8 + header])["__metadata__"]
        except (SafetensorError, KeyError, ValueError) as error:
            raise InputError(f"{path} is damaged ({error}): remove it to start again") from None
        if metadata.get("identity") != identity:
            raise InputError(
                f"{path} is of a run with other settings or data: remove it or choose another --out"
            )
        device = next(self.network.parameters()).device

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.network.load_state_dict(part("network."))
        self.average.load_state_dict(part("average."))
        for i, parameter in enumerate(self.parameters):
            values = part(f"optimizer.{i}.")
            self.optimizer.state[parameter] = {k: v.to(device) for k, v in values.items()}
        self.generator.set_state(tensors["generator"])
        return int(metadata["epoch"]), float(metadata["seconds"])
