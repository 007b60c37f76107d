"""Readers of public tables of compounds, one row a composition, which of them a file is, and the shipped tables made
of them (`kiago data pack`).

- OQMD and the Materials Project: formation energies, comma-separated with a header.
- A file of competing phases: any table of formulas, such as the Materials Project, Alexandria and OQMD export, comma-
  or tab-separated, any source mixed.
- The Crystallography Open Database's search export (`result?format=csv`). The columns are those of COD's MySQL table:
  `file` (the COD number), cell parameters, `sg`, …, `formula`, `calcformula`, …, `status`, …; quoted where needed
  (titles hold commas and line ends), null as an empty field. `formula` is Hill-ordered between dashes: `- C2 H6 O -`;
  `?` or nothing where the authors gave none.

All may be gzipped; energies are in eV/atom against the elements. Of several entries of one composition the lowest in
energy is its ground state, and the others are polymorphs: the lowest is kept.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kiago_ray.chemistry.elements import ELEMNET_SYMBOLS, SYMBOLS, Floats
from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.data.compositions import canonical, composition_key, composition_keys, merged
from kiago_ray.data.files import (
    Contents,
    DataError,
    LoadReport,
    PathLike,
    fail,
    finite,
    leave_out,
    read_amounts,
    read_columns,
    read_lines,
    read_number,
    usable_rows,
)
from kiago_ray.data.supercon import HEADER_LINE, is_header, load_supercon
from kiago_ray.data.supercon import KIND as SUPERCON_KIND
from kiago_ray.data.tables import (
    EF_SHA256,
    ELEMENT_COUNTS,
    MADE,
    PHASES,
    SUPERCONDUCTORS,
    TRIED,
    ElementCounts,
    SourceCounts,
)

COD_KIND, OQMD_KIND, MATERIALS_PROJECT_KIND, PHASES_KIND = "cod", "oqmd", "materials_project", "phases"
COD_COLUMNS = ("file", "formula", "calcformula")
OQMD_COLUMNS = ("formula", "formation_energy_ev_per_atom")
MATERIALS_PROJECT_COLUMNS = (*OQMD_COLUMNS, "decomposition_energy_ev_per_atom")
ENERGY_COLUMNS = ("ef_ev_per_atom", "decomposition_ev_per_atom")

# Nothing binds more strongly than the fluorides and oxides of thorium and the lanthanides (-4.6); the most
# unfavourable alloys reach +4. OQMD's next value is +6.6 and its last +43: calculations that did not converge.
MIN_EF_EV_PER_ATOM, MAX_EF_EV_PER_ATOM = -5.0, 5.0

MAX_BYTES = 1 << 30  # of a file of phases on the disk
MAX_PHASES = 1_000_000  # compounds read; all of OQMD's fit
AN_ELEMENT = "an element, at 0 eV/atom by definition"
FOREIGN = "an element that the predictor doesn't know"

# As the exports name them, without case, units in brackets and signs; the first that is there counts. `name` is
# OQMD's, whose `composition` comes before.
FORMULA_NAMES = (
    *("formula", "formula_pretty", "pretty_formula", "reduced_formula"),
    *("composition", "full_formula", "name"),
)
ENERGY_NAMES = (
    *("ef_ev_per_atom", "formation_energy_ev_per_atom", "formation_energy_per_atom"),
    *("formation_energy_peratom", "e_form", "delta_e", "formation_energy"),
)


def load_oqmd(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """OQMD for training ElemNet, sorted by formula: compositions of ElemNet's 86 elements only.

    Columns: `formula` (canonical), `ef_ev_per_atom` (the lowest), `n_merged`, `chemical_system`. Raises DataError.
    """
    contents = read_columns(path, OQMD_COLUMNS)
    return _energies(contents, OQMD_KIND, 1, ELEMNET_SYMBOLS, "outside ElemNet's 86 elements")


def load_materials_project(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """The Materials Project's ground states, sorted by formula.

    Columns: `formula` (canonical), `ef_ev_per_atom` (the lowest) and the `decomposition_ev_per_atom` of that
    entry (≤ 0: stable, by how much; > 0: the distance above the hull of the others), `n_merged`,
    `chemical_system`. Raises DataError.
    """
    return _energies(read_columns(path, MATERIALS_PROJECT_COLUMNS), MATERIALS_PROJECT_KIND, 2)


def load_phases(
    path: PathLike, *, energies: bool, elements: Collection[str] | None = None
) -> tuple[pd.DataFrame, LoadReport]:
    """The compounds of a file of phases, sorted by formula. Elements are left out, because a hull has them at 0
    eV/atom by definition.

    Columns: `formula` (canonical), `n_merged` and, with `energies`, `ef_ev_per_atom`, the lowest of the file's own.
    elements: compounds of others are dropped. Raises DataError, also where no compound is left.
    """
    path = Path(path)
    columns, tabs = _phase_columns(path, energies)
    contents = read_columns(path, columns, tabs=tabs)
    if len(contents.rows) > MAX_PHASES:
        fail(path, None, f"more than {MAX_PHASES:,} compounds", "leave out those that don't matter")
    table, report = _energies(contents, PHASES_KIND, int(energies), elements, FOREIGN, compounds=True)
    if table.empty:
        why = ", ".join(f"{count:,} {reason}" for reason, count in report.dropped.items())
        fail(path, None, f"no compound is left of {report.rows_read:,} rows ({why})", "check the file")
    return table.drop(columns="chemical_system"), report


def _energies(
    contents: Contents,
    kind: str,
    count: int,
    elements: Collection[str] | None = None,
    foreign: str = "",
    compounds: bool = False,
) -> tuple[pd.DataFrame, LoadReport]:
    """One row a composition with the first `count` of ENERGY_COLUMNS, and what was dropped: rows of others than
    `elements` for the reason `foreign` and, of `compounds`, elements alone.
    """

    def read(formula: str, *texts: str) -> tuple[dict[str, float], *tuple[float, ...]]:
        amounts = read_amounts(formula)
        leave_out(compounds and len(amounts) == 1, AN_ELEMENT, formula)
        leave_out(not all(texts), "missing energy", formula)
        values = [read_number(text, "energy not a number", ", ".join(texts)) for text in texts]
        plausible = not values or MIN_EF_EV_PER_ATOM <= values[0] <= MAX_EF_EV_PER_ATOM
        leave_out(not plausible, "implausible formation energy", f"{formula} {''.join(texts[:1])} eV/atom")
        others = [] if elements is None else [symbol for symbol in amounts if symbol not in elements]
        leave_out(bool(others), foreign, f"{formula}: {', '.join(others)}")
        return amounts, *values

    rows, report = usable_rows(contents, kind, read)
    table = merged(rows, ENERGY_COLUMNS[:count])
    return table, report(len(table))


def _phase_columns(path: Path, energies: bool) -> tuple[list[str], bool]:
    """The header's own names of the formula and, with `energies`, of the energy; whether tabs part the columns."""
    line = next(iter(read_lines(path)), None)
    if line is None:
        fail(path, None, "the file is empty", "fetch or export it again")
    if os.path.getsize(path) > MAX_BYTES:
        fail(path, None, f"the file is larger than {MAX_BYTES >> 20} MiB", "keep formulas and energies alone")
    tabs = "\t" in line
    header = line.rstrip("\r\n").split("\t") if tabs else next(csv.reader([line]), [])
    plain = {_plain(name): name.strip() for name in reversed(header)}
    names = []
    for what, known in (("formulas", FORMULA_NAMES), ("formation energies", ENERGY_NAMES))[: 1 + energies]:
        name = next((plain[each] for each in known if each in plain), None)
        if name is None:
            problem = f"no column of {what} among {', '.join(map(repr, header))[:200]}"
            fail(path, 1, problem, f"name it {known[0]}, or one of {', '.join(known[1:])}")
        names.append(name)
    return names, tabs


