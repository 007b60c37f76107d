"""The table of candidates: the rows of a search with their formulas, oxidation states, what is known near them and how
far their T_c can be trusted; its unique compositions, the order in which a person reads them, their Pareto front.

What a formula alone decides is worked out once for each different one. Formulas written from reduced integers, or from
fractional amounts in one fixed order, are the same text exactly when they are the same composition; there the text is
the identity. Formulas of a family keep the order of their base, so these count by `identity`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from kiago_ray.chemistry import neutrality
from kiago_ray.chemistry.balance import likeliest_balance, write_shares
from kiago_ray.chemistry.elements import INDEX, WRITING_RANK, Floats, Ints, Mask
from kiago_ray.chemistry.formula import AMOUNT_DECIMALS, parse, reduce_counts, write, write_row
from kiago_ray.chemistry.formula import fractions as fractions_of
from kiago_ray.data.compositions import KnownCompositions
from kiago_ray.screening.known import (
    EXTRAPOLATED,
    BaseMaterial,
    KnownMaterials,
    TriedMaterials,
    contradicted,
    expected_improvement_k,
    trusted_tc_k,
    with_odds,
)
from kiago_ray.search.result import RowStatus, SearchResult
from kiago_ray.search.sections import ScreensSpec
from kiago_ray.search.spec import SearchSpec

FIRST_ROWS = 30  # in which no chemical system stands too often
_FRONT_ROWS = 131_072  # whose front is looked for at a time
SCANNED_ROWS = 3000  # so far down a row is looked for that may come up among the first in place of another
_MARKS = ("passed", "undoped", "gain", "new_system")
_AIMS = ("trusted_tc_k", "ef_ev_per_atom", "extrapolation")
_KEYS = ("tc_k", "plausibility", "expected_improvement_k")
RANKED = (*_AIMS, *_KEYS, *_MARKS, "formula", "source", "known", "tried", "row")
"""What ranking reads of a table of candidates."""
ORDER = ("rank_by", "improvement_offset_k", "improvement_tc_share", "most_per_system", "new_systems_first")
"""What ranking reads of a search's screens."""

Opinions = Callable[[Floats], Mapping[str, Any]]
"""Fractions (u, 118) → what models say of them, (u,) each by column: tc_std_k, tc_oracle_k, tc_oracle_std_k,
extrapolation, existence, plausibility_reason, and log_plausibility in nats, before what was tried has its say."""

_OPTIONAL = ("tc_std_k", "tc_oracle_k", "extrapolation", "best_nearby_tc_k", "tc_given_tried_k")
_MEASURED = ("measured_tc_k", "measured_pressure_gpa")


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
    columns |= dict.fromkeys(("plausibility", *_OPTIONAL, *_MEASURED), np.full(len(first), np.nan))
    columns |= {
        "formula": different,
        "n_atoms": pa.array(atoms, mask=atoms == 0),
        "n_elements": (amounts > 0).sum(axis=1),
        "hydrogen": fractions[:, INDEX["H"]],
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
    std_k, oracle_k, score, best_k, given_k = (rows[name].to_numpy() for name in _OPTIONAL)
    measured = (rows[name].to_numpy() for name in _MEASURED)
    expected_k = np.fmin(np.where(np.isnan(given_k), tc_k, given_k), oracle_k)
    to_beat_k = np.nan_to_num(best_k, nan=0.0 if compared else np.nan)
    improvement_k = expected_improvement_k(expected_k, std_k, to_beat_k)
    return {
        "expected_improvement_k": improvement_k,
        "gain": pa.array(expected_k > to_beat_k, mask=np.isnan(improvement_k)),
        "trusted_tc_k": trusted_tc_k(tc_k, std_k, oracle_k, score),
        "extrapolated": pa.array(score > EXTRAPOLATED, mask=np.isnan(score)),
        "contradicted": pa.array(contradicted(tc_k, std_k, *measured), pa.bool_()),
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
        "mean_valences": [text or None for text in balances.mean_valences],
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


def ranked(table: Any, ranking: ScreensSpec | None = None) -> Any:
    """The unique formulas of a table of rows, best first, `rank` from 1, those on their Pareto front marked. Rows
    without a formula drop out. The table may hold several searches, told apart by their seeds.
    """
    first = table.take(pa.array(standing(table, table["seed"].to_numpy())))
    best, front = best_first(first, ranking)
    return with_ranks(first.take(pa.array(best)), np.arange(1, len(best) + 1), front)


def standing(rows: Any, searches: Ints) -> Ints:
    """Which of n rows stand for the u unique compositions, (u,): of each its first row by (not passed, search, row);
    rows without a formula drop out. rows: a table with the columns RANKED. searches: (n,), which search a row is of.
    """
    turn = np.lexsort((rows["row"].to_numpy(), searches, ~rows["passed"].to_numpy()))
    return unique(rows, turn)


def best_first(rows: Any, ranking: ScreensSpec | None = None) -> tuple[Ints, Any]:
    """The `order` of the rows that stand for the u unique compositions, (u,), and an Arrow array (u,) of whether each
    is on their Pareto front, null where nobody has a say on its T_c.
    """
    best = order(rows, ranking)
    trusted_tc_k, *others = (rows[name].to_numpy() for name in (*_AIMS, "passed"))
    front = pa.array(pareto_front(trusted_tc_k, *others), mask=np.isnan(trusted_tc_k))
    return best, front.take(pa.array(best))


def with_ranks(rows: Any, ranks: Ints, front: Any) -> Any:
    """A table with these values (n,) in its columns `rank` and `pareto`."""
    for name, values in (("rank", pa.array(ranks, pa.int32())), ("pareto", front)):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), values)
    return rows


