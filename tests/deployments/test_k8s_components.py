"""The components of k8s/ that an overlay may list: what each adds, and that none is listed in vain."""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from kiago_ray.distributed.cluster import Node, selected
from kiago_ray.runs.spec import ResourcesSpec

from .conftest import K8S

Compose = Callable[..., subprocess.CompletedProcess[str]]


def manifests(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [copy.deepcopy(each) for each in yaml.safe_load_all(done.stdout)]


def job(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    (found,) = [each for each in manifests(done) if each["kind"] == "RayJob"]
    return found


@pytest.mark.parametrize("overlay", ["cpu-campaign", "gpu-service", "mlflow"])
@pytest.mark.parametrize(
    ("component", "ways"),
    [
        (
            "gke-workload-identity",
            {("169.254.169.254/32", 80), ("169.254.169.254/32", 8080)}
            | {("169.254.169.252/32", 987), ("169.254.169.252/32", 988)},
        ),
        ("eks-pod-identity", {("169.254.170.23/32", 80), ("fd00:ec2::23/128", 80)}),
    ],
)
def test_workload_identity_opens_its_servers_and_no_more(
    component: str, ways: set[tuple[str, int]], overlay: str, render: Callable[[str], Any], compose: Compose
) -> None:
    before = render(overlay)
    added = [each for each in manifests(compose(f"overlays/{overlay}", component)) if each not in before]
    (policy,) = added
    assert policy["spec"]["policyTypes"] == ["Egress"]
    # Redis and the pod that hands the job in have no business there.
    (expression,) = policy["spec"]["podSelector"]["matchExpressions"]
    assert (expression["operator"], expression["values"]) == ("In", ["ray-node", "mlflow"])
    found = {
        (peer["ipBlock"]["cidr"], port["port"])
        for rule in policy["spec"]["egress"]
        for peer in rule["to"]
        for port in rule["ports"]
    }
    assert found == ways


HARDWARE = pytest.mark.parametrize("hardware", [("cpu-only",), ()], ids=["cpu", "gpu"])
MARKETS = {
    "cloud.google.com/gke-spot": "true",
    "eks.amazonaws.com/capacityType": "SPOT",
    "karpenter.sh/capacity-type": "spot",
    "kubernetes.azure.com/scalesetpriority": "spot",
}


def fits(template: dict[str, Any], node: dict[str, str]) -> bool:
    """Whether the template's required affinity lets a pod onto a node with these labels."""
    required = template["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return any(
        all(
            (node.get(each["key"]) in each["values"]) is (each["operator"] == "In")
            for each in term["matchExpressions"]
        )
        for term in required["nodeSelectorTerms"]
    )


@HARDWARE
def test_each_group_has_its_like_on_spot_machines(hardware: tuple[str, ...], compose: Compose) -> None:
    plain = job(compose("base", *hardware, "campaign"))["spec"]["rayClusterSpec"]
    spec = job(compose("base", *hardware, "spot", "campaign"))["spec"]["rayClusterSpec"]
    groups = {each["groupName"]: each for each in spec["workerGroupSpecs"]}
    names = ["cpu"] if hardware else ["cpu", "gpu"]
    assert sorted(groups) == sorted(names + [f"{name}-spot" for name in names])
    spot_nodes = [{key: value} for key, value in MARKETS.items()]
    staying = [spec["headGroupSpec"], *(groups[name] for name in names)]
    for group in staying:
        assert group["labels"] == {"ray.io/market-type": "on-demand"}
        assert fits(group["template"], {"kubernetes.io/arch": "amd64"})
        assert not any(fits(group["template"], node) for node in spot_nodes)
    for original in plain["workerGroupSpecs"]:
        group = groups[f"{original['groupName']}-spot"]
        assert group.pop("labels") == {"ray.io/market-type": "spot"}
        assert not fits(group["template"], {})
        assert all(fits(group["template"], node) for node in spot_nodes)
        tolerated = group["template"]["spec"].pop("tolerations")
        had = original["template"]["spec"].pop("tolerations", [])
        assert [each["key"] for each in tolerated] == [
            *(each["key"] for each in had),
            "cloud.google.com/gke-spot",
            "kubernetes.azure.com/scalesetpriority",
        ]
        # Nothing else about it is different.
        del group["template"]["spec"]["affinity"]
        assert {**group, "groupName": original["groupName"]} == original


def test_a_selector_of_labels_picks_spot_machines_or_those_that_stay(compose: Compose) -> None:
    groups = job(compose("base", "spot", "campaign"))["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert "{ray.io/market-type: on-demand}" in (K8S / "README.md").read_text("utf-8")
    for market, picked in (("spot", {"cpu-spot", "gpu-spot"}), ("on-demand", {"cpu", "gpu"})):
        asked = ResourcesSpec(label_selector={"ray.io/market-type": market})
        assert {each["groupName"] for each in groups if selected(asked, Node({}, each["labels"]))} == picked


@HARDWARE
def test_every_ray_pod_has_a_priority_below_all_others(hardware: tuple[str, ...], compose: Compose) -> None:
    done = compose("base", *hardware, "priority", "spot", "campaign", "kueue")
    classes = {each["metadata"]["name"]: each for each in manifests(done) if each["kind"] == "PriorityClass"}
    spec = job(done)["spec"]["rayClusterSpec"]
    # The cluster autoscaler adds no nodes for what is below -10; a pod without a class has 0.
    worker, head = classes["kiago-worker"], classes["kiago-head"]
    assert -10 <= worker["value"] < head["value"] < 0
    assert worker["preemptionPolicy"] == "Never"
    assert spec["headGroupSpec"]["template"]["spec"]["priorityClassName"] == "kiago-head"
    named = {each["template"]["spec"]["priorityClassName"] for each in spec["workerGroupSpecs"]}
    assert named == {"kiago-worker"}


def test_kueue_starts_the_job_and_its_workers_still_come_and_go(compose: Compose) -> None:
    found = job(compose("base", "campaign", "kueue"))
    assert found["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "kiago"
    # Kueue refuses a job with the autoscaler that isn't elastic, and one that leaves its cluster behind.
    assert found["metadata"]["annotations"]["kueue.x-k8s.io/elastic-job"] == "true"
    assert found["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is True
    assert found["spec"]["shutdownAfterJobFinishes"] is True


@pytest.mark.parametrize(
    "components",
    [
        ("spot",),
        ("cpu-only", "priority"),
        ("priority", "spot", "campaign", "kueue", "gke-workload-identity"),
        ("cpu-only", "priority", "spot", "campaign", "kueue", "eks-pod-identity"),
        ("priority", "service"),
    ],
)
def test_what_they_make_fits_kuberays_schemas(
    components: tuple[str, ...], compose: Compose, validators: dict[str, Draft202012Validator]
) -> None:
    (ours,) = [each for each in manifests(compose("base", *components)) if each["apiVersion"] == "ray.io/v1"]
    if ours["kind"] == "RayJob":  # which an overlay says
        ours["spec"]["entrypoint"] = "true"
    assert [error.message[:200] for error in validators[ours["kind"]].iter_errors(ours)] == []


@pytest.mark.parametrize(
    ("components", "says"),
    [
        (("campaign", "cpu-only"), "list cpu-only before the other components"),
        (("service", "cpu-only"), "list cpu-only before the other components"),
        (("spot", "cpu-only"), "components/cpu-only"),
        (("campaign", "spot"), "list spot before campaign"),
        (("spot", "service"), "list spot for campaigns and sweeps and not for the service"),
        (("spot", "priority"), "list priority before spot, campaign and service"),
        (("campaign", "priority"), "list priority before spot, campaign and service"),
        (("kueue",), "RayJob.v1.ray.io/kiago-campaign"),
    ],
)
def test_none_is_listed_in_vain(components: tuple[str, ...], says: str, compose: Compose) -> None:
    done = compose("base", *components)
    assert done.returncode != 0
    assert says in done.stderr


def test_an_image_can_be_named_by_its_digest(compose: Compose) -> None:
    digest = "sha256:" + "a1" * 32
    name = "registry.example.org/kiago-ray"
    done = compose("base", "campaign", images=[{"name": "kiago-ray", "newName": name, "digest": digest}])
    spec = job(done)["spec"]
    groups = [spec["rayClusterSpec"]["headGroupSpec"], *spec["rayClusterSpec"]["workerGroupSpecs"]]
    templates = [spec["submitterPodTemplate"], *(each["template"] for each in groups)]
    assert {each["spec"]["containers"][0]["image"] for each in templates} == {f"{name}@{digest}"}
