"""A training as a run of MLflow's: each epoch's loss as it goes on, at its end the card, the data and the model."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kiago_ray.predictors.weights import file_name
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import versions
from kiago_ray.tracking.model import EXPERIMENT, card_points, log_data, register, weights_at_hand
from kiago_ray.tracking.record import PROGRESS_S, RETRY_S, TrackingReport
from kiago_ray.tracking.store import NOTE, Entry, Point, Store, metrics_of, mlflow_at_hand, usable_key
from kiago_ray.tracking.target import TrackingTarget, artifact_root, shown_uri, tracking_target


@dataclass
class TrainingRecord:
    """The record of one training of a kind of weights into the folder `out`. A store that fails costs it alone."""

    target: TrackingTarget
    out: Path
    kind: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    start_ms: int = field(default_factory=lambda: int(1000 * time.time()))
    waiting: list[Point] = field(default_factory=list)
    not_before: float = -math.inf
    begun: bool = False

    @classmethod
    def of(cls, out: Path, kind: str, uri: str | None) -> TrainingRecord:
        """The record at `uri`, else where `tracking_target` says. Raises TrackingError."""
        target = tracking_target(Location.of(out), uri, EXPERIMENT)
        assert target is not None  # `out` is local
        return cls(target, out, kind)

    def epoch(self, name: str, number: int, loss: float) -> None:
        """Keep the loss of an epoch, and write what is kept, at most once in PROGRESS_S."""
        self.waiting.append(Point(f"loss/{usable_key(name)}", loss, number, int(1000 * time.time())))
        if (now := time.monotonic()) >= self.not_before:
            self.not_before = now + (RETRY_S if self._written("RUNNING").problem else PROGRESS_S)

    def finish(self, card: Mapping[str, Any]) -> TrackingReport:
        """Write what came of it: the card's figures, the weights, the data, and the model that has them."""
        return self._written("FINISHED", card)

    def fail(self, status: str) -> None:
        """Close the run of a training that ended early, where it has one."""
        if self.begun:
            self._written(status)

    def _written(self, status: str, card: Mapping[str, Any] | None = None) -> TrackingReport:
        run_id, problem = None, None
        try:
            with mlflow_at_hand():
                root = artifact_root(self.target, Location.of(self.out))
                store = Store(self.target, root)
                run_id = store.write(self._entry("RUNNING", card))
                self.begun = True
                store.client.log_batch(run_id, metrics=metrics_of(self.waiting))
                self.waiting = []
                if card is not None:
                    log_data(store.client, run_id, card)
                    self._log_model(store, run_id, root)
                if status != "RUNNING":
                    store.write(self._entry(status, card))
        except Exception as error:
            problem = self.target.in_words(error)
        return TrackingReport(0, (), problem, run_id, shown_uri(self.target.uri))

    def _log_model(self, store: Store, run_id: str, root: str | None) -> None:
        from mlflow.entities import LoggedModelOutput

        if self.kind in weights_at_hand(self.out):
            model = register(self.target, root, self.out)
            store.client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
            store.client.set_tag(run_id, "kiago.model", model.uri)

    def _entry(self, status: str, card: Mapping[str, Any] | None) -> Entry:
        named = ("settings", "recipe", "machine", "sha256", "network", "weights_count", "members", "command")
        params = {name: card[name] for name in named if name in card} if card else {}
        note = (
            f"**kiago-ray trains `{self.kind}`**, weights of a predictor, into `{self.out}`.\n\n"
            f"`loss/…` falls epoch by epoch; `{self.kind}/random…` and `{self.kind}/system…` are errors on rows that "
            "no fit saw, held out by formula and by chemical system. The card below *Artifacts* says it in full."
        )
        source = {"mlflow.source.name": "kiago train", "mlflow.source.type": "LOCAL", "kiago.kind": self.kind}
        return Entry(
            id=self.id,
            name=f"train {self.kind}",
            status=status,
            params=params,
            tags={**versions(), **source, NOTE: note},
            points=lambda: card_points(self.kind, card) if card else [],
            folder=Location.of(self.out),
            files=(f"{self.kind}.json", file_name(self.kind)) if card else (),
            start_ms=self.start_ms,
        )