def unique(rows: Any, turn: Ints | None = None) -> Ints:
    """The positions (u,) of the first row of each composition in `turn`, an order (n,) of the rows, by default their
    own. Rows without a formula are left out. rows: a table with `formula` and `source`.
    """
    texts = [_identities(batch) for batch in rows.select(["formula", "source"]).to_batches()]
    encoded = pa.chunked_array(texts, pa.large_string()).dictionary_encode().chunks  # of one dictionary
    composition = np.concatenate(
        [np.zeros(0, dtype=np.int32), *(chunk.indices.fill_null(-1).to_numpy() for chunk in encoded)]
    )
    del texts, encoded
    pa.default_memory_pool().release_unused()  # of ten million formulas it is nearly a gigabyte
    turn = np.arange(len(composition)) if turn is None else turn
    turn = turn[composition[turn] >= 0]
    return np.asarray(turn[np.unique(composition[turn], return_index=True)[1]])


def _identities(batch: Any) -> Any:
    """What tells the compositions of a batch's rows apart, (n,): of a family's rows the identity, else the text as it
    is, which takes no memory of its own.
    """
    formulas, of_families = batch["formula"].cast(pa.large_string()), pc.is_valid(batch["source"])
    own = formulas.filter(of_families).dictionary_encode()
    if not len(own):
        return formulas
    identities = pa.array([identity(text) for text in own.dictionary.to_pylist()], pa.large_string())
    return pc.replace_with_mask(formulas, of_families, identities.take(own.indices))


def new_rows(table: Any) -> Mask:
    """Which rows of a table of candidates (n,) passed and are neither known nor tried."""
    return np.asarray(table["passed"].fill_null(False).to_numpy() & ~_taken(table))


def _taken(table: Any) -> Mask:
    return np.asarray(pc.or_(pc.is_valid(table["known"]), pc.is_valid(table["tried"])).to_numpy())


