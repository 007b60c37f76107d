"""Fit one network and write its card: AdamW, for some Muon too, averaged weights, checkpoints that resume exactly.

All randomness comes from one generator whose state is in the checkpoint, and dropout's from the number of the epoch,
so a run that was killed ends with the same weights. Checkpoints are safetensors; no pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from kiago_ray.data.files import LoadReport
from kiago_ray.errors import InputError
from kiago_ray.training.tables import HELD_OUT, SPLITS, Epoch, Sampler, Split

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """Everything that defines a fit beside its data. huber_width: the error, on the network's scale, up to which it is
    squared; None for the absolute error everywhere. blocks_learning_rate: of the matrices in `blocks`, whose steps
    Muon makes orthogonal (as torch has it); None where AdamW takes all.
    """

    epochs: int
    learning_rate: float
    batch_rows: int = 256
    weight_decay: float = 0.02
    average_decay: float = 0.998
    warmup_share: float = 0.1
    seed: int = 0
    huber_width: float | None = None
    blocks_learning_rate: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a training run writes and how it computes; `on_step` hears of its progress, a line after each epoch and
    stage, `on_epoch` what was fitted, the epoch from 1 and its loss. compile_network needs a C++ compiler and changes
    speed only.
    """

    out: Path
    device: str = "cpu"
    compile_network: bool = False
    bfloat16: bool = False
    splits: Sequence[Split] = SPLITS
    on_step: Callable[[str], None] = field(default=lambda text: None)
    on_epoch: Callable[[str, int, float], None] = field(default=lambda name, epoch, loss: None)

    def __post_init__(self) -> None:
        if "random" not in self.splits:
            raise ValueError("the random split's fit is the one that is saved: it must be among the splits")