def _plain(name: str) -> str:
    """As in Formation Energy (eV/atom) → formation_energy."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"[(\[].*", "", name.lower())).strip("_")


def load_cod(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """What has been crystallised, one row a composition, sorted by formula.

    Columns: `formula` (canonical), `cod_id` (the first entry's number, text), `n_merged`, `chemical_system`.
    Deuterium counts as hydrogen. Entries without the authors' formula are dropped: `calcformula` is summed
    over the atoms that were located, and often lacks the hydrogen. Raises DataError.
    """

    def read(number: str, formula: str, calculated: str, status: str) -> tuple[dict[str, float], str]:
        # `- D H O -` → `H H O`; `?` → nothing; `read_amounts` knows `D2`.
        text = " ".join("H" if token in ("D", "T") else token for token in formula.strip("-?. ").split())
        leave_out(status == "retracted", "retracted", f"COD {number}")
        leave_out(not text, "missing formula", f"COD {number}, calcformula {calculated}")
        return read_amounts(text), number

    rows, report = usable_rows(read_columns(path, COD_COLUMNS, ("status",)), COD_KIND, read)
    table = merged(rows, ("cod_id",), "str")
    return table, report(len(table))


Loader = Callable[[PathLike], tuple[pd.DataFrame, LoadReport]]
LOADERS: Mapping[str, Loader] = MappingProxyType(
    {
        SUPERCON_KIND: load_supercon,
        OQMD_KIND: load_oqmd,
        MATERIALS_PROJECT_KIND: load_materials_project,
        COD_KIND: load_cod,
    }
)
# The Materials Project before OQMD, whose columns it has too.
_COMMA_SEPARATED: tuple[tuple[str, Sequence[str]], ...] = (
    (COD_KIND, COD_COLUMNS),
    (MATERIALS_PROJECT_KIND, MATERIALS_PROJECT_COLUMNS),
    (OQMD_KIND, OQMD_COLUMNS),
)
UNDERSTOOD = (
    "understood are: SuperCon's primary.tsv (third line: num name element str3 utc tc journal), "
    "OQMD (formula,formation_energy_ev_per_atom), "
    "the Materials Project (the same and decomposition_energy_ev_per_atom), "
    "COD's search export (file,…,formula,calcformula,…)"
)


def detect(path: PathLike) -> str:
    """One of `LOADERS`, from the first three lines. Raises DataError for anything else."""
    lines = list(islice(read_lines(path), HEADER_LINE))
    if not lines:
        fail(path, None, "the file is empty", "fetch it again")
    if is_header(lines):
        return SUPERCON_KIND
    names = {name.strip() for name in next(csv.reader(lines[:1]), [])}
    kind = next((kind for kind, columns in _COMMA_SEPARATED if names.issuperset(columns)), None)
    if kind is None:
        fail(path, 1, f"the header {lines[0].strip()[:60]!r} is not one of a known table", UNDERSTOOD)
    return kind


def load(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """The file's table, one row a composition, and its report, whichever kind it is. Raises DataError."""
    return LOADERS[detect(path)](path)


def non_superconductors(
    known: pd.DataFrame, measured: pd.DataFrame, by: Literal["composition", "chemical_system"] = "composition"
) -> pd.DataFrame:
    """Rows of `known` (Materials Project or COD) that are not among the `measured`, with a `tc_k` of 0 K. They teach a
    model of T_c that most compositions do not superconduct. The label is an assumption: most of them were never
    cooled down, and a few are superconductors that SuperCon lacks.

    `by="chemical_system"` also leaves out every composition of a chemical system that they hold: fewer
    rows, and fewer wrong labels, since neighbours of superconductors are often superconductors. In the order of
    `known`.
    """
    if by == "composition":
        keys = set(composition_keys(measured))
        new = [key not in keys for key in composition_keys(known)]
    else:
        new = (~known["chemical_system"].isin(measured["chemical_system"])).tolist()
    return known.loc[new, ["formula", "chemical_system"]].reset_index(drop=True).assign(tc_k=0.0)


MOST_ELEMENTS = 8  # more are minerals
NEAR = 0.001  # an amount this near to a twentieth of an atom is one
STEPS = 20
_NOBLE_GASES = frozenset(("He", "Ne", "Ar", "Kr", "Xe", "Rn"))
_COLLECTION_COLUMNS = ("formula", "code", "spacegroup", "e_hull_ev_per_atom")
_POLYTYPE = "1T-"  # as Hosono et al.'s survey writes one
_ZSTD_LEVEL = 19  # written once, read often
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
    energies: Callable[[list[str]], Floats],
    ef_sha256: str,
) -> dict[str, int]:
    """Write the four tables of `tables` and the element counts into `folder`, which must exist; the number of rows (of
    elements) by file name.

    supercon: primary.tsv. phases: the Materials Project's ground states. made, made_2007: COD's formulas, and those of
    2007. tried: the survey. energies: gives E_f in eV/atom, (n,), of n formulas, NaN for those that its predictor
    doesn't know; ef_sha256: of the weights of that. Raises DataError.
    """
    superconductors, report = load_supercon(supercon, undetermined_oxygen=True)
    ground_states, others_report = load_materials_project(phases)
    stated = superconductors[superconductors["oxygen"] == "stated"]
    zeros = non_superconductors(ground_states, stated)
    counts = ElementCounts(
        supercon=_source_counts(SUPERCON_SOURCE, stated, report),
        non_superconductors=_source_counts(MATERIALS_PROJECT_SOURCE, zeros, others_report),
    )
    compounds = ground_states[["formula", *ENERGY_COLUMNS]]
    compounds = compounds.assign(ef_predicted_ev_per_atom=energies(compounds["formula"].tolist()))
    packed = {
        SUPERCONDUCTORS: superconductors.drop(columns="chemical_system"),
        PHASES: compounds.astype(dict.fromkeys(compounds.columns[1:], "float32")),
        MADE: merged_made(made, made_2007),
    }
    survey = _survey(tried)
    try:
        for name, table in packed.items():
            about = {EF_SHA256: ef_sha256.encode()} if name == PHASES else {}
            _write(folder / name, table, about)
        survey.to_csv(folder / TRIED, index=False, lineterminator="\n")
        (folder / ELEMENT_COUNTS).write_text(counts.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder}: can't be written ({error.strerror}); choose another folder") from None
    rows = {name: len(table) for name, table in {**packed, TRIED: survey}.items()}
    return {**rows, ELEMENT_COUNTS: len(counts.supercon.counts)}


