from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kiago_ray.search.losses import Objective, Terms
from kiago_ray.search.result import RowStatus
from kiago_ray.search.stages import Progress, Recorder, StageSettings

STAGE = StageSettings(1, 3, Objective(alpha=4, tc_gradient="before_relu"), 0.1, "constant", revive=False)


def statuses(*status: RowStatus) -> Tensor:
    return torch.tensor(status)


def terms(*tc: float) -> Terms:
    values = torch.tensor(tc, dtype=torch.float32)
    return Terms(values, -values, values * torch.nan)


def test_it_keeps_the_sample_reports_the_living_and_asks_whether_to_stop() -> None:
    seen: list[Progress] = []
    answers = iter([False, True])
    recorder = Recorder(
        sample=torch.tensor([0, 2]),
        wanted=torch.tensor([True, True, True, False]),
        first=10,
        total=20,
        progress=seen.append,
        should_stop=lambda: next(answers),
    )
    ok, lost = RowStatus.OK, RowStatus.NOT_FINITE
    assert recorder(STAGE, 0, statuses(ok, ok, ok, ok), terms(1, 2, 6, 99)) is True
    assert recorder(STAGE, 1, statuses(ok, ok, lost, ok), terms(1, 4, 6, 99)) is False
    assert seen == [Progress(1, 11, 20, 6.0, 3.0), Progress(1, 12, 20, 4.0, 2.5)]
    path = recorder.trajectory(np.array([100, 102]), (2, 2))
    assert path.stage.tolist() == [1, 1, 2, 2, 2]
    expected = np.array([[1, 6], [1, np.nan], [np.nan] * 2, [np.nan] * 2, [np.nan] * 2])
    assert np.array_equal(path.tc_k, expected, equal_nan=True)
    assert np.array_equal(path.ef_ev_per_atom, -expected, equal_nan=True)


def test_progress_can_be_asked_for_less_often() -> None:
    seen: list[Progress] = []
    recorder = Recorder(torch.tensor([0]), torch.tensor([True]), 0, 7, seen.append, None, every=3)
    for number in range(7):
        assert recorder(STAGE, number, statuses(RowStatus.OK), terms(number))
    assert [each.step for each in seen] == [3, 6, 7]
    assert len(recorder.terms) == 7
