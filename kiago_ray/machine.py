"""The machine and the code that a process runs on: what every result records of where it comes from."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from kiago_ray import __version__

PACKAGES = ("torch", "numpy", "lightgbm", "smact", "pymatgen", "pyarrow", "ray", "mlflow")


def cpu_name() -> str:
    """The processor's model where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def versions() -> dict[str, Any]:
    """Versions of the project and of what decides its figures, and the processor."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "kiago_ray": __version__,
        "python": platform.python_version(),
        "packages": packages,
        "git": git_commit(),
        "cpu": cpu_name(),
    }


def provenance() -> dict[str, Any]:
    """The versions, and the threads and devices of this process."""
    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    return {**versions(), "threads": torch.get_num_threads(), "devices": devices}


def git_commit() -> str | None:
    """The commit that this code is of, with "-dirty" for changes since: KIAGO_GIT_COMMIT, which an image sets, or what
    git says of the checkout. None for an installed package.
    """
    named = os.environ.get("KIAGO_GIT_COMMIT")
    if named:
        return named[:80]
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
