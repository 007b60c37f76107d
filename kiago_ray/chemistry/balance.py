"""The likeliest oxidation states that add up to zero, for any amounts: charge as it is, mixed valence being the rule;
and the compounds that need no such balance, or tell their doping by it.

Each atom takes a state at the cost of its nats (`oxidation.state_costs`), the total charge is 0, and cations are less
electronegative than anions (the Pauling rule, a cut over the scale as in `neutrality`). That is a linear program with
one constraint beside those of the atoms, so in its optimum at most one element is mixed, of two states: Cu²⁺ and Cu³⁺
in La1.85Sr0.15CuO4. It is solved exactly, for all formulas and cuts at once, by a sweep over λ, the price of a charge:
at a price each element takes the state of least nats + λ·state, and as λ falls it climbs the lower convex hull of its
states' costs. A formula's steps, sorted by slope and taken until the charge is 0, are the optimum of one cut; the
cheapest cut holds. `price_table` has the same problem by its dual.

**Metals** have bonds that are no matter of charges that add up: borides, carbides, silicides, A15, Heusler and Laves
phases and alloys hold as many electrons as their bands take. N, O, P, S, As, Se, Te and the halogens are strong
anions: with enough of them a compound is ionic.

**Cuprates** superconduct with 0.05 to 0.27 holes a planar Cu, or with about 0.15 electrons; with every Cu at 2+ they
are antiferromagnetic insulators (La2CuO4, Nd2CuO4). In the 123 family one Cu of three lies in chains, at 1+ until
oxygen fills them: from YBa2Cu3O6 to O6.35 the planes stay undoped. The mark is a remark on the formula as written, so
nominal formulas have it too (HgBa2Ca2Cu3O8), which excess oxygen that nobody writes makes superconduct.
YBa2Cu3O6.5 hasn't: its mean is 2+, but its planes hold holes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS, WRITING_ORDER, Floats, Ints, Mask
from kiago_ray.chemistry.formula import checked_amounts
from kiago_ray.chemistry.oxidation import SURROUNDINGS, TRANSITION_METALS, OxidationSet, state_costs

HARD = ("O", "F", "Cl", "Br", "I")
SOFT = ("N", "P", "S", "As", "Se", "Te")
FEW_STRONG = 0.15  # share of atoms up to which strong anions are interstitials of a metal, as O in Nb5Ir3O
FEW_HARD = 0.05  # share of hard anions up to which electrons may be left over beside soft ones
MOST_SOFT = 0.575  # share of soft anions up to which electrons may be left over: LaS, Mo3P, ZrRuP and La3Se4
MOSTLY_HYDROGEN = 0.5
POLYANIONIC = 0.95  # P or As to a metal, above which they bond to one another: CaFeAs2, LaRu4P12
UNDOPED = 0.02  # holes (or electrons) per Cu, fewer than which a cuprate counts as undoped
HARDLY_DOPED = 0.05  # holes per Cu, from which on cuprates superconduct
CHAINS_EMPTY = (6.0, 6.35)  # oxygen to three Cu of the 123 family, between which its planes are undoped
UNDOPED_REMARK = "undoped as written and so an insulator: it needs excess oxygen or a dopant"

_RARE_EARTHS = ("Y", "La", "Pr", "Nd", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu")
_ROUNDING = 1e-9

METALLIC = "metallic"  # the certificate of metals without likely states
UNLIKELY = 1.5  # nats an atom above which a compound of soft anions is taken for a metal, not for ions
SAME = 1e-6  # of an element's atoms, or charges an atom: a difference that rounding makes
_LEAST_STEPS = 8  # between states of one element on one side of a cut, that there is room for
_ON_LINE = 1e-9  # nats × charges: a state on the line between two others belongs to the hull
_ROWS = 4_096  # worked out at once

Shares = tuple[tuple[int, float], ...]
"""(state, atoms) of one element: one pair, or two with the likelier state first."""
Assignment = dict[int, Shares]


@dataclass(frozen=True)
class Balances:
    """n formulas.

    nats_per_atom: (n,) −ln of how likely the states are, a mean over atoms; inf where none balance. assignments: for
    each formula by element index its states and their atoms, as many as the formula is written with; {} where there
    are none to show. metallic: (n,) judged as a metal. holes_per_cu: (n,) the mean valence of Cu less 2 in cuprates,
    NaN elsewhere. undoped_parent: (n,) a cuprate that is undoped as written.
    """

    nats_per_atom: Floats
    assignments: tuple[Assignment, ...]
    metallic: Mask
    holes_per_cu: Floats
    undoped_parent: Mask

    @property
    def certificates(self) -> tuple[str, ...]:
        """The assignments as text, "metallic" where a metal has none, "" where nothing balances."""
        pairs = zip(self.assignments, self.metallic.tolist(), strict=True)
        return tuple(write_shares(each) or (METALLIC if metal else "") for each, metal in pairs)

    @property
    def mean_valences(self) -> list[str]:
        """The mean valences of transition metals as text, "Cu+2.15"; "" without any."""
        return [
            " ".join(f"{symbol}{mean:+.3f}".rstrip("0").rstrip(".") for symbol, mean in _means(each).items())
            for each in self.assignments
        ]

    @property
    def screened_nats(self) -> Floats:
        """(n,) nats an atom for the screen `balanced`: 0 for metals, inf where only O at −1 balances: a peroxide."""
        oxygen = [each.get(INDEX["O"], ()) for each in self.assignments]
        oxides = np.array([all(state < -1 for state, _ in pairs) for pairs in oxygen], dtype=np.bool_)
        return np.where(self.metallic, 0.0, np.where(oxides, self.nats_per_atom, np.inf))


def likeliest_balance(amounts: NDArray[Any], oxidation_set: OxidationSet = OxidationSet.ICSD24) -> Balances:
    """The likeliest states that balance each of amounts (n, 118), fractional or not. Raises as `checked_amounts`."""
    amounts = checked_amounts(amounts)
    starts = range(0, len(amounts), _ROWS)
    parts = [cheapest_states(amounts[at : at + _ROWS], oxidation_set) for at in starts]
    nats = np.concatenate([np.zeros(0), *(part[0] for part in parts)])
    found = [each for part in parts for each in part[1]]
    is_metallic = metallic(amounts, nats > UNLIKELY)
    # A metal's states are shown where they are likely and none is mixed.
    mixed = np.array([any(len(pairs) > 1 for pairs in each.values()) for each in found], dtype=np.bool_)
    hidden = is_metallic & ((nats > UNLIKELY) | mixed)
    shown = tuple({} if hide else each for each, hide in zip(found, hidden.tolist(), strict=True))
    valence = np.array([_means(each).get("Cu", np.nan) for each in shown])
    holes = np.where(cuprates(amounts), valence - 2, np.nan)
    return Balances(nats, shown, is_metallic, holes, _undoped(amounts, holes))


def write_shares(assignment: Mapping[int, Shares]) -> str:
    """An assignment as text: "La+3 Sr+2 Cu+2*0.85 Cu+3*0.15 O-2", with atoms only where states differ."""
    return " ".join(
        f"{SYMBOLS[z]}{state:+d}" + (f"*{_short(atoms)}" if len(assignment[z]) > 1 else "")
        for z in WRITING_ORDER
        if z in assignment
        for state, atoms in assignment[z]
    )


def _short(atoms: float) -> str:
    return f"{atoms:.4f}".rstrip("0").rstrip(".") if atoms >= 1e-4 else f"{atoms:.1g}"


def _means(assignment: Assignment) -> dict[str, float]:
    return {
        SYMBOLS[z]: sum(state * atoms for state, atoms in pairs) / sum(atoms for _, atoms in pairs)
        for z, pairs in assignment.items()
        if TRANSITION_METALS[z]
    }


def _sum(amounts: Floats, *symbols: str) -> Floats:
    return np.asarray(amounts[:, [INDEX[symbol] for symbol in symbols]].sum(axis=1))


def surroundings(amounts: Floats) -> Ints:
    """What stands around the atoms of each of amounts (n, 118), by its place in SURROUNDINGS, (n,): an oxide has more
    O and halogens than other strong anions; what is rich in pnictogens has more than POLYANIONIC times as much P and
    As as metals, and little else.
    """
    pnictogens, strong = _sum(amounts, "P", "As"), _sum(amounts, *HARD, *SOFT)
    rich = (pnictogens > POLYANIONIC * (amounts.sum(axis=1) - strong)) & (pnictogens > strong / 2)
    oxide = _sum(amounts, *HARD) > _sum(amounts, *SOFT)
    return np.where(oxide, 0, np.where(rich, 2, 1))


def metallic(amounts: Floats, unlikely: Mask) -> Mask:
    """Whether each of amounts (n, 118) is judged as a metal, (n,): a single element; no more than FEW_STRONG strong
    anions; no likely states that balance (`unlikely`) where anions are soft and no more than MOST_SOFT of the atoms;
    or hydrogen for half of its atoms. The last two with no more than FEW_HARD hard anions.
    """
    share = amounts / amounts.sum(axis=1, keepdims=True)
    hard, soft = _sum(share, *HARD), _sum(share, *SOFT)
    single = (amounts > 0).sum(axis=1) == 1
    few = hard + soft <= FEW_STRONG + _ROUNDING
    left_over = unlikely & (soft <= MOST_SOFT + _ROUNDING)
    hydride = share[:, INDEX["H"]] >= MOSTLY_HYDROGEN - _ROUNDING
    return np.asarray(single | few | (left_over | hydride) & (hard <= FEW_HARD + _ROUNDING))


def cuprates(amounts: Floats) -> Mask:
    """Whether each of amounts (n, 118) is one, (n,): Cu, at least as much O, no more halogens than O and less of
    other anions, and Cu at least half of its transition metals.
    """
    copper, oxygen = _sum(amounts, "Cu"), _sum(amounts, "O")
    metals = amounts[:, TRANSITION_METALS].sum(axis=1)
    ours = (copper > 0) & (oxygen >= copper) & (_sum(amounts, "F", "Cl", "Br", "I") <= oxygen)
    ours &= _sum(amounts, *SOFT) < oxygen
    return np.asarray(ours & (2 * copper >= metals))


def _chained(amounts: Floats) -> tuple[Mask, Floats]:
    """Whether each of amounts (n, 118) is RBa2Cu3Oy, (n,), R a rare earth, with Sr or Ca for some of it and nothing
    else; and its y, (n,).
    """
    three = 3 * amounts / np.where(_sum(amounts, "Cu") > 0, _sum(amounts, "Cu"), np.nan)[:, None]
    rare_earth, barium, oxygen = _sum(three, *_RARE_EARTHS), _sum(three, "Ba", "Sr", "Ca"), _sum(three, "O")
    with np.errstate(invalid="ignore"):
        family = (np.abs(rare_earth - 1) < 0.15) & (np.abs(barium - 2) < 0.15)
        return family & (np.abs(rare_earth + barium + 3 + oxygen - three.sum(axis=1)) < 1e-6), oxygen


def _undoped(amounts: Floats, holes: Floats) -> Mask:
    """Whether amounts (n, 118) with these holes per Cu (n,) have every Cu at 2+ but for UNDOPED, or are RBa2Cu3O6 to
    O6.35, (n,).
    """
    chained, oxygen = _chained(amounts)
    with np.errstate(invalid="ignore"):
        empty = (oxygen > CHAINS_EMPTY[0] - 0.05) & (oxygen < CHAINS_EMPTY[1] + 1e-9)
        return np.asarray(np.where(chained, empty, np.abs(holes) < UNDOPED - 1e-9) & np.isfinite(holes))


def hardly_doped(amounts: Floats, holes: Floats) -> Mask:
    """Whether amounts (n, 118) with these holes per Cu (n,) are cuprates of fewer than HARDLY_DOPED, (n,). RBa2Cu3Oy
    never: its mean tells nothing of its planes.
    """
    return np.asarray((holes >= UNDOPED - 1e-9) & (holes < HARDLY_DOPED - 1e-9) & ~_chained(amounts)[0])


@dataclass(frozen=True)
class Hulls:
    """The lower convex hulls of the states' costs by surroundings, side of the cut (0 cations, 1 anions) and element.

    states: (3, 2, 118, steps + 1) from the lowest up, the last repeated. nats: (3, 2, 118, steps + 1), inf without any
    state. slope: (3, 2, 118, steps) nats a charge of each step, inf past the last.
    """

    states: Floats
    nats: Floats
    slope: Floats


@cache
def _hulls(oxidation_set: OxidationSet) -> Hulls:
    costs = state_costs(oxidation_set)
    found = {
        (kind, side, z): _lower_hull(sorted((s, c) for s, c in known.items() if s * sign >= 0))
        for kind, elements in enumerate(costs.nats)
        for z, known in enumerate(elements)
        for side, sign in enumerate((1, -1))
        if not np.isnan(costs.scale[z])
    }
    shape = (len(SURROUNDINGS), 2, N_ELEMENTS)
    steps = max(_LEAST_STEPS, *(len(hull) - 1 for hull in found.values()))
    states, nats = np.zeros((*shape, steps + 1)), np.full((*shape, steps + 1), np.inf)
    slope = np.full((*shape, steps), np.inf)
    for at, hull in found.items():
        if hull:
            states[at], nats[at] = hull[-1]
            states[at][: len(hull)], nats[at][: len(hull)] = zip(*hull, strict=True)
            rises = [(dear - cheap) / (high - low) for (low, cheap), (high, dear) in pairwise(hull)]
            # Rounding aside, slopes rise already.
            slope[at][: len(rises)] = np.maximum.accumulate(rises) if rises else []
    return Hulls(states, nats, slope)


def _lower_hull(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The points (ascending) that no line between two others passes below; points on such a line stay."""
    hull: list[tuple[int, float]] = []
    for x, y in points:
        while len(hull) > 1:
            (x0, y0), (x1, y1) = hull[-2:]
            if (y1 - y0) * (x - x0) <= (y - y0) * (x1 - x0) + _ON_LINE:
                break
            hull.pop()
        hull.append((x, y))
    return hull


