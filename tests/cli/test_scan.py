"""`kiago scan`: the domes that are known, files and plots, where no model can be right, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

Kiago = Callable[..., Any]
STRONTIUM = ("La2CuO4", "--site", "La", "--with", "Sr")


def test_lanthanum_strontium_cuprate_has_its_dome(kiago: Kiago, tmp_path: Path) -> None:
    csv, image = tmp_path / "x.csv", tmp_path / "x.svg"
    ended = kiago("scan", *STRONTIUM, "--x", "0:0.3:0.02", "--output", csv, "--plot", image)
    assert ended.code == 0
    table = pd.read_csv(csv)
    doped = table[~table["undoped"]]
    assert 0.12 <= doped.loc[doped["tc_k"].idxmax(), "x"] <= 0.18
    measured = table.dropna(subset=["known_tc_k"])
    assert len(measured) > 40
    assert 0.12 <= measured.loc[measured["known_tc_k"].idxmax(), "x"] <= 0.18
    assert (~measured["on_grid"]).any()
    assert table["x"].is_monotonic_increasing
    assert not table["formula"].duplicated().any()
    assert "predicted, but doubtful" in image.read_text()
    assert "small letters predicted, capitals measured" in ended.out
    assert "La2-xSrxCuO4: T_c up to 33" in " ".join(ended.out.split())


def test_an_undoped_parent_is_doubtful(kiago: Kiago) -> None:
    ended = kiago("scan", *STRONTIUM, "--x", "0:0.2:0.1", "--json", "--known", "none")
    (series,) = json.loads(ended.out)["series"]
    assert series["series"] == "La2-xSrxCuO4"
    assert [point["x"] for point in series["points"]] == [0, 0.1, 0.2]
    assert [bool(point["doubts"]) for point in series["points"]] == [True, False, False]
    assert "undoped" in series["points"][0]["doubts"][0]
    assert [point["mean_valences"] for point in series["points"]] == ["Cu+2", "Cu+2.1", "Cu+2.2"]


def test_a_curve_that_rises_where_the_measured_falls_is_said_first(kiago: Kiago) -> None:
    options = ("LaFeAsO", "--site", "O", "--with", "F", "--x", "0:0.3:0.1", "--json")
    (series,) = json.loads(kiago("scan", *options).out)["series"]
    contradicted, rises, undoped = series["warnings"]
    assert (
        "contradict the predictions at 1 of 14 known compositions, most at x = 0.055: 7.0 K" in contradicted
    )
    assert "the measured T_c falls, from 27.4 K to 11.1 K at x = 0.2" in rises
    assert undoped == "Undoped as written, where no prediction holds, at x = 0."
    doubts = {point["x"]: point["doubts"] for point in series["points"]}
    assert doubts[0.1] == []
    assert doubts[0.3] == ["beyond x = 0.2, to which the measured T_c falls"]
    assert "a magnetic metal" in doubts[0][0]


def test_where_hardly_a_hole_is_no_optimum_lies(kiago: Kiago) -> None:
    ended = kiago("scan", "La2CuO4", "--site", "La", "--with", "Ba", "--x", "0:0.16:0.02")
    told = " ".join(ended.out.split())
    assert "Hardly doped at x = 0.02 to 0.04." in told
    assert "remark fewer than 0.05 holes a copper" in told
    assert "x = 0.02, La1.98Ba0.02CuO4, oracle" not in told
    assert told.index("Measurements contradict") < told.index("x formula T_c (K)")


def test_pressure_is_said_where_it_was_measured(kiago: Kiago, tmp_path: Path) -> None:
    known = tmp_path / "known.csv"
    known.write_text("formula,tc_k,pressure_gpa\nLaH10,250,170\n")
    ended = kiago(
        "scan", "LaH10", "--site", "La", "--with", "Y", "--x", "0:0.5:0.25", "--known", known, "--json"
    )
    (series,) = json.loads(ended.out)["series"]
    assert series["points"][0]["known_pressure_gpa"] == 170
    assert any("under 170 GPa; T_c here is no prediction" in doubt for doubt in series["points"][0]["doubts"])
    assert series["points"][1]["known_tc_k"] is None
    assert "LaH10 nearby was measured under 170 GPa" in series["points"][1]["doubts"][0]


def test_two_changes_are_a_map(kiago: Kiago, tmp_path: Path) -> None:
    image = tmp_path / "map.png"
    first, second = ("--site", "Y", "--with", "Ca", "--x", "0:0.2:0.1"), ("--site", "O", "--with", "vacant")
    options = ("--x", "0:0.5:0.25", "--plot", image, "--known", "none")
    ended = kiago("scan", "YBa2Cu3O7", *first, *second, *options)
    assert ended.code == 0
    assert image.read_bytes()[:4] == b"\x89PNG"
    lines = ended.out.splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith("T_c (K) of Y1-xCaxBa2Cu3O7-y"))
    assert lines[at + 1].split() == ["y", "/", "x", "0", "0.1", "0.2"]
    assert [line.split()[0] for line in lines[at + 2 : at + 5]] == ["0", "0.25", "0.5"]
    assert 85 < float(lines[at + 2].split()[1]) < 95


def test_vacancies_have_a_word_of_their_own(kiago: Kiago) -> None:
    short = kiago("scan", "YBa2Cu3O7", "--site", "O", "--vacant", "0:0.5:0.25", "--json", "--known", "none")
    words = ("--with", "vacant", "--x", "0:0.5:0.25")
    assert short.out == kiago("scan", "YBa2Cu3O7", "--site", "O", *words, "--json", "--known", "none").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("La2CuO4", "--site", "La"), "--with and --x: say what comes in"),
        ((*STRONTIUM, "--x", "0:5:1"), "x: 5 is more La than La2CuO4 has"),
        ((*STRONTIUM, "--x", "0:1:0"), "x: '0:1:0' has a step of 0"),
        (
            (*STRONTIUM, "--x", "0:1:0.5", "--x", "0:1:0.5", "--x", "0:1:0.5"),
            "--site, --with, --x: 1, 1 and 3",
        ),
        (("Lax", "--site", "La", "--with", "Sr", "--x", "0:1:0.5"), "undetermined amount: 'x'"),
        (("La2CuO4", "--site", "La", "--with", "He", "--x", "0:1:0.5"), "the predictors don't know He"),
        (
            ("La2CuO4", "--site", "La", "--site", "O", "--vacant", "0:1:0.5"),
            "--vacant: of two sites say which",
        ),
        ((*STRONTIUM, "--x", "0:1:0.5", "--plot", "x.gif"), "--plot: x.gif must end in .png or .svg"),
    ],
)
def test_what_is_wrong_is_one_line(kiago: Kiago, arguments: tuple[str, ...], message: str) -> None:
    ended = kiago("scan", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"kiago: {message}")
    assert len(ended.err.splitlines()) == 1
