"""Phase diagrams and sections: pymatgen's hulls, the formulas' own energies, and what a person reads of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.errors import InputError
from kiago_ray.hull import EnergyHull, judge
from kiago_ray.report.phase_diagrams import (
    diagram_of,
    diagram_plot,
    drawn_elements,
    section_of,
    section_plot,
    section_plots,
    subscripted,
)
from kiago_ray.report.plots import svg_of

PHASES = {
    "La2CuO4": -2.6,
    "La2O3": -3.7,
    "CuO": -0.8,
    "Cu2O": -0.6,
    "SrO": -3.0,
    "SrCuO2": -2.05,
    "SrLaCuO4": -2.3,
}


@pytest.fixture
def phases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KIAGO_CACHE", str(tmp_path / "cache"))
    return written(tmp_path / "phases.csv", PHASES)


def written(path: Path, phases: Mapping[str, float]) -> Path:
    rows = "".join(f"{formula},{ef!r}\n" for formula, ef in phases.items())
    path.write_text("formula,ef_ev_per_atom\n" + rows)
    return path


def rows_of(hull: EnergyHull, *formulas: str) -> list[dict[str, Any]]:
    """Rows as `kiago hull` has them."""
    found = []
    for formula, each in zip(formulas, judge(hull, formulas), strict=True):
        assert each.place is not None
        row = {"formula": formula, "error": each.error, "is_phase": each.place.is_phase}
        row |= {"ef_ev_per_atom": each.ef_ev_per_atom, "e_hull_ev_per_atom": each.place.e_hull_ev_per_atom}
        row |= {"e_decomposition_ev_per_atom": each.place.e_decomposition_ev_per_atom}
        std = each.ef_std_ev_per_atom
        found.append({**row, "e_hull_std_ev_per_atom": None if np.isnan(std) else std})
    return found


def texts_of(figure: Any) -> list[str]:
    """Every text of the SVG file of a figure."""
    return re.findall(r"<text[^>]*>([^<]+)</text>", svg_of(figure).decode())


@pytest.mark.parametrize("elements", [("La", "Ni"), ("Y", "Ba", "O")])
def test_vertices_and_facets_are_pymatgens(elements: tuple[str, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(len(elements))
    phases: dict[str, float] = {}
    while len(phases) < 12 * (len(elements) - 1):
        amounts = dict(zip(elements, rng.integers(0, 7, len(elements)).tolist(), strict=True))
        if sum(amount > 0 for amount in amounts.values()) > 1:
            phases.setdefault(Composition(amounts).reduced_formula, float(rng.uniform(-2, 0.3)))
    hull = EnergyHull.of(written(tmp_path / "phases.csv", phases), energies="file")
    diagram = diagram_of(hull, elements)
    pure = [PDEntry(Composition(symbol), 0.0) for symbol in elements]
    compounds = [PDEntry(c := Composition(name), ef * c.num_atoms) for name, ef in phases.items()]
    theirs = PhaseDiagram([*pure, *compounds], elements=[Element(symbol) for symbol in elements])
    reduced = [Composition(name).formula for name in diagram.names]
    stable = {name for name, on in zip(reduced, diagram.stable, strict=True) if on}
    assert (
        stable
        == {entry.composition.formula for entry in theirs.stable_entries}
        == {reduced[at] for at in np.unique(diagram.facets)}
    )
    facets = {frozenset(reduced[at] for at in facet) for facet in diagram.facets}
    assert facets == {
        frozenset(theirs.qhull_entries[at].composition.formula for at in facet) for facet in theirs.facets
    }
    above = dict(zip(reduced, diagram.above_ev_per_atom.tolist(), strict=True))
    for entry in compounds:
        assert above[entry.composition.formula] == pytest.approx(theirs.get_e_above_hull(entry), abs=1e-6)


def test_elements_alone_are_a_hull(tmp_path: Path) -> None:
    hull = EnergyHull.of(written(tmp_path / "phases.csv", {"NaCl": -2.0, "LaNi": 0.4}), energies="file")
    assert np.sort(diagram_of(hull, ("La", "Ni", "O")).facets).tolist() == [[0, 1, 2]]
    assert diagram_of(hull, ("La", "Ni")).stable.tolist() == [True, True, False]


def test_formulas_stand_at_their_energies_and_labels_are_text(phases: Path) -> None:
    hull = EnergyHull.of(phases)
    rows = rows_of(hull, "CuO", "Cu3O2")
    figure = diagram_plot(diagram_of(hull, ("Cu", "O")), rows)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    marks = {
        label.split(":")[0]: handle.get_offsets()[0].tolist()
        for handle, label in zip(handles, labels, strict=True)
        if ":" in label
    }
    assert marks["CuO"] == pytest.approx([0.5, -0.8])
    assert marks["Cu₃O₂"] == pytest.approx([0.4, rows[1]["ef_ev_per_atom"]])
    height = rows[1]["e_decomposition_ev_per_atom"]
    side = "above" if height > 0 else "below"
    told = f"Cu₃O₂: {abs(height):.3f} ± {rows[1]['e_hull_std_ev_per_atom']:.3f} eV/atom {side} the hull"
    texts = texts_of(figure)
    assert {"Cu", "O", "CuO", "CuO: on the hull", told, "formation energy (eV/atom)"} <= set(texts)
    assert svg_of(figure) == svg_of(figure)


def test_a_triangle_names_stable_phases_and_colours_the_others(phases: Path) -> None:
    hull = EnergyHull.of(phases)
    diagram = diagram_of(hull, ("La", "Cu", "O"))
    figure = diagram_plot(diagram, rows_of(hull, "La2CuO4"))
    texts = texts_of(figure)
    assert {"La", "Cu", "O", "energy above the hull (eV/atom)"} <= set(texts)
    for name, stable in zip(diagram.names[3:], diagram.stable[3:], strict=True):
        assert (subscripted(name) in texts) == bool(stable)
    (colored,) = [each for each in figure.axes[0].collections if each.get_array() is not None]
    assert colored.get_array().tolist() == diagram.above_ev_per_atom[~diagram.stable].tolist()


def test_the_ends_of_a_section_have_the_formulas_own_energies(phases: Path) -> None:
    hull = EnergyHull.of(phases)
    section = section_of(hull, "La2CuO4", "Sr2CuO4")
    assert section.series == "La₂₋ₓSrₓCuO₄"
    assert (section.x[0], section.x[-1]) == (0, 2)
    first, last = rows_of(hull, "La2CuO4", "Sr2CuO4")
    assert section.above_ev_per_atom[0] == pytest.approx(first["e_hull_ev_per_atom"], abs=1e-9)
    assert np.isnan(section.std_ev_per_atom[0])
    assert section.above_ev_per_atom[-1] == pytest.approx(last["e_decomposition_ev_per_atom"], abs=1e-6)
    assert section.std_ev_per_atom[-1] == pytest.approx(last["e_hull_std_ev_per_atom"], rel=1e-5)
    # A phase on the way stands where it is, at its own energy.
    at = next(at for at, name in section.known.items() if name == "SrLaCuO4")
    (between,) = rows_of(hull, "LaSrCuO4")
    assert section.x[at] == pytest.approx(1)
    assert section.above_ev_per_atom[at] == pytest.approx(between["e_hull_ev_per_atom"], abs=1e-9)
    # Stretches leave no gap, and hold what compositions within them decompose into.
    assert section.stretches[0][0] == 0
    assert section.stretches[-1][1] == 2
    assert all(a[1] == b[0] for a, b in zip(section.stretches, section.stretches[1:], strict=False))
    for left, right, names in section.stretches:
        x = (left + right) / 2
        (place,) = hull.places(parse_fractions([f"La{2 - x:.6f}Sr{x:.6f}CuO4"]), np.array([0.0]))
        assert {name for name, _ in place.decomposition} <= names
    texts = texts_of(section_plot(section))
    assert {"La₂CuO₄", "Sr₂CuO₄", "x in La₂₋ₓSrₓCuO₄", "energy above the hull (eV/atom)"} <= set(texts)
    assert sum(bool(re.match(r"\d+, x = ", text)) for text in texts) == len(section.stretches)


def test_a_series_is_written_as_chemists_write_it(phases: Path) -> None:
    hull = EnergyHull.of(phases)
    for first, second, series, end in [
        ("LaFeAsO", "LaFeAsO0.8F0.2", "LaFeAsO₁₋ₓFₓ", 0.2),
        ("LaFeAsO", "SmFeAsO0.7F0.3", "La₁₋ₓSmₓFeAsO₁₋₀.₃ₓF₀.₃ₓ", 1),
        ("YBa2Cu3O6", "YBa2Cu3O7", "YBa₂Cu₃O₆₊ₓ", 1),
        ("LaNiAsO", "HgBa2Ca2Cu3O8", "(1 − x) LaNiAsO + x HgBa₂Ca₂Cu₃O₈", 1),
    ]:
        section = section_of(hull, first, second)
        assert (section.series, section.x[-1]) == (series, pytest.approx(end))
    assert subscripted("La1.85Sr0.15CuO4") == "La₁.₈₅Sr₀.₁₅CuO₄"


def test_what_cant_be_drawn_is_told(phases: Path) -> None:
    hull = EnergyHull.of(phases)
    with pytest.raises(InputError, match=r"4 elements.*--section draws"):
        drawn_elements(["YBa2Cu3O7"])
    with pytest.raises(InputError, match="1 elements"):
        drawn_elements(["Nb"])
    assert drawn_elements(["MgB2", "MgB4", "B"]) == ("Mg", "B")
    with pytest.raises(InputError, match="one composition"):
        section_of(hull, "TiO2", "Ti2O4")
    with pytest.raises(InputError, match="doesn't know Ra"):
        section_of(hull, "SrO", "RaO")
    with pytest.raises(InputError, match="no energy of it"):
        section_of(EnergyHull.of(phases, energies="file"), "SrO", "CuO")


def test_a_search_has_one_section_where_it_has_a_hull_a_base_and_a_proposal(phases: Path) -> None:
    hull = EnergyHull.of(phases)
    rows = [{"formula": "LaCuO3", "passed": False}, {"formula": "La1.8Sr0.2CuO4", "passed": True}]
    (plot,) = section_plots(hull, "La2CuO4", rows)
    assert plot.file == "section.png"
    assert "from La2CuO4 to the first proposal, La1.8Sr0.2CuO4" in plot.caption
    assert plot.png.startswith(b"\x89PNG")
    assert section_plots(None, "La2CuO4", rows) == section_plots(hull, None, rows) == []
    assert section_plots(hull, "La2CuO4", rows[:1]) == section_plots(hull, "La1.8Sr0.2CuO4", rows) == []
