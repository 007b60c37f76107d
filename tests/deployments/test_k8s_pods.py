"""What every pod keeps to: no root, bounded resources, no secret in a file; and who may speak to whom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import kiago_ray

K8S = Path(__file__).parents[2] / "k8s"
REGISTRY = "registry.example.org/kiago-ray"
RAY_PORTS = {6379, 8265, 10001}


def pods(manifests: list[dict[str, Any]]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Labels, with those that KubeRay adds, and spec of every pod."""
    for manifest in manifests:
        if manifest["kind"] == "RayJob":
            template = manifest["spec"]["submitterPodTemplate"]
            yield template["metadata"]["labels"], template["spec"]
        if manifest["kind"] not in ("RayCluster", "RayJob"):
            continue
        cluster = manifest["spec"].get("rayClusterSpec", manifest["spec"])
        for kind, group in (
            ("head", cluster["headGroupSpec"]),
            *(("worker", each) for each in cluster["workerGroupSpecs"]),
        ):
            labels = {**group["template"]["metadata"]["labels"], "ray.io/node-type": kind}
            yield labels, group["template"]["spec"]


def of_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in manifests if each["kind"] == kind]


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


def test_there_are_pods(manifests: list[dict[str, Any]]) -> None:
    assert len(list(pods(manifests))) >= 2


