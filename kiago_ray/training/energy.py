"""The recipe of the E_f ensemble: OQMD and the Materials Project together, on one scale, from tables to a card.

A tenth of all formulas and a tenth of all chemical systems are held out before anything, of both sources alike; one
fit serves both scores, so they are those of the very weights that are saved. The corrections that lead from one source
to the other are fitted to compounds of the training rows that both hold. σ is calibrated on one half of the held-out
rows and measured on the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score
from torch import Tensor

from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS
from kiago_ray.data.compositions import held_out
from kiago_ray.data.sources import load_materials_project, load_oqmd
from kiago_ray.predictors.base import BATCH_ROWS, predict
from kiago_ray.predictors.energy import (
    LEAST_STD_EV,
    MEMBERS,
    SCALES,
    EnergyEnsemble,
    EnergyNet,
    Scale,
    disagreement,
)
from kiago_ray.predictors.weights import halved, load_ef, save_network
from kiago_ray.training.fit import FitSettings, RunOptions, fit, model_card
from kiago_ray.training.recipes import CALIBRATION_SALT, HeldOut, covered, fit_quantiles
from kiago_ray.training.tables import (
    SPLITS,
    Epoch,
    Split,
    TrainingTable,
    rounded,
    score,
)

Doubles = NDArray[np.float64]

SETTINGS = FitSettings(
    epochs=36,
    batch_rows=512,
    learning_rate=2e-3,
    blocks_learning_rate=8e-3,
    weight_decay=0.03,
    average_decay=0.999,
    warmup_share=0.02,
    huber_width=0.05,
)
CORRECTION_ROUNDS = 60  # of least squares weighted anew, which end in least absolute errors
LEAST_ERROR_EV = 0.01
RIDGE = 0.05
NEAR_HULL_EV = np.round(np.arange(-10, 41) * 0.005, 3)  # thresholds of the curve


@dataclass(frozen=True)
class EnergyTables:
    """Compounds of both sources, E_f in eV/atom, each on its own scale, and of the Materials Project's the
    decomposition energies (N,) in eV/atom: above the hull of all others, 0 or less where stable.
    """

    oqmd: TrainingTable
    materials_project: TrainingTable
    decomposition_ev: Doubles

    @classmethod
    def read(cls, oqmd: Path, materials_project: Path) -> EnergyTables:
        """From OQMD's formation energies and the Materials Project's ground states. Raises InputError."""
        ours, report = load_oqmd(oqmd)
        theirs, other = load_materials_project(materials_project)
        return cls(
            TrainingTable.of(ours, "ef_ev_per_atom", report),
            TrainingTable.of(theirs, "ef_ev_per_atom", other),
            theirs["decomposition_ev_per_atom"].to_numpy(np.float64),
        )

    def of(self, scale: Scale) -> TrainingTable:
        """The table of one source."""
        return self.oqmd if scale == "oqmd" else self.materials_project

    def train(self, scale: Scale) -> TrainingTable:
        """The rows of a source that neither split holds out."""
        table = self.of(scale)
        return table.pick(~(table.held_out("random") | table.held_out("system")))

    @cached_property
    def corrections(self) -> Doubles:
        """(118,) eV/atom of each element's share that lead from OQMD's E_f to the Materials Project's: least absolute
        errors over the compositions that both hold. An element of none of them has 0.
        """
        ours, theirs = self.train("oqmd"), self.train("materials_project")
        _, mine, other = np.intersect1d(ours.formulas, theirs.formulas, return_indices=True)
        shares = ours.fractions[mine].astype(np.float64)
        gaps = (theirs.values[other] - ours.values[mine]).astype(np.float64)
        found: Doubles = np.zeros(N_ELEMENTS)
        weights: Doubles = np.ones(len(gaps))
        for _ in range(CORRECTION_ROUNDS):
            weighed = shares * weights[:, None]
            found = np.asarray(
                np.linalg.solve(weighed.T @ shares + RIDGE * np.eye(N_ELEMENTS), weighed.T @ gaps)
            )
            weights = 1 / np.maximum(np.abs(gaps - shares @ found), LEAST_ERROR_EV)
        return found

    @cached_property
    def together(self) -> Epoch:
        """All training rows on OQMD's scale; column 118 of the fractions is the source's place in SCALES."""
        tables = [self.train(scale) for scale in SCALES]
        rows = [
            np.pad(each.fractions, ((0, 0), (0, 1)), constant_values=at) for at, each in enumerate(tables)
        ]
        moved = tables[1].values - tables[1].fractions @ self.corrections.astype(np.float32)
        targets = np.concatenate([tables[0].values, moved])
        return Epoch(torch.from_numpy(np.concatenate(rows)), torch.from_numpy(targets))


def train_energies(tables: EnergyTables, settings: FitSettings, options: RunOptions) -> dict[str, Any]:
    """Fit the ensemble, write `ef_ensemble.safetensors` and its card to `options.out`, return the card."""
    epoch = tables.together
    recipe = {"target": "E_f in eV/atom on OQMD's scale", "loss": "Huber loss", "bfloat16": options.bfloat16}
    ensemble, seconds = EnergyEnsemble(), 0
    for at in range(MEMBERS):
        own = replace(settings, seed=settings.seed + at)
        member, spent = fit(EnergyNet, _of_rows, lambda _: epoch, own, options, f"ef_ensemble-{at}", recipe)
        ensemble.members[at], seconds = member.cpu(), seconds + spent
    ensemble.corrections.copy_(torch.from_numpy(tables.corrections))
    ensemble.known.copy_((epoch.fractions[:, :N_ELEMENTS] > 0).any(dim=0))
    ensemble.load_state_dict(halved(ensemble.state_dict()))
    ensemble.eval().requires_grad_(False)
    options.on_step("ef_ensemble: scores")
    calibrate(ensemble, held_out_rows(ensemble, tables, calibrating=True))
    figures = scores(ensemble, tables)
    shown = {SYMBOLS[z]: round(float(tables.corrections[z]), 3) for z in np.flatnonzero(tables.corrections)}
    sources = [*tables.oqmd.sources, *tables.materials_project.sources]
    figures |= {"members": MEMBERS, "seconds": seconds, "recipe": recipe, "corrections_ev_per_atom": shown}
    card = model_card("ef_ensemble", "eV/atom", sources, settings, options, **figures)
    return save_network(ensemble, "ef_ensemble", card, options.out)


def _of_rows(member: EnergyNet, rows: Tensor) -> Tensor:
    """A member's E_f of rows (n, 119), whose last column is the source."""
    return cast(Tensor, member(rows[:, :N_ELEMENTS], rows[:, N_ELEMENTS].long()))


