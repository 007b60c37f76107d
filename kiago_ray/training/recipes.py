"""What is fitted and how it is judged: the two shipped predictors, from tables to weights with a model card.

Each is fitted twice, once a split. The weights of the *random* split's fit are the ones that are saved, so the
card's held-out scores are those of the very weights; the *system* split's fit only gives its scores.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from kiago_ray.data.compositions import composition_keys, fractions
from kiago_ray.data.files import LoadReport
from kiago_ray.predictors.base import predict
from kiago_ray.predictors.climbed.elemnet import ElemNet
from kiago_ray.predictors.climbed.resnet18 import SCALE_K, WAVES, TcResNet, to_log
from kiago_ray.predictors.weights import halved, save_network
from kiago_ray.training.augmentation import LARGE_JITTER, SMALL_JITTER, TREES, MadeUp, made_up, tree_labels
from kiago_ray.training.evaluation import (
    HIGH_TC_K,
    SPLITS,
    Split,
    extra_trees,
    held_out,
    nearest_neighbour,
    score,
)
from kiago_ray.training.fit import Epoch, EpochReport, FitSettings, fit

Network = TcResNet | ElemNet

HELD_OUT_SHARE = 0.1
SALT = "kiago-ray 1"
HELD_OUT = {
    "share": HELD_OUT_SHARE,
    "rule": f"sha256('{SALT} SPLIT:KEY') below the share; KEY is the formula (random) or the system (system)",
}

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


@dataclass(frozen=True)
class TrainingTable:
    """Compositions with one measured or computed value each, and where they come from.

    `fractions` (N, 118) float32, `values` (N,) in the property's unit, `formulas` and `systems` the keys of the
    two splits.
    """

    formulas: list[str]
    systems: list[str]
    fractions: NDArray[np.float32]
    values: NDArray[np.float32]
    sources: tuple[LoadReport, ...] = ()

    @classmethod
    def of(cls, table: pd.DataFrame, column: str, *sources: LoadReport) -> TrainingTable:
        """From a loader's table and the name of its value column."""
        return cls(
            formulas=table["formula"].tolist(),
            systems=table["chemical_system"].tolist(),
            fractions=fractions(table).astype(np.float32),
            values=table[column].to_numpy(dtype=np.float32, copy=True),
            sources=sources,
        )

    def pick(self, rows: NDArray[np.bool_]) -> TrainingTable:
        """The rows where (N,) `rows` is True."""
        return replace(
            self,
            formulas=[f for f, keep in zip(self.formulas, rows, strict=True) if keep],
            systems=[s for s, keep in zip(self.systems, rows, strict=True) if keep],
            fractions=self.fractions[rows],
            values=self.values[rows],
        )

    def held_out(self, split: Split) -> NDArray[np.bool_]:
        """(N,) True for the rows that `split` keeps away from training."""
        keys = self.formulas if split == "random" else self.systems
        return held_out(keys, share=HELD_OUT_SHARE, salt=f"{SALT} {split}")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a training run writes and how it computes."""

    out: Path
    device: str = "cpu"
    compile_network: bool = False
    bfloat16: bool = False
    splits: Sequence[Split] = SPLITS
    on_epoch: Callable[[str, EpochReport], None] = field(default=lambda split, report: None)


def without(table: pd.DataFrame, held: pd.DataFrame) -> pd.DataFrame:
    """`table` less every composition that `held` has: those never enter a fit."""
    keys = set(composition_keys(held))
    return table[[key not in keys for key in composition_keys(table)]]


def train_tc(
    known: TrainingTable,
    non_superconductors: TrainingTable,
    literature: TrainingTable | None,
    settings: FitSettings,
    options: RunOptions,
    made_up_rows: MadeUp = MadeUp(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """Fit the T_c network, write `tc.safetensors` and `tc.json` to `options.out`, return the card.

    `non_superconductors` (values 0 K) regularise it, and so do made-up rows (see `augmentation`): each epoch sees
    a fresh sample of both beside all training rows. `literature` holds
    compositions that the caller has kept out of `known`; the saved weights are scored on them too.
    """

    def scores(network: Network, split: Split, train: TrainingTable, test: TrainingTable) -> dict[str, Any]:
        zero = non_superconductors.pick(non_superconductors.held_out(split))
        at_zero = np.clip(predict(network, zero.fractions), 0, None)
        return {
            "resnet18": asdict(
                score(np.clip(predict(network, test.fractions), 0, None), test.values, high=HIGH_TC_K)
            ),
            **comparisons(train, test, high=HIGH_TC_K),
            "held_out_non_superconductors": at_zero_scores(at_zero),
        }

    def sampler(split: Split, train: TrainingTable) -> Callable[[torch.Generator], Epoch]:
        zero = non_superconductors.pick(~non_superconductors.held_out(split)).fractions
        made, labels = taught(train, zero, made_up_rows, settings.seed)
        measured = torch.from_numpy(train.fractions), to_log(torch.from_numpy(train.values))
        parts = [
            (torch.from_numpy(zero), torch.zeros(len(zero)), TC_NEGATIVES_AN_EPOCH),
            (torch.from_numpy(made), to_log(torch.from_numpy(labels)), TC_MADE_UP_AN_EPOCH),
        ]

        return partial(fresh_epoch, measured, parts)

    def log_tc(network: Network, x: Tensor) -> Tensor:
        assert isinstance(network, TcResNet)
        return network.log_tc(x)

    def extra(network: Network) -> dict[str, Any]:
        if literature is None:
            return {}
        predicted = np.clip(predict(network, literature.fractions), 0, None)
        return {"literature": asdict(score(predicted, literature.values, high=HIGH_TC_K))}

    recipe = {
        "target": f"ln(1 + T_c / {SCALE_K:g} K)",
        "waves_of_the_amount": list(WAVES),
        "non_superconductors_an_epoch": TC_NEGATIVES_AN_EPOCH,
        "made_up_rows": asdict(made_up_rows),
        "made_up_rows_an_epoch": TC_MADE_UP_AN_EPOCH,
        "made_up_jitters": [SMALL_JITTER, LARGE_JITTER],
        "teacher": f"ExtraTrees, {TREES} trees, on the training rows and {TC_TEACHER_NEGATIVES} non-superconductors",
    }
    tables = [known, non_superconductors, *([] if literature is None else [literature])]
    return _train(
        "tc",
        "K",
        TcResNet,
        log_tc,
        sampler,
        known,
        scores,
        extra,
        settings,
        options,
        recipe,
        others=[non_superconductors],
        sources=[source for table in tables for source in table.sources],
    )


def train_ef(known: TrainingTable, settings: FitSettings, options: RunOptions) -> dict[str, Any]:
    """Fit ElemNet, write `ef.safetensors` and `ef.json` to `options.out`, return the card."""

    def scores(network: Network, split: Split, train: TrainingTable, test: TrainingTable) -> dict[str, Any]:
        return {
            "elemnet": asdict(score(predict(network, test.fractions), test.values)),
            **comparisons(train, test),
        }

    def sampler(split: Split, train: TrainingTable) -> Callable[[torch.Generator], Epoch]:
        epoch = Epoch(torch.from_numpy(train.fractions), torch.from_numpy(train.values))
        return lambda generator: epoch

    return _train(
        "ef",
        "eV/atom",
        ElemNet,
        lambda network, x: network(x),
        sampler,
        known,
        scores,
        lambda network: {},
        settings,
        options,
        {"target": "E_f in eV/atom"},
        sources=known.sources,
    )


def taught(
    train: TrainingTable, zero: NDArray[np.float32], counts: MadeUp, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Made-up compositions (M, 118) around training rows, and their T_c in K (M,) from trees on those rows."""
    made, rows, values = lesson(train, zero, counts, TC_TEACHER_NEGATIVES, seed)
    return made, tree_labels(rows, values, made, seed=seed)


