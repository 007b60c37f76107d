"""Energy above the convex hull of any composition, against the competing phases of its chemical system.

Section 3.4 of the paper, after pymatgen's phase diagrams: elements are at 0 eV/atom, and of the phases only those
count that hold no element that the composition lacks. The hull's energy at a composition x is that of the lowest
mixture of phases: the least Σ w_i E_i over w ≥ 0 with Σ w_i c_i = x, w_i being the share of the atoms that phase i
takes and c_i its atomic fractions. The basis of that linear program's optimum are the phases that x decomposes into;
unlike a hull by facets (qhull) it costs milliseconds in any number of elements.

The phases are those of the package or of a file, with an energy each that ElemNet predicts or that is their source's
own. What takes long to read or to predict is kept in the user's cache, under the SHA-256 of the file and of ElemNet's
weights and the version that read it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter
from scipy.optimize import linprog
from scipy.sparse import block_diag, csr_matrix

from kiago_ray import __version__
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS, Floats, Ints, Mask
from kiago_ray.chemistry.formula import FormulaError, fractions, parse, sparse_fractions
from kiago_ray.data import tables
from kiago_ray.data.compositions import elements_held
from kiago_ray.data.files import AN_ELEMENT, FOREIGN, LoadReport, PathLike, sha256
from kiago_ray.predictors.base import Predictor, predict
from kiago_ray.predictors.weights import load_card, load_ef
from kiago_ray.screening.candidates import rank_rows
from kiago_ray.search.sections import ScreensSpec

SAME = 1e-6  # in each atomic fraction; compositions nearer than this are one
TOLERANCE = 1e-10  # of the linear program; the least that HiGHS takes
LEAST_SHARE = 1e-9  # of the atoms
MAX_FORMULAS = 1000  # of a search's best rows, milliseconds each; whoever reads further has `kiago hull`
TOLD_FORMULAS = 200  # of them where no screen asks for it
ON_THE_HULL_EV_PER_ATOM = 1e-6  # nearer than this is on it: single precision predicts no finer

DENSE_AT_ONCE = 16_384  # phases whose fractions are dense at a time
CACHE_VARIABLE = "KIAGO_CACHE"
MIXED_AT_ONCE = 8_000  # phases of one linear program, or one composition's
MAX_KEPT = 32  # files of the cache; the oldest give way


@dataclass(frozen=True)
class Phases:
    """p compounds, one a composition. formulas: p texts. fractions: (p, 118) atomic fractions, sparse by rows.
    ef_ev_per_atom: (p,). report: what became of the file's rows.
    """

    formulas: tuple[str, ...]
    fractions: csr_matrix
    ef_ev_per_atom: Floats
    report: LoadReport


def load_phases(path: PathLike | None, ef: Predictor | None = None, ef_sha256: str = "") -> Phases:
    """The compounds of a file, or for None of the package's own table, with the energies that `ef` predicts, whose
    weights have this SHA-256, or without it the file's own. What takes long is cached; the table has the energies by
    the shipped ElemNet. Raises DataError for a file that can't be used (see data.sources).
    """
    if path is None:
        digest = tables.sha256_of(tables.PHASES)
        if ef is None:
            return _shipped(digest, "ef_ev_per_atom")
        if ef_sha256 == tables.phases_ef_sha256():
            return _shipped(digest, "ef_predicted_ev_per_atom")
        return _cached(digest, ef_sha256, lambda: _shipped(digest, ef))
    phases = _cached(sha256(path), ef_sha256 if ef else "file", lambda: _of_file(path, ef))
    return replace(phases, report=replace(phases.report, file=Path(path).name))


def _of_file(path: PathLike, ef: Predictor | None) -> Phases:
    from kiago_ray.data import sources  # which a search beside the shipped phases doesn't need

    known = None if ef is None else [SYMBOLS[z] for z in np.flatnonzero(_elements(ef))]
    table, report = sources.load_phases(path, energies=ef is None, elements=known)
    formulas = tuple(table["formula"].tolist())
    energies = table["ef_ev_per_atom"].to_numpy() if ef is None else predicted_energies(ef, formulas)
    return Phases(formulas, sparse_fractions(formulas), energies, report)


def _shipped(digest: str, energies: str | Predictor) -> Phases:
    """The table's compounds with the energies of one of its columns or by a predictor, those that have one."""
    table = tables.phases()
    fractions = sparse_fractions(table["formula"].tolist())
    compound = np.diff(fractions.indptr) > 1
    if isinstance(energies, str):
        ef_ev_per_atom = table[energies].to_numpy(np.float64)
    else:
        ef_ev_per_atom = predicted_energies(energies, table["formula"].tolist())
    kept = compound & ~np.isnan(ef_ev_per_atom)
    dropped = {AN_ELEMENT: len(table) - compound.sum(), FOREIGN: (compound & ~kept).sum()}
    report = LoadReport(
        kind="phases",
        file="the Materials Project's ground states, as shipped",
        sha256=digest,
        rows_read=len(table),
        dropped={reason: int(count) for reason, count in dropped.items() if count},
        examples={},
        duplicates_merged=0,
        rows_kept=int(kept.sum()),
    )
    return Phases(tuple(table["formula"][kept].tolist()), fractions[kept], ef_ev_per_atom[kept], report)


