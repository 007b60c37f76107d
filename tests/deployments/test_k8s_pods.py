"""What every pod keeps to: no root, bounded resources, no secret in a file; and who may speak to whom."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

import kiago_ray

K8S = Path(__file__).parents[2] / "k8s"
REGISTRY = "registry.example.org/kiago-ray"
VERSION = re.escape(kiago_ray.__version__)
OTHERS = r"redis:7\.4\.\d+-alpine|ghcr\.io/mlflow/mlflow:v3\.\d+\.\d+-full"
RAY_PORTS = {6379, 8265, 10001}
RAY_KINDS = ("RayCluster", "RayJob", "RayService")
# Who else reaches a Ray pod, and where.
CLIENTS = {"namespaceSelector": {"matchLabels": {"kiago-ray/clients": "allowed"}}}
MONITORING = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}


def pods(manifests: list[dict[str, Any]]) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Labels, with those that KubeRay adds, and spec of every pod."""
    for manifest in manifests:
        if manifest["kind"] == "RayJob":
            template = manifest["spec"]["submitterPodTemplate"]
            yield template["metadata"]["labels"], template["spec"]
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            template = manifest["spec"]["template"]
            yield template["metadata"]["labels"], template["spec"]
        if manifest["kind"] not in RAY_KINDS:
            continue
        cluster = ray_cluster(manifest)
        for kind, group in (
            ("head", cluster["headGroupSpec"]),
            *(("worker", each) for each in cluster["workerGroupSpecs"]),
        ):
            labels = {**group["template"]["metadata"]["labels"], "ray.io/node-type": kind}
            if manifest["kind"] == "RayService":
                labels["ray.io/serve"] = "true" if kind == "worker" else "false"
            yield labels, group["template"]["spec"]


def ray_cluster(manifest: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]
    return dict(spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec)


def of_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in manifests if each["kind"] == kind]


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    wanted = selector.get("matchExpressions", [])
    assert {each["operator"] for each in wanted} <= {"In"}
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in wanted
    )


def test_there_are_pods(manifests: list[dict[str, Any]]) -> None:
    kinds = {each["kind"] for each in manifests}
    assert len(list(pods(manifests))) >= (2 if kinds & set(RAY_KINDS) else 1)


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
        kinds = {"emptyDir", "configMap", "projected", "secret", "persistentVolumeClaim"}
        assert all(kinds & volume.keys() for volume in spec.get("volumes", []))
        for container in spec["containers"]:
            assert unprivileged(container["securityContext"])
    for manifest in manifests:
        if manifest["kind"] in RAY_KINDS:
            assert unprivileged(ray_cluster(manifest)["autoscalerOptions"]["securityContext"])


def unprivileged(context: dict[str, Any]) -> bool:
    """Nothing beyond the profile; only a disk that can't be written may be added."""
    rest = {key: value for key, value in context.items() if (key, value) != ("readOnlyRootFilesystem", True)}
    return rest == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_every_container_says_what_it_needs_and_may_take(manifests: list[dict[str, Any]]) -> None:
    stated = [container["resources"] for _, spec in pods(manifests) for container in spec["containers"]]
    for manifest in manifests:
        if manifest["kind"] in RAY_KINDS:
            stated.append(ray_cluster(manifest)["autoscalerOptions"]["resources"])
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
    assert accounts in ({"kiago-head": True, "kiago-worker": False}, {"mlflow": False})
    for labels, spec in pods(manifests):
        head = labels.get("ray.io/node-type") == "head"
        assert spec["serviceAccountName"] in accounts
        assert (spec["serviceAccountName"] == "kiago-head") is head
        assert spec.get("automountServiceAccountToken", True) is head


def test_no_secret_is_written_down(manifests: list[dict[str, Any]]) -> None:
    assert not of_kind(manifests, "Secret")
    for config in of_kind(manifests, "ConfigMap"):
        for key in config["data"]:
            assert not any(word in key.upper() for word in ("SECRET", "TOKEN", "PASSWORD", "ACCESS_KEY"))
    for _, spec in pods(manifests):
        for container in spec["containers"]:
            for each in container.get("env", []):
                assert each.keys() == {"name", "valueFrom"}
                assert each["valueFrom"].keys() == {"secretKeyRef"}
            # A command line can be read by all who may see the pod, its environment's references can't.
            command = " ".join([*container.get("command", []), *container.get("args", [])])
            assert not re.search(r"\$\(|--requirepass|backend-store-uri|\w://[^ ]*:[^ ]*@", command)


def test_examples_of_secrets_are_empty_and_left_out() -> None:
    examples = sorted(K8S.rglob("*.example.yaml"))
    secrets = [
        secret
        for path in examples
        for secret in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if secret["kind"] == "Secret"
    ]
    names = {secret["metadata"]["name"] for secret in secrets}
    assert names == {"kiago-credentials", "kiago-service", "kiago-redis", "mlflow"}
    assert {value for secret in secrets for value in secret["stringData"].values()} == {""}
    for path in examples:
        kustomization = yaml.safe_load((path.parent / "kustomization.yaml").read_text(encoding="utf-8"))
        assert path.name not in kustomization["resources"]


def test_each_secret_that_a_pod_reads_has_an_example(manifests: list[dict[str, Any]]) -> None:
    shapes = {
        secret["metadata"]["name"]: set(secret["stringData"])
        for path in K8S.rglob("*.example.yaml")
        for secret in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if secret["kind"] == "Secret"
    }
    for _, spec in pods(manifests):
        for container in spec["containers"]:
            for each in container.get("env", []):
                reference = each["valueFrom"]["secretKeyRef"]
                assert reference["key"] in shapes[reference["name"]]
            for each in container.get("envFrom", []):
                assert each.get("secretRef", {"name": "kiago-credentials"})["name"] in shapes


