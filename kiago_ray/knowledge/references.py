"""SuperCon's references as a person cites them: `Phys.Rev.B, 63(2001)104508` is `Phys. Rev. B 63 (2001) 104508`."""

from __future__ import annotations

import re

_USUAL = re.compile(
    r"(?P<name>[^\d(]*[^\d(\s,.])(?P<end>[\s,.]*)"
    r"(?P<volume>[A-Z]?\d[\w-]*)[\s,.]*\(\s*(?P<year>\d{4})\s*\)[\s,.]*(?P<page>\S+)"
)
_CLOSE = re.compile(r"(?<=[.,:])(?=[A-Za-z])")  # a word that ends and the next without a space
_SECTION = re.compile(r"\.?\s+([A-Z])$")  # Phys. Rev. B, Physica C


def written_reference(journal: str) -> str:
    """The reference with spaces where they belong; one of another form stays as it is, "" too."""
    text = " ".join(journal.split())
    match = _USUAL.fullmatch(text)
    if match is None:
        return text
    name = _CLOSE.sub(" ", match["name"])
    if name.isupper() and len(name) > 3:
        name = name.title()
    section = _SECTION.search(name)
    dot = "." if "." in match["end"] and section is None else ""
    if section is not None:
        head = name[: section.start()]
        name = f"{head}{'.' if '.' in head else ''} {section[1]}"
    return f"{name}{dot} {match['volume']} ({match['year']}) {match['page'].rstrip('.,')}"
