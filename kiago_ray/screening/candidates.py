"""The rows of a search as screens see them: formulas, their oxidation states, what is known near them, how far their
T_c can be trusted. What needs a formula is worked out once for each different one.

trusted T_c = min(T_c, T_c of the oracle) − σ, at least 0, and 0 for a composition beyond what the predictors know:
there nobody has a say, and 0 is the only lower bound that is sure. σ is calibrated on held-out rows, so that about one
in six known superconductors lies below T_c − σ. Where the oracle says less, σ comes off that: of two rows with equal
T_c and σ, the one that it doubts is trusted less. The oracle's own spread isn't used: it is no calibrated error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry import neutrality
from kiago_ray.chemistry.balance import Balances, likeliest_balance
from kiago_ray.chemistry.elements import Floats, Ints, Mask
from kiago_ray.chemistry.formula import reduce_counts
from kiago_ray.chemistry.neutrality import (
    MAX_VALENCE_ATOMS,
    Neutrality,
    Valences,
    atom_valences,
    likeliest_valences,
)
from kiago_ray.chemistry.oxidation import OxidationSet
from kiago_ray.data.compositions import KnownCompositions, nearest_emd
from kiago_ray.screening.known import (
    LENGTH,
    NEARBY_DISTANCE,
    KnownMaterials,
    TriedMaterials,
    expected_improvement_k,
    with_odds,
)
from kiago_ray.screening.rank import Standing
from kiago_ray.search.result import RowStatus, SearchResult

EXTRAPOLATED = 1.0  # the score beyond which a composition is flagged, with 1 in 20 held-out superconductors
DECIMALS = 4  # of amounts that stay fractional (search.integers.fractional_amounts)
NEARBY = 3 * LENGTH  # places; a sample that is farther has less than half the weight of the model itself

Texts = tuple[str | None, ...]


@dataclass(frozen=True)
class SecondOpinions:
    """What others say of n rows, each (n,) or None where nobody was asked; NaN for a row that can't be judged.

    tc_std_k: calibrated standard deviation of the search's T_c. tc_oracle_k, tc_oracle_std_k: T_c by a model that the
    search never sees, and how far its members disagree; all in K. extrapolation: how far a composition lies from what
    the predictors have learnt from, 1 at the 95th percentile of known superconductors that were held out.
    """

    tc_std_k: Floats | None = None
    tc_oracle_k: Floats | None = None
    tc_oracle_std_k: Floats | None = None
    extrapolation: Floats | None = None


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
    best_nearby_tc_k, best_nearby: (n,) as `KnownMaterials.best_nearby` gives them. known, made, tried: n texts each,
    what the composition is the same as (`data.compositions`) among measured superconductors, compounds that exist, and
    what was tried; None where it is none of them, or nothing was given to compare with. new_system: (n,) whether no
    known superconductor has just these elements, False where nothing was given to compare with.

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
        """The lower bound of T_c in K, (n,)."""
        return trusted_tc_k(self.tc_k, self.tc_std_k, self.tc_oracle_k, self.extrapolation)

    @property
    def extrapolated(self) -> Mask:
        """Whether a row lies beyond what the predictors know, (n,); False where that isn't known."""
        return is_extrapolated(self.extrapolation)

    @property
    def taken(self) -> Mask:
        """Whether a row is no proposal because its composition is known or was tried, (n,)."""
        pairs = zip(self.known, self.tried, strict=True)
        return np.array([pair != (None, None) for pair in pairs], dtype=np.bool_)

    @property
    def plausibility(self) -> Floats:
        """The probability (n,) that the composition is made and reported, NaN where it wasn't worked out."""
        return np.exp(
            np.full(len(self.ok), np.nan) if self.log_plausibility is None else self.log_plausibility
        )

    @property
    def existence(self) -> Floats:
        """The probability (n,) that it exists, whether or not anybody reports it, NaN where it wasn't worked out."""
        return np.exp(np.full(len(self.ok), np.nan) if self.log_existence is None else self.log_existence)

    @property
    def expected_tc_k(self) -> Floats:
        """T_c in K, (n,), that an improvement is expected from: the smaller of the search's, given what was tried
        nearby, and the oracle's. The extrapolation score doesn't enter: how strange a composition is, is for its
        plausibility to say.
        """
        given = np.where(np.isnan(self.tc_given_tried_k), self.tc_k, self.tc_given_tried_k)
        return np.fmin(given, self.tc_oracle_k)

    @property
    def to_beat_k(self) -> Floats:
        """What an improvement is over, in K, (n,): the best nearby, 0 where nothing known is near, NaN where nothing
        was given to compare with.
        """
        return np.nan_to_num(self.best_nearby_tc_k, nan=np.nan if self.materials is None else 0.0)

    @property
    def expected_improvement_k(self) -> Floats:
        """E[max(0, T_c − best nearby)] in K, (n,), T_c normal about `expected_tc_k` with the ensemble's spread; NaN
        where nothing was given to compare with.
        """
        return expected_improvement_k(self.expected_tc_k, self.tc_std_k, self.to_beat_k)

    @property
    def gain(self) -> Mask:
        """Whether T_c is expected above the best nearby, (n,); False where that isn't known."""
        return np.asarray(self.expected_tc_k > self.to_beat_k)

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


