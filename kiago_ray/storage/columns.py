"""The one table of columns: every name, type, unit and meaning that a table of candidates has.

Names carry their unit. Each Arrow field carries `description` and `unit` in its metadata, and so does the
Parquet file. A value that a row doesn't have is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """One column. unit: "" for pure numbers, texts and yes or no. later: tables that older versions wrote lack it, and
    read as if it were null.
    """

    name: str
    type: Any
    description: str
    unit: str = ""
    later: bool = False

    @property
    def field(self) -> Any:
        """The Arrow field, with description and unit in its metadata."""
        metadata = {"description": self.description, "unit": self.unit}
        return pa.field(self.name, self.type, metadata=metadata)


_TEXT, _NUMBER, _YES_NO = pa.string(), pa.float64(), pa.bool_()

COLUMNS: tuple[Column, ...] = (
    Column(
        "rank",
        pa.int32(),
        "Place among unique formulas, from 1: those that passed and are neither known nor tried, then others that "
        "passed (of these undoped cuprates last, but not by trusted_tc_k or tc_k), then the rest; each as the "
        "search's screens.rank_by asks: by plausibility and expected_improvement_k (the best gain first, few of one "
        "chemical system among the first), by trusted_tc_k, by tc_k, or by plausibility.",
    ),
    Column("formula", _TEXT, "The proposed composition, least electronegative element first."),
    Column("base", _TEXT, "Formula of the base material that the search started from."),
    Column(
        "source",
        _TEXT,
        "Where a proposal of a search that keeps its base's sites came from: family (optimised), swap, made or plus "
        "one; null elsewhere.",
        later=True,
    ),
    Column("search", _TEXT, "Search of a campaign that proposed it; null where a search ran alone."),
    Column(
        "plausibility",
        _NUMBER,
        "Probability that it is made and reported in the next years, by its relatives, never by itself.",
        later=True,
    ),
    Column(
        "existence",
        _NUMBER,
        "Probability that such a composition exists, reported or not: the first factor of the plausibility.",
        later=True,
    ),
    Column("plausibility_reason", _TEXT, "What the plausibility rests on, in words.", later=True),
    Column(
        "expected_improvement_k",
        _NUMBER,
        "Expected gain over best_nearby_tc_k: the mean of max(0, T - best) for a normal T about the smaller of tc_k "
        "and tc_oracle_k with tc_std_k; null where there is nothing to compare with.",
        "K",
        later=True,
    ),
    Column(
        "gain",
        _YES_NO,
        "The smaller of tc_k and tc_oracle_k is above best_nearby_tc_k; null where there is nothing to compare with.",
        later=True,
    ),
    Column(
        "new_system",
        _YES_NO,
        "No known superconductor has just these elements; null where there is nothing to compare with.",
        later=True,
    ),
    Column(
        "best_nearby",
        _TEXT,
        "The known composition near the row, or near the base of its search, whose critical temperature is highest at "
        "ambient pressure, single reports weighed down.",
        later=True,
    ),
    Column(
        "best_nearby_tc_k",
        _NUMBER,
        "That critical temperature of best_nearby: of its median and that of the compositions around it, which counts "
        "as one more report.",
        "K",
        later=True,
    ),
    Column(
        "trusted_tc_k",
        _NUMBER,
        "Lower bound that heeds all opinions: the smaller of tc_k and tc_oracle_k, less tc_std_k, at least 0, and 0 "
        "where extrapolated.",
        "K",
        later=True,
    ),
    Column("tc_k", _NUMBER, "Critical temperature predicted for the formula.", "K"),
    Column(
        "tc_std_k",
        _NUMBER,
        "Standard deviation of tc_k, from the ensemble's spread, calibrated on held-out chemical systems.",
        "K",
        later=True,
    ),
    Column(
        "tc_oracle_k",
        _NUMBER,
        "Critical temperature by the oracle: boosted trees on element properties, which the search never sees.",
        "K",
        later=True,
    ),
    Column("tc_oracle_std_k", _NUMBER, "Standard deviation among the oracle's members.", "K", later=True),
    Column(
        "extrapolation",
        _NUMBER,
        "How far the composition lies from what the predictors learnt from; 1 in 20 known superconductors that were "
        "held out score above 1.",
        later=True,
    ),
    Column(
        "extrapolated",
        _YES_NO,
        "The extrapolation score is above 1: the predictions mean nothing there.",
        later=True,
    ),
    Column("tc_relaxed_k", _NUMBER, "Critical temperature predicted before conversion to integers.", "K"),
    Column("delta_tc_k", _NUMBER, "tc_k minus the base material's predicted critical temperature.", "K"),
    Column("ef_ev_per_atom", _NUMBER, "Formation energy predicted for the formula.", "eV/atom"),
    Column(
        "e_hull_ev_per_atom",
        _NUMBER,
        "Energy above the hull of the competing phases that the search was given, by predicted formation energies; "
        "null where there are none, for rows of a search that fail another screen, and beyond its best two hundred, "
        "or thousand where the screen near_hull is asked for; of formulas that are given, beyond the first thousand "
        "of a request.",
        "eV/atom",
        later=True,
    ),
    Column("n_atoms", pa.int32(), "Atoms in the reduced formula; null where amounts are fractional."),
    Column("n_elements", pa.int32(), "Different elements in the formula."),
    Column("neutral", _YES_NO, "Screen: oxidation states exist that add up to 0 (SMACT)."),
    Column("pauling", _YES_NO, "Screen: neutral, with cations less electronegative than anions (SMACT)."),
    Column("ef_negative", _YES_NO, "Screen: predicted formation energy below 0."),
    Column("few_elements", _YES_NO, "Screen: no more elements than the search's screens allow."),
    Column(
        "balanced",
        _YES_NO,
        "Screen: states no less likely than the search's screens allow add up to 0, mixed or not; metals pass.",
        later=True,
    ),
    Column(
        "plausible",
        _YES_NO,
        "Screen: existence no lower than the search's screens allow; null where it wasn't worked out.",
        later=True,
    ),
    Column(
        "neutral_mixed",
        _YES_NO,
        "Screen: as pauling, but an element's atoms may take two states; null where the search doesn't ask for it.",
        later=True,
    ),
    Column(
        "neutral_atoms",
        _YES_NO,
        "Screen: neutral where each atom may have a valence of its own; null where the search doesn't ask for it.",
        later=True,
    ),
    Column(
        "hydride",
        _YES_NO,
        "Screen: at least 40 % hydrogen, two or three elements, at most 15 atoms; null where it isn't asked for.",
        later=True,
    ),
    Column(
        "near_hull",
        _YES_NO,
        "Screen: e_hull_ev_per_atom no higher than the search's screens allow; null where that is null.",
        later=True,
    ),
    Column("passed", _YES_NO, "All screens that the search requires, or those of `default` without one."),
    Column(
        "pareto",
        _YES_NO,
        "On the Pareto front of the unique formulas that passed: none of them has a trusted_tc_k as high, an "
        "ef_ev_per_atom as low and an extrapolation as low, and one of these better.",
        later=True,
    ),
    Column(
        "alloy", _YES_NO, "Metals only, or one element: neutral and pauling accept it unseen and say little."
    ),
    Column(
        "oxidation_states",
        _TEXT,
        "The likeliest states that add up to 0, such as La+3 Ni+2 As-3 O-2, or Cu+2*0.85 Cu+3*0.15 where 0.85 atoms "
        "take the one and 0.15 the other; metallic where a metal or intermetallic has none; of a hydride those that "
        "neutral_atoms rests on.",
    ),
    Column(
        "charge_kind",
        _TEXT,
        "ionic, or metallic: a metal, intermetallic or hydride whose charges needn't balance.",
        later=True,
    ),
    Column(
        "charge_nats_per_atom",
        _NUMBER,
        "How unlikely the likeliest states that add up to 0 are: −ln of their likelihood, a mean over atoms; null "
        "where none do.",
        later=True,
    ),
    Column(
        "mean_valences",
        _TEXT,
        "Mean valence of each transition metal by oxidation_states, such as Cu+2.15.",
        later=True,
    ),
    Column(
        "holes_per_cu",
        _NUMBER,
        "Of a cuprate the mean valence of Cu less 2: holes above 0, electrons below.",
        later=True,
    ),
    Column(
        "undoped",
        _YES_NO,
        "A cuprate that is undoped as written, every Cu at +2 (or 123 with its chains empty): an insulator unless "
        "excess oxygen or a dopant comes in; null where it is no cuprate.",
        later=True,
    ),
    Column(
        "known",
        _TEXT,
        "The composition with measured critical temperature that this one is the same as, to 1 % of the atoms; Oz: "
        "its amount of oxygen was not measured. Null where there is none, or none were given to compare with.",
        later=True,
    ),
    Column(
        "made",
        _TEXT,
        "The compound that exists and is the same, to 1 % of the atoms: its number and space group in the "
        "Crystallography Open Database, or the Materials Project where it is stable there.",
        later=True,
    ),
    Column(
        "tried",
        _TEXT,
        "What came of the same composition among those that the search was told were tried: its critical temperature, "
        "or none and the temperature down to which it was measured.",
        later=True,
    ),
    Column(
        "tried_nearby",
        _TEXT,
        "The nearest of what the search was told was tried, what came of it, and how far it is by element mover's "
        "distance; null beyond 1.5 places, and where nothing was told.",
        later=True,
    ),
    Column(
        "tc_given_tried_k",
        _NUMBER,
        "tc_k, corrected by measured less predicted of what was tried nearby; null where the search wasn't told.",
        "K",
        later=True,
    ),
    Column("nearest_known", _TEXT, "The nearest composition whose critical temperature has been measured."),
    Column(
        "nearest_distance",
        _NUMBER,
        "L1 distance in atomic fractions to nearest_known: 0 is the same, 2 has no element in common.",
    ),
    Column("nearest_tc_k", _NUMBER, "Measured critical temperature of nearest_known.", "K"),
    Column(
        "nearest_pressure_gpa",
        _NUMBER,
        "Pressure at which nearest_tc_k was measured; null where the table of known compositions doesn't say.",
        "GPa",
        later=True,
    ),
    Column(
        "nearest_reports",
        pa.int32(),
        "How many measurements nearest_tc_k is the median of.",
        later=True,
    ),
    Column("nearest_reference", _TEXT, "The first report of nearest_known.", later=True),
    Column(
        "nearest_emd_known",
        _TEXT,
        "The nearest known composition by element mover's distance, which counts similar elements as near.",
        later=True,
    ),
    Column(
        "nearest_emd",
        _NUMBER,
        "Element mover's distance to nearest_emd_known: places of the modified Pettifor scale an average atom moves.",
        later=True,
    ),
    Column(
        "nearest_emd_tc_k", _NUMBER, "Measured critical temperature of nearest_emd_known.", "K", later=True
    ),
    Column(
        "nearest_emd_pressure_gpa",
        _NUMBER,
        "As nearest_pressure_gpa, for nearest_emd_tc_k.",
        "GPa",
        later=True,
    ),
    Column("integer_distance", _NUMBER, "L1 distance in atomic fractions from before to after integers."),
    Column("status", _TEXT, "How the row ended: ok, or why it has no formula."),
    Column("recoveries", pa.int32(), "Steps that were taken back because they left no element; mostly 0."),
    Column("seed", pa.int64(), "Seed of the search."),
    Column("row", pa.int64(), "Row of the search, from 0; with seed and base it fixes the start."),
    Column("start_formula", _TEXT, "The row's initial composition, as atomic fractions to four decimals."),
)

COLUMN_NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)

PREDICTED: tuple[str, ...] = (
    "tc_k",
    "tc_std_k",
    "tc_oracle_k",
    "tc_oracle_std_k",
    "extrapolation",
    "ef_ev_per_atom",
    "e_hull_ev_per_atom",
    "plausibility",
    "existence",
    "plausibility_reason",
    "expected_improvement_k",
    "best_nearby",
    "best_nearby_tc_k",
    "oxidation_states",
    "charge_kind",
    "mean_valences",
    "holes_per_cu",
    "undoped",
    "nearest_known",
    "nearest_distance",
    "nearest_tc_k",
    "nearest_reference",
    "known",
    "made",
    "passed",
)
"""The columns that a formula without a search has: of `kiago predict` and POST /v1/predict, in this order."""


def description(name: str) -> str:
    """What a column means, with its unit. Raises StopIteration for a name that is none."""
    column = next(column for column in COLUMNS if column.name == name)
    return column.description + (f" In {column.unit}." if column.unit else "")


def schema() -> Any:
    """The Arrow schema of a table of candidates."""
    return pa.schema([column.field for column in COLUMNS])


def completed(table: Any, names: Sequence[str] = COLUMN_NAMES) -> Any:
    """These columns of a table of candidates, in this order; null where it is of an older version and lacks one."""
    for name in names:
        if name not in table.column_names:
            field = schema().field(name)
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(list(names))


def schema_problem(found: Any) -> str | None:
    """What is wrong with an Arrow schema, in one line that names the column; None where nothing is.

    Columns that came later may be missing (see `completed`).
    """
    types = dict(zip(found.names, found.types, strict=True))
    for column in COLUMNS:
        if column.name not in types:
            if column.later:
                continue
            return f"it has no column {column.name!r}"
        if types[column.name] != column.type:
            return f"its column {column.name!r} holds {types[column.name]}, not {column.type}"
    for name in found.names:
        if name not in COLUMN_NAMES or found.names.count(name) > 1:
            return f"its column {name!r} is not one of a table of candidates"
    return None
