"""Which errors are the user's input, to be told in one line, and which are ours, to be shown whole."""

from __future__ import annotations

import sys


class InputError(ValueError):
    """Wrong input that only the command line can see; the message says what, where and what to do."""


_TYPES = {
    "kiago_ray.cli.failures": ("InputError",),
    "kiago_ray.baselines.substitution": ("ExchangeError",),
    "kiago_ray.baselines.superdiff.network": ("NetworkSizeError",),
    "kiago_ray.baselines.superdiff.sampling": ("SamplingError",),
    "kiago_ray.baselines.superdiff.schedule": ("MissingExtraError",),
    "kiago_ray.campaign.shards": ("DamagedError",),
    "kiago_ray.chemistry.formula": ("FormulaError",),
    "kiago_ray.distributed.cluster": ("ClusterError",),
    "kiago_ray.distributed.worker": ("WorkerSetupError",),
    "kiago_ray.distributed.tracking.target": ("TrackingError",),
    "kiago_ray.datasets.files": ("DataError",),
    "kiago_ray.paper.sizes": ("SizeError",),
    "kiago_ray.predictors.training": ("CheckpointError", "TrainingError"),
    "kiago_ray.predictors.weights": ("WeightsError",),
    "kiago_ray.search.errors": ("SpecError",),
    "kiago_ray.service.token": ("TokenError",),
    "kiago_ray.storage.location": ("StorageError",),
    "typer._click.exceptions": ("ClickException",),
}


def input_error_types() -> tuple[type[BaseException], ...]:
    """The input errors of the modules that were imported; no other can have been raised."""
    return tuple(
        getattr(sys.modules[module], name)
        for module, names in _TYPES.items()
        for name in names
        if module in sys.modules and hasattr(sys.modules[module], name)
    )
