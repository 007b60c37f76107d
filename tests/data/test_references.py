"""DOIs that a publisher makes of journal, volume and page; each of these is registered."""

from __future__ import annotations

import pytest

from kiago_ray.data.references import doi_of


@pytest.mark.parametrize(
    ("reference", "doi"),
    [
        ("Phys. Rev. B 63 (2001) 104508", "10.1103/PhysRevB.63.104508"),
        ("Phys. Rev. B 65 (2002) 24523", "10.1103/PhysRevB.65.024523"),  # SuperCon drops the zero
        ("Phys. Rev. B 55 (1997) 15228", "10.1103/PhysRevB.55.15228"),
        ("Wu et al., Phys. Rev. Lett. 58, 908 (1987)", "10.1103/PhysRevLett.58.908"),
        ("Jpn. J. Appl. Phys. 26 (1987) L223", "10.1143/JJAP.26.L223"),
        ("Hulm and Blaugher, Phys. Rev. 123, 1569 (1961)", "10.1103/PhysRev.123.1569"),
        ("Phys. Rev. B 87 (1952) 799", None),  # it is Phys. Rev. 87: the year isn't the volume's
        ("Physica C 215 (1993) 1", None),
        ("Nature 410 (2001) 63", None),
        ("", None),
        (None, None),
    ],
)
def test_a_doi_is_told_where_it_follows_from_the_reference(reference: str | None, doi: str | None) -> None:
    assert doi_of(reference) == doi
