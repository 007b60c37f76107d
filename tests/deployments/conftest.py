"""The manifests of k8s/ as `kubectl kustomize` renders them."""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(path.parent.name for path in (K8S / "overlays").glob("*/kustomization.yaml"))

Manifest = dict[str, Any]


def documents(text: str) -> list[Manifest]:
    """All YAML documents of a text; nodes that anchors share become nodes of their own."""
    return [copy.deepcopy(document) for document in yaml.safe_load_all(text) if document is not None]


def kustomize(folder: Path) -> subprocess.CompletedProcess[str]:
    """`kubectl kustomize`, with the kubectl of this environment (Linux) or the machine's."""
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kubectl = shutil.which("kubectl", path=places)
    assert kubectl, "kubectl is missing: `make setup` installs it on Linux; elsewhere put it on the PATH"
    return subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60)


@functools.cache
def text_of(overlay: str) -> str:
    done = kustomize(K8S / "overlays" / overlay)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(overlay: str) -> list[Manifest]:
    """What `kubectl apply -k` would send."""
    return documents(text_of(overlay))


@pytest.fixture(scope="session", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    """The manifests of each overlay in turn."""
    return rendered(request.param)


@pytest.fixture(scope="session")
def render() -> Callable[[str], list[Manifest]]:
    """An overlay's manifests by its name."""
    return rendered


@pytest.fixture(scope="session")
def locked() -> dict[str, str]:
    """The version of each package that the image installs."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.M))


def closed(schema: Any) -> Any:
    """The schema as the API server reads it: unknown fields refused, fields with a default not required."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    fields = schema.get("properties")
    made = {key: closed(value) for key, value in schema.items() if key not in ("properties", "required")}
    if isinstance(fields, dict):
        made["properties"] = {name: closed(value) for name, value in fields.items()}
        made.setdefault("additionalProperties", schema.get("x-kubernetes-preserve-unknown-fields", False))
    required = [name for name in schema.get("required", []) if "default" not in (fields or {}).get(name, {})]
    return {**made, "required": required} if required else made


@pytest.fixture(scope="session")
def validators() -> dict[str, Draft202012Validator]:
    """KubeRay's own schemas by kind, from kuberay.json."""
    held = closed(json.loads(Path(__file__).with_name("kuberay.json").read_text(encoding="utf-8")))
    return {
        kind: Draft202012Validator({**held[kind], "$defs": held["$defs"]})
        for kind in ("RayCluster", "RayJob", "RayService")
    }


@pytest.fixture
def compose(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`kubectl kustomize` of a kustomization of one's own: a folder of k8s/ with these components, in this order."""

    def made(resource: str, *components: str, **fields: Any) -> subprocess.CompletedProcess[str]:
        k8s = os.path.relpath(K8S, tmp_path)
        kustomization = {
            "resources": [f"{k8s}/{resource}"],
            "components": [f"{k8s}/components/{each}" for each in components],
            **fields,
        }
        (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
        return kustomize(tmp_path)

    return made