def predicted_energies(ef: Predictor, formulas: Sequence[str]) -> Floats:
    """E_f in eV/atom of canonical formulas, (n,); NaN where `ef` doesn't know an element."""
    fractions = sparse_fractions(formulas)
    known = np.flatnonzero(fractions @ (~_elements(ef)).astype(np.float64) == 0)
    energies = np.full(len(formulas), np.nan)
    for at in range(0, len(known), DENSE_AT_ONCE):
        rows = known[at : at + DENSE_AT_ONCE]
        energies[rows] = predict(ef, fractions[rows].toarray().astype(np.float32))
    return energies


def _elements(ef: Predictor) -> Mask:
    """(118,): the elements that the predictor knows."""
    return np.asarray(ef.supported.cpu().numpy(), dtype=np.bool_)


def _cached(file_sha256: str, energies: str, read: Callable[[], Phases]) -> Phases:
    """Phases of a file with these energies: from a Parquet file with checksums in KIAGO_CACHE or the user's cache, or
    read and put there, whole or not at all. A file that is damaged, or that can't be written, only costs time.
    """
    own = os.environ.get(CACHE_VARIABLE)
    folder = Path(own).expanduser() if own else platformdirs.user_cache_path("kiago-ray", appauthor=False)
    name = hashlib.sha256(f"{__version__} {file_sha256} {energies}".encode()).hexdigest()[:32]
    path = folder / "hull" / f"{name}.parquet"
    reports = TypeAdapter(LoadReport)
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        formulas = tuple(table["formula"].to_pylist())
        report = reports.validate_json(table.schema.metadata[b"report"])
        return Phases(formulas, sparse_fractions(formulas), table["ef_ev_per_atom"].to_numpy(), report)
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        phases = read()
    table = pa.table({"formula": phases.formulas, "ef_ev_per_atom": phases.ef_ev_per_atom})
    table = table.replace_schema_metadata({b"report": reports.dump_json(phases.report)})
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as draft:
            pq.write_table(table, Path(draft) / "phases", compression="zstd", write_page_checksum=True)
            os.replace(Path(draft) / "phases", path)
        for old in sorted(path.parent.glob("*.parquet"), key=os.path.getmtime)[:-MAX_KEPT]:
            old.unlink()
    return phases


Mixing = tuple[Floats, Floats, Floats]
"""A composition (k,), the phases that it may be mixed of (p, k) and their energies in eV/atom (p,)."""


@dataclass(frozen=True)
class HullPlace:
    """Where a composition of energy E_f lies. Energies in eV/atom.

    e_hull_ev_per_atom: above the hull of all phases and itself, ≥ 0; 0 is stable. e_decomposition_ev_per_atom: above
    the hull of the others, negative where it lies below: the Materials Project's decomposition energy. decomposition:
    the others that it would fall apart into, formula and share of the atoms, the largest first. n_phases: others that
    compete, elements included. is_phase: whether one of the phases has its composition.
    """

    e_hull_ev_per_atom: float
    e_decomposition_ev_per_atom: float
    decomposition: tuple[tuple[str, float], ...]
    n_phases: int
    is_phase: bool

    @property
    def decomposition_text(self) -> str:
        """Such as 0.75 MgO + 0.25 Cu: shares of the atoms."""
        return " + ".join(f"{share:.4g} {formula}" for formula, share in self.decomposition)


