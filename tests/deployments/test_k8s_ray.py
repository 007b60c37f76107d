"""The Ray cluster and the job: the operator's own rules, and a command line and a campaign that fit the cluster."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiago_ray.cli.main import Command
from kiago_ray.runs.plan import make_plan
from kiago_ray.runs.spec import CampaignSpec
from kiago_ray.sweep.spec import SweepSpec

K8S = Path(__file__).parents[2] / "k8s"
Manifests = list[dict[str, Any]]
JOBS = ("cpu-campaign", "gpu-campaign")
ENTRYPOINT = ["bash", "/etc/kiago/entrypoint.sh"]
# KubeRay takes resources from one place only; these parameters are the other.
RESOURCE_PARAMS = {"num-cpus", "num-gpus", "memory", "resources"}


@pytest.fixture(params=sorted({path.name for path in (K8S / "overlays").iterdir()} - {"mlflow"}))
def manifests(request: pytest.FixtureRequest, render: Callable[[str], Manifests]) -> Manifests:
    """Those of each overlay with a Ray cluster in turn."""
    found = render(request.param)
    assert len(clusters(found)) == 1
    return found


def clusters(manifests: Manifests) -> Manifests:
    """The specs of all Ray clusters, standing, of a job or of a service."""
    standing = [each["spec"] for each in manifests if each["kind"] == "RayCluster"]
    jobs = [each["spec"]["rayClusterSpec"] for each in manifests if each["kind"] == "RayJob"]
    services = [each["spec"]["rayClusterConfig"] for each in manifests if each["kind"] == "RayService"]
    return standing + jobs + services


def groups(cluster: dict[str, Any]) -> Manifests:
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def gibibytes(quantity: str) -> float:
    found = re.fullmatch(r"(\d+)(Gi|Mi)", quantity)
    assert found is not None, quantity
    return int(found[1]) / {"Gi": 1, "Mi": 1024}[found[2]]


def test_ray_is_the_version_of_the_image(manifests: Manifests, locked: dict[str, str]) -> None:
    assert {each["rayVersion"] for each in clusters(manifests)} == {locked["ray"]}


def test_a_token_is_asked_for(manifests: Manifests) -> None:
    for cluster in clusters(manifests):
        assert cluster["authOptions"] == {"mode": "token"}
        assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 52)


def test_the_autoscaler_is_the_second_and_the_head_runs_no_workers(manifests: Manifests) -> None:
    for cluster in clusters(manifests):
        assert cluster["enableInTreeAutoscaling"] is True
        assert cluster["autoscalerOptions"]["version"] == "v2"
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        for group in groups(cluster):
            assert group["template"]["spec"].get("restartPolicy", "Never") == "Never"


def test_groups_grow_from_nothing(manifests: Manifests) -> None:
    for cluster in clusters(manifests):
        for group in cluster["workerGroupSpecs"]:
            assert group["minReplicas"] == 0 < group["maxReplicas"]
            # A number here would take the autoscaler's workers away whenever the manifest is applied again.
            assert "replicas" not in group


def test_resources_are_stated_in_one_place(manifests: Manifests) -> None:
    for cluster in clusters(manifests):
        for group in groups(cluster):
            assert not (group.get("resources") and RESOURCE_PARAMS & group["rayStartParams"].keys())
            assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_object_store_fits_in_its_memory(manifests: Manifests) -> None:
    for cluster in clusters(manifests):
        for group in groups(cluster):
            spec = group["template"]["spec"]
            (shared,) = [each["emptyDir"] for each in spec["volumes"] if each["name"] == "shared-mem"]
            store = int(group["rayStartParams"]["object-store-memory"]) / 2**30
            assert shared["medium"] == "Memory"
            assert store <= gibibytes(shared["sizeLimit"])
            assert gibibytes(shared["sizeLimit"]) < gibibytes(
                spec["containers"][0]["resources"]["limits"]["memory"]
            )


def test_gpu_pods_go_where_gpus_are(manifests: Manifests) -> None:
    for cluster in clusters(manifests):
        for group in groups(cluster):
            spec = group["template"]["spec"]
            resources = spec["containers"][0]["resources"]
            gpus = {each: resources[each].get("nvidia.com/gpu") for each in ("requests", "limits")}
            assert gpus["requests"] == gpus["limits"]
            tolerated = {each["key"] for each in spec.get("tolerations", [])}
            assert ("nvidia.com/gpu" in tolerated) is (gpus["limits"] is not None)
            assert (group.get("groupName") == "gpu") is (gpus["limits"] is not None)


def test_the_sweep_overlay_runs_the_sweep_beside_it(render: Callable[[str], Manifests]) -> None:
    manifests = render("gpu-sweep")
    (job,) = [each for each in manifests if each["kind"] == "RayJob"]
    words = shlex.split(job["spec"]["entrypoint"])
    command = Command("sweep", callback=None).whole
    given = command.make_context("sweep", words[4:]).params
    assert words[:4] == [*ENTRYPOINT, "kiago", "sweep"]
    assert str(given["file"]) == "/etc/kiago/sweep.yaml"
    assert given["out"].startswith("s3://")
    assert given["wait"] is True
    (config,) = [each for each in manifests if "data" in each and "sweep.yaml" in each["data"]]
    assert config["metadata"]["name"] in mounted(clusters(manifests)[0])
    spec = SweepSpec.read(K8S / "overlays" / "gpu-sweep" / "sweep.yaml")
    assert (spec.resources.gpus, spec.resources.torch_device) == (0.25, "cuda")
    (cluster,) = clusters(manifests)
    (group,) = [each for each in cluster["workerGroupSpecs"] if each["groupName"] == "gpu"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    a_pod = min(int(limits["cpu"]), int(int(limits["nvidia.com/gpu"]) / spec.resources.gpus))
    assert given["concurrency"] <= a_pod * group["maxReplicas"]


def test_only_the_gpu_overlays_have_gpu_workers(render: Callable[[str], Manifests]) -> None:
    for overlay in ("cpu", "gpu", "cpu-service", "gpu-service", *JOBS):
        (cluster,) = clusters(render(overlay))
        names = [group["groupName"] for group in cluster["workerGroupSpecs"]]
        assert names == (["cpu", "gpu"] if overlay.startswith("gpu") else ["cpu"])


def test_an_overlay_has_one_cluster_and_the_job_the_same(
    render: Callable[[str], Manifests],
) -> None:
    for hardware in ("cpu", "gpu"):
        standing, with_job = render(hardware), render(f"{hardware}-campaign")
        assert [each["kind"] for each in standing if each["apiVersion"] == "ray.io/v1"] == ["RayCluster"]
        assert [each["kind"] for each in with_job if each["apiVersion"] == "ray.io/v1"] == ["RayJob"]
        assert clusters(standing) == clusters(with_job)


def test_a_job_cleans_up_and_tries_again(manifests: Manifests) -> None:
    for job in (each["spec"] for each in manifests if each["kind"] == "RayJob"):
        assert job["shutdownAfterJobFinishes"] is True
        assert job["ttlSecondsAfterFinished"] >= 0
        assert job["backoffLimit"] >= 1000  # only a lost head uses it up
        assert job["activeDeadlineSeconds"] > job["preRunningDeadlineSeconds"] > 0
        # The head offers no CPU: a driver that asked for one would wait for ever.
        assert not job.get("entrypointNumCpus")


def mounted(cluster: dict[str, Any]) -> list[str]:
    """The names of the ConfigMaps that the head has at /etc/kiago."""
    head = cluster["headGroupSpec"]["template"]["spec"]
    (volume,) = [each for each in head["volumes"] if "projected" in each]
    mounts = {each["name"]: each["mountPath"] for each in head["containers"][0]["volumeMounts"]}
    assert mounts[volume["name"]] == "/etc/kiago"
    sources = [each["configMap"] for each in volume["projected"]["sources"]]
    assert all(each["optional"] for each in sources)  # a standing cluster has none
    return [each["name"] for each in sources]


def entrypoint(overlay: str) -> list[str]:
    """The words of the command line that an overlay runs."""
    kustomization = yaml.safe_load((K8S / "overlays" / overlay / "kustomization.yaml").read_text("utf-8"))
    (patch,) = [each for each in kustomization["patches"] if each["target"] == {"kind": "RayJob"}]
    (operation,) = yaml.safe_load(patch["patch"])
    assert (operation["op"], operation["path"]) == ("add", "/spec/entrypoint")
    # It passes through two shells on its way to the head.
    assert not set(operation["value"]) & set("\"'$`\\;&|<>*\n")
    return shlex.split(operation["value"])


def options(overlay: str) -> dict[str, Any]:
    """What the command line's own parser makes of it."""
    words = entrypoint(overlay)
    assert words[:2] == ENTRYPOINT
    words = words[2:]
    assert words[:3] == ["kiago", "campaign", "run"]
    command = Command("campaign", callback=None).whole
    context = command.make_context("campaign", ["run"], resilient_parsing=True)
    run = command.commands["run"]
    return dict(run.make_context("run", words[3:], parent=context).params)


