"""The Ray manifests against KubeRay's own schemas, in the folder that KIAGO_CRD_SCHEMAS names."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

FOLDER = os.environ.get("KIAGO_CRD_SCHEMAS", "")

pytestmark = pytest.mark.skipif(not FOLDER, reason="KIAGO_CRD_SCHEMAS names no folder of CRD schemas")
OURS = ("RayCluster", "RayJob", "RayService")


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


def validator(kind: str) -> Draft202012Validator:
    schema = closed(json.loads((Path(FOLDER) / f"{kind.lower()}.json").read_text(encoding="utf-8"))["schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return Draft202012Validator(schema)


def test_ray_manifests_fit_the_schemas(manifests: list[dict[str, Any]]) -> None:
    ours = [each for each in manifests if each["apiVersion"] == "ray.io/v1"]
    assert ours or {each["metadata"].get("namespace") for each in manifests} == {None, "kiago-mlflow"}
    for manifest in ours:
        problems = [
            f"{error.json_path}: {error.message[:200]}"
            for error in validator(manifest["kind"]).iter_errors(manifest)
        ]
        assert problems == [], manifest["kind"]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("authOptions", "mode"), "open"),
        (("rayVersoin",), "2.60.0"),
        (("headGroupSpec", "template", "spec", "containers", 0, "imagee"), "kiago-ray"),
        (("workerGroupSpecs", 0, "maxReplicas"), "16"),
    ],
)
def test_the_check_sees_mistakes(
    manifests: list[dict[str, Any]], place: tuple[str | int, ...], value: Any
) -> None:
    for manifest in manifests:
        if manifest["kind"] not in OURS:
            continue
        broken = copy.deepcopy(manifest)
        node = broken["spec"]
        node = node.get("rayClusterSpec") or node.get("rayClusterConfig") or node
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value
        assert not validator(manifest["kind"]).is_valid(broken)