@dataclass(frozen=True)
class EnergyHull:
    """The hull of some phases. ef: the predictor of the phases' energies, None where they are the file's own."""

    phases: Phases
    ef: Predictor | None = None

    @cached_property
    def _held(self) -> Mask:
        return elements_held(self.phases.fractions)

    @classmethod
    def of(
        cls,
        path: PathLike | None = None,
        *,
        energies: Literal["elemnet", "file"] = "elemnet",
        weights: Path | None = None,
    ) -> EnergyHull:
        """The hull of a file's phases, by default the shipped ones, by ElemNet's energies or by the file's own.
        weights: of ElemNet, a folder that `kiago train` wrote, else the shipped ones. Raises DataError for a file and
        WeightsError for weights that can't be used.
        """
        if energies == "file":
            return cls(load_phases(path))
        ef = load_ef(weights)
        return cls(load_phases(path, ef, load_card("ef", weights)["sha256"]), ef)

    @property
    def supported(self) -> Mask:
        """(118,): elements whose compounds have an energy here."""
        return np.ones(N_ELEMENTS, dtype=np.bool_) if self.ef is None else _elements(self.ef)

    def energies(self, fractions: Floats) -> Floats:
        """E_f in eV/atom of atomic fractions (n, 118), (n,): its phase's, 0 of an element, else predicted or NaN."""
        unknown = np.full(len(fractions), np.nan)
        values = unknown if self.ef is None else predict(self.ef, fractions.astype(np.float32))
        for row, x in enumerate(fractions):
            _, same = self._in_system(x)
            if np.count_nonzero(x) == 1:
                values[row] = 0.0
            elif len(same):
                values[row] = self.phases.ef_ev_per_atom[same].min()
        return values

    def e_hull(self, fractions: Floats, ef_ev_per_atom: Floats) -> Floats:
        """ΔE_hull ≥ 0 in eV/atom, (n,), of atomic fractions (n, 118) with formation energies (n,); NaN for NaN. Raises
        ValueError for elements that aren't `supported`.
        """
        return np.array([each.e_hull_ev_per_atom for each in self.places(fractions, ef_ev_per_atom)])

    def places(self, fractions: Floats, ef_ev_per_atom: Floats) -> list[HullPlace]:
        """All that `e_hull` finds, of each composition."""
        fractions = np.asarray(fractions, dtype=np.float64)
        unknown = np.flatnonzero((fractions > 0).any(axis=0) & ~self.supported)
        if len(unknown):
            raise ValueError(f"the predictor doesn't know {', '.join(SYMBOLS[z] for z in unknown)}")
        rows = [x / x.sum() for x in fractions]
        inside = [self._in_system(x) for x in rows]
        mixtures: list[tuple[float, Floats]] = []
        batch, phases = list[Mixing](), 0
        for x, (others, _) in zip(rows, inside, strict=True):
            if phases + len(others) > MIXED_AT_ONCE:
                mixtures += lowest_mixtures(batch)
                batch, phases = [], 0
            elements = np.flatnonzero(x)  # at 0 eV/atom
            mixed = [self.phases.fractions[others][:, elements].toarray(), np.eye(len(elements))]
            energies = np.concatenate([self.phases.ef_ev_per_atom[others], np.zeros(len(elements))])
            batch.append((x[elements], np.concatenate(mixed), energies))
            phases += len(others)
        mixtures += lowest_mixtures(batch)
        return list(map(self._place, rows, ef_ev_per_atom.tolist(), inside, mixtures))

    def _place(
        self, x: Floats, ef: float, inside: tuple[Ints, Ints], mixture: tuple[float, Floats]
    ) -> HullPlace:
        (others, same), (hull, shares) = inside, mixture
        names = [*(self.phases.formulas[at] for at in others), *(SYMBOLS[z] for z in np.flatnonzero(x))]
        above = float(ef - min([hull, *self.phases.ef_ev_per_atom[same].tolist()]))
        parts = [(names[at], float(shares[at])) for at in np.flatnonzero(shares)]
        return HullPlace(
            e_hull_ev_per_atom=0.0 if above < ON_THE_HULL_EV_PER_ATOM else above,
            e_decomposition_ev_per_atom=float(ef - hull),
            decomposition=tuple(sorted(parts, key=lambda part: (-round(part[1], 9), part[0]))),
            n_phases=len(names),
            is_phase=bool(len(same)),
        )

    def _in_system(self, x: Floats) -> tuple[Ints, Ints]:
        """Indices of the phases within the chemical system of x, without and with its own composition."""
        elements = np.flatnonzero(x)
        of_system = self._held[elements].sum(axis=0, dtype=np.uint8)
        inside = np.flatnonzero(of_system == np.diff(self.phases.fractions.indptr))
        nearby = self.phases.fractions[inside][:, elements].toarray() - x[elements]
        same = np.abs(nearby).max(axis=1, initial=0.0) <= SAME
        return inside[~same], inside[same]