def cheapest_states(amounts: Floats, oxidation_set: OxidationSet) -> tuple[Floats, list[Assignment]]:
    """The nats an atom (n,) of the cheapest neutral states of amounts (n, 118), and these; inf and {} without any."""
    fractions = amounts / amounts.sum(axis=1, keepdims=True)
    scale = state_costs(oxidation_set).scale
    k = max(int((amounts > 0).sum(axis=1).max(initial=0)), 1)
    # Those that are absent stand last.
    by_scale = np.broadcast_to(np.nan_to_num(scale), amounts.shape), amounts <= 0
    order = np.lexsort(by_scale, axis=1)[:, :k]
    x = np.take_along_axis(fractions, order, axis=1)
    hulls, around = _hulls(oxidation_set), surroundings(amounts)
    best, sides = np.full(len(x), np.inf), np.zeros(x.shape, dtype=np.int64)
    filled = np.zeros((*x.shape, hulls.slope.shape[-1]))
    for cut in range(k - 1, 0, -1):
        rows = np.flatnonzero((x[:, cut] > 0) & (scale[order[:, cut - 1]] != scale[order[:, cut]]))
        side = np.broadcast_to(np.where(np.arange(k) < cut, 0, 1), (len(rows), k))
        cost, fill = _swept(x[rows], hulls, (around[rows][:, None], side, order[rows]))
        better = cost < best[rows]
        won = rows[better]
        best[won], filled[won], sides[won] = cost[better], fill[better], side[better]
    found: list[Assignment] = [{} for _ in amounts]
    for row in np.flatnonzero(np.isfinite(best)).tolist():
        for j in np.flatnonzero(x[row] > 0).tolist():
            z = int(order[row, j])
            at = around[row], sides[row, j], z
            found[row][z] = _shares(hulls, at, filled[row, j], amounts[row, z])
    return best, found