@lru_cache(maxsize=4096)
def identity(formula: str) -> str:
    """The composition in reduced whole numbers, least electronegative element first: La37Sr3Cu20O80 for
    La1.85Sr0.15CuO4. A formula whose amounts have more than four decimals is its own identity.
    """
    amounts = parse(formula)
    scale = 10**AMOUNT_DECIMALS
    whole = {symbol: round(amount * scale) for symbol, amount in amounts.items()}
    if any(abs(amounts[symbol] * scale - number) > 1e-6 * scale for symbol, number in whole.items()):
        return formula
    divisor = math.gcd(*whole.values())
    ordered = sorted(whole, key=WRITING_RANK.__getitem__)
    return write({symbol: whole[symbol] // divisor for symbol in ordered if whole[symbol]})


def order(rows: Any, ranking: ScreensSpec | None = None) -> Ints:
    """Positions (n,) of a table's rows, best first: what passed and is neither known nor tried, then what is, then
    undoped cuprates (but not by T_c), then what didn't pass; of these by what `ranking` asks for (trusted T_c unless
    it says otherwise), falling and unknown last, then by falling trusted T_c (but not by tc), by falling T_c, and by
    formula. rows: with the columns RANKED.

    Where it asks for improvement, the key is ln P + ln(EI + offset + share·trusted T_c), and the rows that passed and
    are neither known, tried nor undoped are then arranged: the best that is a gain, if there is one, stands first; and
    of the first 30 no more than most_per_system are of one chemical system, as far as there are others.
    """
    ranking = ranking or ScreensSpec(rank_by="trusted")
    passed, undoped, gain, new_system = (rows[name].fill_null(False).to_numpy() for name in _MARKS)
    taken = _taken(rows) | ~new_system if ranking.new_systems_first else _taken(rows)
    undoped = undoped & (ranking.rank_by in ("improvement", "plausibility"))
    groups = np.select([~passed, undoped, taken], [3, 2, 1], 0)
    alphabetical = pc.rank(rows["formula"], tiebreaker="dense").to_numpy()
    falling = (np.where(np.isnan(key), np.inf, -key) for key in _keys(rows, ranking))  # what isn't known last
    best = np.lexsort((alphabetical, *falling, groups))
    if ranking.rank_by != "improvement":
        return best
    new, others = np.split(best, [int((groups == 0).sum())])
    gains = np.flatnonzero(gain[new])[:1]
    new = np.concatenate([new[gains], np.delete(new, gains)])
    return np.concatenate([_spread(new, ranking.most_per_system, rows["formula"]), others])


def improvement_key(plausibility: Floats, expected_improvement_k: Floats, offset_k: float | Floats) -> Floats:
    """ln P + ln(EI + offset), (n,), the offset one for all or (n,). What isn't known of any row is left out; of some
    rows it makes their key NaN.
    """
    with np.errstate(divide="ignore"):
        terms = np.log([plausibility, expected_improvement_k + offset_k])
    return np.asarray(terms[~np.isnan(terms).all(axis=1)].sum(axis=0))


def _keys(rows: Any, ranking: ScreensSpec) -> list[Floats]:
    """What decides within a group, the last first."""
    tc_k, plausibility, improvement_k = (rows[name].to_numpy() for name in _KEYS)
    trusted_tc_k = rows["trusted_tc_k"].to_numpy()
    promised = ranking.improvement_tc_share * np.maximum(np.nan_to_num(trusted_tc_k), 0)
    offset_k = ranking.improvement_offset_k + promised
    return {
        "tc": [tc_k],
        "trusted": [tc_k, trusted_tc_k],
        "plausibility": [tc_k, trusted_tc_k, plausibility],
        "improvement": [tc_k, trusted_tc_k, improvement_key(plausibility, improvement_k, offset_k)],
    }[ranking.rank_by]


def _spread(best: Ints, most: int, formulas: Any) -> Ints:
    """These rows with no chemical system more than `most` times among the first, where there are enough others."""
    first: list[int] = []
    surplus: list[int] = []
    counts: dict[frozenset[str], int] = {}
    for row in best[:SCANNED_ROWS].tolist():
        if len(first) == FIRST_ROWS:
            break
        system = frozenset(parse(formulas[row].as_py()))
        counts[system] = counts.get(system, 0) + 1
        (first if counts[system] <= most else surplus).append(row)
    return np.concatenate([np.array(first + surplus, dtype=np.int64), best[len(first) + len(surplus) :]])


def pareto_front(trusted_tc_k: Floats, ef_ev_per_atom: Floats, extrapolation: Floats, eligible: Mask) -> Mask:
    """Which of n rows are on the front (n,): eligible, and no eligible row is as good in all aims and better in one.

    Trusted T_c counts upwards, E_f and the extrapolation score downwards; rows that tie in all three stand or fall
    together. A row without the first two isn't on the front. An unknown score is the farthest of all, so that where
    none is known the other two aims decide.

    Exact, in O(n log n): sorted by the first aim, a row is beaten only by rows before it, and of those a staircase in
    the other two aims is enough (Kung, Luccio and Preparata, J. ACM 22, 469 (1975)).
    """
    rows = np.flatnonzero(eligible & ~np.isnan(trusted_tc_k) & ~np.isnan(ef_ev_per_atom))
    far = np.nan_to_num(extrapolation[rows], nan=np.inf, posinf=np.inf)
    costs = np.stack([-trusted_tc_k[rows], ef_ev_per_atom[rows], far], axis=1) + 0.0  # no -0.0
    # What is beaten among some is beaten among all; so few rows are ever sorted together, whatever their number.
    lots = np.array_split(np.arange(len(rows)), 1 + len(rows) // _FRONT_ROWS)
    kept = np.concatenate([lot[_unbeaten_of(costs[lot])] for lot in lots])
    front = np.zeros(len(eligible), dtype=np.bool_)
    front[rows[kept[_unbeaten_of(costs[kept])]]] = True
    return front


def _unbeaten_of(costs: Floats) -> Mask:
    """Which of these rows (n, 3) none beats, (n,)."""
    # The different ones, in the order of their values.
    points, place = np.unique(costs, axis=0, return_inverse=True)
    return _unbeaten(points[:, 1].tolist(), points[:, 2].tolist())[place.reshape(-1)]


def _unbeaten(second: list[float], third: list[float]) -> Mask:
    """Which of different points, in rising order of (first, second, third), no point before is as low as in both."""
    unbeaten = np.zeros(len(second), dtype=np.bool_)
    steps: list[float] = []  # the staircase: second rises, third falls
    depths: list[float] = []
    for at, (across, down) in enumerate(zip(second, third, strict=True)):
        end = bisect_right(steps, across)
        if end and depths[end - 1] <= down:
            continue
        unbeaten[at] = True
        begin = end - 1 if end and steps[end - 1] == across else end
        while end < len(steps) and depths[end] >= down:
            end += 1
        steps[begin:end], depths[begin:end] = [across], [down]
    return unbeaten
