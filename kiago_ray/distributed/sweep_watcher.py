"""What a sweep tells while it runs. A view overrides what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kiago_ray.sweep.spec import SweepSpec
from kiago_ray.sweep.trials import Trial


class SweepWatcher:
    """Hears of everything that happens, in the thread that runs the sweep; does nothing with it."""

    def begun(self, sweep: SweepSpec, before: Sequence[Trial]) -> None:
        """The sweep starts, with these trials begun or ended by an earlier process."""

    def trial_began(self, trial: Trial) -> None:
        """A trial was given out."""

    def seed_done(self, number: int, seeds: int, values: Mapping[str, float]) -> None:
        """A trial has done so many seeds and stands at these means."""

    def trial_ended(self, trial: Trial) -> None:
        """A trial has finished, was stopped or has failed."""

    def comparing(self, done: int, total: int) -> None:
        """So many searches of the comparison are done."""

    def note(self, text: str) -> None:
        """Something that a person should know, in one line."""
