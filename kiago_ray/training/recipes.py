"""The recipes of two shipped predictors, from tables to weights with a model card: T_c's ResNet-18, E_f's ElemNet.

Each is fitted twice, once a split. The weights of the *random* split's fit are the ones that are saved, so the
card's held-out scores are those of the very weights; the *system* split's fit only gives its scores.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kiago_ray.predictors.base import predict
from kiago_ray.predictors.inference import ElemNet
from kiago_ray.predictors.resnet18 import SCALE_K, WAVES, TcResNet, to_log
from kiago_ray.predictors.weights import halved, save_network
from kiago_ray.training.augmentation import LARGE_JITTER, SMALL_JITTER, TREES, MadeUp, made_up, tree_labels
from kiago_ray.training.evaluation import (
    HELD_OUT,
    SPLITS,
    Split,
    TcTables,
    TrainingTable,
    comparisons,
    literature_scores,
    score,
    tc_scores,
)
from kiago_ray.training.fit import Epoch, EpochReport, FitSettings, Network, fit

Floats = NDArray[np.float32]
Sampler = Callable[[torch.Generator], Epoch]

TC_SETTINGS = FitSettings(
    epochs=80,
    batch_rows=256,
    learning_rate=3e-3,
    weight_decay=0.02,
    average_decay=0.998,
    warmup_share=0.15,
    seed=0,
)
TC_NEGATIVES_AN_EPOCH = 2_000
TC_MADE_UP_AN_EPOCH = 14_000
TC_TEACHER_NEGATIVES = 12_000
EF_SETTINGS = FitSettings(
    epochs=50,
    batch_rows=512,
    learning_rate=1.5e-3,
    weight_decay=0.01,
    average_decay=0.999,
    warmup_share=0.1,
    seed=0,
)
LICENCE_OF_DATA = "CC BY 4.0"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a training run writes and how it computes; `on_epoch` and `on_step` hear of its progress."""

    out: Path
    device: str = "cpu"
    threads: int = 1
    compile_network: bool = False
    bfloat16: bool = False
    splits: Sequence[Split] = SPLITS
    on_epoch: Callable[[str, EpochReport], None] = field(default=lambda split, report: None)
    on_step: Callable[[str], None] = field(default=lambda text: None)

    @property
    def machine(self) -> dict[str, Any]:
        """What a network was computed with."""
        return {
            "device": self.device,
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "compiled": self.compile_network,
        }


def fit_network(
    network: Network,
    forward: Callable[[Network, Tensor], Tensor],
    sampler: Sampler,
    settings: FitSettings,
    options: RunOptions,
    *,
    name: str,
    data_id: str,
) -> tuple[Network, float]:
    """The averaged network and the seconds that its fit took; the checkpoint is `checkpoints/NAME.safetensors`."""
    return fit(
        network.to(options.device),
        forward,
        sampler,
        settings,
        checkpoint=options.out / "checkpoints" / f"{name}.safetensors",
        data_id=data_id,
        compile_network=options.compile_network,
        bfloat16=options.bfloat16,
        on_epoch=lambda report: options.on_epoch(name.rpartition("-")[2], report),
    )


def model_card(
    kind: str, unit: str, tables: Sequence[TrainingTable], machine: Mapping[str, Any], **figures: Any
) -> dict[str, Any]:
    """A model card: what it is, its figures, where its data come from, when and with what it was computed."""
    return {
        "kind": kind,
        "unit": unit,
        "held_out": HELD_OUT,
        **figures,
        "data": [source.to_dict() for table in tables for source in table.sources],
        "licence_of_data": LICENCE_OF_DATA,
        "trained": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine,
    }


def rows_id(*tables: TrainingTable, recipe: Mapping[str, Any]) -> str:
    """A hash of what a fit learns from: rows, values and how they are used."""
    found = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    for table in tables:
        found.update("\n".join(table.formulas).encode())
        found.update(table.fractions.tobytes() + table.values.tobytes())
    return found.hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """How one network is fitted. forward: the network's values on the scale of the targets. sampler: the epochs of a
    split. scores: what a fit is worth on the split's held-out rows. about: what the card says beside the settings.
    extra: what it says of the network that is saved.
    """

    kind: str
    unit: str
    make: Callable[[], nn.Module]
    forward: Callable[[Any, Tensor], Tensor]
    sampler: Callable[[Split], Sampler]
    scores: Callable[[Any, Split], dict[str, Any]]
    about: Mapping[str, Any]
    extra: Callable[[Any], dict[str, Any]] = field(default=lambda network: {})


