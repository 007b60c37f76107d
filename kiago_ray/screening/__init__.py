"""Judging what a search proposed: named screens, ranking, a summary. Nothing here reads or writes files."""

from __future__ import annotations

from kiago_ray.screening.candidates import Candidates, SecondOpinions, collect, trusted_tc_k
from kiago_ray.screening.known import KnownMaterials, TriedMaterials
from kiago_ray.screening.rank import Ranking, Standing, order, pareto_front, unique
from kiago_ray.screening.screens import Screen, Verdicts, apply_screens, available_screens, check_phases
from kiago_ray.screening.summary import BaseMaterial, BestRows, Summary, TopMean, summarise

__all__ = [
    "BaseMaterial",
    "BestRows",
    "Candidates",
    "KnownMaterials",
    "Ranking",
    "Screen",
    "SecondOpinions",
    "Standing",
    "Summary",
    "TopMean",
    "TriedMaterials",
    "Verdicts",
    "apply_screens",
    "available_screens",
    "check_phases",
    "collect",
    "order",
    "pareto_front",
    "summarise",
    "trusted_tc_k",
    "unique",
]
