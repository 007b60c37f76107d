"""Where the rows of a shard begin: their space, their state before stage 1 and, in a family, what each row is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kiago_ray.search.family import VACANCY, Family
from kiago_ray.search.family_proposals import Sources
from kiago_ray.search.family_rows import FamilySpace, FamilyStarts, Slots, base_atoms, family_starts
from kiago_ray.search.problem import Problem
from kiago_ray.search.space import OpenSpace, Space
from kiago_ray.search.stages import SearchState, init
from kiago_ray.search.start import canonical_text, starts

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Begun:
    """A shard of `size` places before stage 1. family: of a family search what stands in each place, else None."""

    space: Space
    state: SearchState
    family: FamilyStarts | None = None


def begin(
    problem: Problem,
    frequencies: Mapping[str, Floats],
    rows: NDArray[np.int64],
    places: NDArray[np.int64],
    size: int,
    device: torch.device,
) -> Begun:
    """The rows of a search at their places (n,) in a shard of `size`; the other places are padding."""
    if problem.family is not None:
        return _family(problem, rows, places, size, device)
    space = open_space(problem, device)
    allowed = torch.as_tensor(problem.allowed, device=device)
    x_start = np.tile(problem.allowed / problem.allowed.sum(), (size, 1))  # padding: an even mixture
    x_start[places] = starts(problem, frequencies, rows.tolist())
    x = torch.as_tensor(x_start, dtype=torch.float32, device=device)
    return Begun(space, init(x, allowed, problem.spec.revive, space))


def open_space(problem: Problem, device: torch.device) -> OpenSpace:
    """The space of a search that any allowed element may come into."""
    return OpenSpace(
        const=torch.as_tensor(problem.const, dtype=torch.float32, device=device),
        limit=problem.limit,
        always=torch.as_tensor(problem.fixed & problem.allowed, device=device),
        totals=torch.tensor(problem.totals, device=device),
        width=problem.limit + int(problem.fixed.sum()),
    )


def _family(
    problem: Problem,
    rows: NDArray[np.int64],
    places: NDArray[np.int64],
    size: int,
    device: torch.device,
) -> Begun:
    assert problem.family is not None
    spec, family = problem.spec, problem.family.family
    given = family_starts(
        family,
        problem.family.lists,
        Sources(spec.sources),
        spec.seed,
        canonical_text(problem.base),
        rows.tolist(),
    )
    padded = _padded(given, family, places, size)
    space = family_space(family, padded, device)
    share, exists = (
        torch.as_tensor(each.reshape(size, -1), device=device) for each in (padded.share, padded.exists)
    )
    state = init(share.float(), exists, spec.revive, space)
    moves = torch.as_tensor(padded.moves, dtype=torch.float32, device=device)
    return Begun(space, replace(state, rate=moves), padded)


def _padded(given: FamilyStarts, family: Family, places: NDArray[np.int64], size: int) -> FamilyStarts:
    """The rows at their places; padding holds the base and stays there."""
    slots = Slots.of(family)
    element, atoms = base_atoms(family, slots)
    whole = np.array([[site.total] for site in family.sites])
    fill = {
        "element": element,
        "share": atoms / whole,
        "exists": atoms > 0,
        "atoms": atoms,
        "moves": False,
        "source": "",
    }
    arrays = {}
    for name, value in fill.items():
        rows = getattr(given, name)
        arrays[name] = np.empty((size, *rows.shape[1:]), dtype=rows.dtype)
        arrays[name][:] = value
        arrays[name][places] = rows
    return FamilyStarts(**arrays)


def family_space(family: Family, rows: FamilyStarts, device: torch.device) -> FamilySpace:
    """The space of these rows: the limits of the family's sites for those that move; the others are what they are."""
    slots, sites = Slots.of(family), family.sites
    shape = rows.element.shape
    mix = np.zeros((len(sites), slots.width))
    for at, site in enumerate(sites):
        mix[at, : len(site.own)] = np.array(site.amounts) / sum(site.amounts)
    moves = rows.moves[:, None]
    vacancy = rows.element == VACANCY
    foreign = (np.arange(slots.number) >= slots.width) & rows.exists & moves[..., None]
    vacant, most_vacant = (
        np.array([getattr(site, name) for site in sites])[None, :, None] for name in ("vacant", "most_vacant")
    )
    main = np.arange(slots.number) == 0
    free_to_move = np.array([not site.held for site in sites])[None, :, None] & moves[..., None]

    def tensor(values: NDArray[np.generic] | Floats) -> Tensor:
        tensor = torch.as_tensor(np.ascontiguousarray(values), device=device)
        return tensor.float() if tensor.is_floating_point() else tensor

    def limits(name: str, otherwise: float) -> Tensor:
        values = np.array([float(getattr(site, name)) for site in sites])
        return tensor(np.where(moves, values, otherwise))

    return FamilySpace(
        element=tensor(rows.element),
        own_mix=tensor(np.broadcast_to(mix, (shape[0], *mix.shape))),
        amount=tensor(np.broadcast_to([site.total for site in sites], shape[:2])),
        low=limits("low", 0.0),
        high=limits("high", 1.0),
        most=tensor(np.where(vacancy & foreign, most_vacant, 1.0)),
        on_grid=tensor(rows.exists & ~main & free_to_move),
        counted=tensor(foreign & ~(vacancy & (vacant > 0))),
        grid=family.grid,
        max_foreign=family.max_foreign,
        max_foreign_per_site=family.max_foreign_per_site,
        swaps=family.whole_swaps,
    )
