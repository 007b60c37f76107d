"""The rows of a family search: where they start, what they can reach, and the formulas that they end at.

Every site of the base has slots for its own elements, and then for what may come in; what is optimised is the share of
the site that each slot has. Rows that hold a proposal stay where they are. In a formula every substitute, and every
own element but a site's main one, gets the nearest multiple of 1/grid of an atom, and vanishes below half a step; the
main one takes the rest of the site's amount. Of the formulas around that one the best by the objective is proposed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS, Floats, Ints, Mask
from kiago_ray.chemistry.formula import AMOUNT_DECIMALS, write
from kiago_ray.search.losses import Norm, integer_distance
from kiago_ray.search.problem import HALF, MIN_TOTAL, VACANCY, Family, Occupation, Problem, sources_of
from kiago_ray.search.result import Cost, Proposals, Score, Singles, scored
from kiago_ray.search.sections import FamilySpec
from kiago_ray.search.stages import SearchState, init, largest, rectified

WHOLE_PROBABILITY = 0.3  # that a drawn element takes the whole site
LEAST_DOPED, MOST_DOPED = 0.05, 0.5  # share of the site that it takes otherwise
STEPS = (-2, -1, 0, 1, 2)  # of the grid, that a neighbour differs in an amount
MOST_VARIED = 4  # amounts of a row that neighbours differ in, the largest
MAIN = 0  # a site's slot of its main element
_LEAST = 1e-6  # atoms


def laid_out(family: Family) -> tuple[Ints, Mask]:
    """The element of each slot (s, k) of a row that is optimised, and the slots that there are, none on held sites."""
    element = np.full((len(family.sites), family.slots), VACANCY, dtype=np.int64)
    exists = np.zeros(element.shape, dtype=np.bool_)
    for at, site in enumerate(family.sites):
        own, free = slice(len(site.own)), slice(family.width, family.width + len(site.substitutes))
        element[at, own], element[at, free] = site.own, site.substitutes
        exists[at, own], exists[at, free] = not (site.held or site.leaves), True
    return element, exists


def placed(family: Family, occupation: Occupation) -> tuple[Ints, Floats]:
    """The element of each slot (s, k) of a row that holds a proposal, and its atoms."""
    element = np.full((len(family.sites), family.slots), VACANCY, dtype=np.int64)
    atoms = np.zeros(element.shape)
    for at, (site, held) in enumerate(zip(family.sites, occupation, strict=True)):
        element[at, : len(site.own)] = site.own
        atoms[at, : len(site.own)] = [held.get(z, 0.0) for z in site.own]
        foreign = sorted(set(held) - set(site.own), key=(*site.substitutes, *sorted(held)).index)
        for place, z in enumerate(foreign, start=family.width):
            element[at, place], atoms[at, place] = z, held[z]
    return element, atoms


def drawn(rng: np.random.Generator, family: Family) -> Floats:
    """Shares (s, k) of a start around the base: one or two substitutes on its sites."""
    share = np.zeros((len(family.sites), family.slots))
    for at, site in enumerate(family.sites):
        share[at, : len(site.own)] = np.array(site.amounts) / site.total
        if site.vacant:
            share[at, family.width + site.substitutes.index(VACANCY)] = site.vacant / site.total
    number = int(rng.integers(1, min(2, family.limits.max_foreign) + 1))
    open_sites = [at for at, site in enumerate(family.sites) if site.substitutes]
    first = [at for at, site in enumerate(family.sites) if site.leaves]
    for turn in range(max(number, len(first)) if open_sites else 0):
        at = first[turn] if turn < len(first) else int(rng.choice(open_sites))
        site, here = family.sites[at], share[at]
        weights = np.array(site.odds)
        chosen = int(rng.choice(len(weights), p=weights / weights.sum()))
        whole = rng.random() < WHOLE_PROBABILITY
        amount = rng.uniform(LEAST_DOPED, MOST_DOPED)
        if here[family.width + chosen]:
            continue  # it stands there already
        high = min(site.high, site.most_vacant) if site.substitutes[chosen] == VACANCY else site.high
        taken = float(np.clip(1.0 if whole else amount, min(site.low, high), high))
        here *= 1 - taken  # of all that is there alike
        here[family.width + chosen] += taken
    return share


@dataclass(frozen=True)
class FamilySpace:
    """Slots of each row; s sites, k slots a site, of which the first `width` are the site's own elements.

    element: (rows, s, k) index, 118 for a vacancy and for a slot that isn't there. own_mix: (s, width) shares of the
    own elements in the base. amount: (s,) atoms. low, high: (rows, s) share that substitutes take where there are any.
    most: (rows, s, k) share that a slot takes at most. on_grid: (rows, s, k) bool slots whose amounts are multiples of
    1/grid of an atom, all but the site's main one. counted: (rows, s, k) bool slots that the limits of stage 2 count.
    proposals: of each row that stays where it is the atoms (s, k), None of one that moves. source: (rows,) labels.
    """

    element: Tensor
    own_mix: Tensor
    amount: Tensor
    low: Tensor
    high: Tensor
    most: Tensor
    on_grid: Tensor
    counted: Tensor
    limits: FamilySpec
    proposals: Sequence[Floats | None]
    source: NDArray[np.object_]
    width: int

    def occupation(self, x_base: Tensor, mask: Tensor, *, straight_through: bool = False) -> Tensor:
        """Atoms in every slot, (rows, s, k); each site's add up to its amount.

        A share of a site is what ReLU(x_base) has of it. Substitutes that have more or less than they may are scaled,
        with the gradient as it was where it is straight_through, and own elements take the rest as they stand to one
        another, or as in the base where none of them has anything.
        """
        y = rectified(x_base, mask, straight_through=straight_through).view(self.element.shape)
        total = y.sum(dim=2, keepdim=True)
        share = y / torch.where(total > 0, total, 1)
        own, free = share[..., : self.width], share[..., self.width :]
        most = self.most[..., self.width :]
        capped = torch.minimum(free, most)
        taken = capped.sum(dim=2, keepdim=True)
        wanted = torch.minimum(torch.maximum(taken, self.low[..., None]), self.high[..., None])
        scale = torch.where(taken > 0, wanted / torch.where(taken > 0, taken, 1), 1)
        bounded = torch.minimum(capped * scale, most)
        free = free + (bounded - free).detach() if straight_through else bounded
        whole = own.sum(dim=2, keepdim=True)
        mix = torch.where(whole > 0, own / torch.where(whole > 0, whole, 1), self.own_mix)
        rest = 1 - free.sum(dim=2, keepdim=True)
        own = mix * (rest + (rest.clamp(min=0) - rest).detach())  # never −1e-8, whatever rounding does
        return torch.cat((own, free), dim=2) * self.amount[:, None]

    def compose(self, x_base: Tensor, mask: Tensor, *, straight_through: bool = False) -> Tensor:
        """Fractions (rows, 118): the atoms of all slots by element, without the vacancies."""
        atoms = self.occupation(x_base, mask, straight_through=straight_through).flatten(1)
        by_element = atoms.new_zeros(len(atoms), N_ELEMENTS + 1)
        by_element = by_element.scatter_add(1, self.element.flatten(1), atoms)[:, :N_ELEMENTS]
        return by_element / by_element.sum(dim=1, keepdim=True)

    def has_something(self, x_base: Tensor, mask: Tensor) -> Tensor:
        """(rows,) bool: where every site that has to be left has something else."""
        free = rectified(x_base, mask).view(self.element.shape)[..., self.width :].sum(dim=2)
        return ((free > MIN_TOTAL) | (self.low < 1)).all(dim=1)

    def off_grid(self, x_base: Tensor, mask: Tensor, x: Tensor, norm: Norm) -> Tensor:
        """Distance from the grid, (rows,), relative to all atoms (eq. 10); slots with all of their site are on it."""
        atoms, grid = self.occupation(x_base, mask), self.limits.grid
        counts = self.on_grid & (atoms < self.amount[:, None] - 0.5 / grid)
        gaps = integer_distance(torch.where(counts, atoms, 0), torch.full_like(self.amount, grid), norm)
        return gaps.sum(dim=1) / self.amount.sum()

    def limited(self, x_base: Tensor, mask: Tensor) -> tuple[Self, Tensor]:
        """Stage 2: of what isn't in the base the largest shares stay, max_foreign in all and max_foreign_per_site on a
        site, and all sites but the `whole_swaps` that gave up most keep half of their own elements.
        """
        share = self.occupation(x_base, mask) / self.amount[:, None]
        foreign = torch.where(self.counted, share, 0)
        on_site = largest(foreign.flatten(0, 1), self.limits.max_foreign_per_site).view(foreign.shape)
        kept = largest(torch.where(on_site, foreign, 0).flatten(1), self.limits.max_foreign)
        allowed = mask & (kept | ~self.counted.flatten(1))
        left = share[..., self.width :].sum(dim=2)
        whole = largest(torch.where(left > HALF, left + self.low, 0), self.limits.whole_swaps)
        high = torch.where(whole | (self.low >= 1), self.high, self.high.clamp(max=HALF))
        return replace(self, low=torch.minimum(self.low, high), high=high), allowed

    def propose(
        self, problem: Problem, state: SearchState, x_final: Singles, score: Score, climbed: Score, cost: Cost
    ) -> Proposals:
        """The formulas of rows, of which those that stay where they are keep what they hold. projection.kind "none"
        keeps amounts with four decimals; "best" takes the neighbour on the grid that costs least.
        """
        projection, options = problem.spec.projection, list[list[Floats]]()
        element, status = self.element.cpu().numpy(), state.status.cpu().numpy()
        with torch.no_grad():
            ended = self.occupation(state.x_base.double(), state.mask).cpu().numpy()
        for row, sites in enumerate(_row_sites(self)):
            if (held := self.proposals[row]) is not None:
                options.append([held])
            elif projection.kind == "none":
                options.append([ended[row]])
            else:
                keep = projection.max_candidates if projection.kind == "best" else 1
                nearest = nearest_atoms(ended[row], sites)
                options.append(neighbours(nearest, ended[row], sites, keep, projection.max_distance))
        chosen = _best(options, element, cost)
        texts = [formula_of(*pair) for pair in zip(chosen, element, strict=True)]
        found = scored(x_final.astype(np.float64), amounts_of(chosen, element), status, score, texts=texts)
        return replace(found, source=self.source)


def begin_family(
    problem: Problem, rows: Ints, size: int, device: torch.device
) -> tuple[FamilySpace, SearchState]:
    """The space and the state before stage 1 of rows (n,) at their places in a shard of `size`; the other places are
    padding, and hold the base. Rows that move have the limits of the family's sites; the others are what they are.
    """
    assert problem.family is not None
    family, sites = problem.family, problem.family.sites
    vacant, most_vacant, held, low, high, total = (
        np.array([getattr(site, name) for site in sites])
        for name in ("vacant", "most_vacant", "held", "low", "high", "total")
    )
    element, atoms = (np.repeat(each[None], size, axis=0) for each in placed(family, family.occupation))
    share, exists = atoms / total[:, None], atoms > 0
    moves, source = np.zeros(size, dtype=np.bool_), np.full(size, "", dtype=object)
    for row, (label, number) in zip(
        rows.tolist(), sources_of(problem.spec.sources, rows.tolist()), strict=True
    ):
        at, listed = row % size, family.lists.get(label, ())
        if number < len(listed):
            element[at], atoms[at] = placed(family, listed[number])
            share[at], exists[at], source[at] = atoms[at] / total[:, None], atoms[at] > 0, label
        else:
            element[at], exists[at] = laid_out(family)
            share[at], moves[at], source[at] = drawn(problem.generator(row), family), True, "family"
    mix = np.zeros((len(sites), family.width))
    for own, site in zip(mix, sites, strict=True):
        own[: len(site.own)] = np.array(site.amounts) / sum(site.amounts)
    moving, vacancy, slot = moves[:, None], element == VACANCY, np.arange(family.slots)
    foreign = (slot >= family.width) & exists & moving[..., None]

    def tensor(values: NDArray[np.generic] | Floats) -> Tensor:
        tensor = torch.as_tensor(np.ascontiguousarray(values), device=device)
        return tensor.float() if tensor.is_floating_point() else tensor

    space = FamilySpace(
        element=tensor(element),
        own_mix=tensor(mix),
        amount=tensor(total),
        low=tensor(np.where(moving, low, 0.0)),
        high=tensor(np.where(moving, high, 1.0)),
        most=tensor(np.where(vacancy & foreign, most_vacant[:, None], 1.0)),
        on_grid=tensor(exists & (slot > 0) & (moving & ~held)[..., None]),
        counted=tensor(foreign & ~(vacancy & (vacant > 0)[:, None])),
        limits=family.limits,
        proposals=[None if moves[at] else atoms[at] for at in range(size)],
        source=source,
        width=family.width,
    )
    state = init(tensor(share).flatten(1), tensor(exists).flatten(1), problem.spec.revive, space)
    return space, replace(state, rate=tensor(moves.astype(np.float64)))


@dataclass(frozen=True)
class RowSites:
    """The slots of one row: element (s, k), on_grid (s, k), low and high (s,) share of substitutes, which stand in the
    slots from `width` on; most: (s, k) share of a slot; amount: (s,) atoms.
    """

    element: Ints
    on_grid: Mask
    low: Floats
    high: Floats
    most: Floats
    amount: Floats
    width: int
    grid: int


def _row_sites(space: FamilySpace) -> list[RowSites]:
    """The slots of each row, on the host and in double precision."""
    low, high, most, amount = (
        each.double().cpu().numpy() for each in (space.low, space.high, space.most, space.amount)
    )
    element, on_grid = space.element.cpu().numpy(), space.on_grid.cpu().numpy()
    rows = zip(element, on_grid, low, high, most, strict=True)
    return [RowSites(*row, amount=amount, width=space.width, grid=space.limits.grid) for row in rows]


def _best(options: list[list[Floats]], element: Ints, cost: Cost) -> Floats:
    """The option of each row that costs least, (rows, s, k); the first of equal ones, and where no cost is finite."""
    best, least = np.stack([each[0] for each in options]), np.full(len(options), np.inf)
    for at in range(max(len(each) for each in options)):
        atoms = np.stack([each[min(at, len(each) - 1)] for each in options])
        found = cost(fractions_of(atoms, element))
        # A row that has no more options repeats its last, which is no better than itself.
        better = found < least
        best[better], least[better] = atoms[better], found[better]
    return best


def nearest_atoms(atoms: Floats, sites: RowSites) -> Floats:
    """The nearest atoms (s, k) on the grid to where a row ended (s, k), within the limits of its sites."""
    nearest = atoms.copy()
    for at in np.flatnonzero(sites.on_grid.any(axis=1)).tolist():
        nearest[at] = _on_site(atoms[at], at, sites)
    return nearest


def _on_site(atoms: Floats, at: int, sites: RowSites) -> Floats:
    grid, amount, low, high = sites.grid, float(sites.amount[at]), sites.low[at], sites.high[at]
    foreign = np.arange(len(atoms)) >= sites.width
    most = np.floor(sites.most[at] * amount * grid + _LEAST)
    steps = np.where(sites.on_grid[at], np.minimum(np.rint(atoms * grid), most), 0)
    gone = atoms[MAIN] < 0.5 / grid or low >= 1  # nothing of the main element is left
    upper = amount if high >= 1 else np.floor(high * amount * grid + _LEAST) / grid
    lower = np.ceil(low * amount * grid - _LEAST) / grid
    while steps[foreign].sum() / grid > upper + _LEAST and steps[foreign].any():
        steps[np.argmax(np.where(foreign, steps, 0))] -= 1
    while steps.sum() / grid > amount + _LEAST:
        steps[np.argmax(steps)] -= 1
    if steps[foreign].any() and not gone and lower <= upper:
        while steps[foreign].sum() / grid < lower - _LEAST:
            steps[np.argmax(np.where(foreign & (steps < most), steps, 0))] += 1
            if steps.sum() / grid > amount:
                break
    result = steps / grid
    rest = amount - float(result.sum())
    if gone and rest > 0 and high >= 1 and atoms[foreign].any():
        result[np.argmax(np.where(foreign & (sites.most[at] >= 1), atoms, -1))] += rest
        rest = 0.0
    result[MAIN] = max(rest, 0.0)
    return np.asarray(result)


def neighbours(atoms: Floats, ended: Floats, sites: RowSites, keep: int, max_distance: float) -> list[Floats]:
    """Up to `keep` occupations (s, k) around `atoms`, which is the first: those that differ in amounts by up to two
    steps, nearest to where the row ended (s, k) in L1 of fractions first, within max_distance. The limits of the sites
    hold, and no element goes or comes back that was there or gone.
    """
    slots = np.argwhere(sites.on_grid & (atoms > _LEAST))
    at, slot = slots[np.argsort(-atoms[tuple(slots.T)], kind="stable")[:MOST_VARIED]].T
    steps = np.array(list(product(STEPS, repeat=len(at)))) / sites.grid
    changed = np.repeat(atoms[None], len(steps), axis=0)
    for site, place, taken in zip(at, slot, steps.T, strict=True):
        changed[:, site, place] += taken
        changed[:, site, MAIN] -= taken
    share, main = changed / sites.amount[:, None], changed[..., MAIN]
    foreign = share[..., sites.width :].sum(axis=2)
    within = (foreign <= _LEAST) | ((foreign >= sites.low - _LEAST) & (foreign <= sites.high + _LEAST))
    within &= (share <= sites.most + _LEAST).all(axis=2)
    within &= (main >= -_LEAST) & ((main > _LEAST) == (atoms[:, MAIN] > _LEAST))
    fits = steps.any(axis=1) & within[:, at].all(axis=1)
    fits &= (changed[:, at, slot] >= 1 / sites.grid - _LEAST).all(axis=1)
    changed = changed[fits]
    goal = fractions_of(ended, sites.element)
    distance = np.abs(fractions_of(changed, sites.element) - goal).sum(axis=1)
    nearest = np.argsort(np.round(distance, 9), kind="stable")
    return [atoms, *changed[nearest[distance[nearest] <= max_distance][: keep - 1]]]


def fractions_of(atoms: Floats, element: Ints) -> Floats:
    """Fractions (…, 118) of atoms (…, s, k) of elements (s, k) or (…, s, k), vacancies left out."""
    by_element = amounts_of(atoms, element)
    return np.asarray(by_element / by_element.sum(axis=-1, keepdims=True))


def amounts_of(atoms: Floats, element: Ints) -> Floats:
    """Atoms of each element (…, 118), in AMOUNT_DECIMALS, of atoms (…, s, k) of elements (s, k) or (…, s, k)."""
    by_element = np.zeros((*atoms.shape[:-2], N_ELEMENTS + 1))
    rows = np.indices(atoms.shape, sparse=True)[:-2]
    np.add.at(by_element, (*rows, np.broadcast_to(element, atoms.shape)), atoms)
    return np.asarray(np.round(by_element[..., :N_ELEMENTS], AMOUNT_DECIMALS))


def formula_of(atoms: Floats, element: Ints) -> str:
    """The formula of atoms (s, k) of elements (s, k), by site and falling amount, each element written once."""
    amounts = amounts_of(atoms, element)
    written: dict[str, float] = {}
    for at in range(len(atoms)):
        order = np.argsort(-np.round(atoms[at], AMOUNT_DECIMALS), kind="stable")
        for slot in order.tolist():
            z = int(element[at, slot])
            if z != VACANCY and atoms[at, slot] > 0 and amounts[z] > 0:
                written.setdefault(SYMBOLS[z], float(amounts[z]))
    return write(written)