def merged_made(now: PathLike, in_2007: PathLike) -> pd.DataFrame:
    """The table of `tables.made`, from COD's formulas and from the list of what it held in 2007.

    Of several structures of a composition the lowest in energy stands for it, then the one with the lowest number.
    Raises DataError.
    """
    rows = []
    for line, (text, code, group, energy) in read_columns(now, _COLLECTION_COLUMNS).rows:
        amounts = cleaned(text)
        if amounts is None:
            continue
        if not code.isdigit() or not (group.isdigit() or not group):
            problem = f"code {code!r} and space group {group!r} are no whole numbers"
            fail(now, line, problem, "correct the row")
        value = finite(energy)
        e_hull = float("inf") if value is None else value
        number = int(group) if group else None
        rows.append((composition_key(amounts), canonical(amounts), e_hull, int(code), number))
    found = pd.DataFrame(rows, columns=["key", "formula", "e_hull_ev_per_atom", "code", "spacegroup"])
    found = found.sort_values(["e_hull_ev_per_atom", "code", "formula"]).drop_duplicates("key")
    listed = [amounts for text in read_lines(in_2007) if (amounts := cleaned(text.strip())) is not None]
    names = sorted(
        ((composition_key(each), canonical(each)) for each in listed), key=lambda p: (len(p[1]), p[1])
    )
    then = pd.DataFrame(names, columns=["key", "formula"]).drop_duplicates("key")
    only_then = then[~then["key"].isin(found["key"])]
    table = pd.concat([found, only_then], ignore_index=True).sort_values("formula", ignore_index=True)
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
    return {symbol: _rounded(amount) for symbol, amount in amounts.items()}


def _rounded(amount: float) -> float:
    near = round(amount * STEPS) / STEPS
    return near if near > 0 and abs(amount - near) <= NEAR else amount


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


def _write(path: Path, table: pd.DataFrame, about: dict[bytes, bytes]) -> None:
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    texts = {pa.large_string(): pa.string()}
    fields = [pa.field(each.name, texts.get(each.type, each.type)) for each in arrow.schema]
    arrow = arrow.cast(pa.schema(fields, metadata=about))
    pq.write_table(arrow, path, compression="zstd", compression_level=_ZSTD_LEVEL, write_page_checksum=True)


def _source_counts(source: str, table: pd.DataFrame, report: LoadReport) -> SourceCounts:
    return SourceCounts(
        source=source,
        licence=LICENCE,
        file=report.file,
        sha256=report.sha256,
        compositions=len(table),
        counts=element_counts(table),
    )


def element_counts(table: pd.DataFrame) -> dict[str, int]:
    """How many of a table's compositions hold each element, by its `chemical_system` column; in the order of the
    elements, without those that none holds.
    """
    held = Counter(symbol for system in table["chemical_system"] for symbol in system.split("-"))
    return {symbol: held[symbol] for symbol in SYMBOLS if held[symbol]}
