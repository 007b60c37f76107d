"""Which element takes a part of another's site, and up to how much: read off series of known compositions.

A composition with one element more than a known one tells where it went: the element that became less, by about as
much, gave way to it.
"""

from __future__ import annotations

import numpy as np

from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS
from kiago_ray.plausibility.literature import Floats, Literature, Mask
from kiago_ray.plausibility.odds import likeness, per_system, swap_odds

_MOST_COMPOSITIONS = 6  # of a system that are looked at
_AGREES = 0.35  # how far the amount that came may differ from the one that went, as a share of it
_VACANT = (0.7, 0.99)  # of an element's amount, relative to the others, that is left where places are empty
_SAME_RATIO = 0.01
OFTEN_VACANT = (INDEX["O"],)  # what of other elements looks like vacancies are mostly misprints and mixtures
_SEEN = 3  # compositions with vacancies from which they count as known


def site_odds(literature: Literature) -> Floats:
    """odds[a, c] from 0 to 1: how often c takes the place of a, wholly or in part, times how alike they are, (118,
    118).
    """
    doped = per_system(doping_counts(literature), literature.systems.sum(axis=0))
    odds = np.clip(swap_odds(literature.systems) + doped, 0, 1) * likeness()
    np.fill_diagonal(odds, 0)
    return np.asarray(odds)


def doping_counts(literature: Literature) -> Floats:
    """How many systems show that c takes a part of a's site, [a, c], (118, 118)."""
    counts = np.zeros((N_ELEMENTS, N_ELEMENTS))
    places = {row.tobytes(): at for at, row in enumerate(literature.systems)}
    order = np.argsort(literature.system, kind="stable")
    begins = np.searchsorted(literature.system[order], np.arange(len(literature.systems) + 1))
    for at, row in enumerate(literature.systems):
        mine = literature.fractions[order[begins[at] : begins[at + 1]][:_MOST_COMPOSITIONS]]
        for new in np.flatnonzero(row).tolist():
            other = row.copy()
            other[new] = False
            parent = places.get(other.tobytes())
            if parent is None:
                continue
            theirs = literature.fractions[order[begins[parent] : begins[parent + 1]][:_MOST_COMPOSITIONS]]
            site = _gave_way(mine, theirs, new)
            if site is not None:
                counts[site, new] += 1
    return counts


def _gave_way(doped: Floats, undoped: Floats, new: int) -> int | None:
    """The element that most clearly gave way to `new` between two sets of compositions, (m, 118) and (n, 118)."""
    change = undoped[None] - doped[:, None]  # (doped, undoped, 118)
    change[:, :, new] = 0
    pair = np.abs(change).sum(axis=2)
    m, n = np.unravel_index(int(pair.argmin()), pair.shape)
    site = int(change[m, n].argmax())
    came = float(doped[m, new])
    return site if abs(float(change[m, n, site]) - came) <= _AGREES * came else None


def known_vacancies(literature: Literature, base: Floats) -> Mask:
    """Whether known compositions of the chemical system of the base (118,) hold less oxygen, all else alike: (118,),
    true there.
    """
    found = np.zeros(N_ELEMENTS, dtype=np.bool_)
    held = base > 0
    rows = literature.fractions[((literature.fractions > 0) == held).all(axis=1)]
    for z in (z for z in OFTEN_VACANT if held[z] and held.sum() > 1):
        others = held.copy()
        others[z] = False
        ratio = rows[:, others] / base[others]
        alike = ratio.max(axis=1) - ratio.min(axis=1) < _SAME_RATIO * ratio.mean(axis=1)
        left = rows[:, z] / base[z] / ratio.mean(axis=1)
        found[z] = int((alike & (left > _VACANT[0]) & (left < _VACANT[1])).sum()) >= _SEEN
    return found


def largest_share(literature: Literature, site: int, new: int) -> float:
    """The largest part that `new` has of what it and `site` hold together, among known compositions of both."""
    both = literature.fractions[(literature.fractions[:, site] > 0) & (literature.fractions[:, new] > 0)]
    return float((both[:, new] / (both[:, site] + both[:, new])).max(initial=0.0))
