"""Judging what a search proposed: named screens, ranking, a summary. Nothing here reads or writes files."""

from __future__ import annotations

from kiago_ray.screening.candidates import Candidates, KnownMaterials, collect
from kiago_ray.screening.rank import order, unique
from kiago_ray.screening.screens import Screen, Verdicts, apply_screens, available_screens
from kiago_ray.screening.summary import BaseMaterial, Summary, TopMean, summarise

__all__ = [
    "BaseMaterial",
    "Candidates",
    "KnownMaterials",
    "Screen",
    "Summary",
    "TopMean",
    "Verdicts",
    "apply_screens",
    "available_screens",
    "collect",
    "order",
    "summarise",
    "unique",
]
