"""The screens: each a named yes or no on every row (section 3.1 of the paper). No row is thrown away.

Adding one is a class here and a line in `available_screens`. `passed` is the screens that a search asks
for, all of them, on rows that have a formula; the verdicts of the others are kept as columns too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Protocol

import numpy as np

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.screening.candidates import Candidates, Mask
from kiago_ray.search.errors import SpecError

MIN_HYDROGEN, HYDRIDE_ELEMENTS, HYDRIDE_ATOMS = 0.4, 3, 15  # section 3.6
MAX_ELEMENTS = 9  # the most in the paper's SuperCon data; "ten or more" are removed
MAX_E_HULL_EV_PER_ATOM = 0.1
MIN_EXISTENCE = 0.06  # 95 % of known superconductors pass, and 19 % of random swaps
MAX_CHARGE_NATS = 1.25  # 99.0 % of SuperCon's compositions with T_c > 0 pass, 98.8 % of those above 30 K


class Screen(Protocol):
    """A yes or no on candidates. `name` is its column in tables, `description` one line for a person."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def optional(self) -> bool:
        """Whether it judges by something that a search may not have asked for; without that it has no verdict."""
        ...

    def lacks(self, candidates: Candidates) -> str | None:
        """What it would need to judge these candidates, for a person; None where it can."""
        ...

    def verdict(self, candidates: Candidates) -> Mask:
        """(n,) bool; False for rows without a formula."""
        ...


@dataclass(frozen=True)
class Neutral:
    """SMACT's charge neutrality. Elements alone and metals alone pass unseen, as in SMACT."""

    name: str = "neutral"
    description: str = "Oxidation states exist that add up to 0 (SMACT); metals alone pass unseen."
    optional: bool = False

    def lacks(self, candidates: Candidates) -> str | None:
        return None

    def verdict(self, candidates: Candidates) -> Mask:
        return candidates.neutrality.neutral & candidates.ok


@dataclass(frozen=True)
class Pauling:
    """Neutral by states in which every cation is less electronegative than every anion (SMACT)."""

    name: str = "pauling"
    description: str = "Neutral, with every cation less electronegative than every anion (SMACT)."
    optional: bool = False

    def lacks(self, candidates: Candidates) -> str | None:
        return None

    def verdict(self, candidates: Candidates) -> Mask:
        return candidates.neutrality.pauling & candidates.ok


@dataclass(frozen=True)
class Balanced:
    """Likely states balance, mixed valence being the rule, or it is judged as a metal (chemistry.balance)."""

    max_charge_nats: float = MAX_CHARGE_NATS
    name: str = "balanced"
    optional: bool = False

    @property
    def description(self) -> str:
        return (
            f"States of at most {self.max_charge_nats:g} nats an atom add up to 0, mixed or not; metals pass."
        )

    def lacks(self, candidates: Candidates) -> str | None:
        return None

    def verdict(self, candidates: Candidates) -> Mask:
        return candidates.balances.likely(self.max_charge_nats) & candidates.ok


@dataclass(frozen=True)
class Plausible:
    """The probability that such a composition exists is no lower than `minimum`."""

    minimum: float = MIN_EXISTENCE
    name: str = "plausible"
    optional: bool = True

    @property
    def description(self) -> str:
        return f"Exists with a probability of at least {self.minimum:g}, by what is known of its relatives."

    def lacks(self, candidates: Candidates) -> str | None:
        return "needs the rows' plausibility" if candidates.log_existence is None else None

    def verdict(self, candidates: Candidates) -> Mask:
        if candidates.log_existence is None:
            raise ValueError("plausible: the rows' plausibility wasn't worked out; give a model of it")
        return (candidates.existence >= self.minimum) & candidates.ok


@dataclass(frozen=True)
class NeutralMixed:
    """As Pauling, and also where atoms of one element differ in their state, which SMACT doesn't know."""

    name: str = "neutral_mixed"
    description: str = "As pauling, but an element's atoms may take two of its states at once."
    optional: bool = True

    def lacks(self, candidates: Candidates) -> str | None:
        return "needs mixed valences; set charge.mixed_valence" if candidates.mixed is None else None

    def verdict(self, candidates: Candidates) -> Mask:
        if candidates.mixed is None:
            raise ValueError("neutral_mixed: mixed valences weren't worked out; set charge.mixed_valence")
        mixed = np.array([bool(each) for each in candidates.mixed], dtype=np.bool_)
        return (candidates.neutrality.pauling | mixed) & candidates.ok


@dataclass(frozen=True)
class NeutralAtoms:
    """Neutral where each atom may have a valence of its own: section 3.6's, for hydrides such as LaH10."""

    name: str = "neutral_atoms"
    description: str = "Each atom can be given one of its element's states so that they add up to 0."
    optional: bool = True

    def lacks(self, candidates: Candidates) -> str | None:
        return "needs valences by atom" if candidates.by_atoms is None else None

    def verdict(self, candidates: Candidates) -> Mask:
        if candidates.by_atoms is None:
            raise ValueError("neutral_atoms: valences by atom weren't worked out")
        return np.array([bool(each) for each in candidates.by_atoms], dtype=np.bool_) & candidates.ok


