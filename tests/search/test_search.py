"""The room's public names."""

from __future__ import annotations

import subprocess
import sys

import pytest

import kiago_ray.search as room


def test_every_public_name_loads() -> None:
    for name in room.__all__:
        assert getattr(room, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = room.nonsense


def test_a_specification_is_read_without_torch() -> None:
    code = (
        "import sys; from kiago_ray.search import build_spec; build_spec({'preset': 'paper'}); "
        "heavy = {'torch', 'pandas', 'ray', 'mlflow', 'smact', 'pymatgen'} & set(sys.modules); "
        "sys.exit(str(sorted(heavy)) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