def test_probes_are_stated_where_kuberay_gives_none(manifests: list[dict[str, Any]]) -> None:
    for labels, spec in pods(manifests):
        component = labels["app.kubernetes.io/component"]
        for container in spec["containers"]:
            probes = {each for each in container if each.endswith("Probe")}
            if component in ("redis", "mlflow"):
                assert probes == {"startupProbe", "readinessProbe", "livenessProbe"}
            else:  # one of ours on a Ray pod would take the place of KubeRay's, which know the token and the proxy
                assert not probes


def test_ray_pods_take_settings_and_credentials_from_outside(manifests: list[dict[str, Any]]) -> None:
    for labels, spec in pods(manifests):
        if labels["app.kubernetes.io/component"] != "ray-node":
            continue
        (container,) = spec["containers"]
        sources = [next(iter(each.values()))["name"] for each in container["envFrom"]]
        assert sources == ["kiago-settings", "kiago-credentials"]


def test_images_are_ours_and_of_one_version(manifests: list[dict[str, Any]]) -> None:
    images = {container["image"] for _, spec in pods(manifests) for container in spec["containers"]}
    ours = {image for image in images if not re.fullmatch(OTHERS, image)}
    assert all(re.fullmatch(rf"{REGISTRY}:{VERSION}-(cpu|cu130)", image) for image in ours)
    assert len(ours) == (1 if {each["kind"] for each in manifests} & set(RAY_KINDS) else 0)


def test_mounts_have_their_volumes(manifests: list[dict[str, Any]]) -> None:
    claims = {
        claim["metadata"]["name"]
        for each in of_kind(manifests, "StatefulSet")
        for claim in each["spec"]["volumeClaimTemplates"]
    }
    for labels, spec in pods(manifests):
        volumes = {each["name"] for each in spec.get("volumes", [])}
        if labels["app.kubernetes.io/component"] == "redis":
            volumes |= claims
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
        if not any(selects(policy["spec"]["podSelector"], each) for each in ray_pods):
            continue
        for rule in policy["spec"].get("ingress", []):
            ports = {each["port"] for each in rule.get("ports", [])}
            own = all(
                peer.keys() == {"podSelector"}
                and any(selects(peer["podSelector"], each) for each in ray_pods)
                for peer in rule["from"]
            )
            if not own:
                # The dashboard is for the operator and the pod that hands the job in.
                allowed = {8265: None, 8000: [CLIENTS], 8080: [MONITORING]}
                (port,) = ports
                assert allowed[port] in (None, rule["from"])
            else:
                assert ports <= RAY_PORTS
            assert not any("ipBlock" in peer for peer in rule["from"])


def test_others_are_for_ray_pods_alone(manifests: list[dict[str, Any]]) -> None:
    """Redis for the head, MLflow for Ray's pods of the namespace kiago; each on its one port."""
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind(manifests, "NetworkPolicy")}
    for labels, spec in pods(manifests):
        component = labels["app.kubernetes.io/component"]
        if component not in ("redis", "mlflow"):
            continue
        (rule,) = policies[component]["ingress"]
        ports = {each["port"] for each in rule["ports"]}
        assert ports == {port["containerPort"] for port in spec["containers"][0]["ports"]}
        (peer,) = rule["from"]
        ray = {"app.kubernetes.io/component": "ray-node"}
        head, worker = {**ray, "ray.io/node-type": "head"}, {**ray, "ray.io/node-type": "worker"}
        assert selects(peer["podSelector"], head)
        assert not selects(peer["podSelector"], labels)
        if component == "redis":
            assert not selects(peer["podSelector"], worker)
            assert peer.keys() == {"podSelector"}
        else:
            assert peer["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "kiago"}}


def test_pods_never_reach_the_clouds_metadata(manifests: list[dict[str, Any]]) -> None:
    for policy in of_kind(manifests, "NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            blocks = [peer["ipBlock"] for peer in rule.get("to", []) if "ipBlock" in peer]
            for block in blocks:
                if block["cidr"].endswith("/0"):
                    assert "169.254.169.254/32" in block["except"]
                    assert rule["ports"]


def test_the_head_is_not_evicted_without_asking(manifests: list[dict[str, Any]]) -> None:
    budgets = {each["metadata"]["name"]: each["spec"] for each in of_kind(manifests, "PodDisruptionBudget")}
    wanted = {"kiago-head": {"head"}} if {each["kind"] for each in manifests} & set(RAY_KINDS) else {}
    if of_kind(manifests, "RayService"):
        wanted["kiago-service"] = {"worker"}
    assert budgets.keys() == wanted.keys()
    for name, budget in budgets.items():
        assert budget["minAvailable"] == 1
        chosen = [labels for labels, _ in pods(manifests) if selects(budget["selector"], labels)]
        assert {each["ray.io/node-type"] for each in chosen} == wanted[name]


def test_everything_lies_in_the_namespace(manifests: list[dict[str, Any]]) -> None:
    (namespace,) = of_kind(manifests, "Namespace")
    for manifest in manifests:
        if manifest["kind"] != "Namespace" and "namespace" in manifest["metadata"]:
            assert manifest["metadata"]["namespace"] == namespace["metadata"]["name"]
