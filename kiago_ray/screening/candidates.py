"""The rows of a search as screens see them: formulas, their oxidation states, the nearest known composition.

What needs a formula is worked out once for each different one and handed to all rows that share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry import neutrality
from kiago_ray.chemistry.balance import Balances, likeliest_balance
from kiago_ray.chemistry.formula import reduce_counts
from kiago_ray.chemistry.neutrality import (
    MAX_VALENCE_ATOMS,
    Neutrality,
    Valences,
    atom_valences,
    likeliest_valences,
)
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.data.identity import KnownCompositions
from kiago_ray.data.neighbours import nearest_composition, nearest_emd
from kiago_ray.screening.improvement import NEARBY_DISTANCE, best_nearby, expected_improvement_k
from kiago_ray.screening.known import KnownMaterials
from kiago_ray.screening.rank import Standing
from kiago_ray.screening.tried import LENGTH, TriedMaterials, with_odds
from kiago_ray.screening.trust import SecondOpinions, is_extrapolated, trusted_tc_k
from kiago_ray.search.result import RowStatus

if TYPE_CHECKING:
    from kiago_ray.search.result import SearchResult

DECIMALS = 4  # of amounts that stay fractional (search.integers.fractional_amounts)
NEARBY = 3 * LENGTH  # places; a sample that is farther has less than half the weight of the model itself

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Texts = tuple[str | None, ...]


@dataclass(frozen=True)
class Candidates:
    """n rows. What a row without a formula doesn't have is "", 0, False or NaN.

    formulas: n texts. ok: (n,) the row has a formula. counts: (n, 118) its reduced whole numbers of atoms; zeros where
    its amounts are fractional. n_elements: (n,). tc_k, ef_ev_per_atom: (n,) predicted for the formula. sources: n
    texts, where each came from; None outside families.

    neutrality: SMACT's verdicts, n rows. balances: the likeliest states that balance, n rows. mixed: (n,) whether
    valences balance it where atoms of one element may differ, None where that wasn't asked for. by_atoms: n valences
    where each atom has its own (section 3.6), {} where none balance and for formulas of more than 1,000 atoms.

    nearest, nearest_emd: (n,) index into `materials` of the nearest by L1 distance in fractions (nearest_distance) and
    by element mover's distance in places of the modified Pettifor scale (nearest_emd_distance), -1 without one.
    best_nearby_tc_k: (n,) the highest weighed T_c known near the row, or near the base of the search
    (`improvement.best_nearby`), NaN without one; best_nearby: (n,) its index into `materials`, -1 without one.
    known, made, tried: n texts each, what the composition is the same as (`data.identity`) among measured
    superconductors, compounds that exist, and what was tried; None where it is none of them, or nothing was given to
    compare with. new_system: (n,) whether no known superconductor has just these elements, False where nothing was
    given to compare with.

    tc_std_k, tc_oracle_k, tc_oracle_std_k, extrapolation: (n,) as in SecondOpinions. tc_given_tried_k, tried_log_odds:
    (n,) T_c and what to add to the plausibility's log odds given what was tried nearby, NaN and 0 where nothing was
    given; tried_nearby: n texts, the nearest sample, None where none is near. log_plausibility: (n,) ln of the
    probability that it is made and reported, log_existence: (n,) that it exists, reported or not, in nats, at most 0;
    None where it wasn't worked out. plausibility_reasons: n texts, in words why a row is as plausible as it is.
    e_hull_ev_per_atom: (n,) above the hull of competing phases, NaN where it wasn't worked out; None where there are
    no phases.
    """

    formulas: tuple[str, ...]
    ok: Mask
    counts: Ints
    n_elements: Ints
    tc_k: Floats
    ef_ev_per_atom: Floats
    sources: Texts
    neutrality: Neutrality
    balances: Balances
    mixed: Mask | None
    by_atoms: tuple[Valences, ...] | None
    materials: KnownMaterials | None
    nearest: Ints
    nearest_distance: Floats
    nearest_emd: Ints
    nearest_emd_distance: Floats
    best_nearby: Ints
    best_nearby_tc_k: Floats
    known: Texts
    made: Texts
    tried: Texts
    new_system: Mask
    tc_std_k: Floats
    tc_oracle_k: Floats
    tc_oracle_std_k: Floats
    extrapolation: Floats
    tc_given_tried_k: Floats
    tried_log_odds: Floats
    tried_nearby: Texts
    plausibility_reasons: Texts
    log_plausibility: Floats | None = None
    log_existence: Floats | None = None
    e_hull_ev_per_atom: Floats | None = None

    @property
    def trusted_tc_k(self) -> Floats:
        """The lower bound of T_c in K, (n,); see `trust`."""
        return trusted_tc_k(self.tc_k, self.tc_std_k, self.tc_oracle_k, self.extrapolation)

    @property
    def taken(self) -> Mask:
        """Whether a row is no proposal because its composition is known or was tried, (n,)."""
        return np.array(
            [
                known is not None or tried is not None
                for known, tried in zip(self.known, self.tried, strict=True)
            ],
            dtype=np.bool_,
        )

    @property
    def plausibility(self) -> Floats:
        """The probability (n,) that the composition is made and reported, NaN where it wasn't worked out."""
        return (
            np.full(len(self.ok), np.nan) if self.log_plausibility is None else np.exp(self.log_plausibility)
        )

    @property
    def existence(self) -> Floats:
        """The probability (n,) that it exists, whether or not anybody reports it, NaN where it wasn't worked out."""
        return np.full(len(self.ok), np.nan) if self.log_existence is None else np.exp(self.log_existence)

    @property
    def expected_tc_k(self) -> Floats:
        """T_c in K, (n,), that an improvement is expected from: the smaller of the search's, given what was tried
        nearby, and the oracle's. The extrapolation score doesn't enter: how strange a composition is, is for its
        plausibility to say.
        """
        given = np.where(np.isnan(self.tc_given_tried_k), self.tc_k, self.tc_given_tried_k)
        return np.fmin(given, self.tc_oracle_k)

    @property
    def expected_improvement_k(self) -> Floats:
        """E[max(0, T_c − best nearby)] in K, (n,), T_c normal about `expected_tc_k` with the ensemble's spread; with
        nothing known nearby the best is 0. NaN where nothing was given to compare with.
        """
        return expected_improvement_k(self.expected_tc_k, self.tc_std_k, self.to_beat_k)

    @property
    def gain(self) -> Mask:
        """Whether T_c is expected above the best nearby, (n,); False where that isn't known."""
        return np.asarray(self.expected_tc_k > self.to_beat_k)

    @property
    def to_beat_k(self) -> Floats:
        """What an improvement is over, in K, (n,): the best nearby, 0 where nothing known is near, NaN where nothing
        was given to compare with.
        """
        if self.materials is None:
            return np.full(len(self.ok), np.nan)
        return np.nan_to_num(self.best_nearby_tc_k, nan=0.0)

    @property
    def of_families(self) -> tuple[bool, ...]:
        """Whether a row's formula keeps the order of its base (`rank.identity`)."""
        return tuple(source is not None for source in self.sources)

    def standing(self, passed: Mask) -> Standing:
        """The rows as ranking sees them. passed: (n,)."""
        return Standing(
            passed=passed,
            tc_k=self.tc_k,
            trusted_tc_k=self.trusted_tc_k,
            plausibility=self.plausibility,
            expected_improvement_k=self.expected_improvement_k,
            taken=self.taken,
            undoped=np.asarray(self.balances.undoped_parent, dtype=np.bool_),
            gain=self.gain,
            new_system=self.new_system,
        )

    @property
    def extrapolated(self) -> Mask:
        """Whether a row lies beyond what the predictors know, (n,); False where that isn't known."""
        return is_extrapolated(self.extrapolation)


