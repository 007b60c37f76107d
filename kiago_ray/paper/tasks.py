"""The three families of experiments (sections 3.4 to 3.6) and the methods that are compared in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kiago_ray.search import SearchSpec, load_preset
from kiago_ray.search.presets import preset_values

Family = Literal["materials", "sites", "hydrides"]
Method = Literal["kiago", "ours", "superdiff", "superdiff_cg", "substitution"]

METHODS: tuple[Method, ...] = ("kiago", "ours", "superdiff", "superdiff_cg", "substitution")
SEARCHES: tuple[Method, ...] = ("kiago", "ours")
BASELINES: tuple[Method, ...] = ("superdiff", "superdiff_cg", "substitution")
LABELS: Mapping[str, str] = {
    "kiago": "KIAGO",
    "ours": "ours",
    "superdiff": "SD",
    "superdiff_cg": "SD w/ CG",
    "substitution": "C-ES",
}

MATERIALS = (
    "LaNiAsO",
    "SrFe1.88Ni0.12As2",
    "Sr4V2Fe2As2O6",
    "LaPt2B2C",
    "HgBa2Ca2Cu3O8",
    "CeBi2O3",
    "Bi2Sr2CuO6",
    "TlSr2CaCu2O7",
)
"""Table 2's bases."""

SITES: Mapping[str, tuple[str, int]] = {
    "CeFeAsF0.2O0.8": ("Ce", 3),
    "LaFeAsO": ("La", 3),
    "SrFe2As2": ("Sr", 2),
    "Bi2CaSr2Cu2O8": ("Bi", 3),
    "CeNiC2": ("Ce", 4),
    "LaNiC2": ("La", 3),
    "MgCoNi3": ("Co", 2),
    "RuSr2GdCu2O8": ("Sr", 2),
    "RuSr2YCu2O8": ("Y", 3),
    "Y2Fe3Si5": ("Y", 3),
    "YIrSi": ("Y", 3),
}
"""Table 5's bases, and in each the site with its oxidation state."""

HYDRIDES = ("PdH", "PtH", "LaH10", "H2S", "H4Si")
"""Table 9's bases."""

INTEGER_MATERIALS = (
    *MATERIALS,
    "LaFeAsO",
    "SrFe2As2",
    "Bi2CaSr2Cu2O8",
    "LaNiC2",
    "RuSr2YCu2O8",
    "Y2Fe3Si5",
    "MgCoNi3",
)
"""Table 1's 15 superconductors, which the paper doesn't name: Table 2's bases and seven of Table 5's."""

_PRESET: Mapping[Family, str] = {"materials": "paper", "sites": "substitution", "hydrides": "hydride"}
_OURS: Mapping[Family, tuple[str, ...]] = {
    "materials": (),
    "sites": (
        "alpha",
        "tc_gradient",
        "tc_predictor",
        "kappa",
        "extrapolation_weight",
        "learning_rate_schedule",
        "revive",
    ),
    "hydrides": (
        "alpha",
        "beta",
        "tc_gradient",
        "tc_predictor",
        "kappa",
        "extrapolation_weight",
        "learning_rate_schedule",
        "revive",
    ),
}
"""Fields of `open` that its search takes over in the families that have presets of their own."""


@dataclass(frozen=True)
class Task:
    """One base of one family."""

    family: Family
    base: str

    @property
    def site(self) -> tuple[str, int] | None:
        """The site that is substituted and its oxidation state, in the family `sites`."""
        return SITES[self.base] if self.family == "sites" else None

    @property
    def sites(self) -> dict[str, int]:
        """The only elements that C-ES exchanges, with their states; {} where all may be."""
        return {} if self.site is None else dict([self.site])

    @property
    def kept(self) -> tuple[str, ...]:
        """Elements that C-ES leaves alone."""
        return ("H",) if self.family == "hydrides" else ()

    def search(self, method: Method, changes: Mapping[str, Any]) -> SearchSpec:
        """The search of "kiago" (the paper's equations and constants) or "ours" (`open`'s: as the paper
        searches, any element may come in).
        """
        return load_preset(self._preset(method), {**self._overrides(method), **changes})

    def judge(self) -> SearchSpec:
        """The specification whose screens and T_c predictor judge what every method proposes: the paper's."""
        return load_preset(_PRESET[self.family], {"base": self.base, **self._substitute()})

    def _preset(self, method: Method) -> str:
        return "open" if method == "ours" and self.family == "materials" else _PRESET[self.family]

    def _overrides(self, method: Method) -> dict[str, Any]:
        ours = preset_values("open")
        taken = _OURS[self.family] if method == "ours" else ()
        return {"base": self.base, **self._substitute(), **{name: ours[name] for name in taken}}

    def _substitute(self) -> dict[str, Any]:
        return {"substitute": self.sites} if self.sites else {}


def tasks_of(family: Family) -> tuple[Task, ...]:
    """A task for each base of the family, in the paper's order."""
    bases = {"materials": MATERIALS, "sites": tuple(SITES), "hydrides": HYDRIDES}[family]
    return tuple(Task(family, base) for base in bases)


def ours_words(family: Family) -> str:
    """What the search of the column "ours" is, for a person."""
    if family == "materials":
        return "`ours` is the preset `open`."
    taken = ", ".join(_OURS[family])
    return f"`ours` is the preset `{_PRESET[family]}` with these fields of `open`: {taken}."
