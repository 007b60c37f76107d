"""The rows of a search as a table of candidates: formulas, their oxidation states, what is known near them, how far
their T_c can be trusted. What a formula alone decides is worked out once for each different one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from kiago_ray.chemistry import neutrality
from kiago_ray.chemistry.balance import likeliest_balance, write_means, write_shares
from kiago_ray.chemistry.elements import Floats, Ints, Mask
from kiago_ray.chemistry.formula import AMOUNT_DECIMALS, parse, reduce_counts, write_row
from kiago_ray.chemistry.formula import fractions as fractions_of
from kiago_ray.data.compositions import KnownCompositions
from kiago_ray.screening.known import (
    EXTRAPOLATED,
    BaseMaterial,
    KnownMaterials,
    TriedMaterials,
    expected_improvement_k,
    trusted_tc_k,
    with_odds,
)
from kiago_ray.search.result import RowStatus, SearchResult
from kiago_ray.search.spec import SearchSpec

Opinions = Callable[[Floats], Mapping[str, Any]]
"""Fractions (u, 118) → what models say of them, (u,) each by column: tc_std_k, tc_oracle_k, tc_oracle_std_k,
extrapolation, existence, plausibility_reason, and log_plausibility in nats, before what was tried has its say."""

_NUMBERS = ("tc_std_k", "tc_oracle_k", "extrapolation", "best_nearby_tc_k", "tc_given_tried_k")


def collect(
    result: SearchResult,
    judge: SearchSpec,
    *,
    known: KnownMaterials | None = None,
    made: KnownCompositions | None = None,
    tried: TriedMaterials | None = None,
    opinions: Opinions | None = None,
    base: BaseMaterial | None = None,
    seed: int = 0,
    search: str | None = None,
    emd: bool = True,
) -> Any:
    """The n rows of `result` as an Arrow table with the columns of storage/columns.csv that can be worked out, without
    verdicts and ranks. A row without a formula, and one of which something isn't known, has null there.

    judge: whose oxidation states, screens and `nearby_distance` count. known, made, tried: what rows are held against.
    base: of the search, whose neighbours count as the rows' own for `best_nearby`. search: its name within a campaign.
    emd: whether the nearest known is looked for by element mover's distance too.
    """
    ok, n = np.asarray(result.status == RowStatus.OK), len(result.status)
    texts = [text if fine else None for text, fine in zip(result.formulas(), ok.tolist(), strict=True)]
    place, different = pd.factorize(np.array(texts, dtype=object))
    first = np.flatnonzero(ok)[np.unique(place[ok], return_index=True)[1]]
    amounts, tc_k = result.amounts[first], np.where(ok, result.tc_k, np.nan).astype(np.float64)
    fractions = amounts / amounts.sum(axis=1, keepdims=True)
    atoms = reduce_counts(result.counts[first]).sum(axis=1)
    columns: dict[str, Any] = dict.fromkeys(("known", "made", "tried", "best_nearby"), [None] * len(first))
    columns |= dict.fromkeys(("plausibility", *_NUMBERS), np.full(len(first), np.nan))
    columns |= {
        "formula": different,
        "n_atoms": pa.array(atoms, mask=atoms == 0),
        "n_elements": (amounts > 0).sum(axis=1),
        "new_system": pa.nulls(len(first), pa.bool_()),
        **charge_columns(amounts, judge),
        **({} if opinions is None else opinions(fractions)),
    }
    if known is not None:
        near = None if base is None else fractions_of(parse(base.formula))
        columns |= known.columns(fractions, judge.screens.nearby_distance, base=near, emd=emd)
    if made is not None:
        columns["made"] = made.same_as(fractions)
    if tried is not None:
        columns |= tried.columns(fractions, tc_k[first])
    if "log_plausibility" in columns:
        odds = columns.get("tried_log_odds", np.zeros(len(first)))
        columns["plausibility"] = np.exp(with_odds(columns["log_plausibility"], odds))
    rows = pa.table({name: _arrow(values) for name, values in columns.items()})
    rows = rows.take(pa.array(place, mask=place < 0))
    every = dict(zip(rows.column_names, rows.columns, strict=True))
    every |= _row_columns(result, tc_k, base) | {"seed": np.full(n, seed), "search": [search] * n}
    every |= _judged_tc(tc_k, rows, known is not None)
    return pa.table({name: _arrow(values) for name, values in every.items()})


def _arrow(values: Any) -> Any:
    """An Arrow array with null for None and NaN."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    text = not isinstance(values, np.ndarray) or values.dtype == object
    return pa.array(values, pa.string() if text else None, from_pandas=True)


