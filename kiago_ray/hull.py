"""Energy above the convex hull of any composition, against the competing phases of its chemical system.

Section 3.4 of the paper, after pymatgen's phase diagrams: elements are at 0 eV/atom, and of the phases only those
count that hold no element that the composition lacks. The hull's energy at a composition x is that of the lowest
mixture of phases: the least Σ w_i E_i over w ≥ 0 with Σ w_i c_i = x, w_i being the share of the atoms that phase i
takes and c_i its atomic fractions. The basis of that linear program's optimum are the phases that x decomposes into;
unlike a hull by facets (qhull) it costs milliseconds in any number of elements.

Of a composition that isn't among the phases E_f is predicted by the ensemble, on the Materials Project's scale, which
is that of the shipped phases: they have the energies of their source. So have those of a file, which should be on the
same scale; where a file has none, they are predicted too. What takes long to read is kept in the user's cache, under
the SHA-256 of the file and of the ensemble's weights and the version that read it.
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
from typing import Any, Literal, NamedTuple

import numpy as np
import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter
from scipy.optimize import linprog
from scipy.sparse import block_diag, csr_matrix

from kiago_ray import __version__
from kiago_ray.chemistry.elements import N_ELEMENTS, SYMBOLS, Floats, Ints, Mask
from kiago_ray.chemistry.formula import (
    FormulaError,
    amounts_row,
    common_multiple,
    fractions,
    parse,
    sparse_fractions,
)
from kiago_ray.data import tables
from kiago_ray.data.compositions import elements_held
from kiago_ray.data.files import AN_ELEMENT, FOREIGN, DataError, LoadReport, PathLike, sha256
from kiago_ray.data.names import read
from kiago_ray.predictors.base import Predictor, predict
from kiago_ray.predictors.energy import DIGITS, EnergyEnsemble
from kiago_ray.predictors.weights import ENERGIES, load_card, load_energies

SAME = 1e-6  # in each atomic fraction; compositions nearer than this are one
TOLERANCE = 1e-10  # of the linear program; the least that HiGHS takes
LEAST_SHARE = 1e-9  # of the atoms
MOST_WHOLE = 2_000  # the largest number of a reaction that is written whole
HULL_COLUMNS = {
    "e_hull_ev_per_atom": pa.float64(),
    "e_hull_std_ev_per_atom": pa.float64(),
    "decomposition": pa.string(),
}
ON_THE_HULL_EV_PER_ATOM = 1e-6  # nearer than this is on it: single precision predicts no finer

DENSE_AT_ONCE = 16_384  # phases whose fractions are dense at a time
CACHE_VARIABLE = "KIAGO_CACHE"
MIXED_AT_ONCE = 8_000  # phases of one linear program, or one composition's
MAX_KEPT = 32  # files of the cache; the oldest give way


@dataclass(frozen=True)
class Phases:
    """p compounds, one a composition. formulas: p texts. fractions: (p, 118) atomic fractions, sparse by rows.
    ef_ev_per_atom: (p,). predicted: (p,) whose energy isn't the source's. report: what became of the file's rows.
    """

    formulas: tuple[str, ...]
    fractions: csr_matrix
    ef_ev_per_atom: Floats
    predicted: Mask
    report: LoadReport


def load_phases(path: PathLike | None, ef: Predictor | None = None, ef_sha256: str = "") -> Phases:
    """The compounds of a file, or for None those of the package's own table, with their source's energies. Where a
    file has none `ef` predicts them, whose weights have this SHA-256. What takes long comes from the cache where it
    was worked out before. Raises DataError for a file that can't be used (see data.sources).
    """
    if path is None:
        return _shipped()
    phases = _cached(sha256(path), ef_sha256 if ef else "file", lambda: _of_file(path, ef))
    return replace(phases, report=replace(phases.report, file=Path(path).name))


def _of_file(path: PathLike, ef: Predictor | None) -> Phases:
    from kiago_ray.data import sources  # which a search beside the shipped phases doesn't need

    table, report = sources.load_phases(path, energies=ef is None)
    fractions = sparse_fractions(table["formula"].tolist())
    if ef is None:
        energies, missing = table["ef_ev_per_atom"].to_numpy(), np.zeros(len(table), dtype=np.bool_)
    else:
        own = sources.energies_of_phases(path)
        energies = table["formula"].map(own).to_numpy(np.float64, copy=True)
        missing = np.isnan(energies)
        asked = np.flatnonzero(missing & (fractions @ (~_elements(ef)).astype(np.float64) == 0))
        energies[asked] = _predicted(ef, fractions[asked])
    kept = ~np.isnan(energies)
    if foreign := int((~kept).sum()):
        report = replace(report, dropped={**report.dropped, FOREIGN: foreign}, rows_kept=int(kept.sum()))
    if not kept.any():
        raise DataError(
            f"{path}: it has no energies, and the predictor doesn't know its elements; give energies"
        )
    formulas = tuple(table["formula"][kept].tolist())
    return Phases(formulas, fractions[kept], energies[kept], missing[kept], report)


def _shipped() -> Phases:
    """The table's compounds with the Materials Project's energies."""
    table = tables.phases()
    fractions = sparse_fractions(table["formula"].tolist())
    compound = np.diff(fractions.indptr) > 1
    elements = int((~compound).sum())
    report = LoadReport(
        kind="phases",
        file="the Materials Project's ground states, as shipped",
        sha256=tables.sha256_of(tables.PHASES),
        rows_read=len(table),
        dropped={AN_ELEMENT: elements} if elements else {},
        examples={},
        duplicates_merged=0,
        rows_kept=int(compound.sum()),
    )
    table = table[compound]
    energies = table["ef_ev_per_atom"].to_numpy(np.float64)
    none = np.zeros(len(table), dtype=np.bool_)
    return Phases(tuple(table["formula"].tolist()), fractions[compound], energies, none, report)


def _elements(ef: Predictor) -> Mask:
    """(118,): the elements that the predictor knows."""
    return np.asarray(ef.supported.cpu().numpy(), dtype=np.bool_)


def _predicted(ef: Predictor, fractions: csr_matrix) -> Floats:
    pieces = [
        fractions[at : at + DENSE_AT_ONCE] for at in range(0, max(fractions.shape[0], 1), DENSE_AT_ONCE)
    ]
    return np.concatenate([predict(ef, piece.toarray().astype(np.float32)) for piece in pieces])


def _cached(file_sha256: str, energies: str, read: Callable[[], Phases]) -> Phases:
    """Phases of a file with these energies: from a Parquet file with checksums in KIAGO_CACHE or the user's cache, or
    read and put there, whole or not at all. A file that is damaged, or that can't be written, only costs time; the
    report's last warning says of the latter.
    """
    own = os.environ.get(CACHE_VARIABLE)
    try:
        folder = Path(own).expanduser() if own else platformdirs.user_cache_path("kiago-ray", appauthor=False)
    except RuntimeError:
        return _not_kept(read(), "there is no home to keep it in")
    name = hashlib.sha256(f"{__version__} {file_sha256} {energies}".encode()).hexdigest()[:32]
    path = folder / "hull" / f"{name}.parquet"
    reports = TypeAdapter(LoadReport)
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        formulas = tuple(table["formula"].to_pylist())
        report = reports.validate_json(table.schema.metadata[b"report"])
        values, predicted = table["ef_ev_per_atom"].to_numpy(), table["predicted"].to_numpy()
        return Phases(formulas, sparse_fractions(formulas), values, predicted, report)
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        phases = read()
    columns = {"ef_ev_per_atom": phases.ef_ev_per_atom, "predicted": phases.predicted}
    table = pa.table({"formula": phases.formulas, **columns})
    table = table.replace_schema_metadata({b"report": reports.dump_json(phases.report)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as draft:
            pq.write_table(table, Path(draft) / "phases", compression="zstd", write_page_checksum=True)
            os.replace(Path(draft) / "phases", path)
        for old in sorted(path.parent.glob("*.parquet"), key=os.path.getmtime)[:-MAX_KEPT]:
            with suppress(FileNotFoundError):  # another process may be quicker
                old.unlink()
    except OSError as error:
        return _not_kept(phases, f"{folder} can't keep it ({error.strerror or error})")
    return phases


def _not_kept(phases: Phases, why: str) -> Phases:
    told = f"read anew each time: {why}; name a folder in {CACHE_VARIABLE}"
    return replace(phases, report=replace(phases.report, warnings=[*phases.report.warnings, told]))


Inside = tuple[Ints, Floats, Ints]
"""Of a composition of k elements the phases within its system that have another one, as indices (p,) and with their
fractions of these elements (p, k), and those that have its own."""
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

    def reaction(self, formula: str) -> str:
        """How the composition, written as `formula`, falls apart, in whole numbers, such as 6 TiO → 2 Ti2O3 + 2 Ti;
        with decimals where no numbers up to MOST_WHOLE do.
        """
        whole, atoms = amounts_row(parse(formula)), sum(parse(formula).values())
        parts = [amounts_row(parse(name)) for name, _ in self.decomposition]
        moles = [
            share * atoms / part.sum() for part, (_, share) in zip(parts, self.decomposition, strict=True)
        ]
        scale, numbers = common_multiple(moles, MOST_WHOLE)
        sums = sum((n * part for n, part in zip(numbers, parts, strict=True)), start=np.zeros(N_ELEMENTS))
        if 0 < min(numbers) <= max(scale, *numbers) <= MOST_WHOLE and np.allclose(
            sums, scale * whole, rtol=1e-6
        ):
            written = [str(n) for n in numbers]
        else:
            scale, written = 1, [f"{each:.3g}" for each in moles]
        right = [
            f"{n} {name}".removeprefix("1 ") for n, (name, _) in zip(written, self.decomposition, strict=True)
        ]
        return f"{scale} {formula} → ".removeprefix("1 ") + " + ".join(right)


@dataclass(frozen=True)
class EnergyHull:
    """The hull of some phases. ef: predicts E_f on the phases' scale with a σ; None where a file's energies alone
    count, of formulas too.
    """

    phases: Phases
    ef: EnergyEnsemble | None = None

    @cached_property
    def _held(self) -> Mask:
        """(118, p): which elements each phase holds."""
        return elements_held(self.phases.fractions)

    @cached_property
    def _sizes(self) -> Ints:
        """(p,): of how many elements each phase is."""
        return np.asarray(np.diff(self.phases.fractions.indptr), dtype=np.int64)

    @classmethod
    def of(
        cls,
        path: PathLike | None = None,
        *,
        energies: Literal["predicted", "file"] = "predicted",
        weights: Path | None = None,
    ) -> EnergyHull:
        """The hull of a file's phases, by default the shipped ones. energies: of formulas that are no phases, by the
        ensemble or from a file. weights: of the ensemble, a folder that `kiago train` wrote, else the shipped ones.
        Raises DataError for a file and WeightsError for weights that can't be used.
        """
        if energies not in ("predicted", "file"):
            raise ValueError(f"energies: {energies!r} is neither predicted nor file")
        if energies == "file":
            return cls(load_phases(path))
        return cls.by(load_energies(weights), load_card(ENERGIES, weights)["sha256"], path)

    @classmethod
    def by(cls, ensemble: EnergyEnsemble, sha256: str, path: PathLike | None = None) -> EnergyHull:
        """The same with an ensemble at hand, whose weights have this SHA-256."""
        ef = ensemble.on_scale("materials_project")
        return cls(load_phases(path, ef, sha256), ef)

    def energies(self, fractions: Floats) -> tuple[Floats, Floats]:
        """E_f and its σ in eV/atom of atomic fractions (n, 118), (n,) each: of a phase its source's and of an element
        0, both without a σ, of others the ensemble's. NaN where there is none.
        """
        values, spread = np.full((2, len(fractions)), np.nan)
        for row, (_, _, same) in enumerate(self._inside(fractions)):
            if np.count_nonzero(fractions[row]) == 1:
                values[row] = 0.0
            elif len(same) and not self.phases.predicted[same].all():
                values[row] = self.phases.ef_ev_per_atom[same].min()
        if self.ef is not None:
            asked = np.isnan(values) & ~(fractions[:, ~_elements(self.ef)] > 0).any(axis=1)
            values[asked], spread[asked] = self.ef.estimates(fractions[asked])
        return values, spread

    def no_energy(self, x: Floats) -> str:
        """Why `energies` has none of fractions (118,)."""
        if self.ef is None:
            return "not among the phases, so the file has no energy of it; give one as ef_ev_per_atom"
        unknown = [SYMBOLS[z] for z in np.flatnonzero((x > 0) & ~_elements(self.ef))]
        return f"the predictor doesn't know {', '.join(unknown)}"

    def e_hull(self, fractions: Floats, ef_ev_per_atom: Floats) -> Floats:
        """ΔE_hull ≥ 0 in eV/atom, (n,), of atomic fractions (n, 118) with formation energies (n,); NaN for NaN."""
        return np.array([each.e_hull_ev_per_atom for each in self.places(fractions, ef_ev_per_atom)])

    def places(self, fractions: Floats, ef_ev_per_atom: Floats) -> list[HullPlace]:
        """All that `e_hull` finds, of each composition."""
        fractions = np.asarray(fractions, dtype=np.float64)
        rows = [x / x.sum() for x in fractions]
        inside = self._inside(rows)
        mixtures: list[tuple[float, Floats]] = []
        batch, phases = list[Mixing](), 0
        for x, (others, amounts, _) in zip(rows, inside, strict=True):
            if phases + len(others) > MIXED_AT_ONCE:
                mixtures += lowest_mixtures(batch)
                batch, phases = [], 0
            batch.append(self._mixing(x, others, amounts))
            phases += len(others)
        mixtures += lowest_mixtures(batch)
        return list(map(self._place, rows, ef_ev_per_atom.tolist(), inside, mixtures))

    def _mixing(self, x: Floats, others: Ints, amounts: Floats) -> Mixing:
        """What x may be mixed of: these phases, of these amounts of its elements, and the elements at 0 eV/atom."""
        elements = np.flatnonzero(x)
        energies = np.concatenate([self.phases.ef_ev_per_atom[others], np.zeros(len(elements))])
        return x[elements], np.concatenate([amounts, np.eye(len(elements))]), energies

    def _place(self, x: Floats, ef: float, inside: Inside, mixture: tuple[float, Floats]) -> HullPlace:
        (others, _, same), (hull, shares) = inside, mixture
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

    def within(self, x: Floats) -> Ints:
        """Indices of the phases that hold no element which fractions x (118,) lack."""
        of_system = self._held[x > 0].sum(axis=0, dtype=np.uint8)
        return np.flatnonzero(of_system == self._sizes)

    def _inside(self, rows: Sequence[Floats] | Floats) -> list[Inside]:
        """For each of fractions (118,) what lies within its chemical system. Rows of one system share the search for
        it, which looks at every phase.
        """
        systems: dict[bytes, tuple[Ints, Floats]] = {}
        found = list[Inside]()
        for x in rows:
            held = x > 0
            if (key := held.tobytes()) not in systems:
                phases = self.within(x)
                systems[key] = phases, self.phases.fractions[phases][:, np.flatnonzero(held)].toarray()
            phases, amounts = systems[key]
            same = np.abs(amounts - x[held]).max(axis=1, initial=0.0) <= SAME
            found.append((phases[~same], amounts[~same], phases[same]))
        return found


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


class Judged(NamedTuple):
    """A formula against the hull: E_f and its σ in eV/atom (NaN where it is known or there is none), where it lies,
    and why it lies nowhere.
    """

    ef_ev_per_atom: float
    ef_std_ev_per_atom: float
    place: HullPlace | None
    error: str | None


def judge(hull: EnergyHull, formulas: Sequence[object], ef_ev_per_atom: Floats | None = None) -> list[Judged]:
    """Of n formulas where each lies; one that can't be read or has no energy has an error instead.

    ef_ev_per_atom: (n,) energies that are known of them; where one is NaN, the hull's own counts (see
    `EnergyHull.energies`).
    """
    n = len(formulas)
    energies, rows, good = np.full((2, n), np.nan), np.zeros((n, N_ELEMENTS)), np.zeros(n, dtype=np.bool_)
    places: list[HullPlace | None] = [None] * n
    errors: list[str | None] = [None] * n
    for row, text in enumerate(formulas):
        try:
            rows[row], good[row] = fractions(read(text if isinstance(text, str) else "")), True
        except FormulaError as error:
            errors[row] = str(error)
    if ef_ev_per_atom is not None:
        energies[0, good] = ef_ev_per_atom[good]
    asked = good & np.isnan(energies[0])
    energies[:, asked] = hull.energies(rows[asked])
    for row in np.flatnonzero(good & np.isnan(energies[0])).tolist():
        errors[row] = hull.no_energy(rows[row])
    placed = np.flatnonzero(~np.isnan(energies[0]))
    for row, place in zip(placed.tolist(), hull.places(rows[placed], energies[0, placed]), strict=True):
        places[row] = place
    return list(map(Judged, *energies.tolist(), places, errors))


def with_hull(rows: Any, amounts: Floats, hull: EnergyHull) -> Any:
    """A table of candidates (n rows) with the columns HULL_COLUMNS: of each formula the energy above the hull, its σ,
    null where the energy is known, and how it would fall apart where it lies above. amounts: (n, 118) of the formulas.
    A row without a formula, or of elements that the ensemble doesn't know, has none.
    """
    formulas = rows["formula"].to_pylist()
    first = {text: row for row, text in reversed(list(enumerate(formulas))) if text is not None}
    x = np.asarray(amounts[list(first.values())], dtype=np.float64)
    x = x / x.sum(axis=1, keepdims=True)
    ef, std = hull.energies(x)
    there = np.flatnonzero(~np.isnan(ef))
    places = dict(zip(there.tolist(), hull.places(x[there], ef[there]), strict=True))
    found: dict[str | None, tuple[float | str | None, ...]] = {}
    for at, text in enumerate(first):
        if (place := places.get(at)) is not None:
            above, spread = (
                round(place.e_hull_ev_per_atom, DIGITS),
                None if np.isnan(std[at]) else float(std[at]),
            )
            found[text] = above, spread, place.reaction(text) if above else None
    cells = [found.get(text, (None, None, None)) for text in formulas]
    for at, (name, kind) in enumerate(HULL_COLUMNS.items()):
        rows = rows.append_column(name, [pa.array([row[at] for row in cells], kind)])
    return rows
