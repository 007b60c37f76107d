from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from kiago_ray.report.trust_plots import gap_plot, pareto_plot

BLUE, VERMILION = np.array([0, 0x72, 0xB2]) / 255, np.array([0xD5, 0x5E, 0]) / 255
BLACK = np.zeros(3)
Floats = NDArray[np.float64]


def pixels(png: bytes) -> NDArray[np.float32]:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return np.asarray(imread(io.BytesIO(png))[:, :, :3])


def like(png: bytes, color: Floats) -> int:
    """How many pixels have nearly this colour."""
    return int((np.abs(pixels(png) - color).max(axis=2) < 0.12).sum())


def made(n: int = 300) -> tuple[Floats, Floats, Floats]:
    generator = np.random.default_rng(0)
    return generator.uniform(0, 90, n), generator.normal(-1.5, 0.5, n), generator.uniform(0.2, 1.0, n)


def test_the_front_is_ringed() -> None:
    trusted, ef, score = made()
    nobody = np.zeros(300, dtype=bool)
    some = np.arange(300) < 40
    assert (
        like(pareto_plot(trusted, ef, score, some), BLACK)
        > like(pareto_plot(trusted, ef, score, nobody), BLACK) + 1000
    )


def test_colours_follow_the_score() -> None:
    trusted, ef, _ = made()
    nobody = np.zeros(300, dtype=bool)
    yellow = np.array([0.99, 0.91, 0.15])
    near, far = (pareto_plot(trusted, ef, np.full(300, value), nobody) for value in (0.1, 2.0))
    assert like(far, yellow) > like(near, yellow) + 1000


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [0, 1, 2, 300])
def test_few_rows_and_values_that_are_not_known(n: int) -> None:
    trusted, ef, score = made(n)
    unknown = np.full(n, np.nan)
    front = np.ones(n, dtype=bool)
    for values in (
        (trusted, ef, score),
        (trusted, ef, unknown),
        (unknown, ef, score),
        (trusted, unknown, score),
    ):
        pixels(pareto_plot(*values, front, "LaNiAsO"))
    for search, oracle in (
        (trusted, trusted),
        (trusted, unknown),
        (unknown, trusted),
        (0 * trusted, 0 * trusted),
    ):
        pixels(gap_plot(search, oracle, front, "LaNiAsO"))


def test_a_plot_with_nothing_on_it_says_so() -> None:
    trusted, ef, score = made(20)
    front = np.ones(20, dtype=bool)
    empty = pixels(pareto_plot(trusted * np.nan, ef, score, front))
    assert empty.shape[0] < 400  # a line of text
    assert (empty < 0.5).any()
    assert pixels(gap_plot(trusted, trusted * np.nan, front)).shape[0] < 400


def test_those_extrapolated_are_marked() -> None:
    search = np.linspace(100, 50, 50)
    flagged = np.arange(50) % 5 == 0
    plain, marked = (gap_plot(search, search - 10, each) for each in (np.zeros(50, dtype=bool), flagged))
    assert like(plain, VERMILION) == 0
    assert like(marked, VERMILION) > 300
    assert like(plain, BLUE) > like(marked, BLUE) > 300


def test_the_diagonal_is_one_in_pixels() -> None:
    # A point on the diagonal is as far from the left as from the bottom; the blue marks are the best ten.
    search = np.full(10, 60.0)
    for oracle in (60.0, 30.0):
        other = np.append(np.full(10, oracle), 100.0)
        image = pixels(gap_plot(np.append(search, 100.0), other, np.zeros(11, dtype=bool)))
        rows, columns = np.nonzero(np.abs(image - BLUE).max(axis=2) < 0.12)
        inside = rows < image.shape[0] * 0.8  # the legend is below
        centre = rows[inside].mean(), columns[inside].mean()
        dark = image.mean(axis=2) < 0.6
        axis, floor = dark.sum(axis=0).argmax(), dark.sum(axis=1).argmax()  # the two lines of the axes
        assert (floor - centre[0]) / (centre[1] - axis) == pytest.approx(oracle / 60, abs=0.03)


def test_the_same_data_give_the_same_bytes() -> None:
    trusted, ef, score = made()
    front = trusted > 80
    assert pareto_plot(trusted, ef, score, front) == pareto_plot(trusted, ef, score, front)
    assert gap_plot(trusted, trusted / 2, front) == gap_plot(trusted, trusted / 2, front)
