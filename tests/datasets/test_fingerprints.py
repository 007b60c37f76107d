"""Fingerprints know a composition however it is written, and no other; damaged files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kiago_ray.chemistry.formula import parse_fractions
from kiago_ray.datasets.files import DataError
from kiago_ray.datasets.fingerprints import fingerprints, is_known, load_fingerprints, write_fingerprints


def test_one_composition_has_one_fingerprint_however_it_is_written() -> None:
    rows = parse_fractions(["Ba0.6K0.4Fe2As2", "Ba3K2Fe10As10", "Ba0.5K0.5Fe2As2", "La2CuO4"])
    found = fingerprints(rows)
    assert found[0] == found[1]
    assert len(set(found.tolist())) == 3
    thirds = np.zeros((2, 118))
    thirds[0, [0, 7]] = 2 / 3, 1 / 3
    thirds[1, [0, 7]] = 1 - 1 / 3, 1 - 2 / 3  # other last bits
    assert fingerprints(thirds)[0] == fingerprints(thirds)[1]


def test_half_a_step_falls_on_one_side_whatever_its_last_bit() -> None:
    rows = np.zeros((2, 118))
    rows[:, 0] = [0.12345, np.nextafter(0.12345, 0)]
    rows[:, 7] = 1 - rows[:, 0]
    assert fingerprints(rows)[0] == fingerprints(rows)[1]


def test_written_fingerprints_are_found_again_and_others_not(tmp_path: Path) -> None:
    known = parse_fractions(["MgB2", "Nb3Sn", "YBa2Cu3O7", "Mg2B4"])
    assert write_fingerprints(tmp_path / "f.bin", known) == 3
    read = load_fingerprints(tmp_path / "f.bin")
    asked = parse_fractions(["Nb3Sn", "Nb3Ge", "Ba2YCu3O7", "MgB2.01"])
    assert is_known(asked, read).tolist() == [True, False, True, False]


def test_the_shipped_ones_know_supercon() -> None:
    shipped = load_fingerprints()
    assert len(shipped) > 11_000
    asked = parse_fractions(["MgB2", "La1.85Sr0.15CuO4", "YBa2Cu3O7", "HgBa2Ca2Cu3O8", "NaCl", "Xe2Pm"])
    assert is_known(asked, shipped).tolist() == [True, True, True, True, False, False]


@pytest.mark.parametrize("content", [b"", b"1234567", b"\2" + bytes(7) + b"\1" + bytes(7)])
def test_damaged_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f.bin").write_bytes(content)
    with pytest.raises(DataError, match="write it again or reinstall"):
        load_fingerprints(tmp_path / "f.bin")
    with pytest.raises(DataError, match="can't be read"):
        load_fingerprints(tmp_path / "missing.bin")


def test_what_is_no_composition_is_refused() -> None:
    with pytest.raises(ValueError, match="every row summing to 1"):
        fingerprints(np.ones((1, 118)))