def lesson(
    train: TrainingTable, zero: NDArray[np.float32], counts: MadeUp, negatives: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
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


def at_zero_scores(tc_k: NDArray[np.floating]) -> dict[str, float]:
    """What is predicted, in K and clipped at 0, (N,), for compositions that stand for T_c = 0."""
    return {
        "rows": len(tc_k),
        "mean_tc_k": round(float(tc_k.mean()), 3),
        "share_above_10_k": round(float((tc_k > 10).mean()), 4),
    }


def comparisons(train: TrainingTable, test: TrainingTable, *, high: float | None = None) -> dict[str, Any]:
    """Scores of 1-nearest neighbour and ExtraTrees on the same split."""
    rows = train.fractions, train.values, test.fractions
    return {
        "nearest_neighbour": asdict(score(nearest_neighbour(*rows), test.values, high=high)),
        "extra_trees": asdict(score(extra_trees(*rows), test.values, high=high)),
    }


def _train(
    kind: str,
    unit: str,
    make: Callable[[], Network],
    forward: Callable[[Network, Tensor], Tensor],
    sampler: Callable[[Split, TrainingTable], Callable[[torch.Generator], Epoch]],
    known: TrainingTable,
    scores: Callable[[Network, Split, TrainingTable, TrainingTable], dict[str, Any]],
    extra: Callable[[Network], dict[str, Any]],
    settings: FitSettings,
    options: RunOptions,
    recipe: Mapping[str, Any],
    others: Sequence[TrainingTable] = (),
    sources: Sequence[LoadReport] = (),
) -> dict[str, Any]:
    recipe = {**recipe, "loss": "mean absolute error of the target", "bfloat16": options.bfloat16}
    splits: dict[str, Any] = {}
    saved: Network | None = None
    cost: dict[str, float] = {}
    for split in options.splits:
        test_rows = known.held_out(split)
        train, test = known.pick(~test_rows), known.pick(test_rows)
        torch.manual_seed(settings.seed)
        network, seconds = fit(
            make().to(options.device),
            forward,
            sampler(split, train),
            settings,
            checkpoint=options.out / "checkpoints" / f"{kind}-{split}.safetensors",
            data_id=rows_id(train, *(table.pick(~table.held_out(split)) for table in others), recipe=recipe),
            compile_network=options.compile_network,
            bfloat16=options.bfloat16,
            on_epoch=lambda report, split=split: options.on_epoch(split, report),  # type: ignore[misc]
        )
        single = predict(network, test.fractions)
        network.load_state_dict(halved(network.state_dict()))
        if split == "random":
            saved = network
            cost = {"mean_absolute_change": float(np.abs(predict(network, test.fractions) - single).mean())}
        splits[split] = {
            "train_rows": len(train.values),
            "seconds": round(seconds),
            **scores(network, split, train, test),
        }
    if saved is None:
        raise ValueError("the random split's fit is the one that is saved: it must be among the splits")
    card = {
        "kind": kind,
        "unit": unit,
        "weights_count": sum(p.numel() for p in saved.parameters()),
        "settings": asdict(settings),
        "recipe": recipe,
        "held_out": HELD_OUT,
        "splits": splits,
        **extra(saved),
        "half_precision_storage": cost,
        "data": [source.to_dict() for source in sources],
        "licence_of_data": "CC BY 4.0",
        "trained": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": machine(options),
    }
    save_network(saved, kind, card, options.out)
    return card


def rows_id(*tables: TrainingTable, recipe: Mapping[str, Any]) -> str:
    """A hash of what a fit learns from: rows, values and how they are used."""
    found = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    for table in tables:
        found.update("\n".join(table.formulas).encode())
        found.update(table.fractions.tobytes() + table.values.tobytes())
    return found.hexdigest()


def machine(options: RunOptions) -> Mapping[str, Any]:
    """What a run was computed with."""
    return {
        "device": options.device,
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "compiled": options.compile_network,
    }
