"""The code that a process runs: driver and workers must run the same, whatever version each of them calls itself."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import dataclass
from pathlib import Path

import kiago_ray
from kiago_ray.errors import KiagoError

# Models and searches are made of these; the cards of weights (.json) hold the hashes of the weights.
_COUNTED = frozenset((".py", ".csv", ".json", ".parquet", ".yaml"))


class WorkerSetupError(KiagoError):
    """A worker that can't do its job where it is. The message is one line: why, and what to do."""


@dataclass(frozen=True)
class Code:
    """The kiago_ray of a process. sha256: over the names and contents of its code and tables. file: what was imported,
    an absolute path.
    """

    sha256: str
    file: str

    @classmethod
    def imported(cls) -> Code:
        """What this process has imported, in some ten milliseconds."""
        file = Path(kiago_ray.__file__).absolute()
        digest = hashlib.sha256()
        for path in sorted(file.parent.rglob("*")):
            if path.suffix in _COUNTED:
                digest.update(f"{path.relative_to(file.parent).as_posix()}\n".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return cls(digest.hexdigest(), str(file))

    def check_here(self) -> None:
        """Raise WorkerSetupError where this process, a worker, runs other code than this, the driver's."""
        own = Code.imported()
        if own.sha256 != self.sha256:
            raise WorkerSetupError(
                f"the worker on {socket.gethostname()} runs other code than the driver: it imported {own.file}, the "
                f"driver {self.file}; install the same kiago-ray everywhere, and let no PYTHONPATH or runtime "
                "environment lead to another"
            )
