"""The oracle on disk and at work: what is saved comes back, all else is refused; statistics by their definitions."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from kiago_ray.chemistry.elements import ELEMNET_INDEX, INDEX, N_ELEMENTS, properties
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data.sources import load_supercon
from kiago_ray.predictors.base import predict
from kiago_ray.predictors.oracle import (
    STEP,
    Oracle,
    composition_statistics,
    load_oracle,
    save_oracle,
    statistic_names,
)
from kiago_ray.predictors.weights import (
    ORACLE,
    WeightsError,
    folder_with,
    load_card,
    load_predictors,
    shipped_weights,
)
from kiago_ray.training.tables import random_compositions, score

LITERATURE = Path(__file__).parents[1] / "data" / "literature_tc.tsv"


def some_rows(count: int) -> np.ndarray:
    return random_compositions(count, ELEMNET_INDEX, seed=3)


def member(seed: int, names: tuple[str, ...] | None = None) -> lightgbm.Booster:
    """Trees on made-up values around 0 K, so that some predictions fall below."""
    rows = composition_statistics(some_rows(200))
    values = np.random.default_rng(seed).normal(size=200) * 10 + 3
    data = lightgbm.Dataset(rows, values, feature_name=list(names or statistic_names()))
    parameters = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 3, "seed": seed}
    return lightgbm.train(parameters, data, 8)


@pytest.fixture(scope="module")
def members() -> tuple[lightgbm.Booster, ...]:
    return tuple(member(seed) for seed in range(3))


@pytest.fixture
def folder(members: tuple[lightgbm.Booster, ...], tmp_path: Path) -> Path:
    save_oracle(members, {"kind": "tc_oracle"}, tmp_path)
    return tmp_path


def forge(folder: Path, content: bytes) -> None:
    """Another file with a card that vouches for it."""
    (folder / "tc_oracle.txt.gz").write_bytes(content)
    card = {"sha256": hashlib.sha256(content).hexdigest()}
    (folder / "tc_oracle.json").write_text(json.dumps(card))


def test_what_is_saved_comes_back(members: tuple[lightgbm.Booster, ...], folder: Path) -> None:
    rows = some_rows(300)
    each = np.stack([m.predict(composition_statistics(rows)) for m in members])
    assert (each < 0).any()
    mean, spread = load_oracle(folder).predict(rows)
    np.testing.assert_allclose(mean, each.clip(0).mean(0), rtol=1e-12)
    np.testing.assert_allclose(spread, each.clip(0).std(0, ddof=1), rtol=1e-12)
    before = (folder / "tc_oracle.txt.gz").read_bytes()
    save_oracle(members, {"kind": "tc_oracle"}, folder)
    assert (folder / "tc_oracle.txt.gz").read_bytes() == before


def test_threads_and_neighbouring_rows_change_nothing(folder: Path) -> None:
    oracle, rows = load_oracle(folder), some_rows(60)
    mean, spread = oracle.predict(rows)
    for other in (oracle.predict(rows, num_threads=2), load_oracle(folder).predict(rows)):
        np.testing.assert_array_equal(other, (mean, spread))
    alone = [oracle.predict(row[None]) for row in rows]
    np.testing.assert_array_equal(np.concatenate(alone, axis=1), (mean, spread))
    assert [values.shape for values in oracle.predict(rows[:0])] == [(0,), (0,)]


def test_a_changed_byte_and_missing_files_are_refused(folder: Path) -> None:
    path = folder / "tc_oracle.txt.gz"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WeightsError, match="SHA-256"):
        load_oracle(folder)
    path.unlink()
    with pytest.raises(WeightsError, match=r"no weights at .*tc_oracle\.txt\.gz"):
        load_oracle(folder)
    (folder / "tc_oracle.json").unlink()
    with pytest.raises(WeightsError, match=r"tc_oracle\.json"):
        load_oracle(folder)


def test_what_is_no_oracle_is_refused(folder: Path) -> None:
    text = gzip.decompress((folder / "tc_oracle.txt.gz").read_bytes())
    one = b"tree\n" + text.split(b"\ntree\n")[1]
    torn = one[: len(one) // 2]
    foreign = member(0, tuple(f"x{i}" for i in range(len(statistic_names())))).model_to_string().encode()
    for content, complaint in [
        (b"tree\nversion=v4\n", "not a gzipped text"),
        (gzip.compress(text, mtime=0)[:-40], "not a gzipped text"),
        (gzip.compress(b"\xff\xfe", mtime=0), "not a gzipped text"),
        (gzip.compress(b"{}", mtime=0), "no LightGBM model"),
        (gzip.compress(b"tree\nnothing\ntree\nnothing\n", mtime=0), "no LightGBM model"),
        (gzip.compress(torn + b"\n" + torn, mtime=0), "no LightGBM model"),
        (gzip.compress(one, mtime=0), "a single member"),
        (gzip.compress(foreign * 2, mtime=0), "other inputs"),
    ]:
        forge(folder, content)
        with pytest.raises(WeightsError, match=complaint):
            load_oracle(folder)


def test_too_large_a_file_is_refused_unread(folder: Path) -> None:
    with (folder / "tc_oracle.txt.gz").open("wb") as file:
        file.truncate(1025 << 20)
    with pytest.raises(WeightsError, match="1025 MiB"):
        load_oracle(folder)


def test_a_folder_of_networks_alone_is_judged_by_the_shipped_oracle(folder: Path, tmp_path: Path) -> None:
    assert folder_with(ORACLE, folder) == folder
    assert folder_with(ORACLE, tmp_path / "none") is None
    assert folder_with(ORACLE, None) is None


@pytest.fixture(scope="module")
def shipped() -> Oracle:
    return load_oracle()


def test_a_score_of_the_card_is_recomputed_from_the_trees(shipped: Oracle) -> None:
    """On 40 compositions, T_c from the literature, that were kept out of every fit."""
    table, _ = load_supercon(LITERATURE)
    mean, _ = shipped.predict(parse_fractions(table["formula"]).astype(np.float32))
    scores = score(mean, table["tc_k"].to_numpy(), high=50)
    assert scores == pytest.approx(load_card("tc_oracle")["literature"], abs=1e-3)


def test_the_card_holds_what_was_aimed_at() -> None:
    card = load_card("tc_oracle")
    for split, r2 in (("random", 0.91), ("system", 0.80)):
        scores = card["splits"][split]
        assert scores["oracle"]["r2"] >= r2
        assert scores["oracle"]["r2"] >= scores["extra_trees"]["r2"] - 0.005
        assert scores["oracle"]["rows"] == scores["extra_trees"]["rows"]
        assert scores["held_out_non_superconductors"]["mean_tc_k"] < 3
    assert {"random", "system"} <= set(card["cross_validation"])
    assert card["cross_validation"]["random"]["r2"] > card["cross_validation"]["system"]["r2"]
    assert len(card["limits"]) >= 4
    assert (shipped_weights() / "tc_oracle.txt.gz").stat().st_size < 6e6


def test_it_knows_the_landmarks_and_is_no_network(shipped: Oracle) -> None:
    rows = parse_fractions(["YBa2Cu3O7", "MgB2", "Nb3Sn", "NaCl", "SiO2"]).astype(np.float32)
    mean, spread = shipped.predict(rows)
    assert mean[:3] == pytest.approx([91, 38, 18], abs=8)
    assert (mean[3:] < 3).all()
    again = shipped.predict(parse_fractions(["Y2Ba4Cu6O14", "Mg2B4", "Nb6Sn2", "Na3Cl3", "Si2O4"]))
    np.testing.assert_array_equal(again, (mean, spread))
    assert (spread >= 0).all()
    random = some_rows(500)
    assert np.abs(shipped.predict(random)[0] - predict(load_predictors().tc, random).clip(0)).mean() > 1
    assert shipped.predict(random)[0].max() < 150


FORMULAS = ["YBa2Cu3O7", "MgB2", "LaNiAsO", "Nb", "Hg0.8Tl0.2Ba2Ca2Cu3O8.33", "La1.85Sr0.15CuO4"]


def column(rows: np.ndarray, name: str) -> np.ndarray:
    return rows[:, statistic_names().index(name)]


def by_definition(row: np.ndarray) -> list[float]:
    """One composition's statistics, written with numpy's weighted functions over the elements that it holds."""
    held = np.flatnonzero(row)
    x, found = row[held], []
    values = properties().values[held]
    mean = np.average(values, axis=0, weights=x)
    found += [*mean, *np.sqrt(np.average((values - mean) ** 2, axis=0, weights=x))]
    found += [*values.min(0), *values.max(0), *np.ptp(values, axis=0)]
    found += [*np.average(abs(values - mean), axis=0, weights=x), *values[x.argmax()]]
    norms = [np.linalg.norm(x, power) for power in (2, 3, 7)]
    return [*found, len(held), *norms, -float((x * np.log(x)).sum()), x.max()]


def steps() -> np.ndarray:
    """What each column is rounded to."""
    return STEP * np.concatenate([np.tile(properties().values.std(axis=0), 7), np.ones(6)])


def test_they_are_what_the_definitions_give() -> None:
    rows = parse_fractions(FORMULAS)
    found = composition_statistics(rows)
    assert found.shape == (len(FORMULAS), len(statistic_names()))
    off = np.abs(found - [by_definition(row) for row in rows])
    assert (off <= 0.51 * steps()).all()


def test_known_figures_of_magnesium_diboride() -> None:
    rows = composition_statistics(parse_fractions(["MgB2"]))
    assert column(rows, "mean_atomic_number") == pytest.approx((12 + 2 * 5) / 3, abs=2e-3)
    assert column(rows, "range_electronegativity_pauling") == pytest.approx(2.04 - 1.31, abs=1e-4)
    assert column(rows, "most_abundant_atomic_number") == pytest.approx(5, abs=2e-3)
    assert column(rows, "entropy") == pytest.approx(np.log(3) - 2 / 3 * np.log(2), abs=1e-4)
    assert column(rows, "norm_2") == pytest.approx(np.sqrt(5) / 3, abs=1e-4)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    generator = np.random.default_rng(0)
    wide = generator.dirichlet(np.ones(N_ELEMENTS), size=5)
    rows = np.concatenate([parse_fractions(FORMULAS), wide])
    together = composition_statistics(rows)
    alone = np.concatenate([composition_statistics(row[None]) for row in rows])
    np.testing.assert_array_equal(together, alone)


def test_the_last_digits_of_amounts_change_nothing() -> None:
    rows = parse_fractions(FORMULAS)
    found = composition_statistics(rows)
    np.testing.assert_array_equal(composition_statistics(rows.astype(np.float32)), found)
    shaken = rows * (1 + 1e-7 * np.random.default_rng(0).normal(size=rows.shape))
    same = composition_statistics(shaken.astype(np.float32)) == found
    assert same.mean() > 0.995
    # Cu, Ni and Zn all stand in period 4: a deviation of exactly 0, however their fractions are rounded.
    assert column(composition_statistics(parse_fractions(["Cu3Ni2Zn2"])), "deviation_period") == 0


def test_of_equal_amounts_the_lightest_counts_as_the_most_abundant() -> None:
    assert column(
        composition_statistics(parse_fractions(["LaNiAsO"])), "most_abundant_atomic_number"
    ) == pytest.approx(8, abs=2e-3)


def test_no_column_is_one_element() -> None:
    """A change of one element alone moves many columns: amounts are read through properties only."""
    names = statistic_names()
    assert len(set(names)) == len(names) == 7 * len(properties().names) + 6
    one, other = composition_statistics(parse_fractions(["La2CuO4", "Nd2CuO4"]))
    assert (one != other).sum() > 50


def test_what_is_no_composition_is_refused() -> None:
    rows = parse_fractions(["MgB2", "Nb"])
    with pytest.raises(ValueError, match=r"shape \(118,\)"):
        composition_statistics(rows[0])
    for wrong in (-0.1, np.nan, np.inf):
        bad = rows.copy()
        bad[1, INDEX["O"]] = wrong
        with pytest.raises(ValueError, match="finite and not negative"):
            composition_statistics(bad)
    with pytest.raises(ValueError, match="row 1 of the amounts holds no atoms"):
        composition_statistics(rows * np.array([[1], [0]]))
    assert composition_statistics(rows[:0]).shape == (0, len(statistic_names()))
