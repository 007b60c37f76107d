"""The room's public names."""

from __future__ import annotations

import pytest

import kiago_ray.datasets as room


def test_every_public_name_loads() -> None:
    for name in room.__all__:
        assert getattr(room, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = room.nonsense
