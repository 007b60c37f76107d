"""Energies of phases: the file's own, ElemNet's, or those of other weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.hull import EnergyHull, load_phases
from kiago_ray.predictors.weights import load_card, load_network, save_network

FORMULAS = ["TiO2", "La1.85Sr0.15CuO4", "YBa2Cu3O7", "MgB2", "PuO2"]


class Counted:
    """A predictor that counts the rows it is asked for."""

    def __init__(self) -> None:
        self.supported = torch.ones(118, dtype=torch.bool)
        self.supported[87] = False  # Ra
        self.rows = 0

    def __call__(self, fractions: torch.Tensor) -> torch.Tensor:
        self.rows += len(fractions)
        return -0.1 * (fractions > 0).sum(1).float()


@pytest.fixture
def phases_file(tmp_path: Path) -> Path:
    path = tmp_path / "phases.csv"
    path.write_text("formula\n" + "\n".join([*FORMULAS, "RaO", "Fe"]) + "\n")
    return path


def test_energies_are_elemnets(phases_file: Path) -> None:
    hull, network = EnergyHull.of(phases_file), load_network("ef")  # the plain network, not the lowered one
    predicted = network(torch.from_numpy(parse_fractions(hull.phases.formulas)).float())
    np.testing.assert_allclose(hull.phases.ef_ev_per_atom, predicted, atol=1e-5)
    assert hull.phases.report.dropped == {
        "an element that the predictor doesn't know": 1,
        "an element, at 0 eV/atom by definition": 1,
    }
    assert (hull.supported.sum(), len(hull.phases.formulas)) == (86, 5)
    np.testing.assert_allclose(hull.phases.fractions.toarray(), parse_fractions(hull.phases.formulas))
    x = parse_fractions(["TiO2", "Ti7O9", "Fe"])
    energies = hull.energies(x)
    assert energies[0] == hull.phases.ef_ev_per_atom[hull.phases.formulas.index("TiO2")]
    assert energies[1] == pytest.approx(float(network(torch.from_numpy(x[1:2]).float())), abs=1e-5)
    assert energies[2] == 0
    with pytest.raises(ValueError, match="the predictor doesn't know Ra"):
        hull.e_hull(parse_fractions(["RaO"]), np.array([-1.0]))


def test_weights_of_a_folder_count(phases_file: Path, tmp_path: Path) -> None:
    network = load_network("ef")
    with torch.no_grad():
        network.layers[-1].bias += 1.0  # type: ignore[index,union-attr,operator]
    card = {key: value for key, value in load_card("ef").items() if key != "sha256"}
    save_network(network, "ef", card, tmp_path / "own")
    shipped, own = EnergyHull.of(phases_file), EnergyHull.of(phases_file, weights=tmp_path / "own")
    np.testing.assert_allclose(own.phases.ef_ev_per_atom, shipped.phases.ef_ev_per_atom + 1, atol=2e-3)


def test_the_shipped_phases_have_the_shipped_predictors_energies() -> None:
    hull = EnergyHull.of()
    assert hull.phases.report.rows_kept == len(hull.phases.formulas) > 80_000
    some = [hull.phases.formulas.index(formula) for formula in ("TiO2", "MgB2", "La2CuO4")]
    network = load_network("ef")
    predicted = network(torch.from_numpy(parse_fractions(["TiO2", "MgB2", "La2CuO4"])).float())
    np.testing.assert_allclose(hull.phases.ef_ev_per_atom[some], predicted, atol=1e-5)
    x = parse_fractions(["TiO2"])
    assert hull.places(x, hull.energies(x))[0].is_phase
    of_calculations = EnergyHull.of(energies="file")
    assert of_calculations.phases.formulas == hull.phases.formulas
    assert of_calculations.ef is None


def test_other_weights_predict_the_shipped_phases_anew() -> None:
    other = Counted()
    phases = load_phases(None, other, "other weights")
    assert len(phases.formulas) == other.rows == phases.report.rows_kept
    np.testing.assert_allclose(phases.ef_ev_per_atom, -0.1 * np.diff(phases.fractions.indptr), atol=1e-6)
