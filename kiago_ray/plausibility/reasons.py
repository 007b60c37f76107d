"""Why a composition is plausible, in words: which element stands for which, in how many relatives, up to how much."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.plausibility.doping import largest_share
from kiago_ray.plausibility.literature import Floats, Literature, Mask
from kiago_ray.plausibility.odds import completion_counts, likeness

Ints = NDArray[np.int64]


class Reasons:
    """Sentences on compositions, from what is known."""

    def __init__(self, literature: Literature) -> None:
        self.literature = literature
        self.swaps, self.beside = completion_counts(literature.systems)
        self.sizes = literature.systems.sum(axis=1)
        self.alike = likeness()
        self.support = self.swaps * self.alike
        self.held = np.asfortranarray(literature.fractions > 0)
        self.by_element = np.asfortranarray(literature.systems)  # columns are what is read

    def of(self, fractions: Floats, base: Floats | None = None) -> str:
        """One sentence on a composition (118,): by its difference to the base (118,), if there is one, else to the
        known system that it comes from most likely.
        """
        there = fractions > 0
        origin = self._nearest_system(there) if base is None else base > 0
        if origin is None:
            return "no known system is one element away"
        new = np.flatnonzero(there & ~origin)
        if not len(new):
            return self._of_amounts(there)
        sites = np.flatnonzero(origin)
        return "; ".join(self._replaced(int(z), sites, there) for z in new)

    def _replaced(self, new: int, sites: Ints, there: Mask) -> str:
        """How often `new` replaced the likeliest of these sites' elements beside the others that are there."""
        others = np.flatnonzero(there)
        site = int(sites[int(self.support[sites, new].argmax())])
        count = int(self.swaps[site, new])
        if not self.support[site, new]:
            return self._in_part(new, sites)
        near = max((int(self.beside[site, new, b]) for b in others if b not in (site, new)), default=0)
        share = largest_share(self.literature, site, new)
        relatives = "relative" if near == 1 else "relatives"
        part = f"; in part up to {100 * share:.0f} %" if share else ""
        if near:
            return f"{SYMBOLS[new]} replaced {SYMBOLS[site]} wholly in {near} known {relatives}{part}"
        times = "once" if count == 1 else f"{count} times"
        return f"{SYMBOLS[new]} replaced {SYMBOLS[site]} elsewhere ({times}), never beside these{part}"

    def _in_part(self, new: int, sites: Ints) -> str:
        """Where `new` is known only beside the elements of these sites, never instead of one."""
        beside = (self.held[:, sites] & self.held[:, [new]]).sum(axis=0) * (self.alike[sites, new] > 0)
        at = int(beside.argmax())
        if not beside[at]:
            return f"{SYMBOLS[new]} replaced none of its elements in a known relative"
        share = largest_share(self.literature, int(sites[at]), new)
        known = f"{beside[at]} known compositions, up to {100 * share:.0f} %"
        return f"{SYMBOLS[new]} stands beside {SYMBOLS[sites[at]]} in {known}"

    def _of_amounts(self, there: Mask) -> str:
        same = bool((self._shared(there) == there.sum())[self.sizes == there.sum()].any())
        return "other amounts of a known system" if same else "a part of a known system"

    def _shared(self, there: Mask) -> Ints:
        """How many of these elements (118,) each known system holds, (s,)."""
        return np.asarray(self.by_element[:, np.flatnonzero(there)].sum(axis=1), dtype=np.int64)

    def _nearest_system(self, there: Mask) -> Mask | None:
        """The known system one swap or one element away with the highest odds of that change, the first of equals."""
        systems, weights, size = self.literature.systems, self.literature.weights, int(there.sum())
        shared = self._shared(there)
        swapped = np.flatnonzero((shared == size - 1) & (self.sizes == size))
        added = np.flatnonzero((shared == self.sizes) & (self.sizes == size - 1))
        at = np.concatenate([swapped, added])
        if not len(at):
            return np.asarray(there) if ((shared == size) & (self.sizes == size)).any() else None
        new = (there & ~systems[at]).argmax(axis=1)
        sites = np.concatenate([systems[swapped] & ~there, systems[added]])
        support = np.where(sites, self.support[:, new].T, -1.0).max(axis=1) * weights[at]
        return np.asarray(systems[at[int(support.argmax())]])
