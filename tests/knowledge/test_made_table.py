from __future__ import annotations

from pathlib import Path

import pytest

from kiago_ray.data.cod import cleaned, merged_made
from kiago_ray.data.files import DataError

HEADER = "formula,code,spacegroup,e_hull_ev_per_atom\n"


@pytest.mark.parametrize(
    ("text", "amounts"),
    [
        ("La7.9996O4.0501", {"La": 8.0, "O": 4.05}),
        ("La7.998O", {"La": 7.998, "O": 1.0}),
        ("Fe0.0005O", {"Fe": 0.0005, "O": 1.0}),
        ("CaCO3", {"Ca": 1.0, "C": 1.0, "O": 3.0}),
        ("CaC2O4H2O", None),  # carbon and hydrogen
        ("NaKCaMgAlSiOHF", None),  # nine elements
        ("Xe", None),
        ("XeF2", {"Xe": 1.0, "F": 2.0}),
        ("M2O3", None),
        ("?", None),
        ("", None),
    ],
)
def test_what_is_kept_of_a_formula(text: str, amounts: dict[str, float] | None) -> None:
    assert cleaned(text) == amounts


def test_of_several_structures_the_lowest_in_energy_stands(tmp_path: Path) -> None:
    now, then = tmp_path / "now.csv", tmp_path / "then.txt"
    now.write_text(HEADER + "SiO2,9,152,0.01\nSi2O4,8,227,\nSiO2,7,154,0.0\nNbC,5,,\nNbC,4,225,\n")
    then.write_text("O2Si\nSn\nred(text\n")
    table = merged_made(now, then)
    rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    assert rows == [["NbC", 4, 225, False], ["SiO2", 7, 154, True], ["Sn", None, None, True]]


def test_a_code_that_is_none_is_told(tmp_path: Path) -> None:
    now, then = tmp_path / "now.csv", tmp_path / "then.txt"
    now.write_text(HEADER + "SiO2,nine,152,\n")
    then.write_text("SiO2\n")
    with pytest.raises(DataError, match="line 2: code 'nine'"):
        merged_made(now, then)
