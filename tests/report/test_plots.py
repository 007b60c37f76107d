from __future__ import annotations

import io
import struct
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from kiago_ray.report.plots import tc_against_ef, trajectory_plot
from kiago_ray.screening import BaseMaterial

BASE = BaseMaterial("LaNiAsO", ef_predicted_ev_per_atom=-2.0, tc_predicted_k=4.3, tc_measured_k=2.7)
BLUE = np.array([0, 0x72, 0xB2]) / 255
ORANGE = np.array([0xE6, 0x9F, 0]) / 255


def pixels(png: bytes) -> NDArray[np.float32]:
    """The image as (height, width, 3)."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    image = imread(io.BytesIO(png))[:, :, :3]
    assert image.shape == (height, width, 3)
    return np.asarray(image)


def like(image: NDArray[np.float32], color: NDArray[np.float64]) -> int:
    """How many pixels have nearly this colour."""
    return int((np.abs(image - color).max(axis=2) < 0.15).sum())


def made(n: int = 200) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    generator = np.random.default_rng(0)
    ef = generator.normal(-1.2, 0.4, n)
    tc = np.clip(generator.normal(30, 20, n), 0, None)
    return tc, ef, (ef < 0) & (generator.random(n) < 0.3)


def test_passed_rows_and_base_are_drawn_in_their_colours() -> None:
    tc, ef, passed = made()
    nothing = pixels(tc_against_ef(tc, ef, np.zeros_like(passed)))
    everything = pixels(tc_against_ef(tc, ef, passed, BASE))
    assert min(everything.shape[:2]) > 600
    assert like(everything, BLUE) > like(nothing, BLUE) + 1000
    assert like(everything, ORANGE) > like(nothing, ORANGE) + 50


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_candidates_and_values_that_are_not_finite(n: int) -> None:
    tc, ef, passed = made(n)
    pixels(tc_against_ef(tc, ef, passed, BASE))
    pixels(tc_against_ef(np.append(tc, np.nan), np.append(ef, 1.0), np.append(passed, False)))


def test_far_off_failures_do_not_squeeze_the_axis() -> None:
    tc, ef, passed = made(1000)
    far = tc_against_ef(np.append(tc, 10.0), np.append(ef, 400.0), np.append(passed, False))
    # Were 400 eV/atom on the axis, all diamonds would lie on one another.
    assert like(pixels(far), BLUE) > 0.8 * like(pixels(tc_against_ef(tc, ef, passed)), BLUE)


def test_the_same_data_give_the_same_bytes() -> None:
    assert tc_against_ef(*made(), BASE, "T") == tc_against_ef(*made(), BASE, "T")


def made_trajectory(steps: tuple[int, int], k: int) -> tuple[NDArray[np.float64], ...]:
    t = np.arange(sum(steps) + 1)[:, None]
    tc = 40 * (1 - np.exp(-t / 10)) * np.linspace(0.5, 1.5, k)
    stage = np.where(t[:, 0] < steps[0], 1, 2)
    loss = np.where(stage[:, None] == 2, 0.3, np.nan) * np.ones(k)
    return tc, -1 - tc / 100, loss, stage


@pytest.mark.parametrize(("steps", "k"), [((20, 20), 90), ((20, 0), 3), ((0, 20), 1), ((1, 0), 1)])
def test_trajectories_of_one_or_two_stages(steps: tuple[int, int], k: int) -> None:
    tc, ef, loss, stage = made_trajectory(steps, k)
    image = pixels(trajectory_plot(tc, ef, loss, stage, base_tc_k=4.3, title="LaNiAsO"))
    assert like(image, BLUE) > 100
    assert like(image, ORANGE) > 100


@pytest.mark.filterwarnings("error")
def test_rows_that_stopped_leave_gaps_without_warnings() -> None:
    tc, ef, loss, stage = made_trajectory((20, 20), 5)
    tc[10:, 2] = np.nan
    pixels(trajectory_plot(tc, ef, loss, stage))
    pixels(trajectory_plot(np.full_like(tc, np.nan), ef, loss, stage))
    pixels(trajectory_plot(tc[:, :0], ef[:, :0], loss[:, :0], stage))


def test_the_room_opens_without_matplotlib() -> None:
    code = "import sys, kiago_ray.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_plots_leave_no_figures_and_no_settings_behind() -> None:
    before = dict(matplotlib.rcParams)
    tc_against_ef(*made())
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before
