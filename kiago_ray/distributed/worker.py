"""The worker: an actor that loads the predictors once, holds one device, and runs one shard at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kiago_ray.campaign.plan import PlannedSearch, Shard
from kiago_ray.campaign.shards import Manifest
from kiago_ray.errors import KiagoError
from kiago_ray.machine import cpu_name

if TYPE_CHECKING:
    from kiago_ray.plausibility.shipped import Prospects
    from kiago_ray.predictors import Predictors
    from kiago_ray.predictors.oracle.opinions import SecondOpinion
    from kiago_ray.screening import KnownMaterials, TriedMaterials


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
        self.predictors: Predictors | None = None
        self.second: SecondOpinion | None = None
        self.prospects: Prospects | None = None
        self.info: WorkerInfo | None = None

    def start(self) -> WorkerInfo:
        """Take the device and load the predictors and the plausibility. Raises WorkerSetupError, WeightsError."""
        # Threads that spin while they wait take the cores of the other workers.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        import torch

        from kiago_ray import __version__

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
        self.predictors, self.second, self.prospects = self._load_models()
        name = torch.cuda.get_device_name() if self.setup.device == "cuda" else cpu_name()
        self.info = WorkerInfo(
            socket.gethostname(), os.getpid(), self.setup.device, name, torch.get_num_threads(), gpus
        )
        return self.info

    def run(self, search: PlannedSearch, shard: Shard) -> Manifest:
        """Run a shard and write it; what comes back is its manifest alone. Raises StorageError and what the search
        raises.
        """
        from kiago_ray.campaign.compute import compute_shard
        from kiago_ray.storage.location import Location

        assert self.predictors is not None
        assert self.info is not None
        return compute_shard(
            search,
            shard,
            Location.of(self.setup.campaign),
            self.predictors,
            second=self.second,
            prospects=self.prospects,
            known=self.setup.known,
            tried=self.setup.tried,
            device=self.setup.device,
            made={**vars(self.info), "kiago_ray": self.setup.version},
        )

    def _gpus(self) -> tuple[str, ...]:
        import ray

        return tuple(map(str, ray.get_gpu_ids())) if ray.is_initialized() else ()

    def _load_models(self) -> tuple[Predictors, SecondOpinion, Prospects]:
        import tempfile
        from pathlib import Path

        from kiago_ray.plausibility.shipped import load_prospects
        from kiago_ray.predictors import load_predictors
        from kiago_ray.predictors.oracle.opinions import load_second_opinion, weights_hashes

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
            predictors = load_predictors(own, device=self.setup.device)
            return predictors, load_second_opinion(predictors, own), load_prospects(own)


def weight_files(folder: Any) -> dict[str, bytes]:
    """The files that a worker needs of a folder with weights; none for None, the package's own."""
    if folder is None:
        return {}
    from kiago_ray.predictors.oracle.trees import KIND, oracle_folder
    from kiago_ray.predictors.weights import PLAUSIBILITY, kinds_in, plausibility_folder

    kinds = [*kinds_in(folder), *([] if plausibility_folder(folder) is None else [PLAUSIBILITY])]
    names = [f"{kind}.{ending}" for kind in kinds for ending in ("json", "safetensors")]
    if oracle_folder(folder) is not None:
        names += [f"{KIND}.json", f"{KIND}.txt.gz"]
    return {name: (folder / name).read_bytes() for name in names}