def _swept(x: Floats, hulls: Hulls, at: tuple[Ints, Ints, Ints]) -> tuple[Floats, Floats]:
    """One cut of m formulas, fractions x (m, k), on the hulls `at` (m, k): the nats an atom (m,), inf where the charge
    can't be 0; how much of each step is taken (m, k, steps).
    """
    (m, k), steps = x.shape, hulls.slope.shape[-1]
    present = x > 0
    states, slope = hulls.states[at], hulls.slope[at]
    lowest = np.where(present, hulls.nats[at][..., 0], 0.0)
    charge = (x * states[..., 0]).sum(axis=1)
    width = (x[..., None] * np.diff(states, axis=2)).reshape(m, k * steps)
    slope = np.where(present[..., None], slope, np.inf).reshape(m, k * steps)
    order = np.argsort(slope, axis=1, kind="stable")
    width, slope = np.take_along_axis(width, order, axis=1), np.take_along_axis(slope, order, axis=1)
    width = np.where(np.isfinite(slope), width, 0.0)
    before = np.cumsum(width, axis=1) - width
    taken = np.clip(-charge[:, None] - before, 0.0, width)
    taken = np.where(taken < SAME * SAME, 0.0, taken)
    impossible = (charge > SAME) | (charge + width.sum(axis=1) < -SAME) | ~np.isfinite(lowest).all(axis=1)
    cost = (x * np.where(np.isfinite(lowest), lowest, 0.0)).sum(axis=1)
    cost += (taken * np.where(np.isfinite(slope), slope, 0.0)).sum(axis=1)
    part = np.divide(taken, width, out=np.zeros_like(taken), where=width > 0)
    filled = np.zeros_like(part)
    np.put_along_axis(filled, order, part, axis=1)
    return np.where(impossible, np.inf, cost), filled.reshape(m, k, steps)


