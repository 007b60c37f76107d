"""Energies of phases: ElemNet's own, kept in the cache, never for another file, other weights or another version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.hull import EnergyHull, Phases, load_phases
from kiago_ray.predictors.weights import load_card, load_network, save_network

FORMULAS = ["TiO2", "La1.85Sr0.15CuO4", "YBa2Cu3O7", "MgB2", "PuO2"]


class Counted:
    """A predictor that counts the rows it is asked for."""

    def __init__(self, factor: float = -0.1) -> None:
        self.supported = torch.ones(118, dtype=torch.bool)
        self.supported[87] = False  # Ra
        self.rows = 0
        self.factor = factor

    def __call__(self, fractions: torch.Tensor) -> torch.Tensor:
        self.rows += len(fractions)
        return self.factor * (fractions > 0).sum(1).float()


@pytest.fixture
def phases_file(tmp_path: Path) -> Path:
    path = tmp_path / "phases.csv"
    path.write_text("formula\n" + "\n".join([*FORMULAS, "RaO", "Fe"]) + "\n")
    return path


def same(a: Phases, b: Phases) -> bool:
    return (
        a.formulas == b.formulas
        and a.report == b.report
        and (a.fractions != b.fractions).nnz == 0
        and np.array_equal(a.ef_ev_per_atom, b.ef_ev_per_atom)
    )


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


def test_energies_are_predicted_once(phases_file: Path, own_cache: Path) -> None:
    first, second = Counted(), Counted()
    one = load_phases(phases_file, first, "a")
    assert first.rows == len(FORMULAS)
    moved = phases_file.rename(phases_file.with_name("moved.csv"))
    two = load_phases(moved, second, "a")
    assert second.rows == 0
    assert two.report.file == "moved.csv"
    assert same(one, load_phases(moved.rename(phases_file), second, "a"))
    assert len(list(own_cache.iterdir())) == 1


def test_another_file_other_weights_and_another_version_are_predicted_anew(
    phases_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_phases(phases_file, Counted(), "a")
    other = Counted(factor=-0.2)
    assert load_phases(phases_file, other, "b").ef_ev_per_atom.min() == pytest.approx(-0.8)
    assert other.rows == len(FORMULAS)
    phases_file.write_text(phases_file.read_text() + "VO2\n")
    longer = Counted()
    load_phases(phases_file, longer, "a")
    assert longer.rows == len(FORMULAS) + 1
    monkeypatch.setattr("kiago_ray.hull.__version__", "0.0.0")
    older = Counted()
    load_phases(phases_file, older, "a")
    assert older.rows == len(FORMULAS) + 1


@pytest.mark.parametrize("damage", [b"", b"PAR1", None])
def test_a_damaged_cache_only_costs_time(phases_file: Path, own_cache: Path, damage: bytes | None) -> None:
    whole = load_phases(phases_file, Counted(), "a")
    (kept,) = own_cache.iterdir()
    content = bytearray(kept.read_bytes())
    column = pq.ParquetFile(kept).metadata.row_group(0).column(1)
    content[column.dictionary_page_offset + column.total_compressed_size - 1] ^= 0xFF  # of an energy
    kept.write_bytes(bytes(content) if damage is None else damage)
    again = Counted()
    assert same(whole, load_phases(phases_file, again, "a"))
    assert again.rows == len(FORMULAS)
    last = Counted()
    load_phases(phases_file, last, "a")
    assert last.rows == 0


def test_a_cache_that_cannot_be_written_loses_nothing(
    phases_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KIAGO_CACHE", str(tmp_path / "file"))
    assert len(load_phases(phases_file, Counted(), "a").formulas) == len(FORMULAS)


def test_the_oldest_kept_give_way(
    phases_file: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kiago_ray.hull.MAX_KEPT", 2)
    for weights in "abcd":
        load_phases(phases_file, Counted(), weights)
    assert len(list(own_cache.iterdir())) == 2


def test_weights_of_a_folder_count(phases_file: Path, tmp_path: Path) -> None:
    network = load_network("ef")
    with torch.no_grad():
        network.layers[-1].bias += 1.0  # type: ignore[index,union-attr,operator]
    card = {key: value for key, value in load_card("ef").items() if key != "sha256"}
    save_network(network, "ef", card, tmp_path / "own")
    shipped, own = EnergyHull.of(phases_file), EnergyHull.of(phases_file, weights=tmp_path / "own")
    np.testing.assert_allclose(own.phases.ef_ev_per_atom, shipped.phases.ef_ev_per_atom + 1, atol=2e-3)


def test_the_shipped_phases_have_the_shipped_predictors_energies_and_need_no_cache(own_cache: Path) -> None:
    hull = EnergyHull.of()
    assert hull.phases.report.rows_kept == len(hull.phases.formulas) > 80_000
    some = [hull.phases.formulas.index(formula) for formula in ("TiO2", "MgB2", "La2CuO4")]
    network = load_network("ef")
    predicted = network(torch.from_numpy(parse_fractions(["TiO2", "MgB2", "La2CuO4"])).float())
    np.testing.assert_allclose(hull.phases.ef_ev_per_atom[some], predicted, atol=1e-5)
    assert not own_cache.exists()
    x = parse_fractions(["TiO2"])
    assert hull.places(x, hull.energies(x))[0].is_phase
    of_calculations = EnergyHull.of(energies="file")
    assert of_calculations.phases.formulas == hull.phases.formulas
    assert of_calculations.ef is None


def test_other_weights_predict_the_shipped_phases_anew_once() -> None:
    other = Counted()
    phases = load_phases(None, other, "other weights")
    assert len(phases.formulas) == other.rows == phases.report.rows_kept
    np.testing.assert_allclose(phases.ef_ev_per_atom, -0.1 * np.diff(phases.fractions.indptr), atol=1e-6)
    again = Counted()
    assert same(load_phases(None, again, "other weights"), phases)
    assert again.rows == 0