def collect(
    result: SearchResult,
    *,
    oxidation_set: OxidationSet = OxidationSet.ICSD24,
    known: KnownMaterials | None = None,
    made: KnownCompositions | None = None,
    tried: TriedMaterials | None = None,
    mixed_valence: bool = False,
    by_atoms: bool = False,
    opinions: SecondOpinions | None = None,
    log_plausibility: Floats | None = None,
    log_existence: Floats | None = None,
    plausibility_reasons: Texts | None = None,
    base: Floats | None = None,
    nearby_distance: float = NEARBY_DISTANCE,
    emd: bool = True,
) -> Candidates:
    """The rows of `result` with what screens need: neutrality by `oxidation_set`, the likeliest states that
    balance a row, the nearest of `known`, what a row is the same as among `known`, `made` and `tried` and, if asked
    for, valences that are mixed, or each atom's own. opinions, log_plausibility, plausibility_reasons: of its n rows.
    base: (118,) fractions of the search's base, whose neighbours count as the row's for `best_nearby`, within
    nearby_distance of either. emd: whether `nearest_emd` is looked for.
    """
    ok, n = np.asarray(result.status == RowStatus.OK), len(result.status)
    formulas = tuple(text if fine else "" for text, fine in zip(result.formulas(), ok, strict=True))
    different = Different.of(formulas, ok)
    amounts = result.amounts[different.first]
    judgements = opinions or SecondOpinions()
    judged: dict[str, Any] = {
        name: np.where(ok, judgements.column(name, n), np.nan) for name in vars(judgements)
    }
    given_tried = _given_tried(tried, amounts, result.tc_k[different.first].astype(np.float64), different)
    return Candidates(
        formulas=formulas,
        ok=ok,
        counts=np.where(ok[:, None], reduce_counts(result.counts), 0),
        n_elements=np.where(ok, (result.amounts > 0).sum(axis=1), 0),
        tc_k=np.where(ok, result.tc_k, np.nan).astype(np.float64),
        ef_ev_per_atom=np.where(ok, result.ef_ev_per_atom, np.nan).astype(np.float64),
        sources=(None,) * n if result.source is None else tuple(result.source.tolist()),
        balances=likeliest_balance(amounts, oxidation_set).spread(different.place),
        **_in_whole_numbers(amounts, different, oxidation_set, mixed_valence, by_atoms),
        **_neighbours(amounts, different, known, base, nearby_distance, emd),
        made=_same_as(made, amounts, different),
        tried=_same_as(None if tried is None else tried.compositions, amounts, different),
        **judged,
        **given_tried,
        plausibility_reasons=(None,) * n if plausibility_reasons is None else plausibility_reasons,
        log_existence=None if log_existence is None else np.where(ok, log_existence, np.nan),
        log_plausibility=None
        if log_plausibility is None
        else with_odds(np.where(ok, log_plausibility, np.nan), given_tried["tried_log_odds"]),
    )