def _shares(hulls: Hulls, at: tuple[int, int, int], filled: Floats, atoms: float) -> Shares:
    """The states of one element's atoms, of whose steps the parts `filled` (steps,) are taken."""
    step = int((filled > 1 - SAME).sum())
    part = float(filled[step]) if step < len(filled) and filled[step] > SAME else 0.0
    states, nats = hulls.states[at], hulls.nats[at]
    if part == 0:
        return ((int(states[step]), float(atoms)),)
    pairs = [(nats[step], int(states[step]), 1 - part), (nats[step + 1], int(states[step + 1]), part)]
    return tuple((state, round(share * float(atoms), 9)) for _, state, share in sorted(pairs))


def price_table(
    states: Sequence[Mapping[int, float]],
    scale: Floats,
    prices: Floats,
    uncharged: float,
    *,
    soft: bool = False,
) -> Floats:
    """What each element costs at each price λ of a charge, (cuts, prices, 118): the least nats(s) + λ·s over its
    states s, or `uncharged` nats for an atom without a charge. soft: −ln Σ exp(−nats(s) − λ·s) in place of the least.

    By duality a composition x (118,) costs the maximum over λ of Σ x·table in nats an atom, of the cheapest cut; at
    the λ that attains it that is linear in x, so its gradient is that of the optimum (envelope theorem). The cuts are
    those of `scale` (118,), NaN for an element that stays uncharged, at which a negative element can begin: any other
    allows no more than the next of these.
    """
    begins = {e for e, known in zip(scale, states, strict=True) if e == e and any(s < 0 for s in known)}
    table = np.full((len(begins) + 1, len(prices), len(states)), uncharged)
    for cut, start in enumerate([*sorted(begins), np.inf]):
        for z in np.flatnonzero(~np.isnan(scale)).tolist():
            sign = 1 if scale[z] < start else -1
            costs = [nats + prices * s for s, nats in states[z].items() if s * sign >= 0]
            every = [np.full(len(prices), uncharged), *costs]
            table[cut, :, z] = (
                -np.logaddexp.reduce([-each for each in every]) if soft else np.minimum.reduce(every)
            )
    return table
