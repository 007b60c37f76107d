"""What exists already: COD's compounds and those that the Materials Project has as stable."""

from __future__ import annotations

from functools import cache

from kiago_ray.knowledge.identity import KnownCompositions
from kiago_ray.knowledge.tables import made, phases

MATERIALS_PROJECT = "Materials Project"


@cache
def made_compounds() -> KnownCompositions:
    """The compounds by what a person looks them up by: "COD 2310018, space group 176", "COD" for those that only its
    list of 2007 has, "Materials Project" for those that are stable there. COD's come first.
    """
    cod = made()
    names = [
        _name(None if missing else int(code), None if unknown else int(group))
        for code, missing, group, unknown in zip(
            cod["code"].fillna(0),
            cod["code"].isna(),
            cod["spacegroup"].fillna(0),
            cod["spacegroup"].isna(),
            strict=True,
        )
    ]
    project = phases()
    stable = project["formula"][project["decomposition_ev_per_atom"] <= 0].tolist()
    return KnownCompositions.of(
        [*cod["formula"].tolist(), *stable], names=[*names, *[MATERIALS_PROJECT] * len(stable)]
    )


def _name(code: int | None, group: int | None) -> str:
    if code is None:
        return "COD"
    return f"COD {code}" + ("" if group is None else f", space group {group}")
