"""The tables that ship, those that a search is held against (shipped ones, a file, none), and how the shipped ones are
made of public files (`kiago data pack`).

Sources and licences stand in SOURCES.md. `landmarks.csv` is our compilation of superconductors of all families: T_c as
it is generally cited, at ambient pressure wherever it superconducts there, with its reference. `element_counts.json`
counts in how many compositions each element is (section 2.3: a search substitutes by these).
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, TypeAdapter

from kiago_ray.chemistry.elements import SYMBOLS
from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.data import LANDMARKS, NONE, SHIPPED, SUPERCON
from kiago_ray.data.compositions import KnownCompositions, canonical, composition_key, compositions
from kiago_ray.data.files import DataError, LoadReport, PathLike, fail, finite, read_columns, read_lines

SUPERCONDUCTORS, PHASES, MADE, TRIED, LANDMARKS_FILE, ELEMENT_COUNTS = (
    *("superconductors.parquet", "phases.parquet", "made.parquet"),
    *("tried.csv", "landmarks.csv", "element_counts.json"),
)
LANDMARKS_SOURCE = "landmark superconductors from the literature"
SHIPPED_SOURCE = "SuperCon v220808 and landmark superconductors, as shipped"
_NULLABLE = {
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.string(): pd.StringDtype(na_value=float("nan")),
}

_USUAL = re.compile(
    r"(?P<name>[^\d(]*[^\d(\s,.])(?P<end>[\s,.]*)"
    r"(?P<volume>[A-Z]?\d[\w-]*)[\s,.]*\(\s*(?P<year>\d{4})\s*\)[\s,.]*(?P<page>\S+)"
)
_CLOSE = re.compile(r"(?<=[.,:])(?=[A-Za-z])")  # a word that ends and the next without a space
_SECTION = re.compile(r"\.?\s+([A-Z])$")  # Phys. Rev. B, Physica C


def superconductors() -> pd.DataFrame:
    """SuperCon's compositions with their measured T_c, those of stated oxygen first, each part sorted by formula.

    Columns: `formula` (canonical), `oxygen`: stated; nominal where SuperCon writes O7-X and O7 is meant; any where it
    gives no amount, and `formula` is of the other elements. `tc_k`: median of `reports` measurements, 0 where none
    found superconductivity; `tc_min_k`, `tc_max_k`; `tc_spread_k`: their interquartile range. `year_first` and
    `journal_first` of the earliest report, `year_highest` and `journal_highest` of the highest T_c; years may be
    missing. `structure`: the name that most reports give, "" for none.
    """
    return _parquet(SUPERCONDUCTORS)


def phases() -> pd.DataFrame:
    """The Materials Project's ground states, sorted by formula.

    Columns: `formula` (canonical), `ef_ev_per_atom` and `decomposition_ev_per_atom` (≤ 0: stable, see
    `sources.load_materials_project`), both float32.
    """
    return _parquet(PHASES)


def made() -> pd.DataFrame:
    """Inorganic compounds of the Crystallography Open Database, sorted by formula. Columns: `formula` (canonical),
    `code` (COD's number) and `spacegroup` (missing where only the list of 2007 has it), `in_2007`: whether COD had it.
    """
    return _parquet(MADE)


def tried() -> pd.DataFrame:
    """What one project made and measured up to 2009, one row a sample: `formula` and `tc_k`, 0 for none found."""
    return pd.read_csv(io.BytesIO(content(TRIED)))


def landmarks() -> pd.DataFrame:
    """One row a composition, sorted by formula. Columns: `formula` (canonical), `tc_k`, `year` (of that T_c),
    `pressure_gpa` (0 where it superconducts at ambient pressure), `family`, `reference`.
    """
    table = pd.read_csv(io.BytesIO(content(LANDMARKS_FILE)))
    formulas, _ = compositions([parse(formula) for formula in table["formula"]])
    table = table.assign(formula=formulas).astype({"pressure_gpa": "float64", "year": "Int64"})
    return table.sort_values("formula", ignore_index=True)


def sha256_of(name: str) -> str:
    """Of a shipped file. Raises DataError where the installation is damaged."""
    return hashlib.sha256(content(name)).hexdigest()


def content(name: str) -> bytes:
    """The bytes of a shipped file. Raises DataError where the installation is damaged."""
    try:
        return (resources.files(__package__) / name).read_bytes()
    except OSError as error:
        raise DataError(f"{name}: can't be read ({error}); reinstall kiago-ray") from error


def _parquet(name: str) -> pd.DataFrame:
    try:
        table = pq.read_table(io.BytesIO(content(name)), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{name}: it is damaged ({str(error)[:100]}); reinstall kiago-ray") from error
    frame: pd.DataFrame = table.to_pandas(types_mapper=_NULLABLE.get)
    return frame


@cache
def made_compounds() -> KnownCompositions:
    """The compounds by what a person looks them up by: "COD 2310018, space group 176", "COD" for those that only its
    list of 2007 has, "Materials Project" for those that are stable there. COD's come first.
    """
    cod, project = made(), phases()
    names = [
        "COD" if code is pd.NA else f"COD {code}" + ("" if group is pd.NA else f", space group {group}")
        for code, group in zip(cod["code"].tolist(), cod["spacegroup"].tolist(), strict=True)
    ]
    stable = project["formula"][project["decomposition_ev_per_atom"] <= 0].tolist()
    names += ["Materials Project"] * len(stable)
    return KnownCompositions.of([*cod["formula"].tolist(), *stable], names=names)


class SourceCounts(BaseModel):
    """Of one source's `compositions`, `counts` hold each element, by symbol; `file` is what was counted."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    source: str
    licence: str
    file: str
    sha256: str
    compositions: int
    counts: Mapping[str, int]


COUNTS = TypeAdapter(dict[str, SourceCounts])


def shipped_element_counts() -> dict[str, SourceCounts]:
    """The counts that `pack` wrote: in SuperCon, and in the compositions that stand for non-superconductors."""
    return COUNTS.validate_json(content(ELEMENT_COUNTS))


@dataclass(frozen=True)
class SourceTable:
    """A table, the SHA-256 of its file, and what it is, for a person.

    Columns: `formula` (canonical) and `tc_k`; of known compositions maybe `oxygen` (as in `superconductors`),
    `pressure_gpa`, `reports`, `year`, `reference` and `structure`; of tried ones maybe `down_to_k`.
    """

    table: pd.DataFrame
    sha256: str
    source: str


def known_table(choice: str | None = None) -> SourceTable | None:
    """The table that `choice` names: a path of SuperCon's primary.tsv or of a CSV file with formula and tc_k, or one
    of `data.WORDS`; by default the shipped SuperCon and the landmarks it lacks. None for "none". Raises DataError.
    """
    if choice == NONE:
        return None
    if choice == LANDMARKS:
        cited = landmarks().assign(reports=1, structure="")
        return SourceTable(cited, sha256_of(LANDMARKS_FILE), LANDMARKS_SOURCE)
    if choice is None or choice == SUPERCON:
        return _shipped()
    from kiago_ray.data import sources  # which few searches need

    if sources.is_supercon(choice):
        table, report = sources.load_supercon(choice, undetermined_oxygen=True)
        if table.empty:
            raise DataError(f"{choice}: it holds no composition that can be read; see `kiago data check`")
        return SourceTable(_cited(table), report.sha256, f"SuperCon ({report.rows_read:,} rows, {choice})")
    table, digest = sources.load_own(choice, ("pressure_gpa", "reports", "year", "reference", "structure"))
    table["reports"] = table["reports"].fillna(1).astype("int64")
    return SourceTable(table.astype({"year": "Int64"}), digest, f"{choice} ({len(table):,} compositions)")


def tried_table(choice: str | None) -> SourceTable | None:
    """The table that `choice` names: the path of a CSV file, one row a sample in the file's order, with the columns
    formula, tc_k, 0 where none was found, and maybe down_to_k, the temperature down to which it was measured; or
    `data.SHIPPED`. None for None and "none": a search heeds nothing unless it is asked to. Raises DataError.
    """
    if choice is None or choice == NONE:
        return None
    if choice == SHIPPED:
        return SourceTable(tried(), sha256_of(TRIED), "a survey of 2009, as shipped")
    from kiago_ray.data.sources import MAX_TC_K, load_own

    return SourceTable(*load_own(choice, ("down_to_k",), MAX_TC_K), choice)


def _shipped() -> SourceTable:
    """SuperCon, the pressures of the landmarks among its compositions, and the landmarks that it lacks."""
    table, cited = _cited(superconductors()), landmarks().assign(reports=1, structure="", oxygen="stated")
    pressures = cited.set_index("formula")["pressure_gpa"]
    table["pressure_gpa"] = table["formula"].map(pressures[pressures > 0])
    missing = cited[~cited["formula"].isin(table["formula"])]
    together = pd.concat([table, missing[table.columns]], ignore_index=True)
    digests = f"{sha256_of(SUPERCONDUCTORS)} {sha256_of(LANDMARKS_FILE)}"
    return SourceTable(together, hashlib.sha256(digests.encode()).hexdigest(), SHIPPED_SOURCE)


def _cited(table: pd.DataFrame) -> pd.DataFrame:
    """Of a table of superconductors, what a search's rows are held against; the reference is the first report's."""
    cited = table[["formula", "tc_k", "oxygen", "reports", "structure"]].copy()
    cited["year"] = table["year_first"].astype("Int64")
    cited["reference"] = table["journal_first"].map(written_reference)
    return cited


def written_reference(journal: str) -> str:
    """A reference as a person cites it: `Phys.Rev.B, 63(2001)104508` is `Phys. Rev. B 63 (2001) 104508`."""
    text = " ".join(journal.split())
    match = _USUAL.fullmatch(text)
    if match is None:
        return text
    name = _CLOSE.sub(" ", match["name"])
    if name.isupper() and len(name) > 3:
        name = name.title()
    section = _SECTION.search(name)
    dot = "." if "." in match["end"] and section is None else ""
    if section is not None:
        head = name[: section.start()]
        name = f"{head}{'.' if '.' in head else ''} {section[1]}"
    return f"{name}{dot} {match['volume']} ({match['year']}) {match['page'].rstrip('.,')}"


MOST_ELEMENTS = 8  # more are minerals
NEAR = 0.001  # an amount this near to a twentieth of an atom is one
STEPS = 20
_NOBLE_GASES = frozenset(("He", "Ne", "Ar", "Kr", "Xe", "Rn"))
_COLLECTION_COLUMNS = ("formula", "code", "spacegroup", "e_hull_ev_per_atom")
_POLYTYPE = "1T-"  # as Hosono et al.'s survey writes one
SUPERCON_SOURCE = "SuperCon, NIMS Materials Data Repository"
MATERIALS_PROJECT_SOURCE = "Materials Project, ground states whose composition is not in SuperCon"
LICENCE = "CC BY 4.0"  # of both


def pack(
    folder: Path,
    *,
    supercon: PathLike,
    phases: PathLike,
    made: PathLike,
    made_2007: PathLike,
    tried: PathLike,
) -> dict[str, int]:
    """Write the four tables and the element counts into `folder`, which must exist; rows (or elements) by file name.

    supercon: primary.tsv. phases: the Materials Project's ground states. made, made_2007: COD's formulas, and those of
    2007. tried: the survey. Raises DataError.
    """
    from kiago_ray.data import sources

    measured, report = sources.load_supercon(supercon, undetermined_oxygen=True)
    ground_states, others_report = sources.load_materials_project(phases)
    stated = measured[measured["oxygen"] == "stated"]
    zeros = sources.non_superconductors(ground_states, stated)
    counts = {
        "supercon": _source_counts(SUPERCON_SOURCE, stated, report),
        "non_superconductors": _source_counts(MATERIALS_PROJECT_SOURCE, zeros, others_report),
    }
    compounds = ground_states[["formula", *sources.ENERGY_COLUMNS]]
    packed = {
        SUPERCONDUCTORS: measured.drop(columns="chemical_system"),
        PHASES: compounds.astype(dict.fromkeys(compounds.columns[1:], "float32")),
        MADE: merged_made(made, made_2007),
    }
    survey, short = _survey(tried), {pa.large_string(): pa.string()}
    try:
        with tempfile.TemporaryDirectory(dir=folder) as draft:
            for name, table in packed.items():
                arrow = pa.Table.from_pandas(table, preserve_index=False)
                fields = [pa.field(each.name, short.get(each.type, each.type)) for each in arrow.schema]
                arrow = arrow.cast(pa.schema(fields))
                path = Path(draft) / name  # written once, read often
                pq.write_table(
                    arrow, path, compression="zstd", compression_level=19, write_page_checksum=True
                )
            survey.to_csv(Path(draft) / TRIED, index=False, lineterminator="\n")
            (Path(draft) / ELEMENT_COUNTS).write_bytes(COUNTS.dump_json(counts, indent=1) + b"\n")
            for path in sorted(Path(draft).iterdir()):
                os.replace(path, folder / path.name)
    except OSError as error:
        raise DataError(f"{folder}: can't be written ({error.strerror}); choose another folder") from None
    rows = {name: len(table) for name, table in {**packed, TRIED: survey}.items()}
    return {**rows, ELEMENT_COUNTS: len(counts["supercon"].counts)}


def merged_made(now: PathLike, in_2007: PathLike) -> pd.DataFrame:
    """The table `made`, from COD's formulas and the list of what it held in 2007. Of several structures of a
    composition the lowest in energy stands for it, then the one with the lowest number. Raises DataError.
    """
    rows = []
    for line, (text, code, group, energy) in read_columns(now, _COLLECTION_COLUMNS).rows:
        amounts = cleaned(text)
        if amounts is None:
            continue
        if not code.isdigit() or not (group.isdigit() or not group):
            problem = f"code {code!r} and space group {group!r} are no whole numbers"
            fail(now, line, problem, "correct the row")
        e_hull, number = finite(energy), int(group) if group else None
        rows.append((composition_key(amounts), canonical(amounts), e_hull, int(code), number))
    found = pd.DataFrame(rows, columns=["key", "formula", "e_hull", "code", "spacegroup"])
    found = found.astype({"e_hull": "float64"})  # unknown ones are NaN, and sort last
    found = found.sort_values(["e_hull", "code", "formula"])
    listed = [amounts for text in read_lines(in_2007) if (amounts := cleaned(text.strip())) is not None]
    names = [(composition_key(each), canonical(each)) for each in listed]
    names.sort(key=lambda each: (len(each[1]), each[1]))
    then = pd.DataFrame(names, columns=["key", "formula"])
    table = pd.concat([found, then]).drop_duplicates("key").sort_values("formula", ignore_index=True)
    table["in_2007"] = table["key"].isin(then["key"])
    types = {"formula": "str", "code": "Int64", "spacegroup": "Int64", "in_2007": "bool"}
    return table[list(types)].astype(types)


def cleaned(text: str) -> dict[str, float] | None:
    """A formula's amounts; None for one that can't be read, a compound of carbon and hydrogen, one of more than eight
    elements and a noble gas alone. Amounts within 0.001 of a twentieth of an atom are that.
    """
    try:
        amounts = parse(text)
    except FormulaError:
        return None
    held = set(amounts)
    if held >= {"C", "H"} or len(held) > MOST_ELEMENTS or held <= _NOBLE_GASES:
        return None
    rounded = [round(amount * STEPS) / STEPS for amount in amounts.values()]
    return {
        symbol: near if near > 0 and abs(amount - near) <= NEAR else amount
        for (symbol, amount), near in zip(amounts.items(), rounded, strict=True)
    }


def _survey(path: PathLike) -> pd.DataFrame:
    """The survey's rows in their order, formulas canonical; those that name no composition are left out."""
    rows: list[tuple[str, float]] = []
    for line, (text, tc) in read_columns(path, ("matter", "Tc")).rows:
        value = finite(tc)
        if value is None or value < 0:
            fail(path, line, f"Tc {tc!r} is no temperature in K", "correct the row")
        try:
            rows.append((canonical(parse(text.removeprefix(_POLYTYPE))), value))
        except FormulaError:
            continue
    return pd.DataFrame(rows, columns=["formula", "tc_k"])


def _source_counts(source: str, table: pd.DataFrame, report: LoadReport) -> SourceCounts:
    what = {"source": source, "licence": LICENCE, "file": report.file, "sha256": report.sha256}
    return SourceCounts(**what, compositions=len(table), counts=element_counts(table))


def element_counts(table: pd.DataFrame) -> dict[str, int]:
    """How many of a table's compositions hold each element, by its `chemical_system`, in the order of the elements."""
    held = Counter(symbol for system in table["chemical_system"] for symbol in system.split("-"))
    return {symbol: held[symbol] for symbol in SYMBOLS if held[symbol]}
