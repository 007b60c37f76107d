"""The Ray manifests of every overlay against KubeRay's own resource definitions, which kuberay.json holds."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from jsonschema import Draft202012Validator

OURS = ("RayCluster", "RayJob", "RayService")


def test_ray_manifests_fit_the_schemas(
    manifests: list[dict[str, Any]], validators: dict[str, Draft202012Validator]
) -> None:
    ours = [each for each in manifests if each["apiVersion"] == "ray.io/v1"]
    # Each overlay has one; the server of MLflow has none.
    assert len(ours) == any(each["metadata"].get("namespace") == "kiago" for each in manifests)
    for manifest in ours:
        errors = validators[manifest["kind"]].iter_errors(manifest)
        assert [f"{error.json_path}: {error.message[:200]}" for error in errors] == []


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
    manifests: list[dict[str, Any]],
    validators: dict[str, Draft202012Validator],
    place: tuple[str | int, ...],
    value: Any,
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
        assert not validators[manifest["kind"]].is_valid(broken)