class HeldOutRows(NamedTuple):
    """Rows of one source that a split holds out: their table, decomposition energies (N,) in eV/atom (NaN of OQMD's),
    and E_f by each member (N, MEMBERS) in eV/atom.
    """

    split: Split
    scale: Scale
    table: TrainingTable
    above: Doubles
    members: Tensor


def held_out_rows(ensemble: EnergyEnsemble, tables: EnergyTables, calibrating: bool) -> list[HeldOutRows]:
    """The half that calibrates or the other one, by source and split, of elements that the ensemble knows."""
    every = list[HeldOutRows]()
    for scale in SCALES:
        table, foreign = tables.of(scale), ~ensemble.supported.numpy()
        half = held_out(table.formulas, share=0.5, salt=CALIBRATION_SALT) == calibrating
        above = (
            tables.decomposition_ev if scale == "materials_project" else np.full(len(table.values), np.nan)
        )
        for split in SPLITS:
            asked = half & table.held_out(split) & ~(table.fractions[:, foreign] > 0).any(axis=1)
            picked = table.pick(asked)
            with torch.no_grad():
                pieces = torch.split(torch.from_numpy(picked.fractions), BATCH_ROWS)
                said = torch.cat([ensemble.on_scale(scale).of_members(rows) for rows in pieces]).double()
            every.append(HeldOutRows(split, scale, picked, above[asked], said))
    return every


def calibrate(ensemble: EnergyEnsemble, every: list[HeldOutRows]) -> None:
    """Set skew and spread: no mean signed error on either scale, and errors within 1σ and 2σ as of a normal one."""
    for at, scale in enumerate(SCALES):
        of_scale = [rows for rows in every if rows.scale == scale]
        members = torch.cat([rows.members for rows in of_scale])
        true = torch.from_numpy(np.concatenate([rows.table.values for rows in of_scale]))
        ensemble.skew[at] = float((true - members.mean(dim=1)).mean() / disagreement(members).mean())
        parts = []
        for rows in of_scale:
            said = ensemble.on_scale(scale).combined(rows.members).numpy()
            parts.append(
                HeldOut(EnergyEnsemble.terms(rows.members).numpy(), np.abs(said - rows.table.values))
            )
        found = fit_quantiles(parts, np.array([0.0, 1.0]), LEAST_STD_EV)
        ensemble.spread[at] = torch.from_numpy(found)


