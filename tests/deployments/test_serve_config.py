"""The Serve configs, of deployments/ and of the service's overlays: Ray takes them, and they fit the application."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiago_ray.service.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
LOCAL = "deployments/serve.yaml"
PODS = {hardware: f"k8s/overlays/{hardware}-service/serve.yaml" for hardware in ("cpu", "gpu")}
FILES = (LOCAL, *PODS.values())

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")

Config = dict[str, Any]


def read(name: str) -> Config:
    return dict(yaml.safe_load((ROOT / name).read_text(encoding="utf-8")))


@pytest.fixture(params=FILES)
def config(request: pytest.FixtureRequest) -> Config:
    return read(request.param)


def application(config: Config) -> Config:
    (only,) = config["applications"]
    return dict(only)


def deployments(config: Config) -> dict[str, Config]:
    return {each["name"]: each for each in application(config)["deployments"]}


def test_ray_takes_it(config: Config) -> None:
    from ray.serve.config import AutoscalingConfig
    from ray.serve.schema import ServeDeploySchema

    ServeDeploySchema.model_validate(config)
    for each in deployments(config).values():
        AutoscalingConfig.model_validate(each["autoscaling_config"])


def test_every_key_is_one_of_rays(config: Config) -> None:
    """Ray itself passes over what it doesn't know."""
    from ray.serve.config import AutoscalingConfig, BackpressureConfig
    from ray.serve.schema import (
        DeploymentSchema,
        HTTPOptionsSchema,
        LoggingConfig,
        RayActorOptionsSchema,
        ServeApplicationSchema,
        ServeDeploySchema,
    )

    parts: list[tuple[Any, Config]] = [
        (ServeDeploySchema, config),
        (HTTPOptionsSchema, config["http_options"]),
        (LoggingConfig, config["logging_config"]),
        (ServeApplicationSchema, application(config)),
    ]
    for each in deployments(config).values():
        parts += [
            (DeploymentSchema, each),
            (AutoscalingConfig, each["autoscaling_config"]),
            (RayActorOptionsSchema, each["ray_actor_options"]),
            (BackpressureConfig, each.get("backpressure_config", {})),
        ]
    for schema, part in parts:
        assert part.keys() <= schema.model_fields.keys(), schema.__name__


def test_it_is_for_the_deployments_that_there_are(config: Config) -> None:
    from kiago_ray.distributed import service

    assert application(config)["name"] == service.APPLICATION
    there: list[Any] = [service.Predictor, service.Searcher]
    assert list(deployments(config)) == [each.name for each in there]


def test_the_builder_takes_its_arguments(config: Config) -> None:
    """As Ray's controller calls it."""
    from ray._common.utils import import_attr
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
    from ray.serve.deployment import Application

    app = application(config)
    ServiceSettings.model_validate(app["args"])
    built = call_user_app_builder_with_args_if_necessary(import_attr(app["import_path"]), app["args"])
    assert isinstance(built, Application)


def test_the_token_is_asked_for_and_not_in_the_file(config: Config) -> None:
    assert ServiceSettings.model_validate(application(config)["args"]).require_token
    assert "token" not in str(config).lower()
    assert "runtime_env" not in str(config)


def test_the_host_is_stated(config: Config) -> None:
    """Ray's default in such a file is all interfaces."""
    local = config == read(LOCAL)
    assert config["http_options"]["host"] == ("127.0.0.1" if local else "0.0.0.0")
    assert config["http_options"]["port"] == 8000


def test_too_many_requests_are_told_to_come_back(config: Config) -> None:
    api = deployments(config)["Predictor"]
    assert api["max_queued_requests"] > 0
    assert api["backpressure_config"]["status_code"] == 429
    assert api["backpressure_config"]["retry_after_s"] > 0


def test_replicas_get_what_they_need(config: Config) -> None:
    settings = ServiceSettings.model_validate(application(config)["args"])
    for each in deployments(config).values():
        options = each["ray_actor_options"]
        scale = each["autoscaling_config"]
        assert scale["min_replicas"] <= 1 < scale["max_replicas"]
        assert scale["target_ongoing_requests"] <= each["max_ongoing_requests"]
        # A container's CPUs don't limit what a process sees of them: left out, all of the node's.
        assert settings.threads == options["num_cpus"]
        assert ("num_gpus" in options) is (settings.device == "cuda")
        assert each["user_config"] == {"weights": None}
    assert deployments(config)["Searcher"]["max_ongoing_requests"] == 1
    assert deployments(config)["Predictor"]["max_ongoing_requests"] >= 64


def test_an_update_leaves_no_gap(config: Config) -> None:
    predictor = deployments(config)["Predictor"]
    assert predictor["autoscaling_config"]["min_replicas"] == 1
    assert predictor["max_surge_percent"] > 0
    timeout = config["http_options"]["request_timeout_s"]
    assert predictor["graceful_shutdown_timeout_s"] >= timeout


def test_the_three_files_say_the_same() -> None:
    """But for the place, and for the GPU."""
    local, cpu, gpu = read(LOCAL), read(PODS["cpu"]), read(PODS["gpu"])
    assert cpu["proxy_location"] == gpu["proxy_location"] == "EveryNode"
    for each in (local, cpu, gpu):
        del each["proxy_location"], each["http_options"]["host"]
        for name in ("client_header", "trusted_proxies"):
            application(each)["args"].pop(name, None)
    assert local == cpu
    without = copy.deepcopy(gpu)
    del application(without)["args"]["device"]
    for each in deployments(without).values():
        each["ray_actor_options"].pop("num_gpus", None)
    assert without == cpu
    assert gpu != cpu


@pytest.mark.parametrize("hardware", PODS)
def test_it_fits_the_cluster_at_its_largest(hardware: str) -> None:
    config = read(PODS[hardware])
    (cluster,) = yaml.safe_load_all((ROOT / "k8s/base/raycluster.yaml").read_text(encoding="utf-8"))
    groups = {each["groupName"]: each for each in cluster["spec"]["workerGroupSpecs"]}
    for kind, key, resource in (("cpu", "num_cpus", "cpu"), ("gpu", "num_gpus", "nvidia.com/gpu")):
        wanted = sum(
            each["autoscaling_config"]["max_replicas"] * each["ray_actor_options"].get(key, 0)
            for each in deployments(config).values()
        )
        pod = groups[kind]["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert wanted <= groups[kind]["maxReplicas"] * int(pod[resource])
        assert (wanted > 0) is (kind in ("cpu", hardware))
