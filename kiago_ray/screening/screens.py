"""The screens, each a named yes or no on every row (section 3.1 of the paper), and what came of a search in a dozen
numbers. No row is thrown away.

Adding one is an entry of SCREENS and its name in `search.sections.ScreenName`, by which a search asks for it; its
column, pages, tables and counts follow. `passed` is the screens that a search asks for, all of them, on rows that have
a formula; the verdicts of the others are kept as columns too.

Of known superconductors a screen should let pass nearly all (recall); of the same compositions with one or two
elements swapped at random, few. benchmarks/screens.py measures both, and they ship as screen_recall.json.

Numbers are counted as the published ones are: of LaPt2B2C's 4,096 samples 0.991 are unique, a fraction of all rows;
868 formulas pass, 0.214 of the *unique* ones. ΔT_c of the top k is the mean predicted T_c of the k best that pass
minus the base material's *predicted* T_c. Their exploitation gap is the mean T_c by the search minus that by the
oracle: a search climbs its predictor's mistakes too, and the oracle, which it never sees, makes others.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kiago_ray.chemistry.formula import parse
from kiago_ray.screening.candidates import FIRST_ROWS, new_rows
from kiago_ray.screening.known import EXTRAPOLATED, BaseMaterial
from kiago_ray.search.sections import ScreensSpec

MIN_HYDROGEN, HYDRIDE_ELEMENTS, HYDRIDE_ATOMS = 0.4, 3, 15  # section 3.6


@dataclass(frozen=True)
class Screen:
    """A yes or no on candidates. name: its column in tables. label: a few words in a list of counts. meaning: one line
    for a person, with fields of ScreensSpec in braces. judge: a table of candidates (`screening.candidates.collect`)
    and the limits of a search → (n,) bool, an Arrow or numpy array; null counts as no. By default it is the table's
    column of its name. needs: the column that it judges by; where a row has none, it has no verdict. unknown_passes:
    whether such a row passes; else a search that asks for the screen has to work the column out.
    """

    name: str
    label: str
    meaning: str
    judge: Callable[[Any, ScreensSpec], Any] | None = None
    needs: str = "formula"
    unknown_passes: bool = False

    def description(self, limits: ScreensSpec | None = None) -> str:
        """The meaning with the limits of a search, else of `default`."""
        return self.meaning.format_map(dict(limits or ScreensSpec()))

    @property
    def column(self) -> str:
        """What its column in tables means, whatever the limits."""
        meaning = re.sub(r"{(\w+)[^}]*}", r"screens.\1", self.meaning).rstrip(".")
        absent = "; null where that wasn't worked out" if self.needs != "formula" else ""
        return f"Screen: {meaning[0].lower()}{meaning[1:]}{absent}."

    def verdict(self, rows: Any, limits: ScreensSpec | None = None) -> Any:
        """(n,) bool as an Arrow array, null for rows without what it judges by. Raises ValueError where none has."""
        if self.needs not in rows.column_names and self.unknown_passes:
            return pa.nulls(len(rows), pa.bool_())
        if self.needs not in rows.column_names:
            raise ValueError(f"screen {self.name!r} needs {self.needs}, which wasn't worked out")
        found = rows[self.name] if self.judge is None else self.judge(rows, limits or ScreensSpec())
        found = pa.chunked_array([pa.array(found)]) if isinstance(found, np.ndarray) else found
        return pc.if_else(pc.is_valid(rows[self.needs]), found.fill_null(False), None)


def _hydrides(rows: Any, limits: ScreensSpec) -> Any:
    """Section 3.6's form of a hydride."""
    atoms, elements, hydrogen = (rows[name].to_numpy() for name in ("n_atoms", "n_elements", "hydrogen"))
    few = (elements >= 2) & (elements <= HYDRIDE_ELEMENTS) & (atoms <= HYDRIDE_ATOMS)
    return few & (hydrogen >= MIN_HYDROGEN - 1e-9)