def _row_columns(result: SearchResult, tc_k: Floats, base: BaseMaterial | None) -> dict[str, Any]:
    """The columns that rows of one formula needn't share, (n,) each. tc_k: (n,) in K."""
    start = np.round(np.asarray(result.start, dtype=np.float64), AMOUNT_DECIMALS)
    n, labels = len(result.rows), {int(status): status.label for status in RowStatus}
    return {
        "base": [None if base is None else base.formula] * n,
        "source": [None] * n if result.source is None else result.source,
        "tc_k": tc_k,
        "ef_ev_per_atom": np.where(np.isnan(tc_k), np.nan, result.ef_ev_per_atom).astype(np.float64),
        "tc_relaxed_k": result.tc_relaxed_k,
        "delta_tc_k": tc_k - (np.nan if base is None else base.tc_predicted_k),
        "integer_distance": result.distance,
        "status": [labels[status] for status in result.status.tolist()],
        "recoveries": result.recoveries,
        "row": result.rows,
        "start_formula": [write_row(row) or None for row in start],
    }


def _judged_tc(tc_k: Floats, rows: Any, compared: bool) -> dict[str, Any]:
    """The columns on what T_c (n,) in K is worth, by the others of `rows`. compared: with known materials.

    An improvement is expected from the smaller of the search's T_c, given what was tried nearby, and the oracle's, and
    over the best known nearby, or 0 K where nothing known is near. The extrapolation score doesn't enter: how strange
    a composition is, is for its plausibility to say.
    """
    std_k, oracle_k, score, best_k, given_k = (rows[name].to_numpy() for name in _NUMBERS)
    expected_k = np.fmin(np.where(np.isnan(given_k), tc_k, given_k), oracle_k)
    to_beat_k = np.nan_to_num(best_k, nan=0.0 if compared else np.nan)
    improvement_k = expected_improvement_k(expected_k, std_k, to_beat_k)
    return {
        "expected_improvement_k": improvement_k,
        "gain": pa.array(expected_k > to_beat_k, mask=np.isnan(improvement_k)),
        "trusted_tc_k": trusted_tc_k(tc_k, std_k, oracle_k, score),
        "extrapolated": pa.array(score > EXTRAPOLATED, mask=np.isnan(score)),
    }


def charge_columns(amounts: Floats, judge: SearchSpec) -> dict[str, Any]:
    """The columns on charges of amounts (u, 118): SMACT's verdicts, the likeliest states that balance them, and what
    follows from them; beside them `screened_nats`, and neutral_mixed and neutral_atoms where `judge` asks for those.
    """
    states, names = judge.oxidation_set, set(judge.screens.names)
    balances, (whole, judged) = likeliest_balance(amounts, states), _whole_numbers(amounts)
    smact, nats = neutrality.check(whole[judged], states), balances.nats_per_atom

    def of_all(verdicts: Mask) -> Mask:
        found = np.zeros(len(amounts), dtype=np.bool_)
        found[judged] = verdicts
        return found

    certificates = [text or None for text in balances.certificates]
    columns: dict[str, Any] = {
        "neutral": of_all(smact.neutral),
        "pauling": of_all(smact.pauling),
        "alloy": of_all(smact.alloy | smact.elemental),
        "oxidation_states": certificates,
        "charge_kind": np.where(balances.metallic, "metallic", "ionic"),
        "charge_nats_per_atom": np.where(np.isfinite(nats), nats, np.nan),
        "screened_nats": balances.screened_nats,
        "mean_valences": [write_means(means) or None for means in balances.mean_valences],
        "holes_per_cu": balances.holes_per_cu,
        "undoped": pa.array(balances.undoped_parent, mask=np.isnan(balances.holes_per_cu)),
    }
    if judge.charge.mixed_valence:
        _, mixed_nats = neutrality.likeliest_valences(whole[judged], states, mixed=True)
        columns["neutral_mixed"] = columns["pauling"] | of_all(np.isfinite(mixed_nats))
    if names & {"neutral_atoms", "hydride"}:
        columns["neutral_atoms"] = np.zeros(len(amounts), dtype=np.bool_)
        small = np.flatnonzero(judged & (whole.sum(axis=1) <= neutrality.MAX_VALENCE_ATOMS))
        for row, own in zip(small.tolist(), neutrality.atom_valences(whole[small], states), strict=True):
            columns["neutral_atoms"][row] = bool(own)
            if not balances.assignments[row]:  # a hydride that doesn't balance shows the states of its atoms
                certificates[row] = write_shares(own) or certificates[row]
    return columns


def _whole_numbers(amounts: Floats) -> tuple[Ints, Mask]:
    """Amounts (u, 118) in reduced whole numbers, and which can be judged by them, (u,). Those that stay fractional are
    whole numbers of their last decimal; what this makes larger than neutrality.MAX_ATOMS, or has more decimals, can't.
    """
    scale = np.where((amounts == np.rint(amounts)).all(axis=1), 1, 10**AMOUNT_DECIMALS)[:, None]
    scaled = np.rint(amounts * scale)
    whole = reduce_counts(scaled.astype(np.int64))
    exact = (np.abs(amounts * scale - scaled) < 1e-6).all(axis=1)
    return whole, exact & (whole.sum(axis=1) <= neutrality.MAX_ATOMS)
