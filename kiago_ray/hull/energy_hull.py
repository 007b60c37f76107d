"""Energy above the convex hull of any composition, against the competing phases of its chemical system.

Section 3.4 of the paper, after pymatgen's phase diagrams: elements are at 0 eV/atom, and of the phases only those
count that hold no element that the composition lacks. The hull's energy at a composition x is that of the lowest
mixture of phases: the least Σ w_i E_i over w ≥ 0 with Σ w_i c_i = x, w_i being the share of the atoms that phase i
takes and c_i its atomic fractions. The basis of that linear program's optimum are the phases that x decomposes into.
Unlike a hull by facets (qhull), whose cost grows steeply with elements, one composition costs milliseconds in any
number of them.

The phases are those of the package or of a file, with an energy each that ElemNet predicts or that is their source's
own. What takes long to read or to predict is kept in the user's cache, bound to the file's SHA-256, that of ElemNet's
weights and the version that read it, so that a change of any is another entry.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

from kiago_ray import __version__
from kiago_ray.chemistry.elements import INDEX, N_ELEMENTS, SYMBOLS, Floats, Ints
from kiago_ray.chemistry.formula import FormulaError, fractions, parse
from kiago_ray.data import sources, tables
from kiago_ray.data.compositions import elements_held, sparse_fractions
from kiago_ray.data.files import LoadReport, PathLike, sha256
from kiago_ray.predictors.base import Predictor, predict
from kiago_ray.predictors.weights import load_card, load_ef
from kiago_ray.screening.candidates import Candidates
from kiago_ray.screening.rank import Ranking, order, unique

SAME = 1e-6  # in each atomic fraction; compositions nearer than this are one
TOLERANCE = 1e-10  # of the linear program; the least that HiGHS takes
LEAST_SHARE = 1e-9  # of the atoms
MAX_FORMULAS = 1000  # of a search's best rows, milliseconds each; whoever reads further has `kiago hull`
TOLD_FORMULAS = 200  # of them where no screen asks for it
ON_THE_HULL_EV_PER_ATOM = 1e-6  # nearer than this is on it: single precision predicts no finer

Energies = Literal["elemnet", "file"]

PREDICTED_AT_ONCE = 16_384  # phases whose fractions are dense at a time
CACHE_VARIABLE = "KIAGO_CACHE"
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


def load_phases(path: PathLike, ef: Predictor | None = None, ef_sha256: str = "") -> Phases:
    """The compounds of a file with ElemNet's energies, from the cache where they were computed before.

    ef: the predictor of the energies, and ef_sha256 that of its weights; without it the file's own energies count.
    Raises DataError for a file that can't be used (see data.sources).
    """
    path = Path(path)

    def read() -> Phases:
        known = None if ef is None else [SYMBOLS[z] for z in np.flatnonzero(_elements(ef))]
        table, report = sources.load_phases(path, energies=ef is None, elements=known)
        formulas = tuple(table["formula"].tolist())
        fractions = sparse_fractions(formulas)
        energies = table["ef_ev_per_atom"].to_numpy() if ef is None else _predicted(ef, fractions)
        return Phases(formulas, fractions, energies, report)

    phases = _cached(sha256(path), "file" if ef is None else ef_sha256, read)
    return replace(phases, report=replace(phases.report, file=path.name))


def shipped_phases(ef: Predictor | None = None, ef_sha256: str = "") -> Phases:
    """The compounds of the package's own table, as `load_phases` has them of a file.

    The energies that the shipped ElemNet predicts are in the table; those of other weights are computed, and kept.
    """
    digest = tables.sha256_of(tables.PHASES)

    def read(column: str | None) -> Phases:
        table = tables.phases()
        fractions = sparse_fractions(table["formula"].tolist())
        compound = np.diff(fractions.indptr) > 1
        known = compound if ef is None else compound & _supported(ef, fractions)
        dropped = {
            sources.AN_ELEMENT: int((~compound).sum()),
            sources.FOREIGN: int((compound & ~known).sum()),
        }
        table, fractions = table[known], fractions[known]
        report = LoadReport(
            kind=sources.PHASES_KIND,
            file="the Materials Project's ground states, as shipped",
            sha256=digest,
            rows_read=len(known),
            dropped={reason: count for reason, count in dropped.items() if count},
            examples={},
            duplicates_merged=0,
            rows_kept=len(table),
        )
        if column is None:
            assert ef is not None
            energies = _predicted(ef, fractions)
        else:
            energies = table[column].to_numpy(dtype=np.float64)
        return Phases(tuple(table["formula"].tolist()), fractions, energies, report)

    if ef is None:
        return read("ef_ev_per_atom")
    if ef_sha256 == tables.phases_ef_sha256():
        return read("ef_predicted_ev_per_atom")
    return _cached(digest, ef_sha256, lambda: read(None))


def predicted_energies(ef: Predictor, formulas: Sequence[str]) -> Floats:
    """E_f in eV/atom of canonical formulas, (n,); NaN where `ef` doesn't know an element."""
    fractions = sparse_fractions(formulas)
    energies = np.full(len(formulas), np.nan)
    known = _supported(ef, fractions)
    energies[known] = _predicted(ef, fractions[known])
    return energies