_ALL = (  # the paper's screens, then ours
    Screen(
        "neutral",
        "charge neutral",
        "Oxidation states exist that add up to 0 (SMACT); metals alone pass unseen.",
    ),
    Screen(
        "pauling",
        "neutral and Pauling rule",
        "Neutral, with every cation less electronegative than every anion (SMACT).",
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
        needs="neutral_mixed",
    ),
    Screen(
        "neutral_atoms",
        "neutral, each atom with its own valence",
        "Each atom can be given one of its element's states so that they add up to 0.",  # section 3.6
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
        "near the hull",
        "At most {max_e_hull_ev_per_atom:g} eV/atom above the hull of competing phases.",
        lambda rows, limits: pc.less_equal(rows["e_hull_ev_per_atom"], limits.max_e_hull_ev_per_atom),
        needs="e_hull_ev_per_atom",
    ),
    Screen(
        "structure_stable",
        "stable structure, where one was made",
        "Relaxed by CHGNet it keeps its prototype, at most {max_e_hull_ev_per_atom:g} eV/atom above the hull.",
        lambda rows, limits: pc.and_(
            pc.less_equal(rows["e_hull_chgnet_ev_per_atom"], limits.max_e_hull_ev_per_atom),
            rows["prototype_survived"],
        ),
        needs="e_hull_chgnet_ev_per_atom",
        unknown_passes=True,  # `kiago structures` makes them after the search
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
        passed = pc.and_(passed, verdicts[name].fill_null(SCREENS[name].unknown_passes))
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


TOP = (10, 30, 50)
_BEST = ("tc_k", "tc_oracle_k", "trusted_tc_k", "extrapolation", "nearest_distance")
SUMMARISED = (*_BEST, "formula", "source", "known", "tried", "gain", "passed", *SCREENS)
"""What `summarise` reads of a table of candidates."""


@dataclass(frozen=True)
class Summary:
    """Counts of rows and unique formulas. screens: unique formulas that pass each screen on its own.
    passed_above_base: those that passed and whose T_c is predicted above the base's. known: those that are known
    compositions; None where none were given to compare with.

    ranked_by: what ordered the rows (screens.rank_by). gains: how many of the new ones that passed, which are neither
    known nor tried, have a T_c above the best known nearby; None where there was nothing to compare with. left_out:
    how many passed and are known or tried. sources: where the first 30 that passed came from; {} outside families.
    """

    rows: int
    statuses: Mapping[str, int]
    unique: int
    screens: Mapping[str, int]
    required: tuple[str, ...]
    passed: int
    top: tuple[TopMean, ...]
    base: BaseMaterial | None
    passed_above_base: int | None = None
    known: int | None = None
    ranked_by: str = "trusted"
    gains: int | None = None
    left_out: int = 0
    sources: Mapping[str, int] = field(default_factory=dict)

    @property
    def unique_fraction(self) -> float | None:
        """Unique formulas among all rows, those without a formula included."""
        return _fraction(self.unique, self.rows)

    @property
    def screen_fractions(self) -> dict[str, float | None]:
        """For each screen, what part of the unique formulas passes it."""
        return {name: _fraction(count, self.unique) for name, count in self.screens.items()}

    @property
    def passed_fraction(self) -> float | None:
        """What part of the unique formulas passes all required screens."""
        return _fraction(self.passed, self.unique)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain types, for JSON."""
        derived = ("unique_fraction", "screen_fractions", "passed_fraction")
        lists = {"required": list(self.required), "top": [asdict(each) for each in self.top]}
        return {**asdict(self), **lists, **{name: getattr(self, name) for name in derived}}


def summarise(
    ranked: Any,
    *,
    rows: int,
    statuses: Mapping[str, int],
    required: tuple[str, ...],
    base: BaseMaterial | None = None,
    top: Sequence[int] = TOP,
    ranked_by: str = "trusted",
) -> Summary:
    """The summary of `rows` rows from the table of their u unique formulas, best first (with the columns SUMMARISED).

    statuses: the rows by how they ended (SearchResult.status_counts). required: the screens that count.
    """
    passed = ranked["passed"].to_numpy()
    count = int(passed.sum())
    new = new_rows(ranked)
    compared = ranked["nearest_distance"].null_count < len(ranked)
    head = ranked.slice(0, min(count, max(top, default=0)))  # those that passed come first
    return Summary(
        rows=rows,
        statuses=dict(statuses),
        unique=len(ranked),
        screens={
            name: int(ranked[name].fill_null(False).to_numpy().sum())
            for name, screen in SCREENS.items()
            if screen.needs == "formula" or ranked[name].null_count < len(ranked)
        },
        required=required,
        passed=count,
        top=tuple(top_mean(head, k, base) for k in top),
        base=base,
        passed_above_base=(
            None if base is None else int((ranked["tc_k"].to_numpy()[:count] > base.tc_predicted_k).sum())
        ),
        known=len(ranked) - ranked["known"].null_count if compared else None,
        ranked_by=ranked_by,
        gains=int((new & ranked["gain"].fill_null(False).to_numpy()).sum()) if compared else None,
        left_out=count - int(new.sum()),
        sources=dict(Counter(filter(None, head["source"].to_pylist()[:FIRST_ROWS]))),
    )


def _fraction(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True)
class TopMean:
    """The best k that passed, or the `used` < k there are. None: unknown, of one of these rows or of the base.

    mean_tc_k, delta_tc_k: mean T_c by the search, and what that is above the base's by the same predictor.
    mean_tc_oracle_k, delta_tc_oracle_k: both by the oracle. gap_k: mean_tc_k − mean_tc_oracle_k. mean_trusted_tc_k: of
    the lower bounds. All in K. flagged_fraction: extrapolated among them. chemical_systems: how many different sets of
    elements. median_nearest_distance: L1 distance in fractions to the nearest known one. known: how many are known.
    """

    k: int
    used: int
    mean_tc_k: float | None
    delta_tc_k: float | None = None
    mean_tc_oracle_k: float | None = None
    delta_tc_oracle_k: float | None = None
    gap_k: float | None = None
    mean_trusted_tc_k: float | None = None
    flagged_fraction: float | None = None
    chemical_systems: int | None = None
    median_nearest_distance: float | None = None
    known: int | None = None


def top_mean(best: Any, k: int, base: BaseMaterial | None) -> TopMean:
    """The means of the first k rows of a table of the best. What isn't known of every one of them is None."""
    head = best.slice(0, k)
    if not len(head):
        return TopMean(k, 0, None)
    tc_k, oracle_k, trusted_k, score, distance = (head[name].to_numpy() for name in _BEST)
    mean_k, mean_oracle_k = tc_k.mean(), oracle_k.mean()  # NaN where one of them is
    base_k, base_oracle_k = (None, None) if base is None else (base.tc_predicted_k, base.tc_oracle_k)
    told = {
        "mean_tc_k": mean_k,
        "delta_tc_k": np.nan if base_k is None else mean_k - base_k,
        "mean_tc_oracle_k": mean_oracle_k,
        "delta_tc_oracle_k": np.nan if base_oracle_k is None else mean_oracle_k - base_oracle_k,
        "gap_k": mean_k - mean_oracle_k,
        "mean_trusted_tc_k": trusted_k.mean(),
        "flagged_fraction": np.where(np.isnan(score), np.nan, score > EXTRAPOLATED).mean(),
        "median_nearest_distance": np.median(distance),
    }
    return TopMean(
        k=k,
        used=len(head),
        **{name: None if np.isnan(value) else float(value) for name, value in told.items()},
        chemical_systems=len({frozenset(parse(formula)) for formula in head["formula"].to_pylist()}),
        known=None if np.isnan(distance).any() else len(head) - head["known"].null_count,
    )
