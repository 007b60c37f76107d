"""What was known before a year, models that learnt from it alone, and what was reported later: for rediscovery.py."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from kiago_ray import load_predictors
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data.compositions import KnownCompositions, nearest
from kiago_ray.data.sources import HEADER_LINE, load_supercon, non_superconductors, publication_year
from kiago_ray.models import Models
from kiago_ray.plausibility.literature import Literature, site_odds
from kiago_ray.plausibility.model import Prospects, fit_plausibility, load_prospects, save_plausibility
from kiago_ray.predictors.base import Predictors, multiplies_bfloat16
from kiago_ray.predictors.ensemble import CalibratedEnsemble
from kiago_ray.predictors.oracle import load_oracle
from kiago_ray.predictors.weights import PLAUSIBILITY, load_network
from kiago_ray.screening.known import KnownMaterials
from kiago_ray.training.fit import RunOptions
from kiago_ray.training.oracle import OracleSettings, train_oracle
from kiago_ray.training.recipes import ENSEMBLE_SETTINGS, train_tc_ensemble
from kiago_ray.training.tables import TcTables, TrainingTable

Floats = NDArray[np.float64]
NEAR = 0.05  # L1 distance from all of before, from which a later composition is new


@dataclass(frozen=True)
class Then:
    """What was known at a cut-off, and the models that learnt from it. bases: (s, 118) fractions, of each chemical
    system the composition of highest median T_c; formulas: their texts.
    """

    year: int
    models: Models
    bases: Floats
    formulas: tuple[str, ...]

    @property
    def prospects(self) -> Prospects:
        assert self.models.prospects is not None
        return self.models.prospects

    @property
    def literature(self) -> Literature:
        return self.prospects.literature

    @property
    def systems(self) -> set[bytes]:
        """The known chemical systems as sets of elements."""
        return {row.tobytes() for row in self.literature.systems}


@dataclass(frozen=True)
class Later:
    """What was first reported at or after the cut-off with T_c > 0: fractions (m, 118), T_c (m,) in K; new: (m,) its
    chemical system had no superconductor then. year: (m,) of the first report. far: (m,) further than NEAR from all
    of before.
    """

    fractions: Floats
    tc_k: Floats
    new: NDArray[np.bool_]
    year: NDArray[np.int64]
    far: NDArray[np.bool_]


def before(data: Path, cut_off: int, out: Path) -> Path:
    """SuperCon's file with the entries printed before the cut-off alone; those without a year are left out."""
    lines = data.read_text(encoding="utf-8").splitlines()
    journal = lines[HEADER_LINE - 1].split("\t").index("journal")
    kept = [
        line
        for line in lines[HEADER_LINE:]
        if (year := publication_year((line.split("\t") + [""] * journal)[journal])) and year < cut_off
    ]
    path = out / "before.tsv"
    path.write_text("\n".join([*lines[:HEADER_LINE], *kept]) + "\n", encoding="utf-8")
    return path


def known_then(
    data: Path,
    others: pd.DataFrame,
    made: KnownCompositions,
    cut_off: int,
    asked: argparse.Namespace,
    out: Path,
) -> Then:
    """Fit what isn't fitted yet. made: compounds that existed then, whatever their T_c."""
    table, report = load_supercon(before(data, cut_off, out))
    table = table[table["tc_k"] > 0].reset_index(drop=True)
    zeros = non_superconductors(others, table, by="chemical_system")
    tables = TcTables(TrainingTable.of(table, "tc_k", report), TrainingTable.of(zeros, "tc_k"))
    weights = out / "weights"
    weights.mkdir(exist_ok=True)
    if not (weights / "tc_ensemble.json").exists():
        print(f"{cut_off}: fitting the ensemble to {len(table)} compositions", file=sys.stderr)
        options = RunOptions(out=weights, bfloat16=multiplies_bfloat16(torch.device("cpu")))
        train_tc_ensemble(tables, replace(ENSEMBLE_SETTINGS, epochs=asked.epochs), options)
    if not (weights / "tc_oracle.json").exists():
        print(f"{cut_off}: fitting the oracle", file=sys.stderr)
        train_oracle(tables, OracleSettings(), RunOptions(out=weights))
    literature = Literature.of(table, cut_off)
    if not (weights / f"{PLAUSIBILITY}.json").exists():
        print(f"{cut_off}: fitting plausibility", file=sys.stderr)
        learnt_from = fit_plausibility(literature, seed=asked.seed)
        fitted = Prospects(literature, learnt_from, site_odds(literature), made)
        save_plausibility(fitted, {"kind": PLAUSIBILITY, "year": cut_off, "seed": asked.seed}, weights)
    ensemble = load_network("tc_ensemble", weights)
    assert isinstance(ensemble, CalibratedEnsemble)
    learnt = {"supercon": tables.known, "non_superconductors": tables.non_superconductors}
    best = table.sort_values(["tc_k", "formula"], ascending=[False, True]).drop_duplicates("chemical_system")
    formulas = tuple(sorted(best["formula"]))
    return Then(
        year=cut_off,
        models=Models(
            predictors=Predictors(tc=ensemble, ef=load_predictors().ef, others={"ensemble": ensemble}),
            oracle=load_oracle(weights),
            prospects=load_prospects(weights, made, literature),
            known=KnownMaterials.from_table(table[["formula", "tc_k"]], f"SuperCon before {cut_off}"),
            frequencies={
                name: (each.fractions > 0).sum(axis=0).astype(np.float64) for name, each in learnt.items()
            },
        ),
        bases=parse_fractions(formulas),
        formulas=formulas,
    )


def reported_later(whole: pd.DataFrame, then: Then) -> Later:
    """From SuperCon as it is now; what has no year has no part in it."""
    table = whole[(whole["year_first"] >= then.year).fillna(False) & (whole["tc_k"] > 0)]
    rows = parse_fractions(table["formula"].tolist())
    systems = then.systems
    return Later(
        fractions=rows,
        tc_k=table["tc_k"].to_numpy(dtype=np.float64),
        new=np.array([row.tobytes() not in systems for row in rows > 0], dtype=np.bool_),
        year=table["year_first"].to_numpy(dtype=np.int64),
        far=nearest(rows, then.literature.fractions)[1] > NEAR,
    )
