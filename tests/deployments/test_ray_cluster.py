"""The launcher files of Ray, by Ray's own check; the token, the dashboard and the versions in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import kiago_ray

FOLDER = Path(__file__).parents[2] / "deployments"
FILES = ("ray-cluster.yaml", "ray-cluster-aws.yaml")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")


@pytest.fixture(scope="module", params=FILES)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A launcher file as `ray up` completes it from Ray's defaults."""
    from ray.autoscaler._private.util import prepare_config

    given = yaml.safe_load((FOLDER / request.param).read_text(encoding="utf-8"))
    return dict(prepare_config(given))


def test_ray_accepts_it(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import validate_config

    validate_config(config)


def test_ray_refuses_a_mistake(config: dict[str, Any]) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import validate_config

    with pytest.raises(ValidationError):
        validate_config({**config, "head_start_command": []})


def test_the_token_is_asked_for_and_not_in_the_file(config: dict[str, Any]) -> None:
    options = config["docker"]["run_options"]
    assert "--env RAY_AUTH_MODE=token" in options
    assert not any("RAY_AUTH_TOKEN=" in each or "SECRET" in each for each in options)
    given_by_file = any("--env-file" in each for each in options)
    assert given_by_file or config["file_mounts"] == {"/home/kiago/.ray/auth_token": "~/.ray/auth_token"}


def test_the_dashboard_listens_on_the_head_alone(config: dict[str, Any]) -> None:
    (start,) = [each for each in config["head_start_ray_commands"] if "ray start" in each]
    assert "--dashboard-host=127.0.0.1" in start
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start


def test_start_commands_have_options_that_ray_knows(config: dict[str, Any]) -> None:
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    for command in (*config["head_start_ray_commands"], *config["worker_start_ray_commands"]):
        if "ray start" in command:
            used = set(re.findall(r"--[a-z-]+", command.partition("ray start")[2]))
            assert used <= known


def test_the_image_is_ours_and_nothing_is_installed_on_the_way(config: dict[str, Any]) -> None:
    variant = re.fullmatch(r"registry\.example\.org/kiago-ray:(.+)-(cpu|cu130)", config["docker"]["image"])
    assert variant is not None
    assert variant[1] == kiago_ray.__version__
    assert not any("docker" in kind for kind in config["available_node_types"].values())
    for stage in ("setup_commands", "head_setup_commands", "worker_setup_commands"):
        assert config[stage] == []


def test_aws_grows_from_nothing_and_opens_nothing() -> None:
    config = yaml.safe_load((FOLDER / "ray-cluster-aws.yaml").read_text(encoding="utf-8"))
    kinds = config["available_node_types"]
    assert kinds["head"]["resources"] == {"CPU": 0}
    workers = {name: kind for name, kind in kinds.items() if name != "head"}
    assert set(workers) == {"cpu", "gpu"}
    assert all(kind["min_workers"] == 0 < kind["max_workers"] for kind in workers.values())
    assert sum(kind["max_workers"] for kind in workers.values()) == config["max_workers"]
    for kind in kinds.values():
        node = kind["node_config"]
        assert node["SecurityGroupIds"]  # without, Ray makes one with SSH open to the world
        assert node["MetadataOptions"] == {"HttpTokens": "required"}
        assert all(disk["Ebs"]["Encrypted"] for disk in node["BlockDeviceMappings"])
