"""What came of each trial, and which of them are best."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa

from kiago_ray.sweep.metrics import METRICS, Mean, Score, mean_over
from kiago_ray.sweep.space import Point

Status = Literal["finished", "stopped", "failed", "unfinished"]


@dataclass(frozen=True)
class Trial:
    """A point and its scores, seed by seed, the bases of a seed together.

    number: from 0 in the order of their beginning. status: finished (all seeds), stopped (by the scheduler), failed
    (`cause` says why), unfinished (under way when the sweep was stopped).
    """

    number: int
    id: str
    status: Status
    point: Point
    scores: tuple[Score, ...]
    cause: str | None = None

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to be had of it; what failed may be tried again."""
        return self.status in ("finished", "stopped")

    @property
    def seeds(self) -> int:
        """How many seeds are done."""
        return len({score.seed for score in self.scores})

    @property
    def row_steps(self) -> int:
        """Rows × steps of all its searches."""
        return sum(score.row_steps for score in self.scores)

    @property
    def seconds(self) -> float:
        """Of all its searches."""
        return sum(score.seconds for score in self.scores)

    def mean(self, metric: str, seeds: int | None = None) -> Mean:
        """A metric after all that it has done, or after its first `seeds` seeds; NaN where it has done nothing."""
        kept = list(dict.fromkeys(score.seed for score in self.scores))[:seeds]
        return mean_over([score for score in self.scores if score.seed in kept], metric)


def best_trial(trials: Sequence[Trial], metric: str) -> Trial | None:
    """The finished trial that is best by the metric, the earliest of equals; None where none can tell."""
    sign = METRICS[metric].sign
    told = [trial for trial in finished(trials) if not math.isnan(trial.mean(metric).value)]
    return max(told, key=lambda trial: (sign * trial.mean(metric).value, -trial.number), default=None)


def finished(trials: Sequence[Trial]) -> list[Trial]:
    """Those that have done all seeds: only these are compared with one another."""
    return [trial for trial in trials if trial.status == "finished"]


def front(trials: Sequence[Trial], metrics: Sequence[str]) -> list[Trial]:
    """Finished trials that no other one beats in one metric without losing in another, best by the first first."""
    values = {
        trial.number: tuple(METRICS[name].sign * trial.mean(name).value for name in metrics)
        for trial in finished(trials)
    }
    values = {number: own for number, own in values.items() if not any(map(math.isnan, own))}

    def beaten(own: tuple[float, ...]) -> bool:
        return any(
            other != own and all(b >= a for a, b in zip(own, other, strict=True)) for other in values.values()
        )

    kept = [
        trial for trial in finished(trials) if trial.number in values and not beaten(values[trial.number])
    ]
    return sorted(kept, key=lambda trial: values[trial.number], reverse=True)


def trials_table(trials: Sequence[Trial], fields: Sequence[str]) -> pa.Table:
    """A row a trial: its values by field (numbers as numbers, else as JSON), means and errors, and all scores."""
    rows: list[dict[str, Any]] = []
    for trial in trials:
        row: dict[str, Any] = {
            "trial": trial.number,
            "id": trial.id,
            "status": trial.status,
            "cause": trial.cause,
            "seeds": trial.seeds,
            "searches": len(trial.scores),
            "row_steps": trial.row_steps,
            "seconds": trial.seconds,
            **{f"field.{name}": trial.point.get(name) for name in fields},
        }
        for name in METRICS:
            mean = trial.mean(name)
            row |= {name: _or_none(mean.value), f"{name}_error": mean.error}
        row["scores"] = [{**asdict(score), "values": list(score.values.items())} for score in trial.scores]
        rows.append(row)
    return pa.Table.from_pylist([_typed(row, rows) for row in rows], schema=_schema(rows, fields))


def _schema(rows: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> pa.Schema:
    numbers = [name for name in fields if _numeric([row[f"field.{name}"] for row in rows])]
    score = pa.struct(
        [
            ("base", pa.string()),
            ("seed", pa.int64()),
            ("values", pa.map_(pa.string(), pa.float64())),
            ("row_steps", pa.int64()),
            ("seconds", pa.float64()),
        ]
    )
    return pa.schema(
        [
            ("trial", pa.int64()),
            ("id", pa.string()),
            ("status", pa.string()),
            ("cause", pa.string()),
            ("seeds", pa.int64()),
            ("searches", pa.int64()),
            ("row_steps", pa.int64()),
            ("seconds", pa.float64()),
            *((f"field.{name}", pa.float64() if name in numbers else pa.string()) for name in fields),
            *((name + ending, pa.float64()) for name in METRICS for ending in ("", "_error")),
            ("scores", pa.list_(score)),
        ]
    )


def _typed(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The row with values that aren't numbers in every row written as JSON."""
    typed = dict(row)
    for name in row:
        if (
            name.startswith("field.")
            and row[name] is not None
            and not _numeric([each[name] for each in rows])
        ):
            typed[name] = json.dumps(row[name], sort_keys=True)
    return typed


def _numeric(values: Sequence[Any]) -> bool:
    return all(
        value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values
    )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