@dataclass(frozen=True)
class Different:
    """u different formulas of n rows. first: (u,) the first row of each. place: (n,) of each row among them, u where
    a row has none of them.
    """

    first: Ints
    place: Ints

    @classmethod
    def of(cls, formulas: Sequence[str], ok: Mask) -> Different:
        first: dict[str, int] = {}
        for row in np.flatnonzero(ok).tolist():
            first.setdefault(formulas[row], row)
        places = {text: place for place, text in enumerate(first)}
        place = [places[text] if fine else len(first) for text, fine in zip(formulas, ok, strict=True)]
        return cls(np.array(list(first.values()), dtype=np.int64), np.array(place, dtype=np.int64))

    def chosen(self, among: Mask) -> Different:
        """Those that are chosen (u,); rows of the others have none of them."""
        number = int(among.sum())
        at = np.append(np.where(among, np.cumsum(among) - 1, number), number)
        return Different(self.first[among], at[self.place])

    def spread(self, values: NDArray[Any], nothing: Any) -> NDArray[Any]:
        """Values (u, …) of the formulas as values (n, …) of the rows, `nothing` for rows that have none of them."""
        empty = np.full((1, *values.shape[1:]), nothing, dtype=values.dtype)
        return np.concatenate([values, empty])[self.place]

    def spread_each(self, values: Sequence[Any], nothing: Any = None) -> tuple[Any, ...]:
        """Values of the formulas as a tuple of the rows' values."""
        every = [*values, nothing]
        return tuple(every[at] for at in self.place.tolist())