def lowest_mixtures(problems: Sequence[Mixing]) -> list[tuple[float, Floats]]:
    """For each problem the energy (eV/atom) of the lowest mixture and every phase's share of the atoms, (p,).

    A problem is a composition, (k,) atomic fractions; the phases that may be mixed to it, (p, k); and their energies,
    (p,). All are solved as one linear program of blocks, since a call costs more than a composition. Raises ValueError
    where phases can't be mixed to a composition; with the k elements among them they always can.
    """
    if not problems:
        return []
    compositions, phases, energies = zip(*problems, strict=True)
    found = linprog(
        np.concatenate(energies),
        A_eq=block_diag([each.T for each in phases], format="csc"),
        b_eq=np.concatenate(compositions),
        method="highs",
        options={"primal_feasibility_tolerance": TOLERANCE, "dual_feasibility_tolerance": TOLERANCE},
    )
    if found.x is None:
        raise ValueError(f"phases can't be mixed to one of {len(problems)} compositions: {found.message}")
    ends = np.cumsum([len(each) for each in energies])[:-1]
    shares = np.split(np.where(found.x > LEAST_SHARE, found.x, 0.0), ends)
    return [(float(each @ energy), each) for each, energy in zip(shares, energies, strict=True)]


def judge(
    hull: EnergyHull, formulas: Sequence[object], ef_ev_per_atom: Floats | None = None
) -> tuple[Floats, list[HullPlace | None], list[str | None]]:
    """Of n formulas E_f (n,) in eV/atom, where each lies, and why one that can't be read, holds an unknown element or
    has no energy has no place; NaN and None otherwise. ef_ev_per_atom: (n,) energies that are known; where one is NaN,
    the hull's own counts (see `EnergyHull.energies`).
    """
    n = len(formulas)
    energies, rows, good = np.full(n, np.nan), np.zeros((n, N_ELEMENTS)), np.zeros(n, dtype=np.bool_)
    places: list[HullPlace | None] = [None] * n
    errors: list[str | None] = [None] * n
    for row, text in enumerate(formulas):
        try:
            amounts = parse(text if isinstance(text, str) else "")
            unknown = [symbol for symbol in amounts if not hull.supported[INDEX[symbol]]]
            if unknown:
                raise FormulaError("unknown element", f"the predictor doesn't know {', '.join(unknown)}")
            rows[row], good[row] = fractions(amounts), True
        except FormulaError as error:
            errors[row] = str(error)
    if ef_ev_per_atom is not None:
        energies[good] = ef_ev_per_atom[good]
    asked = good & np.isnan(energies)
    energies[asked] = hull.energies(rows[asked])
    for row in np.flatnonzero(good & np.isnan(energies)).tolist():
        errors[row] = "not among the phases, so the file has no energy of it; give one as ef_ev_per_atom"
    placed = np.flatnonzero(~np.isnan(energies))
    for row, place in zip(placed.tolist(), hull.places(rows[placed], energies[placed]), strict=True):
        places[row] = place
    return energies, places, errors


def with_e_hull(
    rows: Any,
    amounts: Floats,
    hull: EnergyHull,
    *,
    ranking: ScreensSpec | None = None,
    most: int = MAX_FORMULAS,
) -> Any:
    """A table of candidates (n rows) with `e_hull_ev_per_atom` for the best `most` different formulas that passed the
    screens which don't ask for it, and null for others. amounts: (n, 118) of their formulas.
    """
    places, _ = rank_rows(rows, np.zeros(len(rows), dtype=np.int64), ranking)
    best = places[rows["passed"].to_numpy()[places]][:most]
    x = np.asarray(amounts[best], dtype=np.float64)
    found = hull.e_hull(x / x.sum(axis=1, keepdims=True), rows["ef_ev_per_atom"].to_numpy()[best])
    formulas = rows["formula"]
    by_formula = dict(zip(formulas.take(pa.array(best)).to_pylist(), found.tolist(), strict=True))
    values = [by_formula.get(text) for text in formulas.to_pylist()]
    return rows.append_column("e_hull_ev_per_atom", [pa.array(values, pa.float64())])