def fit(
    make: Callable[[], Network],
    forward: Callable[[Network, Tensor], Tensor],
    sampler: Sampler,
    settings: FitSettings,
    options: RunOptions,
    name: str,
    recipe: Mapping[str, Any],
) -> tuple[Network, int]:
    """Minimise the mean error of `forward(network, fractions)`; return (averaged network, seconds).

    Of an ensemble the sum of its members' weighted means is minimised, so each learns as if alone. The weights
    returned are the exponential average over steps (in evaluation mode). name: what is fitted and the split;
    `checkpoints/NAME.safetensors` is written after every epoch and resumed from if it is there. A run with
    other settings or another recipe, or whose first epoch has other rows, can't resume from it; a recipe that names
    the hash of what an epoch only samples guards that too. Raises InputError.
    """
    torch.manual_seed(settings.seed)
    network = make().to(options.device)
    checkpoint = options.out / "checkpoints" / f"{name}.safetensors"
    first = sampler(torch.Generator().manual_seed(settings.seed))
    state = _State(network, settings, recipe, first)
    device, generator = next(network.parameters()).device, state.generator
    done, seconds = state.restore(checkpoint) if checkpoint.exists() else (0, 0.0)
    network.train()
    predict: Callable[[Tensor], Tensor] = partial(forward, network)
    if options.compile_network:
        predict = torch.compile(predict, dynamic=False)
    precision = torch.autocast(device.type, torch.bfloat16) if options.bfloat16 else nullcontext()
    for epoch in range(done, settings.epochs):
        start, total = time.monotonic(), 0.0
        rows = sampler(generator)
        order = torch.randperm(len(rows.targets), generator=generator)
        if not (batches := len(order) // (size := settings.batch_rows)):
            raise InputError(f"{len(order)} training rows don't fill one batch of {size}: use more data")
        torch.manual_seed(settings.seed * settings.epochs + epoch)  # of dropout, which takes no generator
        for step, pick in enumerate(torch.split(order, size)[:batches], start=epoch * batches):
            with precision:
                predicted = predict(rows.fractions[pick].to(device))
            loss = mean_error(predicted, rows, pick, settings.huber_width)
            state.step(loss, step, one_cycle(step, settings.epochs * batches, settings.warmup_share))
            total += loss.item() / (1 if rows.weights is None else rows.weights.shape[1])
        seconds += time.monotonic() - start
        state.save(checkpoint, epoch + 1, seconds)
        options.on_epoch(name, epoch + 1, total / batches)
        options.on_step(
            f"{name}: epoch {epoch + 1}/{settings.epochs}, loss {total / batches:.4g}, {seconds:.0f} s, "
            f"{seconds / (epoch + 1) * (settings.epochs - epoch - 1):.0f} s left"
        )
    return cast(Network, state.average), round(seconds)


def mean_error(predicted: Tensor, rows: Epoch, pick: Tensor, huber_width: float | None) -> Tensor:
    """The mean over the picked rows; for an ensemble the sum of the members' weighted means."""
    targets = rows.targets[pick].to(predicted.device)
    if rows.weights is not None:
        targets = targets[:, None].expand_as(predicted)
    if huber_width is None:
        errors = (predicted - targets).abs()
    else:
        errors = functional.smooth_l1_loss(predicted, targets, beta=huber_width, reduction="none")
    if rows.weights is None:
        return errors.mean()
    weights = rows.weights[pick].to(predicted.device)
    return ((weights * errors).sum(dim=0) / weights.sum(dim=0).clamp(min=1)).sum()


def one_cycle(step: int, steps: int, warmup_share: float) -> float:
    """Share of the learning rate: a cosine up over the warm-up, a cosine down to nothing over the rest."""

    def rise(share: float) -> float:
        return 0.5 * (1 - float(torch.cos(torch.tensor(share * torch.pi))))

    warmup = max(1.0, warmup_share * steps)
    if step < warmup:
        return 0.04 + 0.96 * rise(step / warmup)
    return 1 - rise((step - warmup) / max(1.0, steps - warmup))


def _of_blocks(network: nn.Module) -> set[nn.Parameter]:
    """The matrices of a network's `blocks`."""
    return {p for name, p in network.named_parameters() if p.ndim == 2 and "blocks" in name.split(".")}


class _State:
    """All that a run changes, as a checkpoint keeps it. Matrices decay, vectors don't."""

    def __init__(
        self, network: nn.Module, settings: FitSettings, recipe: Mapping[str, Any], first: Epoch
    ) -> None:
        self.settings = settings
        average = deepcopy(network).eval().requires_grad_(False)
        self.average, self.averages, self.latest = average, average.state_dict(), network.state_dict()
        # Of an ensemble's members, side by side, a vector is (members, 1, width).
        vectors = {p for p in network.parameters() if p.ndim <= 1 or (p.ndim == 3 and p.shape[1] == 1)}
        muon = set[nn.Parameter]() if settings.blocks_learning_rate is None else _of_blocks(network)
        groups: list[list[nn.Parameter]] = [
            [p for p in network.parameters() if p not in vectors | muon],
            [p for p in network.parameters() if p in vectors],
            [p for p in network.parameters() if p in muon],
        ]
        decay = settings.weight_decay
        decays: list[dict[str, Any]] = [{"params": groups[0]}, {"params": groups[1], "weight_decay": 0.0}]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(decays, weight_decay=decay, fused=True)
        ]
        if muon:
            own = torch.optim.Muon(groups[2], weight_decay=decay, adjust_lr_fn="match_rms_adamw")
            self.optimizers.append(own)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.tensors = {f"network.{name}": tensor for name, tensor in self.latest.items()}
        self.tensors |= {f"average.{name}": tensor for name, tensor in self.averages.items()}
        for i, p in enumerate(chain(*groups)):
            names = ["momentum_buffer"] if p in muon else ["exp_avg", "exp_avg_sq"]
            kept = {name: torch.zeros_like(p) for name in names}
            if p not in muon:
                kept["step"] = torch.zeros((), device=p.device)
            self.optimizers[p in muon].state[p] = kept
            self.tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in kept.items()}
        # What must not change between the parts of one run.
        shapes = [tuple(p.shape) for p in network.parameters()]
        identity = json.dumps([asdict(settings), dict(recipe), shapes], sort_keys=True).encode()
        rows = first.fractions.numpy().tobytes() + first.targets.numpy().tobytes()
        self.identity = hashlib.sha256(identity + rows).hexdigest()

    def step(self, loss: Tensor, step: int, share: float) -> None:
        """Move the weights down the loss, by this share of the learning rates, and their average towards them."""
        rates = (self.settings.learning_rate, self.settings.blocks_learning_rate or 0.0)
        for optimizer, rate in zip(self.optimizers, rates, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            optimizer.step()
        # Faster while there is little to keep.
        pull = 1 - min(self.settings.average_decay, (1 + step) / (10 + step))
        for name, average in self.averages.items():
            if average.is_floating_point():
                average.lerp_(self.latest[name], pull)
            else:
                average.copy_(self.latest[name])

    def save(self, path: Path, epoch: int, seconds: float) -> None:
        """Write it all, whole or not at all."""
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        tensors["generator"] = self.generator.get_state()
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        save_file(tensors, part, {"identity": self.identity, "epoch": str(epoch), "seconds": repr(seconds)})
        os.replace(part, path)

    def restore(self, path: Path) -> tuple[int, float]:
        """Take up a checkpoint; return (epochs done, seconds spent). Raises InputError for another run's."""
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("identity") != self.identity:
                    raise InputError(
                        f"{path} is of a run with other settings or data: remove it or choose another --out"
                    )
                for name, tensor in self.tensors.items():
                    tensor.copy_(file.get_tensor(name))
                self.generator.set_state(file.get_tensor("generator"))
        except SafetensorError as error:
            raise InputError(f"{path} is damaged ({error}): remove it to start again") from None
        return int(metadata["epoch"]), float(metadata["seconds"])


def model_card(
    kind: str, unit: str, sources: Iterable[LoadReport], settings: Any, options: RunOptions, **figures: Any
) -> dict[str, Any]:
    """A model card: what it is, a dataclass of settings, figures, sources of the data, when and where it was made."""
    return {
        "kind": kind,
        "unit": unit,
        "held_out": HELD_OUT,
        "settings": {name: value for name, value in asdict(settings).items() if value is not None},
        **figures,
        "data": [asdict(source) for source in sources],
        "licence_of_data": "CC BY 4.0",
        "trained": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": {
            "device": options.device,
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "compiled": options.compile_network,
        },
    }