def _in_whole_numbers(
    amounts: Floats, different: Different, oxidation_set: OxidationSet, mixed: bool, by_atoms: bool
) -> dict[str, Any]:
    """The fields on the balance of amounts (u, 118) in whole numbers. Those that stay fractional are judged as whole
    numbers of a ten-thousandth of an atom; what this makes larger than neutrality.MAX_ATOMS, or has more decimals,
    can't be judged and is not neutral.
    """
    whole, can_judge = whole_numbers(amounts)
    judged, numbers = different.chosen(can_judge), whole[can_judge]
    verdicts = neutrality.check(numbers, oxidation_set)
    small = can_judge & (whole.sum(axis=1) <= MAX_VALENCE_ATOMS)
    return {
        "neutrality": Neutrality(
            **{name: judged.spread(values, 0) for name, values in vars(verdicts).items()}
        ),
        "mixed": judged.spread(likeliest_valences(numbers, oxidation_set, mixed=True).neutral, False)
        if mixed
        else None,
        "by_atoms": different.chosen(small).spread_each(atom_valences(whole[small], oxidation_set), {})
        if by_atoms
        else None,
    }


def whole_numbers(amounts: Floats) -> tuple[Ints, Mask]:
    """Reduced whole numbers in the proportions of amounts (u, 118), and whether there are any (u,)."""
    scale = np.where((amounts == np.rint(amounts)).all(axis=1), 1, 10**DECIMALS)[:, None]
    whole = reduce_counts(np.rint(amounts * scale).astype(np.int64))
    exact = (np.abs(amounts * scale - np.rint(amounts * scale)) < 1e-6).all(axis=1)
    return whole, exact & (whole.sum(axis=1) <= neutrality.MAX_ATOMS)


def _neighbours(
    amounts: Floats,
    different: Different,
    known: KnownMaterials | None,
    base: Floats | None,
    radius: float,
    emd: bool,
) -> dict[str, Any]:
    """The fields on what is known, of formulas with amounts (u, 118)."""
    u = len(amounts)
    nowhere = np.full(u, np.nan), np.full(u, -1, dtype=np.int64)
    (distance, nearest), (emd_distance, by_emd), (best_tc_k, best) = nowhere, nowhere, nowhere
    new = np.zeros(u, dtype=np.bool_)
    if known is not None and u:
        fractions = amounts / amounts.sum(axis=1, keepdims=True)
        nearest, distance = nearest_composition(fractions, known.index)
        if emd:
            by_emd, emd_distance = nearest_emd(fractions, known.fractions)
        best_tc_k, best = best_nearby(fractions, known, radius, base=base)
        new = np.array([row.tobytes() not in known.chemical_systems for row in amounts > 0])
    return {
        "materials": known,
        "nearest": different.spread(nearest, -1),
        "nearest_distance": different.spread(distance, np.nan),
        "nearest_emd": different.spread(by_emd, -1),
        "nearest_emd_distance": different.spread(emd_distance, np.nan),
        "best_nearby": different.spread(best, -1),
        "best_nearby_tc_k": different.spread(best_tc_k, np.nan),
        "known": _same_as(None if known is None else known.compositions, amounts, different),
        "new_system": different.spread(new, False),
    }


def _same_as(compositions: KnownCompositions | None, amounts: Floats, different: Different) -> Texts:
    """What each row is the same as, of formulas with amounts (u, 118)."""
    found: Sequence[str | None] = [None] * len(amounts)
    if compositions is not None and len(amounts):
        found = compositions.same_as(amounts / amounts.sum(axis=1, keepdims=True))
    return different.spread_each(found)


def _given_tried(
    tried: TriedMaterials | None, amounts: Floats, tc_k: Floats, different: Different
) -> dict[str, Any]:
    """The fields on samples nearby, of formulas with amounts (u, 118) and T_c (u,) in K."""
    changed, odds = np.full(len(amounts), np.nan), np.zeros(len(amounts))
    near: list[str | None] = [None] * len(amounts)
    if tried is not None and len(amounts):
        fractions = amounts / amounts.sum(axis=1, keepdims=True)
        found = tried.reweigh(fractions, tc_k, np.full(len(amounts), np.nan))
        changed, odds = found.tc_k, found.log_odds
        near = [
            f"{tried.compositions.names[at]} ({distance:.2g} places away)" if distance <= NEARBY else None
            for at, distance in zip(found.nearest.tolist(), found.distance.tolist(), strict=True)
        ]
    return {
        "tc_given_tried_k": different.spread(changed, np.nan),
        "tried_log_odds": different.spread(odds, 0.0),
        "tried_nearby": different.spread_each(near),
    }