def scores(ensemble: EnergyEnsemble, tables: EnergyTables) -> dict[str, Any]:
    """What the ensemble is worth on held-out rows that nothing was calibrated on, beside trees, the nearest neighbour
    and ElemNet: errors, coverage of σ, signs, and stable against unstable. ElemNet saw the rows that the system split
    holds out; trees and neighbours are of the rows' own source.
    """
    splits: dict[str, Any] = {split: {} for split in SPLITS}
    coverage, figures = dict[str, Any](), dict[str, Any]()
    every = held_out_rows(ensemble, tables, calibrating=False)
    for scale in SCALES:
        of_scale = [rows for rows in every if rows.scale == scale]
        others = _yardsticks(tables, scale, np.concatenate([rows.table.fractions for rows in of_scale]))
        start = 0
        for rows in of_scale:
            true, stop = rows.table.values.astype(np.float64), start + len(rows.table.values)
            said = ensemble.on_scale(scale).combined(rows.members).numpy()
            found = {"ensemble": said, **{name: each[start:stop] for name, each in others.items()}}
            start = stop
            scored = {name: _score(each, true) for name, each in found.items()}
            splits[rows.split][scale] = {"rows": len(true), **scored}
            std = ensemble.on_scale(scale).sigma(rows.members).numpy()
            shares = covered(np.abs(said - true), std)
            coverage[f"{rows.split}, {scale}"] = rounded(**shares, mean_std_ev=std.mean())
            if (rows.split, scale) == ("system", "materials_project"):
                figures["signs"] = {name: signs(each, true) for name, each in found.items()}
                figures["stability"] = {
                    name: stability(each, true, rows.above) for name, each in found.items()
                }
    spread, skew = (values.double().numpy().round(4).tolist() for values in (ensemble.spread, ensemble.skew))
    return {
        "splits": splits,
        "spread": {"coefficients": spread, "coverage": coverage},
        "skew": skew,
        **figures,
    }


def _yardsticks(tables: EnergyTables, scale: Scale, fractions: NDArray[np.float32]) -> dict[str, Doubles]:
    """E_f of fractions (N, 118) by other means, name → (N,) eV/atom: trees, the nearest neighbour, and ElemNet, moved
    by the corrections to this scale; NaN for elements that it doesn't know.
    """
    elemnet, corrections = (
        load_ef(),
        tables.corrections if scale == "materials_project" else np.zeros(N_ELEMENTS),
    )
    said = predict(elemnet, fractions)
    said[(fractions[:, ~elemnet.supported.numpy()] > 0).any(axis=1)] = np.nan
    others = tables.train(scale).yardsticks(fractions)
    found = {name: values.astype(np.float64) for name, values in others.items()}
    return {**found, "elemnet": said + fractions.astype(np.float64) @ corrections}


def _score(predicted: Doubles, true: NDArray[np.floating]) -> dict[str, float]:
    there = ~np.isnan(predicted)
    found = score(predicted[there], true[there])
    return {name: found[name] for name in ("mae", "r2", "bias")}


def signs(predicted: Doubles, true: Doubles) -> dict[str, float]:
    """Shares of compounds with a negative and with a positive E_f whose sign is right, and the mean signed error."""
    there = ~np.isnan(predicted)
    said, true = predicted[there], true[there]
    return rounded(
        negative_right=(said[true < 0] < 0).mean(),
        positive_right=(said[true > 0] > 0).mean(),
        positive_rows=(true > 0).sum(),
        bias=(said - true).mean(),
    )


def stability(predicted: Doubles, true: Doubles, above: Doubles) -> dict[str, Any]:
    """The test of Bartel et al. (npj Comput. Mater. 6, 97 (2020)) of N held-out compounds: decomposition energies from
    predicted E_f against those by DFT, (N,) in eV/atom, the competing phases having their DFT energies; stable against
    unstable at 0 and at the threshold that lets nine tenths of the stable ones pass; and the curve.
    """
    there = ~np.isnan(predicted)
    said, stable = (predicted - true + above)[there], (above <= 0)[there]
    nine_tenths = float(np.quantile(said[stable], 0.9))
    curve = {
        f"{limit:g}": [round(float((said[which] <= limit).mean()), 3) for which in (stable, ~stable)]
        for limit in NEAR_HULL_EV
    }
    return {
        **rounded(
            rows=len(said),
            stable=stable.mean(),
            mae=np.abs(said - above[there]).mean(),
            accuracy=((said <= 0) == stable).mean(),
            f1=f1_score(stable, said <= 0),
            auc=roc_auc_score(~stable, said),
            nine_tenths_pass_at_ev=nine_tenths,
            unstable_that_pass_there=(said[~stable] <= nine_tenths).mean(),
        ),
        "pass_stable_and_unstable": curve,
    }
