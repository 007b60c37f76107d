from __future__ import annotations

import pytest

from kiago_ray.errors import InputError
from kiago_ray.paper.sizes import EXPERIMENTS, FULL, QUICK, size_of


def test_the_full_size_is_the_papers() -> None:
    size = size_of(quick=False)
    assert size is FULL
    assert {size.candidates[each] for each in EXPERIMENTS} == {4096}
    assert size.steps == (500, 500)
    assert "4,096 candidates" in size.words("materials")


def test_options_go_above_the_size() -> None:
    size = size_of(quick=True, candidates=8, steps=(3, 4), seeds=(7, 9))
    assert set(size.candidates.values()) == {8}
    assert size.steps == size.ours_steps == (3, 4)
    assert size.seeds == size.spread_seeds == (7, 9)
    assert QUICK.candidates["materials"] > 8


@pytest.mark.parametrize(
    "options",
    [
        {"candidates": 0},
        {"candidates": 10**9},
        {"steps": (0, 5)},
        {"steps": (5, 10**9)},
        {"seeds": ()},
        {"seeds": (1, 1)},
        {"seeds": (-1,)},
    ],
)
def test_sizes_that_cant_be_run(options: dict) -> None:
    with pytest.raises(InputError, match="--"):
        size_of(quick=True, **options)