def _elements(ef: Predictor) -> NDArray[np.bool_]:
    """(118,): the elements that the predictor knows."""
    return np.asarray(ef.supported.cpu().numpy(), dtype=np.bool_)


def _supported(ef: Predictor, fractions: csr_matrix) -> NDArray[np.bool_]:
    """Whether the predictor knows all elements of each of fractions (n, 118), (n,)."""
    return np.asarray(fractions @ (~_elements(ef)).astype(np.float64) == 0)


def _predicted(ef: Predictor, fractions: csr_matrix) -> Floats:
    parts = [
        predict(ef, fractions[start : start + PREDICTED_AT_ONCE].toarray().astype(np.float32))
        for start in range(0, fractions.shape[0], PREDICTED_AT_ONCE)
    ]
    return np.concatenate(parts)


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as draft:
            pq.write_table(table, Path(draft) / "phases", compression="zstd", write_page_checksum=True)
            os.replace(Path(draft) / "phases", path)
        kept = sorted(path.parent.glob("*.parquet"), key=lambda each: each.stat().st_mtime)
        for old in kept[:-MAX_KEPT]:
            old.unlink()
    except OSError:
        pass  # nothing is kept
    return phases


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
    def _held(self) -> NDArray[np.bool_]:
        return elements_held(self.phases.fractions)

    @classmethod
    def of(
        cls, path: PathLike | None = None, *, energies: Energies = "elemnet", weights: Path | None = None
    ) -> EnergyHull:
        """The hull of a file's phases, by default the shipped ones, by ElemNet's energies or by the file's own.

        weights: of ElemNet, a folder that `kiago train` wrote, else the shipped ones. Raises DataError for a file and
        WeightsError for weights that can't be used.
        """
        if energies not in get_args(Energies):
            raise ValueError(f"energies: {energies!r} is none of {', '.join(get_args(Energies))}")
        if energies == "file":
            return cls(shipped_phases() if path is None else load_phases(path))
        ef, digest = load_ef(weights), load_card("ef", weights)["sha256"]
        return cls(shipped_phases(ef, digest) if path is None else load_phases(path, ef, digest), ef)

    @property
    def supported(self) -> NDArray[np.bool_]:
        """(118,): elements whose compounds have an energy here."""
        return np.ones(N_ELEMENTS, dtype=np.bool_) if self.ef is None else _elements(self.ef)

    def energies(self, fractions: Floats) -> Floats:
        """E_f in eV/atom of atomic fractions (n, 118), (n,): the phase's where it is one, 0 for an element, else the
        predictor's, and NaN where there is none.
        """
        values = np.full(len(fractions), np.nan)
        if self.ef is not None:
            values = predict(self.ef, fractions.astype(np.float32))
        for row, x in enumerate(fractions):
            elements = np.flatnonzero(x)
            _, same = self._in_system(x, elements)
            if len(elements) == 1:
                values[row] = 0.0
            elif len(same):
                values[row] = self.phases.ef_ev_per_atom[same].min()
        return values

    def e_hull(self, fractions: Floats, ef_ev_per_atom: Floats) -> Floats:
        """ΔE_hull ≥ 0 in eV/atom, (n,), of atomic fractions (n, 118) with formation energies (n,); NaN for NaN.

        Raises ValueError for elements that aren't `supported`.
        """
        return np.array([each.e_hull_ev_per_atom for each in self.places(fractions, ef_ev_per_atom)])

    def places(self, fractions: Floats, ef_ev_per_atom: Floats) -> list[HullPlace]:
        """All that `e_hull` finds, of each composition."""
        fractions = np.asarray(fractions, dtype=np.float64)
        unknown = np.flatnonzero((fractions > 0).any(axis=0) & ~self.supported)
        if len(unknown):
            raise ValueError(f"the predictor doesn't know {', '.join(SYMBOLS[z] for z in unknown)}")
        return [self._place(x / x.sum(), ef) for x, ef in zip(fractions, ef_ev_per_atom, strict=True)]

    def _place(self, x: Floats, ef: float) -> HullPlace:
        elements = np.flatnonzero(x)
        others, same = self._in_system(x, elements)
        energies = np.concatenate([self.phases.ef_ev_per_atom[others], np.zeros(len(elements))])
        mixed = np.concatenate([self.phases.fractions[others][:, elements].toarray(), np.eye(len(elements))])
        hull, shares = lowest_mixture(x[elements], mixed, energies)
        lowest = min([hull, *self.phases.ef_ev_per_atom[same].tolist()])
        names: Sequence[str] = [self.phases.formulas[at] for at in others] + [SYMBOLS[z] for z in elements]
        falling = sorted(
            np.flatnonzero(shares).tolist(), key=lambda at: (-round(float(shares[at]), 9), names[at])
        )
        above = float(ef - lowest)
        return HullPlace(
            e_hull_ev_per_atom=0.0 if above < ON_THE_HULL_EV_PER_ATOM else above,
            e_decomposition_ev_per_atom=float(ef - hull),
            decomposition=tuple((names[at], float(shares[at])) for at in falling),
            n_phases=len(names),
            is_phase=bool(len(same)),
        )

    def _in_system(self, x: Floats, elements: Ints) -> tuple[Ints, Ints]:
        """Indices of the phases within the chemical system of x, without and with its own composition."""
        of_system = self._held[elements].sum(axis=0, dtype=np.uint8)
        inside = np.flatnonzero(of_system == np.diff(self.phases.fractions.indptr))
        nearby = self.phases.fractions[inside][:, elements].toarray() - x[elements]
        same = np.abs(nearby).max(axis=1, initial=0.0) <= SAME if len(inside) else np.zeros(0, dtype=np.bool_)
        return inside[~same], inside[same]