def is_extrapolated(extrapolation: Floats) -> Mask:
    """Whether each score (n,) is beyond the flag; False where there is none."""
    return np.asarray(extrapolation > EXTRAPOLATED)


def trusted_tc_k(tc_k: Floats, tc_std_k: Floats, tc_oracle_k: Floats, extrapolation: Floats) -> Floats:
    """The lower bound of T_c in K, (n,), of values (n,) each, NaN for what a row doesn't have.

    Without a spread nothing is taken off, without an oracle T_c alone counts. NaN without T_c and where nothing else
    is known.
    """
    alone = np.isnan(tc_std_k) & np.isnan(tc_oracle_k) & np.isnan(extrapolation)
    bound = np.fmin(tc_k, tc_oracle_k) - np.nan_to_num(tc_std_k, nan=0.0)
    trusted = np.where(is_extrapolated(extrapolation), 0.0, np.clip(bound, 0.0, None))
    return np.where(np.isnan(tc_k) | alone, np.nan, trusted)


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

    def of_ok(values: NDArray[Any] | None) -> Floats:
        return np.where(ok, np.nan if values is None else values, np.nan).astype(np.float64)

    formulas = tuple(text if fine else "" for text, fine in zip(result.formulas(), ok, strict=True))
    first, place = _different(formulas)
    amounts = result.amounts[first]
    fractions = amounts / amounts.sum(axis=1, keepdims=True)
    log_p = None if log_plausibility is None else of_ok(log_plausibility)
    of_formulas = {
        **_known_nearby(fractions, known, base, nearby_distance, emd),
        **_tried_nearby(fractions, result.tc_k[first].astype(np.float64), tried),
        "made": (made.same_as(fractions) if made is not None else [None] * len(first), None),
    }
    judged: dict[str, Any] = {
        name: of_ok(values) for name, values in vars(opinions or SecondOpinions()).items()
    }
    spread = {name: _spread(values, nothing, place) for name, (values, nothing) in of_formulas.items()}
    return Candidates(
        formulas=formulas,
        ok=ok,
        counts=np.where(ok[:, None], reduce_counts(result.counts), 0),
        n_elements=np.where(ok, (result.amounts > 0).sum(axis=1), 0),
        tc_k=of_ok(result.tc_k),
        ef_ev_per_atom=of_ok(result.ef_ev_per_atom),
        sources=(None,) * n if result.source is None else tuple(result.source.tolist()),
        balances=likeliest_balance(amounts, oxidation_set).spread(place),
        **_in_whole_numbers(amounts, place, oxidation_set, mixed_valence, by_atoms),
        materials=known,
        **spread,
        **judged,
        plausibility_reasons=(None,) * n if plausibility_reasons is None else plausibility_reasons,
        log_plausibility=None if log_p is None else with_odds(log_p, spread["tried_log_odds"]),
        log_existence=None if log_existence is None else of_ok(log_existence),
    )


def _different(formulas: tuple[str, ...]) -> tuple[Ints, Ints]:
    """The first row (u,) of each of the u different formulas, and the place (n,) of each row among them, u for rows
    with "".
    """
    first: dict[str, int] = {}
    for row, text in enumerate(formulas):
        if text:
            first.setdefault(text, row)
    places = {text: place for place, text in enumerate(first)} | {"": len(first)}
    return np.array(list(first.values()), dtype=np.int64), np.array(
        [places[text] for text in formulas], dtype=np.int64
    )


