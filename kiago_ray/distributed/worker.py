"""The worker: an actor that loads the predictors once, holds one device, and runs one shard at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kiago_ray import __version__
from kiago_ray.data import NONE
from kiago_ray.errors import KiagoError
from kiago_ray.machine import cpu_name
from kiago_ray.runs.plan import PlannedSearch, Shard
from kiago_ray.runs.shards import Manifest, compute_shard
from kiago_ray.runs.spec import ResourcesSpec
from kiago_ray.storage.location import Location

if TYPE_CHECKING:
    from kiago_ray.models import Models
    from kiago_ray.screening.known import KnownMaterials, TriedMaterials


class WorkerSetupError(KiagoError):
    """A worker that can't do its job where it is. The message is one line: why, and what to do."""


@dataclass(frozen=True)
class WorkerSetup:
    """What every worker of a campaign gets.

    campaign: the directory, a URI or an absolute path; weights: SHA-256 of each predictor's; weight_files: name →
    content where they aren't the package's own; version: the driver's kiago_ray.
    """

    campaign: str
    device: str
    threads: int
    weights: Mapping[str, str]
    weight_files: Mapping[str, bytes]
    known: KnownMaterials | None
    version: str
    tried: TriedMaterials | None = None

    @classmethod
    def of(
        cls, where: str, resources: ResourcesSpec, models: Models, weights: Path | None = None
    ) -> WorkerSetup:
        """What workers need to compute with the driver's `models`, whose weights are those of the folder."""
        location = Location.of(where)
        return cls(
            campaign=location.text if "://" in location.text else location.path,
            device=resources.torch_device,
            threads=resources.threads,
            weights=models.hashes,
            weight_files=weight_files(weights),
            known=models.known,
            version=__version__,
            tried=models.tried,
        )


@dataclass(frozen=True)
class WorkerInfo:
    """Where a worker runs. gpus: the ids of the devices that Ray gave it."""

    host: str
    pid: int
    device: str
    device_name: str
    threads: int
    gpus: tuple[str, ...]


class SearchWorker:
    """Runs shards of one campaign. Nothing is loaded before `start`, so that its errors arrive as they are."""

    def __init__(self, setup: WorkerSetup) -> None:
        self.setup = setup
        self.models: Models | None = None
        self.info: WorkerInfo | None = None

    def start(self) -> WorkerInfo:
        """Take the device and load the models. Raises WorkerSetupError, WeightsError."""
        # Threads that spin while they wait take the cores of the other workers.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        import torch

        if __version__ != self.setup.version:
            raise WorkerSetupError(
                f"the worker on {socket.gethostname()} has kiago-ray {__version__}, the driver {self.setup.version}; "
                "install the same everywhere"
            )
        torch.set_num_threads(self.setup.threads)
        gpus = self._gpus()
        if self.setup.device == "cuda" and not torch.cuda.is_available():
            raise WorkerSetupError(
                f"the worker on {socket.gethostname()} was given GPU {', '.join(gpus) or 'none'} but torch sees no "
                "CUDA device there; check the node's driver and that torch was installed with CUDA, or set "
                "resources.device to cpu"
            )
        self.models = self._load_models()
        name = torch.cuda.get_device_name() if self.setup.device == "cuda" else cpu_name()
        self.info = WorkerInfo(
            socket.gethostname(), os.getpid(), self.setup.device, name, torch.get_num_threads(), gpus
        )
        return self.info

    def run(self, search: PlannedSearch, shard: Shard) -> Manifest:
        """Run a shard and write it; what comes back is its manifest alone. Raises StorageError and what the search
        raises.
        """
        assert self.models is not None
        assert self.info is not None
        return compute_shard(
            search,
            shard,
            Location.of(self.setup.campaign),
            self.models,
            made={**vars(self.info), "kiago_ray": self.setup.version},
        )

    def _gpus(self) -> tuple[str, ...]:
        import ray

        return tuple(map(str, ray.get_gpu_ids())) if ray.is_initialized() else ()

    def _load_models(self) -> Models:
        import tempfile
        from dataclasses import replace

        from kiago_ray.models import load_models
        from kiago_ray.predictors.weights import weights_hashes

        with tempfile.TemporaryDirectory() as folder:
            own: Path | None = None
            if self.setup.weight_files:
                own = Path(folder)
                for name, content in self.setup.weight_files.items():
                    (own / name).write_bytes(content)
            if weights_hashes(own) != dict(self.setup.weights):
                raise WorkerSetupError(
                    f"the worker on {socket.gethostname()} has other weights than the driver; install the same "
                    "kiago-ray everywhere"
                )
            models = load_models(own, known=NONE, device=self.setup.device)
        return replace(models, known=self.setup.known, tried=self.setup.tried)


def weight_files(folder: Path | None) -> dict[str, bytes]:
    """The files that a worker needs of a folder with weights; none for None, the package's own."""
    if folder is None:
        return {}
    from kiago_ray.predictors.weights import ORACLE, PLAUSIBILITY, file_name, folder_with, kinds_in

    kinds = [*kinds_in(folder), *(kind for kind in (ORACLE, PLAUSIBILITY) if folder_with(kind, folder))]
    names = [name for kind in kinds for name in (f"{kind}.json", file_name(kind))]
    return {name: (folder / name).read_bytes() for name in names}
