"""Energies of phases: their source's, else predicted and cached, never for another file or other weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data import tables
from kiago_ray.hull import EnergyHull, Phases, judge, load_phases
from kiago_ray.predictors.energy import EnergyEnsemble
from kiago_ray.predictors.weights import load_card, load_energies, save_network

FORMULAS = ["TiO2", "La1.85Sr0.15CuO4", "YBa2Cu3O7", "MgB2", "PuO2"]


class Counted(EnergyEnsemble):
    """A predictor that counts the rows it is asked for."""

    def __init__(self, factor: float = -0.1) -> None:
        super().__init__()
        self.known[87] = 0  # Ra
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


def test_phases_without_energies_have_predicted_ones(phases_file: Path) -> None:
    hull, network = EnergyHull.of(phases_file), load_energies().on_scale("materials_project")
    predicted = network(torch.from_numpy(parse_fractions(hull.phases.formulas)).float())
    np.testing.assert_allclose(hull.phases.ef_ev_per_atom, predicted, atol=1e-5)
    assert hull.phases.report.dropped == {
        "an element that the predictor doesn't know": 1,
        "an element, at 0 eV/atom by definition": 1,
    }
    np.testing.assert_allclose(hull.phases.fractions.toarray(), parse_fractions(hull.phases.formulas))
    x = parse_fractions(["TiO2", "Ti7O9", "Fe", "RaO"])
    energies, spread = hull.energies(x)
    own = hull.phases.ef_ev_per_atom[hull.phases.formulas.index("TiO2")]
    assert energies[0] == pytest.approx(own, abs=1e-5)  # in double precision
    assert energies[1] == pytest.approx(float(network(torch.from_numpy(x[1:2]).float())), abs=1e-5)
    assert energies[2] == 0
    assert np.isnan(energies).tolist() == [False, False, False, True]
    assert np.isnan(spread).tolist() == [False, False, True, True]  # a predicted phase has a σ
    (known, other) = judge(hull, ["TiO2", "RaO"])
    assert (known.error, other.error) == (None, "the predictor doesn't know Ra")


def test_phases_with_energies_keep_them_and_blanks_are_predicted(phases_file: Path) -> None:
    phases_file.write_text("formula,e_form\nTiO2,-3.0\nTi2O3,\n")
    hull = EnergyHull.of(phases_file)
    energies = dict(zip(hull.phases.formulas, hull.phases.ef_ev_per_atom.tolist(), strict=True))
    predicted = load_energies().on_scale("materials_project")(
        torch.from_numpy(parse_fractions(["Ti2O3"])).float()
    )
    assert energies == {"TiO2": -3.0, "Ti2O3": pytest.approx(float(predicted), abs=1e-5)}
    (found,) = judge(hull, ["Ti3O5"])
    assert found.ef_std_ev_per_atom > 0


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
    phases = load_phases(phases_file, Counted(), "a")
    assert len(phases.formulas) == len(FORMULAS)
    told = f"read anew each time: {tmp_path / 'file'} can't keep it (Not a directory); name a folder in KIAGO_CACHE"
    assert phases.report.warnings[-1] == told


@pytest.mark.parametrize("cache", ["~nobody-of-this-name/x", None])
def test_without_a_home_all_works_without_a_cache(
    cache: str | None, phases_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_entry(user: int) -> None:
        raise KeyError(user)

    monkeypatch.setattr("pwd.getpwuid", no_entry)
    for name in ("HOME", "XDG_CACHE_HOME", "KIAGO_CACHE"):
        monkeypatch.delenv(name, raising=False)
    if cache is not None:
        monkeypatch.setenv("KIAGO_CACHE", cache)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    phases = load_phases(phases_file.absolute(), Counted(), "a")
    assert len(phases.formulas) == len(FORMULAS)
    assert phases.report.warnings[-1].endswith("name a folder in KIAGO_CACHE")
    assert list(Path().iterdir()) == []  # no folder `~`


def test_the_oldest_kept_give_way(
    phases_file: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kiago_ray.hull.MAX_KEPT", 2)
    for weights in "abcd":
        load_phases(phases_file, Counted(), weights)
    assert len(list(own_cache.iterdir())) == 2


def test_weights_of_a_folder_count(phases_file: Path, tmp_path: Path) -> None:
    network = load_energies()
    with torch.no_grad():
        for member in network.members:
            member.head.bias += 1.0  # type: ignore[operator,union-attr]
    card = {key: value for key, value in load_card("ef_ensemble").items() if key != "sha256"}
    save_network(network, "ef_ensemble", card, tmp_path / "own")
    shipped, own = EnergyHull.of(phases_file), EnergyHull.of(phases_file, weights=tmp_path / "own")
    np.testing.assert_allclose(own.phases.ef_ev_per_atom, shipped.phases.ef_ev_per_atom + 1, atol=2e-3)


def test_the_shipped_phases_have_their_sources_energies_and_need_no_cache(own_cache: Path) -> None:
    hull = EnergyHull.of()
    assert hull.phases.report.rows_kept == len(hull.phases.formulas) > 80_000
    assert not own_cache.exists()
    x = parse_fractions(["TiO2", "MgB2"])
    energies, _ = hull.energies(x)
    assert energies == pytest.approx([-3.52, -0.13], abs=0.05)
    places = hull.places(x, energies)
    assert [place.is_phase for place in places] == [True, True]
    assert [place.e_hull_ev_per_atom for place in places] == [0, 0]
    of_calculations = EnergyHull.of(energies="file")
    assert of_calculations.phases.formulas == hull.phases.formulas
    assert of_calculations.ef is None


def test_the_hull_is_the_materials_projects_own(own_cache: Path) -> None:
    """Their decomposition energies are worked out against all of their ground states."""
    table, hull = tables.phases(), EnergyHull.of()
    some = table.sample(200, random_state=0)
    places = hull.places(parse_fractions(some["formula"].tolist()), some["ef_ev_per_atom"].to_numpy(float))
    ours = np.array([place.e_decomposition_ev_per_atom for place in places])
    assert np.median(np.abs(ours - some["decomposition_ev_per_atom"])) < 1e-3
