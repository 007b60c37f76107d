"""The rows of a search as screens see them: formulas, their oxidation states, the nearest known composition.

What needs a formula is worked out once for each different one and handed to all rows that share it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry import neutrality
from kiago_ray.chemistry.balance import Balances, likeliest_balance
from kiago_ray.chemistry.elements import N_ELEMENTS
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

# Places; a sample that is farther has less than half the weight of the model itself.
NEARBY = 3 * LENGTH

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
Texts = tuple[str | None, ...]
Known = TypeVar("Known")  # compositions as a way of looking through them takes them


@dataclass(frozen=True)
class Candidates:
    """n rows. What a row without a formula doesn't have is "", 0, False or NaN.

    formulas: n texts. ok: (n,) the row has a formula. counts: (n, 118) its reduced whole numbers of atoms;
    zeros where its amounts are fractional. n_elements: (n,). tc_k, ef_ev_per_atom: (n,) predicted for the
    formula. neutrality: SMACT's verdicts, n rows. balances: the likeliest states that balance, n rows. nearest:
    (n,) index into `materials`, -1 without one; nearest_distance: (n,) L1 distance in fractions. nearest_emd,
    nearest_emd_distance: (n,) the same by element
    mover's distance in places of the modified Pettifor scale. mixed: for each row the valences that balance it where
    atoms of one element may differ, {} where none do; None where that wasn't asked for. by_atoms: the same where each
    atom has a valence of its own (section 3.6), for formulas of up to 1,000 atoms. tc_std_k, tc_oracle_k,
    tc_oracle_std_k, extrapolation: (n,) as in SecondOpinions. known, made, tried: n texts each, what the composition
    is the same as (`knowledge.identity`) among measured superconductors, compounds that exist, and what was tried;
    None where it is none of them, or nothing was given to compare with. tc_given_tried_k, tried_log_odds: (n,) T_c and
    what to add to the plausibility's log odds given what was tried nearby, NaN and 0 where nothing was given;
    tried_nearby: n texts, the nearest sample, None where none is near. sources: n texts, where each came from; None
    outside families. best_nearby_tc_k: (n,) the highest weighed T_c known near the row, or near the base of the
    search (`improvement.best_nearby`), NaN without one; best_nearby: (n,) its index into `materials`, -1 without one.
    new_system: (n,) whether no known superconductor has just these elements, False where nothing was given to compare
    with. plausibility_reasons: n texts, in words why a row is as plausible as it is. log_plausibility: (n,) ln of the
    probability that it is made and reported, log_existence: (n,) that it exists, reported or not, in nats, at most 0;
    None where it wasn't worked out. e_hull_ev_per_atom: (n,) above the hull of
    competing phases, NaN where it wasn't worked out; None where there are no phases.
    """

    formulas: tuple[str, ...]
    ok: Mask
    counts: Ints
    n_elements: Ints
    tc_k: Floats
    ef_ev_per_atom: Floats
    neutrality: Neutrality
    balances: Balances
    materials: KnownMaterials | None
    nearest: Ints
    nearest_distance: Floats
    nearest_emd: Ints
    nearest_emd_distance: Floats
    tc_std_k: Floats
    tc_oracle_k: Floats
    tc_oracle_std_k: Floats
    extrapolation: Floats
    known: Texts
    made: Texts
    tried: Texts
    tc_given_tried_k: Floats
    tried_log_odds: Floats
    tried_nearby: Texts
    sources: Texts
    best_nearby_tc_k: Floats
    best_nearby: Ints
    plausibility_reasons: Texts
    new_system: Mask
    log_plausibility: Floats | None = None
    log_existence: Floats | None = None
    mixed: tuple[Valences, ...] | None = None
    by_atoms: tuple[Valences, ...] | None = None
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

    Amounts that stay fractional are judged as whole numbers of a ten-thousandth of an atom. A formula that
    this makes larger than neutrality.MAX_ATOMS, or whose amounts have more decimals, can't be judged and is
    not neutral.
    """
    ok = np.asarray(result.status == RowStatus.OK)
    formulas = tuple(text if fine else "" for text, fine in zip(result.formulas(), ok, strict=True))
    first, place = _different(formulas, ok)
    amounts = result.amounts[first]
    whole, judged = whole_numbers(amounts)
    judgements, n = opinions or SecondOpinions(), len(ok)
    verdicts = neutrality.check(whole[judged], oxidation_set)
    by_l1 = _neighbours(nearest_composition, amounts, None if known is None else known.index, place)
    by_emd = _neighbours(nearest_emd, amounts, known.fractions if emd and known is not None else None, place)
    given_tried = _given_tried(tried, amounts, result.tc_k[first].astype(np.float64), place)
    best = _best_nearby(amounts, known, nearby_distance, base, place)
    return Candidates(
        formulas=formulas,
        ok=ok,
        counts=np.where(ok[:, None], reduce_counts(result.counts), 0),
        n_elements=np.where(ok, (result.amounts > 0).sum(axis=1), 0),
        tc_k=np.where(ok, result.tc_k, np.nan).astype(np.float64),
        ef_ev_per_atom=np.where(ok, result.ef_ev_per_atom, np.nan).astype(np.float64),
        neutrality=_for_rows(verdicts, judged, place),
        balances=likeliest_balance(amounts, oxidation_set).spread(place),
        materials=known,
        nearest=by_l1[0],
        nearest_distance=by_l1[1],
        nearest_emd=by_emd[0],
        nearest_emd_distance=by_emd[1],
        **{
            name: np.where(ok, judgements.column(name, n), np.nan)
            for name in ("tc_std_k", "tc_oracle_k", "tc_oracle_std_k", "extrapolation")
        },
        known=_same_as(None if known is None else known.compositions, amounts, place),
        made=_same_as(made, amounts, place),
        tried=_same_as(None if tried is None else tried.compositions, amounts, place),
        tc_given_tried_k=given_tried[0],
        tried_log_odds=given_tried[1],
        tried_nearby=given_tried[2],
        sources=(None,) * n if result.source is None else tuple(result.source.tolist()),
        best_nearby_tc_k=best[1],
        best_nearby=best[0],
        plausibility_reasons=(None,) * n if plausibility_reasons is None else plausibility_reasons,
        new_system=_new_systems(amounts, known, place),
        log_existence=None if log_existence is None else np.where(ok, log_existence, np.nan),
        log_plausibility=None
        if log_plausibility is None
        else with_odds(np.where(ok, log_plausibility, np.nan), given_tried[1]),
        mixed=_mixed(whole, judged, place, oxidation_set) if mixed_valence else None,
        by_atoms=_by_atoms(whole, judged, place, oxidation_set) if by_atoms else None,
    )