def train_tc(
    tables: TcTables,
    settings: FitSettings,
    options: RunOptions,
    made_up_rows: MadeUp = MadeUp(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Fit the T_c network, write `tc.safetensors` and `tc.json` to `options.out`, return the card.

    Compositions that stand for 0 K regularise it, and so do made-up rows (see `augmentation`): each epoch sees a fresh
    sample of both beside all training rows.
    """

    def predicted(network: nn.Module, rows: Floats) -> NDArray[np.float64]:
        return np.clip(predict(network, rows), 0, None)  # type: ignore[arg-type]

    def sampler(split: Split) -> Sampler:
        train, _ = tables.known.parts(split)
        zero = tables.non_superconductors.parts(split)[0].fractions
        made, rows, values = lesson(train, zero, made_up_rows, TC_TEACHER_NEGATIVES, settings.seed)
        labels = tree_labels(rows, values, made, seed=settings.seed)
        measured = torch.from_numpy(train.fractions), to_log(torch.from_numpy(train.values))
        parts = [
            (torch.from_numpy(zero), torch.zeros(len(zero)), TC_NEGATIVES_AN_EPOCH),
            (torch.from_numpy(made), to_log(torch.from_numpy(labels)), TC_MADE_UP_AN_EPOCH),
        ]
        return partial(fresh_epoch, measured, parts)

    recipe = _Recipe(
        kind="tc",
        unit="K",
        make=TcResNet,
        forward=TcResNet.log_tc,
        sampler=sampler,
        scores=lambda network, split: tc_scores("resnet18", partial(predicted, network), tables, split),
        extra=lambda network: literature_scores(partial(predicted, network), tables.literature),
        about={
            "target": f"ln(1 + T_c / {SCALE_K:g} K)",
            "waves_of_the_amount": list(WAVES),
            "non_superconductors_an_epoch": TC_NEGATIVES_AN_EPOCH,
            "made_up_rows": asdict(made_up_rows),
            "made_up_rows_an_epoch": TC_MADE_UP_AN_EPOCH,
            "made_up_jitters": [SMALL_JITTER, LARGE_JITTER],
            "teacher": f"ExtraTrees, {TREES} trees, on the training rows and {TC_TEACHER_NEGATIVES} "
            "non-superconductors",
        },
    )
    return _train(recipe, [tables.known, tables.non_superconductors], tables.tables, settings, options)


def train_ef(known: TrainingTable, settings: FitSettings, options: RunOptions) -> dict[str, Any]:
    """Fit ElemNet, write `ef.safetensors` and `ef.json` to `options.out`, return the card."""

    def scores(network: ElemNet, split: Split) -> dict[str, Any]:
        train, test = known.parts(split)
        return {
            "train_rows": len(train.values),
            "elemnet": asdict(score(predict(network, test.fractions), test.values)),
            **comparisons(train, test),
        }

    def sampler(split: Split) -> Sampler:
        train, _ = known.parts(split)
        epoch = Epoch(torch.from_numpy(train.fractions), torch.from_numpy(train.values))
        return lambda generator: epoch

    recipe = _Recipe(
        kind="ef",
        unit="eV/atom",
        make=ElemNet,
        forward=lambda network, x: network(x),
        sampler=sampler,
        scores=scores,
        about={"target": "E_f in eV/atom"},
    )
    return _train(recipe, [known], [known], settings, options)


def lesson(
    train: TrainingTable, zero: Floats, counts: MadeUp, negatives: int, seed: int
) -> tuple[Floats, Floats, Floats]:
    """Made-up compositions (M, 118), and what trees learn to label them from: the training rows and some zeros, as
    compositions (N, 118) and T_c in K (N,).
    """
    generator = np.random.default_rng(seed)
    made = made_up(train.fractions, counts, generator)
    some = zero[generator.permutation(len(zero))[:negatives]]
    rows = np.concatenate([train.fractions, some])
    return made, rows, np.concatenate([train.values, np.zeros(len(some), dtype=np.float32)])


def fresh_epoch(
    measured: tuple[Tensor, Tensor], parts: Sequence[tuple[Tensor, Tensor, int]], generator: torch.Generator
) -> Epoch:
    """All measured rows, compositions and targets, and then of each part as many others, drawn anew."""
    rows, targets = [measured[0]], [measured[1]]
    for compositions, values, count in parts:
        pick = torch.randperm(len(values), generator=generator)[:count]
        rows.append(compositions[pick])
        targets.append(values[pick])
    return Epoch(torch.cat(rows), torch.cat(targets))


def _train(
    recipe: _Recipe,
    learnt: Sequence[TrainingTable],
    tables: Sequence[TrainingTable],
    settings: FitSettings,
    options: RunOptions,
) -> dict[str, Any]:
    """Fit each split, save the random split's network, return its card.

    learnt: the tables that a fit learns from, the one to be predicted first. tables: all that the card names.
    """
    about = {**recipe.about, "loss": "mean absolute error of the target", "bfloat16": options.bfloat16}
    splits: dict[str, Any] = {}
    saved: nn.Module | None = None
    cost = 0.0
    for split in options.splits:
        torch.manual_seed(settings.seed)
        network, seconds = fit_network(
            recipe.make(),
            recipe.forward,
            recipe.sampler(split),
            settings,
            options,
            name=f"{recipe.kind}-{split}",
            data_id=rows_id(*(table.parts(split)[0] for table in learnt), recipe=about),
        )
        test = learnt[0].parts(split)[1].fractions
        single = predict(network, test)  # type: ignore[arg-type]
        network.load_state_dict(halved(network.state_dict()))
        if split == "random":
            saved = network
            cost = float(np.abs(predict(network, test) - single).mean())  # type: ignore[arg-type]
        splits[split] = {"seconds": round(seconds), **recipe.scores(network, split)}
    if saved is None:
        raise ValueError("the random split's fit is the one that is saved: it must be among the splits")
    card = model_card(
        recipe.kind,
        recipe.unit,
        tables,
        options.machine,
        weights_count=sum(p.numel() for p in saved.parameters()),
        settings=asdict(settings),
        recipe=about,
        splits=splits,
        **recipe.extra(saved),
        half_precision_storage={"mean_absolute_change": cost},
    )
    save_network(saved, recipe.kind, card, options.out)
    return card
