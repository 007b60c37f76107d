"""Unique compositions of a table of candidates, the order in which a person reads them, and their Pareto front.

Formulas written from reduced integers, or from fractional amounts in one fixed order, are the same text exactly when
they are the same composition; there the text is the identity. Formulas of a family keep the order of their base, so
one composition has several texts: these count by `identity`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kiago_ray.chemistry.elements import WRITING_RANK, Floats, Ints, Mask
from kiago_ray.chemistry.formula import AMOUNT_DECIMALS, parse, write
from kiago_ray.search.sections import ScreensSpec

FIRST_ROWS = 30  # in which no chemical system stands too often
SCANNED_ROWS = 3000  # so far down a row is looked for that may come up among the first in place of another
_NUMBERS = (
    "tc_k",
    "trusted_tc_k",
    "plausibility",
    "expected_improvement_k",
    "ef_ev_per_atom",
    "extrapolation",
)
_MARKS = ("passed", "undoped", "gain", "new_system")
RANKED = (*_NUMBERS, *_MARKS, "formula", "source", "known", "tried", "row")
"""What ranking reads of a table of candidates."""
ORDER = ("rank_by", "improvement_offset_k", "improvement_tc_share", "most_per_system", "new_systems_first")
"""What ranking reads of a search's screens."""


def ranked(table: Any, ranking: ScreensSpec | None = None) -> Any:
    """The unique formulas of a table of rows, best first, `rank` from 1, those on their Pareto front marked. Rows
    without a formula drop out. The table may hold several searches, told apart by their seeds.
    """
    places, front = rank_rows(table, table["seed"].to_numpy(), ranking)
    return with_ranks(table.take(pa.array(places)), np.arange(1, len(places) + 1), front)


def rank_rows(rows: Any, searches: Ints, ranking: ScreensSpec | None = None) -> tuple[Ints, Any]:
    """Which of n rows stand for the u unique compositions: their positions (u,), best first (see `order`), and an
    Arrow array (u,) of whether each is on their Pareto front, null where nobody has a say on its T_c.

    rows: a table with the columns RANKED. searches: (n,), which search a row is of. For a composition stands its first
    row by (not passed, search, row); rows without a formula drop out.
    """
    turn = np.lexsort((rows["row"].to_numpy(), searches, ~rows["passed"].to_numpy()))
    places = unique(rows, turn)
    first = rows.take(pa.array(places))
    best = order(first, ranking)
    names = ("trusted_tc_k", "ef_ev_per_atom", "extrapolation", "passed")
    trusted_tc_k, *others = (first[name].to_numpy() for name in names)
    front = pa.array(pareto_front(trusted_tc_k, *others), mask=np.isnan(trusted_tc_k))
    return places[best], front.take(pa.array(best))


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
    formulas = rows["formula"].cast(pa.large_string()).combine_chunks()
    of_families = pc.is_valid(rows["source"]).combine_chunks()
    own = formulas.filter(of_families).dictionary_encode()
    identities = pa.array([identity(text) for text in own.dictionary.to_pylist()], pa.large_string())
    texts = pc.replace_with_mask(formulas, of_families, identities.take(own.indices))
    composition = texts.dictionary_encode().indices.fill_null(-1).to_numpy()
    turn = np.arange(len(composition)) if turn is None else turn
    turn = turn[composition[turn] >= 0]
    return np.asarray(turn[np.unique(composition[turn], return_index=True)[1]])


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
    are neither known, tried nor undoped are then arranged: the best that is a gain stands first, if there is one; and
    of the first 30 no more than most_per_system are of one chemical system, as far as there are others: the surplus
    follows behind them.
    """
    ranking = ranking or ScreensSpec(rank_by="trusted")
    passed, undoped, gain, new_system = (rows[name].fill_null(False).to_numpy() for name in _MARKS)
    taken = _taken(rows) | ~new_system if ranking.new_systems_first else _taken(rows)
    undoped = undoped & (ranking.rank_by in ("improvement", "plausibility"))
    groups = np.select([~passed, undoped, taken], [3, 2, 1], 0)
    alphabetical = pc.rank(rows["formula"], tiebreaker="dense").to_numpy()
    best = np.lexsort((alphabetical, *(falling(each) for each in _keys(rows, ranking)), groups))
    if ranking.rank_by != "improvement":
        return best
    new, others = np.split(best, [int((groups == 0).sum())])
    gains = np.flatnonzero(gain[new])[:1]
    new = np.concatenate([new[gains], np.delete(new, gains)])
    return np.concatenate([_spread(new, ranking.most_per_system, rows["formula"]), others])


def falling(values: Floats) -> Floats:
    """A key (n,) that sorts values (n,) from high to low, NaN last."""
    return np.where(np.isnan(values), np.inf, -values)


def improvement_key(plausibility: Floats, expected_improvement_k: Floats, offset_k: float | Floats) -> Floats:
    """ln P + ln(EI + offset), (n,), the offset one for all or (n,). What isn't known of any row is left out; of some
    rows it makes their key NaN.
    """
    with np.errstate(divide="ignore"):
        terms = np.log([plausibility, expected_improvement_k + offset_k])
    return np.asarray(terms[~np.isnan(terms).all(axis=1)].sum(axis=0))


def _keys(rows: Any, ranking: ScreensSpec) -> list[Floats]:
    """What decides within a group, the last first."""
    tc_k, trusted_tc_k, plausibility, improvement_k = (rows[name].to_numpy() for name in _NUMBERS[:4])
    keys = [tc_k] if ranking.rank_by == "tc" else [tc_k, trusted_tc_k]
    if ranking.rank_by == "plausibility":
        keys.append(plausibility)
    if ranking.rank_by == "improvement":
        promised = ranking.improvement_tc_share * np.maximum(np.nan_to_num(trusted_tc_k), 0)
        keys.append(improvement_key(plausibility, improvement_k, ranking.improvement_offset_k + promised))
    return keys


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
    # The different ones, in the order of their values.
    points, place = np.unique(costs, axis=0, return_inverse=True)
    front = np.zeros(len(eligible), dtype=np.bool_)
    front[rows] = _unbeaten(points[:, 1].tolist(), points[:, 2].tolist())[place.reshape(-1)]
    return front


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