@dataclass(frozen=True)
class Hydride:
    """Section 3.6's form: at least 40 % hydrogen, two or three elements, at most 15 atoms."""

    name: str = "hydride"
    description: str = "At least 40 % hydrogen, two or three elements, at most 15 atoms."
    optional: bool = True

    def lacks(self, candidates: Candidates) -> str | None:
        return "is for searches of hydrides" if candidates.by_atoms is None else None

    def verdict(self, candidates: Candidates) -> Mask:
        atoms = candidates.counts.sum(axis=1)
        rich = candidates.counts[:, INDEX["H"]] >= MIN_HYDROGEN * atoms - 1e-9
        few = (candidates.n_elements >= 2) & (candidates.n_elements <= HYDRIDE_ELEMENTS)
        small = (atoms > 0) & (atoms <= HYDRIDE_ATOMS)
        judged: Mask = np.logical_and.reduce([rich, few, small, candidates.ok])
        return judged


@dataclass(frozen=True)
class EfNegative:
    """Formation energy below 0: stable against the elements, which says nothing about other compounds."""

    name: str = "ef_negative"
    description: str = "Predicted formation energy below 0 eV/atom."
    optional: bool = False

    def lacks(self, candidates: Candidates) -> str | None:
        return None

    def verdict(self, candidates: Candidates) -> Mask:
        return (candidates.ef_ev_per_atom < 0) & candidates.ok


@dataclass(frozen=True)
class FewElements:
    """At most `maximum` elements: the predictors know little about formulas with more."""

    maximum: int = MAX_ELEMENTS
    name: str = "few_elements"
    optional: bool = False

    @property
    def description(self) -> str:
        return f"At most {self.maximum} elements."

    def lacks(self, candidates: Candidates) -> str | None:
        return None

    def verdict(self, candidates: Candidates) -> Mask:
        return (candidates.n_elements <= self.maximum) & candidates.ok


@dataclass(frozen=True)
class NearHull:
    """At most `maximum` eV/atom above the hull of competing phases; a row whose distance isn't known fails."""

    maximum: float = MAX_E_HULL_EV_PER_ATOM
    name: str = "near_hull"
    optional: bool = True

    @property
    def description(self) -> str:
        return f"At most {self.maximum:g} eV/atom above the hull of competing phases."

    def lacks(self, candidates: Candidates) -> str | None:
        return "needs competing phases" if candidates.e_hull_ev_per_atom is None else None

    def verdict(self, candidates: Candidates) -> Mask:
        if candidates.e_hull_ev_per_atom is None:
            raise ValueError("near_hull: there are no competing phases; give a table of them")
        return (candidates.e_hull_ev_per_atom <= self.maximum) & candidates.ok


def check_phases(names: Sequence[str], given: bool) -> None:
    """Refuse the screen near_hull where no competing phases are `given`. Raises SpecError."""
    if "near_hull" in names and not given:
        raise SpecError(
            "screens.names: near_hull needs competing phases, which `kiago search` alone takes, and not with "
            "--phases none; elsewhere leave it out and put the result through `kiago hull --input top.csv`"
        )


def available_screens(
    *,
    max_elements: int = MAX_ELEMENTS,
    max_e_hull_ev_per_atom: float = MAX_E_HULL_EV_PER_ATOM,
    max_charge_nats: float = MAX_CHARGE_NATS,
    min_existence: float = MIN_EXISTENCE,
) -> dict[str, Screen]:
    """Every screen by name, in the paper's order, then ours."""
    screens: tuple[Screen, ...] = (
        Neutral(),
        Pauling(),
        EfNegative(),
        FewElements(max_elements),
        Balanced(max_charge_nats),
        Plausible(min_existence),
        NeutralMixed(),
        NeutralAtoms(),
        Hydride(),
        NearHull(max_e_hull_ev_per_atom),
    )
    return {screen.name: screen for screen in screens}


@dataclass(frozen=True)
class Verdicts:
    """by_screen: (n,) bool for each screen that could judge. required: the names that count. passed: (n,)
    all of those, on rows with a formula.
    """

    by_screen: Mapping[str, Mask]
    required: tuple[str, ...]
    passed: Mask


def apply_screens(candidates: Candidates, screens: Mapping[str, Screen], required: Sequence[str]) -> Verdicts:
    """Every screen's verdict on every row, and `passed`: those named in `required`, in that order.

    Raises ValueError for a required screen that doesn't exist, or that lacks what it judges by.
    """
    for name in required:
        if name not in screens:
            raise ValueError(f"there is no screen {name!r}; choose from {', '.join(screens)}")
        if (lack := screens[name].lacks(candidates)) is not None:
            raise ValueError(f"screen {name!r} {lack}")
    by_screen = {
        name: screen.verdict(candidates)
        for name, screen in screens.items()
        if screen.lacks(candidates) is None
    }
    passed = candidates.ok.copy()
    for name in required:
        passed &= by_screen[name]
    return Verdicts(by_screen, tuple(required), passed)


FILE = "screen_recall.json"
REQUIRED = "default"  # among the names: all screens together that the preset default requires


@dataclass(frozen=True)
class Passing:
    """Shares that pass, None where that wasn't measured: of known superconductors, of those above 30 K, of swaps."""

    recall: float | None
    recall_above_30_k: float | None
    swaps: float | None


@dataclass(frozen=True)
class ScreenRecall:
    """What was measured, on how many of each. screens: by name, and REQUIRED."""

    superconductors: int
    swaps: int
    screens: Mapping[str, Passing]


def load_screen_recall() -> ScreenRecall:
    """The shipped figures."""
    plain = json.loads(resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8"))
    return ScreenRecall(
        plain["superconductors"],
        plain["swaps"],
        {name: Passing(**values) for name, values in plain["screens"].items()},
    )
