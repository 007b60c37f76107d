"""The DOI of a reference, where its publisher makes it of journal, volume and page: SuperCon gives none."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_USUAL = re.compile(
    r"(?:.*, )?(?P<journal>[A-Z][A-Za-z. ]*?),? (?P<volume>\d+)"
    r"(?: \((?P<year>\d{4})\) (?P<page>[A-Z]?\d+)\S*|, (?P<page_first>[A-Z]?\d+) \((?P<year_last>\d{4})\).*)"
)
# Journal → the DOI's beginning, its volumes, and the year of a volume, None where volumes aren't years.
_JOURNALS: Mapping[str, tuple[str, range, Callable[[int], int] | None]] = {
    "phys rev": ("10.1103/PhysRev.", range(1, 189), None),
    "phys rev b": ("10.1103/PhysRevB.", range(1, 1000), lambda volume: 1970 + (volume - 1) // 2),
    "phys rev lett": ("10.1103/PhysRevLett.", range(1, 1000), lambda volume: 1958 + volume // 2),
    "j phys soc jpn": ("10.1143/JPSJ.", range(1, 82), lambda volume: 1931 + volume),
    "j phys soc japan": ("10.1143/JPSJ.", range(1, 82), lambda volume: 1931 + volume),
    "jpn j appl phys": ("10.1143/JJAP.", range(1, 52), lambda volume: 1961 + volume),
}

_SIX_DIGITS = {
    "10.1103/PhysRevB.": 63,
    "10.1103/PhysRevLett.": 87,
}  # the volume from which articles have as many


def doi_of(reference: str | None) -> str | None:
    """The DOI of a reference such as `Phys. Rev. B 63 (2001) 104508` or `Bud'ko et al., Phys. Rev. B 63, 220503
    (2001)`, None where it can't be told; also where the year isn't the volume's, which happens to one in a hundred.
    """
    match = _USUAL.fullmatch(reference or "")
    if match is None:
        return None
    begins, volumes, year_of = _JOURNALS.get(match["journal"].replace(".", "").lower(), ("", range(0), None))
    volume, year = int(match["volume"]), int(match["year"] or match["year_last"])
    if volume not in volumes or (year_of is not None and year_of(volume) != year):
        return None
    page = match["page"] or match["page_first"]
    if volume >= _SIX_DIGITS.get(begins, 1000) and page.isdigit():
        page = page.zfill(6)
    return f"{begins}{volume}.{page}"
