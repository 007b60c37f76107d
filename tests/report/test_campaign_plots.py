from __future__ import annotations

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from kiago_ray.report.campaign_lines import SearchLine
from kiago_ray.report.campaign_plots import LABELLED, SHOWN_GROUPS, Curve, curves_plot, gains_plot
from kiago_ray.screening.summary import BaseMaterial, Summary, TopMean

BLUE, VERMILION, GREEN = (np.array(rgb) / 255 for rgb in ((0, 0x72, 0xB2), (0xD5, 0x5E, 0), (0, 0x9E, 0x73)))
Image = NDArray[np.float32]


def pixels(png: bytes) -> Image:
    """The image as (height, width, 3)."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    image = imread(io.BytesIO(png))[:, :, :3]
    assert image.shape == (height, width, 3)
    return np.asarray(image)


def places(image: Image, color: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the pixels that have nearly this colour."""
    found = np.nonzero(np.abs(image - color).max(axis=2) < 0.17)
    return found[0], found[1]


def middle(image: Image, color: NDArray[np.float64]) -> tuple[float, float]:
    """Where a mark of this colour stands: row and column."""
    rows, columns = places(image, color)
    assert len(rows) > 20
    return float(rows.mean()), float(columns.mean())


def line(base: str | None, variant: str, gain: float | None, seed: int = 0, used: int = 30) -> SearchLine:
    material = BaseMaterial(base, 10.0, -2.0) if base else None
    used = 0 if gain is None else used
    mean = None if gain is None else gain + (10.0 if base else 0.0)
    top = (TopMean(30, used, mean, gain if base else None),)
    return SearchLine(
        f"{base}-{variant}-s{seed}",
        base,
        variant,
        seed,
        1,
        1,
        Summary(64, {}, 60, {}, (), used, top, material),
    )


def curve(name: str, level: float, steps: tuple[int, int] = (20, 20)) -> Curve:
    step = np.arange(sum(steps) + 1)
    tc_k = 5 + (level - 5) * (1 - np.exp(-step / 8))
    return name, step, np.where(step < steps[0], 1, 2), tc_k


def test_gains_stand_where_their_values_are() -> None:
    image = pixels(gains_plot([line("MgB2", "a", 10.0), line("MgB2", "b", 20.0), line("MgB2", "c", 40.0)]))
    (row_a, ten), (row_b, twenty), (row_c, forty) = (
        middle(image, color) for color in (BLUE, VERMILION, GREEN)
    )
    assert row_a < row_b < row_c
    assert row_c - row_b == pytest.approx(row_b - row_a, abs=1.5)
    assert forty - twenty == pytest.approx(2 * (twenty - ten), abs=2)


def test_the_mean_over_seeds_is_marked_between_them() -> None:
    several = pixels(gains_plot([line("MgB2", "", 10.0), line("MgB2", "", 40.0, 1)]))
    black = np.zeros(3)
    _, blue = places(several, BLUE)
    rows, columns = places(several, black)
    row = round(middle(several, BLUE)[0])
    mark = columns[(rows == row - 9) & (columns > blue.min() + 20) & (columns < blue.max() - 20)]
    assert mark.mean() == pytest.approx((blue.min() + blue.max()) / 2, abs=2)


def test_few_that_passed_are_hollow_and_none_are_left_out() -> None:
    full = [line("MgB2", "", 10.0), line("MgB2", "", 20.0, 1)]
    count = [
        len(places(pixels(gains_plot(lines)), BLUE)[0])
        for lines in (
            full,
            [full[0], line("MgB2", "", 20.0, 1, used=4)],
            [full[0], line("MgB2", "", None, 1)],
        )
    ]
    assert count[0] > count[1] > count[2] > 50
    assert not len(places(pixels(gains_plot([line("MgB2", "", None)])), BLUE)[0])


@pytest.mark.filterwarnings("error")
def test_gains_of_nothing_of_random_starts_and_of_hostile_names() -> None:
    gains_plot([])
    gains_plot([line(None, "", 10.0), line(None, "", 12.0, 1)])
    gains_plot([line("$x_{$", r"\frac{$ <b>", 10.0), line("a$b$c^", "v" * 500, None)])
    gains_plot([replace(line("MgB2", "", 1.0), summary=Summary(0, {}, 0, {}, (), 0, (), None))])


def test_many_groups_stay_of_a_page() -> None:
    some = [line(f"La{n}O", "", float(n)) for n in range(SHOWN_GROUPS)]
    many = [line(f"La{n}O", "", float(n)) for n in range(5_000)]
    assert pixels(gains_plot(many)).shape[0] < pixels(gains_plot(some)).shape[0] + 60 < 2200


def test_up_to_twelve_curves_have_a_colour_each() -> None:
    image = pixels(curves_plot([curve("low", 10.0), curve("high", 60.0), curve("middle", 30.0)]))
    third = image[:, int(image.shape[1] * 0.75)]
    heights = [np.flatnonzero(np.abs(third - color).max(axis=1) < 0.12) for color in (BLUE, VERMILION, GREEN)]
    assert heights[0].min() < heights[1].min() < heights[2].min()


def test_of_many_curves_the_highest_and_lowest_are_named() -> None:
    few = [curve(f"s{n}", 10.0 + n) for n in range(LABELLED)]
    many = [curve(f"s{n}", 10.0 + n / 20) for n in range(1_000)]
    many += [curve("third", 70.0), curve("first", 90.0), curve("second", 80.0)]
    image = pixels(curves_plot(many))
    (first, _), (second, _), (third, _) = (middle(image, color) for color in (BLUE, VERMILION, GREEN))
    assert first < second < third
    assert all(len(places(image, color)[0]) > 500 for color in (BLUE, VERMILION, GREEN))
    assert image.shape[0] == pixels(curves_plot(few)).shape[0]


@pytest.mark.filterwarnings("error")
def test_curves_with_gaps_of_one_stage_and_of_nothing() -> None:
    curves_plot([])
    name, step, stage, tc_k = curve("$a_{", 30.0)
    gaps = tc_k.copy()
    gaps[25:] = np.nan
    curves_plot([(name, step, stage, gaps), curve("b", 20.0, (10, 20)), curve("one stage", 20.0, (0, 20))])
    curves_plot([("none", step, stage, np.full_like(tc_k, np.nan)), ("empty", step[:0], stage[:0], tc_k[:0])])
    curves_plot([curve("first only", 20.0, (20, 0))])


def test_the_same_data_give_the_same_bytes() -> None:
    lines = [line("MgB2", "a", 10.0), line("MgB2", "b", 20.0)]
    assert gains_plot(lines) == gains_plot(lines)
    assert curves_plot([curve("a", 20.0)]) == curves_plot([curve("a", 20.0)])


def test_no_figures_are_left_behind() -> None:
    gains_plot([line("MgB2", "a", 10.0)])
    curves_plot([curve("a", 20.0)])
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []
