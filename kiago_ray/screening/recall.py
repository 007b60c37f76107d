"""What the screens let pass: measured by benchmarks/screens.py, shipped as screen_recall.json.

Of known superconductors a screen should let pass nearly all (recall); of the same compositions with one or two
elements swapped at random, few.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

FILE = "screen_recall.json"
REQUIRED = "default"  # among the names: all screens together that the preset default requires


@dataclass(frozen=True)
class Passing:
    """Shares that pass, None where that wasn't measured: of known superconductors, of those above 30 K, of swaps."""

    recall: float | None
    recall_above_30_k: float | None
    swaps: float | None


@dataclass(frozen=True)
class ScreenRecall:
    """What was measured, on how many of each. screens: by name, and REQUIRED."""

    superconductors: int
    swaps: int
    screens: Mapping[str, Passing]


def load_screen_recall() -> ScreenRecall:
    """The shipped figures."""
    plain = json.loads(resources.files(__package__).joinpath(FILE).read_text(encoding="utf-8"))
    return ScreenRecall(
        plain["superconductors"],
        plain["swaps"],
        {name: Passing(**values) for name, values in plain["screens"].items()},
    )