def _spread(values: Any, nothing: Any, place: Ints) -> Any:
    """Values of u formulas, an array (u, …) or a sequence, as those of the rows at each place (n,); `nothing` where
    that is u.
    """
    if not isinstance(values, np.ndarray):
        every = [*values, nothing]
        return tuple(every[at] for at in place.tolist())
    return np.concatenate([values, np.full((1, *values.shape[1:]), nothing, dtype=values.dtype)])[place]


def _in_whole_numbers(
    amounts: Floats, place: Ints, oxidation_set: OxidationSet, mixed: bool, by_atoms: bool
) -> dict[str, Any]:
    """The fields on the balance of amounts (u, 118) in whole numbers. Those that stay fractional are judged as whole
    numbers of a ten-thousandth of an atom; what this makes larger than neutrality.MAX_ATOMS, or has more decimals,
    can't be judged and is not neutral.
    """
    scale = np.where((amounts == np.rint(amounts)).all(axis=1), 1, 10**DECIMALS)[:, None]
    whole = reduce_counts(np.rint(amounts * scale).astype(np.int64))
    exact = (np.abs(amounts * scale - np.rint(amounts * scale)) < 1e-6).all(axis=1)
    can_judge = exact & (whole.sum(axis=1) <= neutrality.MAX_ATOMS)

    def among(chosen: Mask) -> Ints:
        """The place (n,) of each row among the formulas that are chosen (u,), their number where it isn't."""
        number = int(chosen.sum())
        return np.append(np.where(chosen, np.cumsum(chosen) - 1, number), number)[place]

    judged, numbers = among(can_judge), whole[can_judge]
    small = can_judge & (whole.sum(axis=1) <= MAX_VALENCE_ATOMS)
    verdicts = vars(neutrality.check(numbers, oxidation_set))
    found: dict[str, Any] = {"mixed": None, "by_atoms": None}
    found["neutrality"] = Neutrality(**{name: _spread(each, 0, judged) for name, each in verdicts.items()})
    if mixed:
        neutral = likeliest_valences(numbers, oxidation_set, mixed=True).neutral
        found["mixed"] = _spread(neutral, False, judged)
    if by_atoms:
        found["by_atoms"] = _spread(atom_valences(whole[small], oxidation_set), {}, among(small))
    return found


def _known_nearby(
    fractions: Floats, known: KnownMaterials | None, base: Floats | None, radius: float, emd: bool
) -> dict[str, tuple[Any, Any]]:
    """The fields on what is known, of u formulas (u, 118), and what a row without one has."""
    u = len(fractions)
    nowhere = np.full(u, -1, dtype=np.int64), np.full(u, np.nan)
    (at, distance), (by_emd, emd_distance), (best, best_tc_k) = nowhere, nowhere, nowhere
    new = np.zeros(u, dtype=np.bool_)
    same: list[str | None] = [None] * u
    if known is not None and u:
        at, distance = known.index.nearest(fractions)
        if emd:
            by_emd, emd_distance = nearest_emd(fractions, known.fractions)
        best_tc_k, best = known.best_nearby(fractions, radius, base=base)
        new = np.array([row.tobytes() not in known.chemical_systems for row in fractions > 0])
        same = known.compositions.same_as(fractions)
    return {
        "nearest": (at, -1),
        "nearest_distance": (distance, np.nan),
        "nearest_emd": (by_emd, -1),
        "nearest_emd_distance": (emd_distance, np.nan),
        "best_nearby": (best, -1),
        "best_nearby_tc_k": (best_tc_k, np.nan),
        "known": (same, None),
        "new_system": (new, False),
    }


def _tried_nearby(
    fractions: Floats, tc_k: Floats, tried: TriedMaterials | None
) -> dict[str, tuple[Any, Any]]:
    """The fields on what was tried, of u formulas (u, 118) with T_c (u,) in K, and what a row without one has."""
    u = len(fractions)
    changed, odds = np.full(u, np.nan), np.zeros(u)
    near: list[str | None] = [None] * u
    same: list[str | None] = [None] * u
    if tried is not None and u:
        changed, odds, nearest, distance = tried.reweigh(fractions, tc_k)
        same = tried.compositions.same_as(fractions)
        near = [
            f"{tried.compositions.names[at]} ({places:.2g} places away)" if places <= NEARBY else None
            for at, places in zip(nearest.tolist(), distance.tolist(), strict=True)
        ]
    return {
        "tc_given_tried_k": (changed, np.nan),
        "tried_log_odds": (odds, 0.0),
        "tried_nearby": (near, None),
        "tried": (same, None),
    }
