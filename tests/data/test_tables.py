"""The shipped tables hold what SOURCES.md says, and facts that can be looked up elsewhere."""

from __future__ import annotations

from importlib import resources

import pytest

from kiago_ray.chemistry.formula import parse
from kiago_ray.data import tables
from kiago_ray.data.compositions import sparse_fractions
from kiago_ray.data.files import DataError
from kiago_ray.data.tables import made, made_compounds, phases, superconductors, tried
from kiago_ray.predictors import load_card

MOST_BYTES = 8_000_000


def test_they_are_small_and_their_sources_stand_beside_them() -> None:
    folder = resources.files("kiago_ray.data")
    names = (tables.SUPERCONDUCTORS, tables.PHASES, tables.MADE, tables.TRIED)
    assert sum(len((folder / name).read_bytes()) for name in names) < MOST_BYTES
    sources = (folder / "SOURCES.md").read_text(encoding="utf-8")
    counts = [len(table) for table in (superconductors(), phases(), made(), tried())]
    for name, count in zip(names, counts, strict=True):
        assert name in sources
        assert f"{count:,}" in sources


def test_superconductors() -> None:
    table = superconductors()
    assert set(table["oxygen"]) == {"stated", "nominal", "any"}
    assert not table.duplicated(["formula", "oxygen"]).any()
    assert (table["reports"] >= 1).all()
    assert table["tc_k"].between(table["tc_min_k"], table["tc_max_k"]).all()
    assert (table["tc_spread_k"] <= table["tc_max_k"] - table["tc_min_k"] + 1e-9).all()
    assert (table["year_first"].dropna() >= 1911).all()
    stated = table[table["oxygen"] == "stated"].set_index("formula")
    assert stated.loc["LaFeAsO0.9F0.1", "year_first"] == 2008
    assert stated.loc["Ba2YCu3O7", "structure"] == "Y123"
    assert stated.loc["Nb3Sn", "tc_k"] == pytest.approx(18, abs=0.5)


def test_phases_hold_the_shipped_predictors_energies() -> None:
    table = phases().set_index("formula")
    assert tables.phases_ef_sha256() == load_card("ef", None)["sha256"]
    # Per atom: −601.6 kJ/mol is −3.118 eV for two atoms of MgO at 298 K.
    assert table.loc["MgO", "ef_ev_per_atom"] == pytest.approx(-3.118, abs=0.2)
    assert table.loc["MgO", "ef_predicted_ev_per_atom"] == pytest.approx(-3.118, abs=0.3)
    assert table.loc["MgO", "decomposition_ev_per_atom"] < 0


def test_made_names_entries_of_cod() -> None:
    table = made().set_index("formula")
    assert table.index.is_unique
    assert table.loc["MgB2", "spacegroup"] == 191
    assert not table["code"].isna().all()
    assert table["in_2007"][table["code"].isna()].all()
    assert not any({"C", "H"} <= set(parse(formula)) for formula in table.index[::50])
    names = made_compounds().same_as(sparse_fractions(["MgB2", "Mg5B3"]).toarray())
    assert names[0] == f"COD {table.loc['MgB2', 'code']}, space group 191"
    assert names[1] is None


def test_tried_holds_successes_and_failures() -> None:
    table = tried().set_index("formula")
    assert (table["tc_k"] == 0).sum() == 174
    assert table["tc_k"].max() == 56


def test_a_damaged_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"other\.parquet: can't be read .*reinstall"):
        tables.content("other.parquet")
    monkeypatch.setattr(tables, "content", lambda name: b"PAR1 cut short")
    with pytest.raises(DataError, match=r"made\.parquet: it is damaged"):
        made()
