"""A composition as statistics of its elements' properties: what the oracle reads instead of the amounts themselves.

For each property of `chemistry.element_properties`: mean, deviation, minimum, maximum, range, mean absolute deviation,
all but minimum, maximum and range weighted by the amounts, and the value of the most abundant element. Six figures of
the amounts alone follow. These are the features of Ward et al., npj Comput. Mater. 2, 16028 (2016), section "General
purpose attributes"; no column stands for an element, so what is learnt of one element carries over to its likes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kiago_ray.chemistry.element_properties import properties
from kiago_ray.chemistry.elements import N_ELEMENTS

STATISTICS = ("mean", "deviation", "minimum", "maximum", "range", "absolute_deviation", "most_abundant")
AMOUNTS = ("elements", "norm_2", "norm_3", "norm_7", "entropy", "largest_fraction")
STEP = 1e-4
"""Statistics are rounded to this share of their property's deviation over the elements, those of amounts to this."""
SAME_AMOUNT = 1e-5
ROWS_AT_ONCE = 2_048


def statistic_names() -> tuple[str, ...]:
    """The names of the columns of `composition_statistics`, such as `mean_melting_point_k`."""
    named = [f"{statistic}_{name}" for statistic in STATISTICS for name in properties().names]
    return (*named, *AMOUNTS)


def composition_statistics(fractions: NDArray[np.floating]) -> NDArray[np.float64]:
    """Statistics (N, columns) of compositions (N, 118), whose rows hold fractions that sum to 1.

    Of elements equally abundant the one with the lowest atomic number counts as the most abundant. A row's figures
    don't depend on the rows beside it, and hardly on the amounts' last digits, on which trees would split. Raises
    ValueError for another shape, for negative or missing amounts and for empty rows.
    """
    check_compositions(fractions)
    parts = [
        _statistics(fractions[start : start + ROWS_AT_ONCE].astype(np.float32).astype(np.float64))
        for start in range(0, len(fractions), ROWS_AT_ONCE)
    ]
    return np.concatenate(parts) if parts else np.empty((0, len(statistic_names())))


def check_compositions(fractions: NDArray[np.floating]) -> None:
    """Raise ValueError for another shape than (N, 118), for negative or missing amounts and for empty rows."""
    if fractions.ndim != 2 or fractions.shape[1] != N_ELEMENTS:
        raise ValueError(f"compositions have the shape (N, {N_ELEMENTS}), not {fractions.shape}")
    if not ((fractions >= 0) & (fractions < np.inf)).all():
        raise ValueError("fractions must be 0 or more; these hold negative, infinite or missing ones")
    if not (fractions > 0).any(axis=1).all():
        raise ValueError(f"row {int((fractions > 0).any(axis=1).argmin())} holds no element; leave it out")


def _statistics(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    most = int((rows > 0).sum(axis=1).max())
    abundance = np.rint(rows / SAME_AMOUNT) + (rows > 0)  # a trace still comes before what is absent
    elements = np.argsort(-abundance, axis=1, kind="stable")[:, :most].T  # (most, n), abundant first
    # Sums run over the first axis, one term after the other: there a longer row beside it adds nothing but zeros.
    x = np.take_along_axis(rows.T, elements, axis=0)
    x /= np.cumsum(x, axis=0)[-1]
    held = x > 0
    weights = x[:, :, None]
    values = properties().values[elements]  # (most, n, p)

    mean = (weights * values).sum(axis=0)
    off = values - mean
    lowest = np.where(held[:, :, None], values, np.inf).min(axis=0)
    highest = np.where(held[:, :, None], values, -np.inf).max(axis=0)
    logs = np.log(x, where=held, out=np.zeros_like(x))
    amounts = [
        held.sum(axis=0),
        *(np.cumsum(x**power, axis=0)[-1] ** (1 / power) for power in (2, 3, 7)),
        -np.cumsum(x * logs, axis=0)[-1],
        x.max(axis=0),
    ]
    deviation = np.sqrt((weights * off**2).sum(axis=0))
    absolute = (weights * np.abs(off)).sum(axis=0)
    of_properties = np.stack(
        [mean, deviation, lowest, highest, highest - lowest, absolute, values[0]], axis=1
    )
    step = STEP * properties().values.std(axis=0)
    rounded = (np.rint(of_properties / step) * step).reshape(len(rows), -1)
    return np.concatenate([rounded, np.rint(np.stack(amounts, axis=1) / STEP) * STEP], axis=1)
