"""The oracle on disk and at work: what is saved comes back, is bounded, and everything else is refused."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from kiago_ray.chemistry.elements import ELEMNET_INDEX
from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.data.supercon import load_supercon
from kiago_ray.predictors import WeightsError, load_card, load_predictors
from kiago_ray.predictors.base import predict
from kiago_ray.predictors.oracle import (
    Oracle,
    composition_statistics,
    load_oracle,
    save_oracle,
    statistic_names,
)
from kiago_ray.predictors.weights import ORACLE, folder_with, shipped_weights
from kiago_ray.training.fit import score
from kiago_ray.training.tables import random_compositions

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
