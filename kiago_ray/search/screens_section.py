"""The section `screens` of a specification: what proposals are judged and ordered by. See sections.py."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kiago_ray.search.sections import Section


class ScreensSpec(Section):
    """Screens that proposals are judged by afterwards, in this order (section 3.1), and what orders them. They don't
    steer the search, but for what `charge` and `projection.neutral` do.
    """

    names: tuple[
        Literal[
            "neutral",
            "pauling",
            "balanced",
            "plausible",
            "neutral_mixed",
            "neutral_atoms",
            "hydride",
            "ef_negative",
            "few_elements",
            "near_hull",
        ],
        ...,
    ] = Field(
        default=("balanced", "plausible", "few_elements"),
        max_length=20,
        description="neutral: charge neutrality; pauling: electronegativity balance; balanced: likely states add up "
        "to 0, mixed valence being the rule, or metals and intermetallics; plausible: exists with a "
        "probability of at least min_existence; neutral_mixed: as pauling, mixed "
        "valence allowed (needs charge.mixed_valence); neutral_atoms: neutral, each atom with a valence of its own "
        "(section 3.6); hydride: at least 40 % hydrogen, two or three elements, at most 15 atoms; "
        "ef_negative: formation energy below 0 eV/atom; few_elements: at most `max_elements` elements; "
        "near_hull: at most max_e_hull_ev_per_atom above the hull of competing phases, which `kiago search` has, "
        "judged on the best rows that pass the other screens.",
    )
    max_elements: int = Field(
        default=9, ge=1, le=118, description="Most elements a proposal may hold to pass few_elements."
    )
    max_e_hull_ev_per_atom: float = Field(
        default=0.1,
        ge=0,
        le=10,
        description="Most energy above the hull, in eV/atom, to pass near_hull. By ElemNet 88 % of the compounds that "
        "are stable by DFT lie within 0.1 of the hull of the others, and 66 % at or below it.",
    )
    max_charge_nats: float = Field(
        default=1.25,
        ge=0,
        le=10,
        description="How unlikely the states may be, in nats an atom, to pass balanced. Of SuperCon's compositions "
        "with T_c > 0 99.0 % pass at 1.25, 97.6 % at 0.75; of those above 30 K 98.8 % and 98.4 %.",
    )
    min_existence: float = Field(
        default=0.06,
        ge=0,
        le=1,
        description="Least probability to exist to pass plausible, which `kiago search --help` tells the recall of.",
    )
    nearby_distance: float = Field(
        default=0.2,
        ge=0,
        le=2,
        description="L1 distance in fractions within which a known composition counts as near a row, or near the "
        "base; the best of these is what an improvement is over.",
    )
    rank_by: Literal["improvement", "trusted", "tc", "plausibility"] = Field(
        default="improvement",
        description="What orders the proposals that passed: improvement, the plausibility and what T_c is expected to "
        "gain over the best known nearby; trusted, the lower bound that heeds the ensemble's spread, the oracle and "
        "the extrapolation; tc, the predicted T_c alone, as in the paper; plausibility alone. `default` asks for what "
        "a laboratory would: that it can be made, and is better. By T_c alone a search ends where its own predictor "
        "is most optimistic.",
    )
    improvement_offset_k: float = Field(
        default=0.02,
        gt=0,
        le=10_000,
        description="For rank_by improvement: K that are added to the expected improvement before it is multiplied by "
        "the plausibility. Near 0 it is the product, at 100 plausibility counts most, for those who want to find what "
        "is real whether or not it is better.",
    )
    improvement_tc_share: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="For rank_by improvement: the share of the trusted T_c that is added likewise, so that of rows "
        "which are no gain those with a T_c near the best stand before those without one.",
    )
    most_per_system: int = Field(
        default=3,
        ge=1,
        le=1000,
        description="For rank_by improvement: most of the first 30 proposals that hold the same elements.",
    )
    new_systems_first: bool = Field(
        default=False,
        description="Rows of chemical systems with a known superconductor stand behind the others, as known "
        "compositions do.",
    )