def _same_as(compositions: KnownCompositions | None, amounts: Floats, place: Ints) -> Texts:
    """What each of amounts (u, 118) is the same as, spread over the rows at `place`."""
    found: list[str | None] = [None] * len(amounts)
    if compositions is not None and len(amounts):
        found = compositions.same_as(amounts / amounts.sum(axis=1, keepdims=True))
    found.append(None)
    return tuple(found[at] for at in place.tolist())


def _new_systems(amounts: Floats, known: KnownMaterials | None, place: Ints) -> Mask:
    """Whether no known superconductor has just the elements of amounts (u, 118), spread over the rows at `place`."""
    there = frozenset() if known is None else known.chemical_systems
    new = [known is not None and row.tobytes() not in there for row in amounts > 0]
    return np.array([*new, False], dtype=np.bool_)[place]


def _given_tried(
    tried: TriedMaterials | None, amounts: Floats, tc_k: Floats, place: Ints
) -> tuple[Floats, Floats, Texts]:
    """The three fields on samples near to amounts (u, 118) with T_c (u,) in K, spread over the rows at `place`."""
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
    near.append(None)
    texts = tuple(near[at] for at in place.tolist())
    return np.append(changed, np.nan)[place], np.append(odds, 0.0)[place], texts


def _mixed(whole: Ints, judged: Mask, place: Ints, oxidation_set: OxidationSet) -> tuple[Valences, ...]:
    """Valences of the judged of u formulas, spread over the rows that stand at `place` among the u."""
    found: list[Valences] = [{} for _ in range(len(judged) + 1)]
    balanced = likeliest_valences(whole[judged], oxidation_set, mixed=True).assignments
    for at, assignment in zip(np.flatnonzero(judged).tolist(), balanced, strict=True):
        found[at] = assignment
    return tuple(found[at] for at in place.tolist())