def test_pods_fit_the_restricted_profile_that_the_namespace_enforces(
    manifests: list[dict[str, Any]],
) -> None:
    (namespace,) = of_kind(manifests, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for _, spec in pods(manifests):
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == 1000
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert all({"emptyDir", "configMap"} & volume.keys() for volume in spec.get("volumes", []))
        for container in spec["containers"]:
            assert unprivileged(container["securityContext"])
    for manifest in manifests:
        if manifest["kind"] in ("RayCluster", "RayJob"):
            cluster = manifest["spec"].get("rayClusterSpec", manifest["spec"])
            assert unprivileged(cluster["autoscalerOptions"]["securityContext"])


def unprivileged(context: dict[str, Any]) -> bool:
    return context == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_every_container_says_what_it_needs_and_may_take(manifests: list[dict[str, Any]]) -> None:
    stated = [container["resources"] for _, spec in pods(manifests) for container in spec["containers"]]
    for manifest in manifests:
        if manifest["kind"] in ("RayCluster", "RayJob"):
            cluster = manifest["spec"].get("rayClusterSpec", manifest["spec"])
            stated.append(cluster["autoscalerOptions"]["resources"])
    for resources in stated:
        for part in ("requests", "limits"):
            assert {"cpu", "memory"} <= resources[part].keys()


def test_ray_pods_have_the_memory_that_they_may_take(manifests: list[dict[str, Any]]) -> None:
    for labels, spec in pods(manifests):
        if labels["app.kubernetes.io/component"] == "ray-node":
            resources = spec["containers"][0]["resources"]
            assert resources["requests"]["memory"] == resources["limits"]["memory"]


def test_only_the_head_may_ask_kubernetes(manifests: list[dict[str, Any]]) -> None:
    accounts = {
        each["metadata"]["name"]: each["automountServiceAccountToken"]
        for each in of_kind(manifests, "ServiceAccount")
    }
    assert accounts == {"kiago-head": True, "kiago-worker": False}
    for labels, spec in pods(manifests):
        head = labels.get("ray.io/node-type") == "head"
        assert spec["serviceAccountName"] == ("kiago-head" if head else "kiago-worker")
        assert spec.get("automountServiceAccountToken", True) is head


def test_no_secret_is_written_down(manifests: list[dict[str, Any]]) -> None:
    assert not of_kind(manifests, "Secret")
    for config in of_kind(manifests, "ConfigMap"):
        for key in config["data"]:
            assert not any(word in key.upper() for word in ("SECRET", "TOKEN", "PASSWORD", "ACCESS_KEY"))
    for _, spec in pods(manifests):
        for container in spec["containers"]:
            assert all("value" not in each for each in container.get("env", []))
    example = yaml.safe_load((K8S / "base" / "secret.example.yaml").read_text(encoding="utf-8"))
    assert set(example["stringData"].values()) == {""}
    kustomization = yaml.safe_load((K8S / "base" / "kustomization.yaml").read_text(encoding="utf-8"))
    assert "secret.example.yaml" not in kustomization["resources"]


def test_ray_pods_take_settings_and_credentials_from_outside(manifests: list[dict[str, Any]]) -> None:
    for labels, spec in pods(manifests):
        if labels["app.kubernetes.io/component"] != "ray-node":
            continue
        (container,) = spec["containers"]
        sources = [next(iter(each.values()))["name"] for each in container["envFrom"]]
        assert sources == ["kiago-settings", "kiago-credentials"]


def test_images_are_ours_and_of_one_version(manifests: list[dict[str, Any]]) -> None:
    images = {container["image"] for _, spec in pods(manifests) for container in spec["containers"]}
    tags = {f"{REGISTRY}:{kiago_ray.__version__}-{variant}" for variant in ("cpu", "cu130")}
    assert len(images) == 1
    assert images <= {"kiago-ray", *tags}  # the bare name in the files, before kustomize


def test_mounts_have_their_volumes(manifests: list[dict[str, Any]]) -> None:
    for _, spec in pods(manifests):
        volumes = {each["name"] for each in spec.get("volumes", [])}
        for container in spec["containers"]:
            assert {each["name"] for each in container.get("volumeMounts", [])} <= volumes


def test_everything_is_closed_first(manifests: list[dict[str, Any]]) -> None:
    closed = [
        policy
        for policy in of_kind(manifests, "NetworkPolicy")
        if policy["spec"]["podSelector"] == {} and not {"ingress", "egress"} & policy["spec"].keys()
    ]
    assert [sorted(each["spec"]["policyTypes"]) for each in closed] == [["Egress", "Ingress"]]


def test_each_policy_is_for_pods_that_exist(manifests: list[dict[str, Any]]) -> None:
    labels = [each for each, _ in pods(manifests)]
    for policy in of_kind(manifests, "NetworkPolicy"):
        assert any(selects(policy["spec"]["podSelector"], each) for each in labels), policy["metadata"]
    for each in labels:
        opened = [
            policy["metadata"]["name"]
            for policy in of_kind(manifests, "NetworkPolicy")
            if policy["spec"]["podSelector"] and selects(policy["spec"]["podSelector"], each)
        ]
        assert opened, each


def test_rays_ports_are_for_the_clusters_own_pods(manifests: list[dict[str, Any]]) -> None:
    ray_pods = [
        labels for labels, _ in pods(manifests) if labels["app.kubernetes.io/component"] == "ray-node"
    ]
    for policy in of_kind(manifests, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            ports = {each["port"] for each in rule.get("ports", [])}
            own = all(
                peer.keys() == {"podSelector"}
                and any(selects(peer["podSelector"], each) for each in ray_pods)
                for peer in rule["from"]
            )
            # Others reach the dashboard and nothing else: the operator, and the pod that hands the job in.
            assert own or ports == {8265}
            assert ports <= RAY_PORTS
            assert not any("ipBlock" in peer for peer in rule["from"])


def test_pods_never_reach_the_clouds_metadata(manifests: list[dict[str, Any]]) -> None:
    for policy in of_kind(manifests, "NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            blocks = [peer["ipBlock"] for peer in rule.get("to", []) if "ipBlock" in peer]
            for block in blocks:
                if block["cidr"].endswith("/0"):
                    assert "169.254.169.254/32" in block["except"]
                    assert rule["ports"]


def test_the_head_is_not_evicted_without_asking(manifests: list[dict[str, Any]]) -> None:
    (budget,) = of_kind(manifests, "PodDisruptionBudget")
    assert budget["spec"]["minAvailable"] == 1
    chosen = [labels for labels, _ in pods(manifests) if selects(budget["spec"]["selector"], labels)]
    assert {each["ray.io/node-type"] for each in chosen} == {"head"}


def test_everything_lies_in_the_namespace(manifests: list[dict[str, Any]]) -> None:
    (namespace,) = of_kind(manifests, "Namespace")
    for manifest in manifests:
        if manifest["kind"] != "Namespace" and "namespace" in manifest["metadata"]:
            assert manifest["metadata"]["namespace"] == namespace["metadata"]["name"]
