"""The screens: each a named yes or no on every row (section 3.1 of the paper). No row is thrown away.

Adding one is an entry of SCREENS and its name in `search.sections.ScreenName`, by which a search asks for it; its
column, pages, tables and counts follow. `passed` is the screens that a search asks for, all of them, on rows that have
a formula; the verdicts of the others are kept as columns too.

Of known superconductors a screen should let pass nearly all (recall); of the same compositions with one or two
elements swapped at random, few. benchmarks/screens.py measures both, and they ship as screen_recall.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kiago_ray.chemistry.elements import INDEX
from kiago_ray.data.compositions import sparse_fractions
from kiago_ray.search.sections import ScreensSpec

MIN_HYDROGEN, HYDRIDE_ELEMENTS, HYDRIDE_ATOMS = 0.4, 3, 15  # section 3.6


@dataclass(frozen=True)
class Screen:
    """A yes or no on candidates. name: its column in tables. label: a few words in a list of counts. meaning: one line
    for a person, with fields of ScreensSpec in braces. judge: a table of candidates (`screening.candidates.collect`)
    and the limits of a search → (n,) bool, an Arrow or numpy array; null counts as no. needs: the column that it
    judges by; where a row has none, it has no verdict.
    """

    name: str
    label: str
    meaning: str
    judge: Callable[[Any, ScreensSpec], Any]
    needs: str = "formula"

    @property
    def optional(self) -> bool:
        """Whether it judges by something that a search may not have asked for."""
        return self.needs != "formula"

    def description(self, limits: ScreensSpec | None = None) -> str:
        """The meaning with the limits of a search, else of `default`."""
        return self.meaning.format_map(dict(limits or ScreensSpec()))

    @property
    def column(self) -> str:
        """What its column in tables means, whatever the limits."""
        meaning = re.sub(r"{(\w+)[^}]*}", r"screens.\1", self.meaning).rstrip(".")
        absent = "; null where that wasn't worked out" if self.optional else ""
        return f"Screen: {meaning[0].lower()}{meaning[1:]}{absent}."

    def verdict(self, rows: Any, limits: ScreensSpec | None = None) -> Any:
        """(n,) bool as an Arrow array, null for rows without what it judges by. Raises ValueError where none has."""
        if self.needs not in rows.column_names:
            raise ValueError(f"screen {self.name!r} needs {self.needs}, which wasn't worked out")
        found = self.judge(rows, limits or ScreensSpec())
        found = pa.chunked_array([pa.array(found)]) if isinstance(found, np.ndarray) else found
        return pc.if_else(pc.is_valid(rows[self.needs]), found.fill_null(False), None)


def _hydrides(rows: Any, limits: ScreensSpec) -> Any:
    """Section 3.6's form of a hydride."""
    atoms, elements = (rows[name].to_numpy() for name in ("n_atoms", "n_elements"))
    fractions = sparse_fractions(rows["formula"].fill_null("").to_pylist())
    rich = fractions[:, [INDEX["H"]]].toarray()[:, 0] >= MIN_HYDROGEN - 1e-9
    return rich & (elements >= 2) & (elements <= HYDRIDE_ELEMENTS) & (atoms <= HYDRIDE_ATOMS)


def _as_worked_out(name: str) -> Callable[[Any, ScreensSpec], Any]:
    return lambda rows, limits: rows[name]


_ALL = (  # in the paper's order, then ours
    Screen(
        "neutral",
        "charge neutral",
        "Oxidation states exist that add up to 0 (SMACT); metals alone pass unseen.",
        _as_worked_out("neutral"),
    ),
    Screen(
        "pauling",
        "neutral and Pauling rule",
        "Neutral, with every cation less electronegative than every anion (SMACT).",
        _as_worked_out("pauling"),
    ),
    Screen(
        "ef_negative",
        "E_f < 0",
        "Predicted formation energy below 0 eV/atom.",
        lambda rows, limits: pc.less(rows["ef_ev_per_atom"], 0),
    ),
    Screen(
        "few_elements",
        "few elements",
        "At most {max_elements} elements.",  # the predictors know little about formulas with more
        lambda rows, limits: pc.less_equal(rows["n_elements"], limits.max_elements),
    ),
    Screen(
        "balanced",
        "charges balance, or a metal",
        "States of at most {max_charge_nats:g} nats an atom add up to 0, mixed or not; metals pass.",
        lambda rows, limits: pc.less_equal(rows["screened_nats"], limits.max_charge_nats),
    ),
    Screen(
        "plausible",
        "plausible, where worked out",
        "Exists, or does so with a probability of at least {min_existence:g} by its relatives.",
        lambda rows, limits: pc.greater_equal(rows["existence"], limits.min_existence),
        needs="existence",
    ),
    Screen(
        "neutral_mixed",
        "neutral, mixed valence allowed",
        "As pauling, but an element's atoms may take two of its states at once.",
        _as_worked_out("neutral_mixed"),
        needs="neutral_mixed",
    ),
    Screen(
        "neutral_atoms",
        "neutral, each atom with its own valence",
        "Each atom can be given one of its element's states so that they add up to 0.",  # section 3.6
        _as_worked_out("neutral_atoms"),
        needs="neutral_atoms",
    ),
    Screen(
        "hydride",
        "hydride: ≥ 40 % H, 2 or 3 elements, ≤ 15 atoms",
        "At least 40 % hydrogen, two or three elements, at most 15 atoms.",
        _hydrides,
        needs="neutral_atoms",
    ),
    Screen(
        "near_hull",
        "near the hull, where worked out",
        "At most {max_e_hull_ev_per_atom:g} eV/atom above the hull of competing phases.",
        lambda rows, limits: pc.less_equal(rows["e_hull_ev_per_atom"], limits.max_e_hull_ev_per_atom),
        needs="e_hull_ev_per_atom",
    ),
)
SCREENS: Mapping[str, Screen] = {screen.name: screen for screen in _ALL}
"""Every screen by name."""


def apply_screens(rows: Any, limits: ScreensSpec, required: Sequence[str] | None = None) -> Any:
    """A table of candidates with the verdict of every screen that can judge it, and `passed`: all of those `required`,
    by default those that `limits` names, on rows with a formula.

    Raises ValueError for a required screen that doesn't exist, or that lacks what it judges by.
    """
    required = limits.names if required is None else required
    for name in required:
        if name not in SCREENS:
            raise ValueError(f"there is no screen {name!r}; choose from {', '.join(SCREENS)}")
    able = [each for each in _ALL if each.name in required or each.needs in rows.column_names]
    verdicts = {screen.name: screen.verdict(rows, limits) for screen in able}
    passed = rows["formula"].is_valid()
    for name in required:
        passed = pc.and_(passed, verdicts[name].fill_null(False))
    columns = dict(zip(rows.column_names, rows.columns, strict=True))
    return pa.table({**columns, **verdicts, "passed": passed})


FILE = "screen_recall.json"
REQUIRED = "default"  # among the names: all screens together that the preset default requires


def load_screen_recall() -> dict[str, Any]:
    """What was measured, as FILE has it: of how many `superconductors` and `swaps`, and by screen (or REQUIRED) the
    shares that pass: of known superconductors (`recall`), of those above 30 K (`recall_above_30_k`), of `swaps`.
    """
    plain: dict[str, Any] = json.loads((resources.files(__package__) / FILE).read_text(encoding="utf-8"))
    return plain
