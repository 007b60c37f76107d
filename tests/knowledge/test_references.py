from __future__ import annotations

import pytest

from kiago_ray.data.supercon import written_reference


@pytest.mark.parametrize(
    ("journal", "written"),
    [
        ("J.Am.Chem.Soc., 130(2008)3296", "J. Am. Chem. Soc. 130 (2008) 3296"),
        ("Phys.Rev.B, 63(2001)104508", "Phys. Rev. B 63 (2001) 104508"),
        ("PHYS.REV.B,36(1987)5694", "Phys. Rev. B 36 (1987) 5694"),
        ("Physica C.,242(1995)373-380", "Physica C 242 (1995) 373-380"),
        ("Physica.C,261(1996)105-116", "Physica C 261 (1996) 105-116"),
        ("Nature, 410(2001)63", "Nature 410 (2001) 63"),
        ("Phys.Rev.53,(1996)15245", "Phys. Rev. 53 (1996) 15245"),
        ("PRENUM PRESS 1973", "PRENUM PRESS 1973"),
        ("", ""),
    ],
)
def test_references_get_their_spaces(journal: str, written: str) -> None:
    assert written_reference(journal) == written
