"""The manifests of k8s/ as kustomize renders them, or as they lie there where kubectl is missing."""

from __future__ import annotations

import copy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(path.parent.name for path in (K8S / "overlays").glob("*/kustomization.yaml"))
HAS_KUBECTL = shutil.which("kubectl") is not None

Manifest = dict[str, Any]


def documents(text: str) -> list[Manifest]:
    """All YAML documents of a text; nodes that anchors share become nodes of their own."""
    return [copy.deepcopy(document) for document in yaml.safe_load_all(text) if document is not None]


def lying_there() -> list[Manifest]:
    """Every manifest of the namespace kiago in its file, with the cluster that kustomize would copy into it."""
    found: list[Manifest] = []
    for path in sorted(set(K8S.rglob("*.yaml")) - set((K8S / "overlays" / "mlflow").iterdir())):
        found += [each for each in documents(path.read_text(encoding="utf-8")) if "metadata" in each]
    cluster = next(each for each in found if each["kind"] == "RayCluster")
    for job in (each for each in found if each["kind"] == "RayJob"):
        job["spec"]["rayClusterSpec"] = copy.deepcopy(cluster["spec"])
    for service in (each for each in found if each["kind"] == "RayService"):
        service["spec"]["rayClusterConfig"] = copy.deepcopy(cluster["spec"])
    return [each for each in found if each["kind"] != "Secret"]


def rendered(overlay: str) -> list[Manifest]:
    """What `kubectl apply -k` would send."""
    command = ["kubectl", "kustomize", str(K8S / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


@pytest.fixture(scope="session", params=["files", *OVERLAYS])
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    """The manifests of each overlay in turn, and those that lie in the files."""
    if request.param == "files":
        return lying_there()
    if not HAS_KUBECTL:
        pytest.skip("kubectl isn't installed")
    return rendered(request.param)


@pytest.fixture(scope="session")
def render() -> Callable[[str], list[Manifest]]:
    """An overlay's manifests by its name."""
    if not HAS_KUBECTL:
        pytest.skip("kubectl isn't installed")
    return rendered


@pytest.fixture(scope="session")
def ray_version() -> str:
    """The version of Ray that pyproject.toml pins."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (pin,) = [each for each in project["dependencies"] if each.startswith("ray[")]
    return str(pin.partition("==")[2])
