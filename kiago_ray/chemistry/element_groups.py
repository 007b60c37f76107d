"""Words for elements that a laboratory may want to leave out, and the elements that each word stands for.

- toxic: elements whose common compounds are poisonous enough to need precautions of their own: Be, Cd, Hg, Tl and Pb,
  and Os for its volatile oxide. As, Se, Sb and Te need care too, but whole families of superconductors rest on them;
  As has the word "arsenic".
- radioactive: elements without a stable or nearly stable isotope: Tc, Pm, and all from Po on. Bi counts as stable.
- noble-gas: He, Ne, Ar, Kr, Xe, Rn and Og, which hardly enter a solid.
- rare: Re, Au and the platinum metals, and what is won only as a trace of other ores, some hundred tonnes a year or
  less: Sc, Ga, Ge, Rb, In, Te, Cs, Tl, and of the lanthanides the scarcest, Tm and Lu.
- arsenic: As.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kiago_ray.chemistry.elements import INDEX, SYMBOLS

GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "toxic": ("Be", "Cd", "Os", "Hg", "Tl", "Pb"),
        "radioactive": ("Tc", "Pm", *SYMBOLS[INDEX["Po"] :]),
        "noble-gas": ("He", "Ne", "Ar", "Kr", "Xe", "Rn", "Og"),
        "rare": (
            *("Sc", "Ga", "Ge", "Rb", "Ru", "Rh", "Pd", "In", "Te"),
            *("Cs", "Tm", "Lu", "Re", "Os", "Ir", "Pt", "Au", "Tl"),
        ),
        "arsenic": ("As",),
    }
)
"""Word → symbols by atomic number."""


def named_elements(words: list[str], own: frozenset[str] = frozenset()) -> list[str]:
    """The symbols that these words and symbols stand for, by atomic number.

    own: elements that a word doesn't take away, such as those of a base; a symbol does. Raises ValueError for what is
    neither.
    """
    found: set[str] = set()
    for word in words:
        if word in INDEX:
            found.add(word)
        elif word in GROUPS:
            found |= set(GROUPS[word]) - own
        else:
            raise ValueError(f"{word!r} is neither an element nor one of {', '.join(GROUPS)}")
    return sorted(found, key=INDEX.__getitem__)
