"""`kiago version`, and what every result records of where it comes from: versions, weights' hashes, devices."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from kiago_ray import __version__
from kiago_ray.machine import cpu_name
from kiago_ray.predictors.weights import TUNING_ORACLE, load_card, weights_hashes

PACKAGES = ("torch", "numpy", "lightgbm", "smact", "pymatgen", "pyarrow", "ray", "mlflow")

app = typer.Typer(add_completion=False)


@app.command()
def version(as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Versions, the weights' hashes and the devices."""
    facts = provenance()
    facts["weights"] |= {
        TUNING_ORACLE: load_card(TUNING_ORACLE)["sha256"]
    }  # no search rests on it, sweeps do
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for key, item in inner:
            print(f"{name} {key}".strip().ljust(24), item)


def provenance(weights: Path | None = None) -> dict[str, Any]:
    """Versions of the project and of what decides its figures, SHA-256 of the weights, devices."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = installed_version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return {
        "kiago_ray": __version__,
        "python": platform.python_version(),
        "packages": packages,
        "git": git_commit(),
        "weights": weights_hashes(weights),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "devices": ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))],
    }


def git_commit() -> str | None:
    """The commit that this code is of, with "-dirty" for changes since: KIAGO_GIT_COMMIT, which an image sets, or what
    git says of the checkout. None for an installed package.
    """
    given = os.environ.get("KIAGO_GIT_COMMIT")
    if given:
        return given[:80]
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
