"""The screens: each a named yes or no on every row (section 3.1 of the paper). No row is thrown away.

Adding one is an entry here, its name among those that a search may ask for (`ScreensSpec.names`), and its line in
storage/columns.csv; pages, tables and counts follow. `passed` is the screens that a search asks for, all of them, on
rows that have a formula; the verdicts of the others are kept as columns too.

Of known superconductors a screen should let pass nearly all (recall); of the same compositions with one or two
elements swapped at random, few. benchmarks/screens.py measures both, and they ship as screen_recall.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from kiago_ray.chemistry.elements import INDEX, Floats, Mask
from kiago_ray.screening.candidates import Candidates
from kiago_ray.search.sections import ScreensSpec, SpecError

MIN_HYDROGEN, HYDRIDE_ELEMENTS, HYDRIDE_ATOMS = 0.4, 3, 15  # section 3.6


@dataclass(frozen=True)
class Screen:
    """A yes or no on candidates. name: its column in tables. label: a few words in a list of counts. description: one
    line for a person. judge: (n,) bool of n candidates, None where they lack what it judges by. lack: what that is,
    for a person; "" where it always can judge.
    """

    name: str
    label: str
    description: str
    judge: Callable[[Candidates], Mask | None]
    lack: str = ""

    @property
    def optional(self) -> bool:
        """Whether it judges by something that a search may not have asked for; without that it has no verdict."""
        return bool(self.lack)

    def verdict(self, candidates: Candidates) -> Mask:
        """(n,) bool; False for rows without a formula. Raises ValueError where it can't judge."""
        found = self.judge(candidates)
        if found is None:
            raise ValueError(f"screen {self.name!r} {self.lack}")
        return found & candidates.ok


def available_screens(limits: ScreensSpec | None = None) -> dict[str, Screen]:
    """Every screen by name, in the paper's order, then ours. limits: those of a search, else the defaults."""
    limits = limits or ScreensSpec()
    return {screen.name: screen for screen in (*_always(limits), *_optional(limits))}


def _always(limits: ScreensSpec) -> tuple[Screen, ...]:
    """The screens that judge every search."""
    return (
        Screen(
            "neutral",
            "charge neutral",
            "Oxidation states exist that add up to 0 (SMACT); metals alone pass unseen.",
            lambda rows: rows.neutrality.neutral,
        ),
        Screen(
            "pauling",
            "neutral and Pauling rule",
            "Neutral, with every cation less electronegative than every anion (SMACT).",
            lambda rows: rows.neutrality.pauling,
        ),
        Screen(
            "ef_negative",
            "E_f < 0",
            "Predicted formation energy below 0 eV/atom.",
            lambda rows: rows.ef_ev_per_atom < 0,
        ),
        Screen(
            "few_elements",
            "few elements",
            f"At most {limits.max_elements} elements.",  # the predictors know little about formulas with more
            lambda rows: rows.n_elements <= limits.max_elements,
        ),
        Screen(
            "balanced",
            "charges balance, or a metal",
            f"States of at most {limits.max_charge_nats:g} nats an atom add up to 0, mixed or not; metals pass.",
            lambda rows: rows.balances.likely(limits.max_charge_nats),
        ),
    )


def _optional(limits: ScreensSpec) -> tuple[Screen, ...]:
    """The screens that judge by what a search may not have asked for."""
    return (
        Screen(
            "plausible",
            "plausible, where worked out",
            f"Exists, or does so with a probability of at least {limits.min_existence:g} by its relatives.",
            lambda rows: None if rows.log_existence is None else rows.existence >= limits.min_existence,
            "needs the rows' plausibility",
        ),
        Screen(
            "neutral_mixed",
            "neutral, mixed valence allowed",
            "As pauling, but an element's atoms may take two of its states at once.",
            lambda rows: None if rows.mixed is None else rows.neutrality.pauling | rows.mixed,
            "needs mixed valences; set charge.mixed_valence",
        ),
        Screen(
            "neutral_atoms",
            "neutral, each atom with its own valence",
            "Each atom can be given one of its element's states so that they add up to 0.",  # section 3.6
            lambda rows: (
                None if rows.by_atoms is None else np.array(list(map(bool, rows.by_atoms)), dtype=bool)
            ),
            "needs valences by atom",
        ),
        Screen(
            "hydride",
            "hydride: ≥ 40 % H, 2 or 3 elements, ≤ 15 atoms",
            "At least 40 % hydrogen, two or three elements, at most 15 atoms.",
            _hydrides,
            "is for searches of hydrides",
        ),
        Screen(
            "near_hull",
            "near the hull, where worked out",
            f"At most {limits.max_e_hull_ev_per_atom:g} eV/atom above the hull of competing phases.",
            lambda rows: _at_most(rows.e_hull_ev_per_atom, limits.max_e_hull_ev_per_atom),
            "needs competing phases",
        ),
    )


def _at_most(values: Floats | None, limit: float) -> Mask | None:
    return None if values is None else np.asarray(values <= limit)


def _hydrides(rows: Candidates) -> Mask | None:
    """Section 3.6's form of a hydride; None where no search of hydrides asked for valences by atom."""
    if rows.by_atoms is None:
        return None
    atoms = rows.counts.sum(axis=1)
    rich = rows.counts[:, INDEX["H"]] >= MIN_HYDROGEN * atoms - 1e-9
    few = (rows.n_elements >= 2) & (rows.n_elements <= HYDRIDE_ELEMENTS)
    return np.asarray(rich & few & (atoms > 0) & (atoms <= HYDRIDE_ATOMS))


def check_phases(names: Sequence[str], given: bool) -> None:
    """Refuse the screen near_hull where no competing phases are `given`. Raises SpecError."""
    if "near_hull" in names and not given:
        raise SpecError(
            "screens.names: near_hull needs competing phases, which `kiago search` alone takes, and not with "
            "--phases none; elsewhere leave it out and put the result through `kiago hull --input top.csv`"
        )


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
    judged = {name: screen.judge(candidates) for name, screen in screens.items()}
    by_screen = {name: found & candidates.ok for name, found in judged.items() if found is not None}
    passed = candidates.ok.copy()
    for name in required:
        passed &= by_screen[name] if name in by_screen else screens[name].verdict(candidates)
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
    screens = {name: Passing(**values) for name, values in plain["screens"].items()}
    return ScreenRecall(plain["superconductors"], plain["swaps"], screens)
