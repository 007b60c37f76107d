"""Table 1 and Fig. 2: conversion to integers by the loss, against rounding (sections 2.6 and 3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.chemistry.formula import write
from kiago_ray.paper.cells import Cell, Figures
from kiago_ray.paper.tasks import INTEGER_MATERIALS
from kiago_ray.search import load_preset, run_search
from kiago_ray.search.external_formulas import given_result
from kiago_ray.search.integers import rounded_counts
from kiago_ray.search.losses import integer_distance
from kiago_ray.search.result import RowStatus
from kiago_ray.search.run import SHARD_ROWS

if TYPE_CHECKING:
    from kiago_ray.paper.lab import Lab
    from kiago_ray.search import SearchSpec

LIMITS = (15, 20, 25, 50, 100)
PRESETS: Mapping[str, str] = {"kiago": "paper", "ours": "open"}
FIG2 = {"Ca": 0.23, "Sr": 0.27, "O": 0.5}
FIG2_ATOMS = 4

Floats = NDArray[np.float64]


def integer_cells(lab: Lab, seeds: Sequence[int]) -> dict[tuple[str, str, int], Figures]:
    """A cell for each group of the 15 materials, both searches and each seed."""
    found = {}
    for group in groups(lab.size.candidates["integers"]):
        for method in PRESETS:
            for seed in seeds:
                one = _one(lab, group, method, seed)
                if one is not None:
                    found[group[0], method, seed] = one
    return found


def groups(count: int) -> list[tuple[str, ...]]:
    """The materials in groups whose stages 2 run together: as many as fill a shard at `count` rows of each."""
    size = max(1, SHARD_ROWS // count)
    return [INTEGER_MATERIALS[at : at + size] for at in range(0, len(INTEGER_MATERIALS), size)]


def _one(lab: Lab, group: tuple[str, ...], method: str, seed: int) -> Figures | None:
    steps = lab.size.steps if method == "kiago" else lab.size.ours_steps
    count = lab.size.candidates["integers"]
    firsts = [stage_1(PRESETS[method], base, count, seed, steps[0]) for base in group]
    about = {
        "stage_1": [first.model_dump(mode="json") for first in firsts],
        "stage_2": steps[1],
        "limits": list(LIMITS),
    }
    name = group[0] if len(group) == 1 else f"{len(group)}-materials-from-{group[0]}"
    cell = Cell("integers", name, method, seed, about)
    return lab.get(
        lambda: cell, lambda: _compute(lab, method, firsts, steps[1]), f"integers-{name}-{method}-{seed}"
    )


def stage_1(preset: str, base: str, count: int, seed: int, steps: int) -> SearchSpec:
    """Stage 1 alone, its fractions kept as they are but for the limit of elements, so that conversions start from the
    same compositions.
    """
    changes: dict[str, Any] = {
        "base": base,
        "candidates": count,
        "seed": seed,
        "steps": (steps, 0),
        "projection": {"kind": "none", "neutral": False},
    }
    return load_preset(preset, changes)


def stage_2(preset: str, rows: Floats, limit: int, steps: int) -> SearchSpec:
    """Stage 2 alone from fractions (n, 118), with numbers of atoms up to `limit`. It knows no base."""
    formulas = [
        write({SYMBOLS[z]: float(row[z]) for z in np.flatnonzero(row > 1e-9)}) for row in np.asarray(rows)
    ]
    start = {"kind": "rows", "rows": formulas}
    return load_preset(preset, {"start": start, "steps": (0, steps), "n_unit.max": limit})


def _compute(lab: Lab, method: str, firsts: Sequence[SearchSpec], steps: int) -> Figures:
    """Mean changes of T_c in K from the end of stage 1, by limit: of the loss and of rounding, by the search's
    model and by the oracle.
    """
    frequencies = lab.models.frequencies
    ends = []
    for first in firsts:
        end = run_search(first, lab.predictors, frequencies, device=lab.device, trajectory_rows=0)
        ends.append(end.x_final[end.status == RowStatus.OK].astype(np.float64))
    x = np.concatenate(ends)
    x /= x.sum(axis=1, keepdims=True)
    follow = lab.predictors.following(firsts[0].tc_predictor)
    before = np.asarray(given_result(x, follow).tc_k, dtype=np.float64)
    before_oracle = lab.oracle.predict(x)[0]
    changes: dict[str, dict[str, float | int | None]] = {}
    for limit in LIMITS:
        second = stage_2(PRESETS[method], x, limit, steps)
        loss = run_search(second, lab.predictors, frequencies, device=lab.device, trajectory_rows=0)
        change: dict[str, float | int | None] = {}
        for name, amounts in (
            ("loss", loss.amounts),
            ("rounding", rounded_counts(x, limit).astype(np.float64)),
        ):
            some = amounts.any(axis=1)
            after = given_result(amounts[some], follow).tc_k
            shares = amounts[some] / amounts[some].sum(axis=1, keepdims=True)
            oracle = lab.oracle.predict(shares)[0]
            change[name] = _mean(after - before[some])
            change[f"{name}_oracle"] = _mean(oracle - before_oracle[some])
            change[f"{name}_rows"] = int(some.sum())
        changes[str(limit)] = change
    return {"rows": len(x), "before_k": _mean(before), "changes": changes}


def _mean(values: Floats) -> float | None:
    return float(np.mean(values)) if len(values) and np.isfinite(values).all() else None


def mean_change(
    found: Mapping[tuple[str, str, int], Figures], method: str, limit: int, column: str
) -> float | None:
    """Over all rows of all materials and seeds."""
    cells = [cell for (_, each, _), cell in found.items() if each == method]
    changes = [cell["changes"][str(limit)] for cell in cells]
    weights = [change[f"{column.removesuffix('_oracle')}_rows"] for change in changes]
    values = [change[column] for change in changes]
    if not sum(weights) or None in values:
        return None
    return float(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))


def fig2_values() -> tuple[dict[str, dict[str, float]], float]:
    """Fig. 2's grid, |x − n/4| by n/4 and element, and L_int^4 by the search's own loss."""
    x = torch.tensor(list(FIG2.values()), dtype=torch.float64)
    grid = {
        f"{n / FIG2_ATOMS:.2f}": {symbol: abs(amount - n / FIG2_ATOMS) for symbol, amount in FIG2.items()}
        for n in range(FIG2_ATOMS + 1)
    }
    return grid, float(integer_distance(x, torch.tensor(float(FIG2_ATOMS)), "l1"))