def _by_atoms(whole: Ints, judged: Mask, place: Ints, oxidation_set: OxidationSet) -> tuple[Valences, ...]:
    """The valences that atoms of the judged of u formulas (u, 118) have, {} for none or for more than
    MAX_VALENCE_ATOMS atoms, spread over the rows that stand at `place`.
    """
    judged = judged & (whole.sum(axis=1) <= MAX_VALENCE_ATOMS)
    found: list[Valences] = [{} for _ in range(len(whole) + 1)]
    for at, valences in zip(
        np.flatnonzero(judged).tolist(), atom_valences(whole[judged], oxidation_set), strict=True
    ):
        found[at] = valences
    return tuple(found[at] for at in place.tolist())


def _neighbours(
    find: Callable[[Floats, Known], tuple[Ints, Floats]],
    amounts: Floats,
    known: Known | None,
    place: Ints,
) -> tuple[Ints, Floats]:
    """Index of the nearest known to each of amounts (u, 118) and its distance, spread over the rows at `place`."""
    index, distance = np.full(len(amounts), -1, dtype=np.int64), np.full(len(amounts), np.nan)
    if known is not None and len(amounts):
        index, distance = find(amounts / amounts.sum(axis=1, keepdims=True), known)
    return np.append(index, -1)[place], np.append(distance, np.nan)[place]


def _best_nearby(
    amounts: Floats, known: KnownMaterials | None, radius: float, base: Floats | None, place: Ints
) -> tuple[Ints, Floats]:
    """Index of the known with the highest T_c near each of amounts (u, 118), and that T_c, spread over the rows."""
    index, tc_k = np.full(len(amounts), -1, dtype=np.int64), np.full(len(amounts), np.nan)
    if known is not None and len(amounts):
        tc_k, index = best_nearby(amounts / amounts.sum(axis=1, keepdims=True), known, radius, base=base)
    return np.append(index, -1)[place], np.append(tc_k, np.nan)[place]


def _different(formulas: Sequence[str], ok: Mask) -> tuple[Ints, Ints]:
    """The first row of each different formula (u,); for each row its place among them (n,), u without one."""
    places: dict[str, int] = {}
    first: list[int] = []
    for row in np.flatnonzero(ok).tolist():
        if formulas[row] not in places:
            places[formulas[row]] = len(first)
            first.append(row)
    place = [places[text] if fine else len(first) for text, fine in zip(formulas, ok, strict=True)]
    return np.array(first, dtype=np.int64), np.array(place, dtype=np.int64)


def whole_numbers(amounts: Floats) -> tuple[Ints, Mask]:
    """Reduced whole numbers in the proportions of amounts (u, 118), and whether there are any (u,)."""
    scale = np.where((amounts == np.rint(amounts)).all(axis=1), 1, 10**DECIMALS)[:, None]
    whole = reduce_counts(np.rint(amounts * scale).astype(np.int64))
    exact = (np.abs(amounts * scale - np.rint(amounts * scale)) < 1e-6).all(axis=1)
    return whole, exact & (whole.sum(axis=1) <= neutrality.MAX_ATOMS)


def _for_rows(verdicts: Neutrality, judged: Mask, place: Ints) -> Neutrality:
    """The verdicts on the judged of u formulas, spread over the rows that stand at `place` among the u."""

    def spread(values: NDArray[np.bool_]) -> NDArray[np.bool_]:
        every = np.zeros(len(judged) + 1, dtype=np.bool_)
        every[:-1][judged] = values
        return every[place]

    states = np.zeros((len(judged) + 1, N_ELEMENTS), dtype=np.int16)
    states[:-1][judged] = verdicts.states
    return Neutrality(
        neutral=spread(verdicts.neutral),
        pauling=spread(verdicts.pauling),
        alloy=spread(verdicts.alloy),
        elemental=spread(verdicts.elemental),
        assigned=spread(verdicts.assigned),
        states=states[place],
    )