@pytest.mark.parametrize("overlay", JOBS)
def test_the_command_line_exists(overlay: str) -> None:
    given = options(overlay)
    assert str(given["file"]) == "/etc/kiago/campaign.yaml"
    assert given["out"].startswith("s3://")
    # An empty cluster only grows for workers that are asked for, and a node takes minutes to come.
    assert given["workers"] >= 1
    assert given["wait"] >= 10


@pytest.mark.parametrize("overlay", JOBS)
def test_the_campaign_file_is_where_the_command_looks(
    overlay: str, render: Callable[[str], Manifests]
) -> None:
    manifests = render(overlay)
    configs = mounted(clusters(manifests)[0])
    found = [each for each in manifests if each["kind"] == "ConfigMap"]
    data = [each["data"] for each in found if each["metadata"]["name"] in configs]
    files = {name: text for each in data for name, text in each.items()}
    for source in (K8S / "overlays" / overlay / "campaign.yaml", K8S / "components/campaign/entrypoint.sh"):
        assert files.pop(source.name) == source.read_text(encoding="utf-8")
    assert not files


@pytest.mark.parametrize("overlay", JOBS)
def test_the_workers_fit_the_pods(overlay: str) -> None:
    campaign = CampaignSpec.read(K8S / "overlays" / overlay / "campaign.yaml")
    plan = make_plan(campaign, None)
    (cluster,) = yaml.safe_load_all((K8S / "base" / "raycluster.yaml").read_text("utf-8"))
    name = "gpu" if campaign.resources.gpus else "cpu"
    assert overlay.startswith(name)
    (group,) = [each for each in cluster["spec"]["workerGroupSpecs"] if each["groupName"] == name]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    a_pod = int(int(limits["cpu"]) / campaign.resources.cpus)
    if campaign.resources.gpus:
        a_pod = min(a_pod, int(int(limits["nvidia.com/gpu"]) / campaign.resources.gpus))
    store = int(group["rayStartParams"]["object-store-memory"]) / 2**30
    assert a_pod * plan.memory_mb / 1024 + store < gibibytes(limits["memory"])
    workers = options(overlay)["workers"]
    assert workers <= a_pod * group["maxReplicas"]
    assert plan.shard_count >= workers