def lowest_mixture(composition: Floats, phases: Floats, ef_ev_per_atom: Floats) -> tuple[float, Floats]:
    """Energy (eV/atom) of the lowest mixture and every phase's share of the atoms, (p,).

    composition: (k,) atomic fractions. phases: (p, k) theirs. ef_ev_per_atom: (p,). Raises ValueError where the phases
    can't be mixed to the composition; with the k elements among them they always can.
    """
    tolerances = {"primal_feasibility_tolerance": TOLERANCE, "dual_feasibility_tolerance": TOLERANCE}
    found = linprog(ef_ev_per_atom, A_eq=phases.T, b_eq=composition, method="highs", options=tolerances)
    if found.x is None:
        raise ValueError(f"these {len(phases)} phases can't be mixed to the composition: {found.message}")
    shares = np.where(found.x > LEAST_SHARE, found.x, 0.0)
    return float(found.fun), shares


@dataclass(frozen=True)
class HullScores:
    """What the hull says of n formulas: E_f (n,) in eV/atom, where each lies, and why one has no place; NaN and None
    where unknown.
    """

    ef_ev_per_atom: Floats
    places: tuple[HullPlace | None, ...]
    errors: tuple[str | None, ...]


def judge(hull: EnergyHull, formulas: Sequence[object], ef_ev_per_atom: Floats | None = None) -> HullScores:
    """Where each formula lies; one that can't be read, holds an unknown element or has no energy gets an error.

    ef_ev_per_atom: (n,) energies that are known of them; where one is NaN, the hull's own counts (see
    `EnergyHull.energies`).
    """
    rows = np.zeros((len(formulas), N_ELEMENTS))
    errors: list[str | None] = []
    supported = hull.supported
    for row, text in enumerate(formulas):
        try:
            amounts = parse(text if isinstance(text, str) else "")
        except FormulaError as error:
            errors.append(str(error))
            continue
        unknown = [symbol for symbol in amounts if not supported[INDEX[symbol]]]
        errors.append(f"the predictor doesn't know {', '.join(unknown)}" if unknown else None)
        rows[row] = fractions(amounts)
    good = np.flatnonzero([error is None for error in errors])
    energies = np.full(len(rows), np.nan) if ef_ev_per_atom is None else np.array(ef_ev_per_atom, dtype=float)
    asked = good[np.isnan(energies[good])]
    energies[asked] = hull.energies(rows[asked])
    for row in good[np.isnan(energies[good])].tolist():
        errors[row] = "not among the phases, so the file has no energy of it; give one as ef_ev_per_atom"
    judged = np.flatnonzero([error is None for error in errors])
    energies[[row for row, error in enumerate(errors) if error is not None]] = np.nan
    places: list[HullPlace | None] = [None] * len(rows)
    for row, place in zip(judged.tolist(), hull.places(rows[judged], energies[judged]), strict=True):
        places[row] = place
    return HullScores(energies, tuple(places), tuple(errors))


def with_e_hull(
    candidates: Candidates,
    amounts: NDArray[np.float64],
    passed: NDArray[np.bool_],
    hull: EnergyHull,
    *,
    ranking: Ranking | None = None,
    most: int = MAX_FORMULAS,
) -> Candidates:
    """The n candidates with `e_hull_ev_per_atom` for the best `most` different formulas that passed, NaN for others.

    amounts: (n, 118) of their formulas. passed: (n,) the screens that don't ask for it.
    """
    first = unique(candidates.formulas, candidates.of_families)
    first = first[passed[first]]
    standing = candidates.standing(passed).take(first)
    best = first[order([candidates.formulas[row] for row in first], standing, ranking)]
    best = best[:most]
    x = np.asarray(amounts[best], dtype=np.float64)
    found = hull.e_hull(x / x.sum(axis=1, keepdims=True), candidates.ef_ev_per_atom[best])
    by_formula = dict(zip([candidates.formulas[row] for row in best], found.tolist(), strict=True))
    return replace(
        candidates,
        e_hull_ev_per_atom=np.array(
            [by_formula.get(text, np.nan) for text in candidates.formulas], dtype=float
        ),
    )
