"""The RayService and MLflow: upgrades without a gap, tables that outlive the head, and secrets where they belong."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

K8S = Path(__file__).parents[2] / "k8s"
SERVICES = ("cpu-service", "gpu-service")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")

Manifests = list[dict[str, Any]]
Render = Callable[[str], Manifests]


def only(manifests: Manifests, kind: str, name: str | None = None) -> dict[str, Any]:
    (found,) = [
        each for each in manifests if each["kind"] == kind and name in (None, each["metadata"]["name"])
    ]
    return found


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest, render: Render) -> Manifests:
    return render(request.param)


def containers(service: Manifests) -> dict[str, dict[str, Any]]:
    """The Ray containers by their group's name."""
    cluster = only(service, "RayService")["spec"]["rayClusterConfig"]
    groups = {"head": cluster["headGroupSpec"]}
    groups |= {each["groupName"]: each for each in cluster["workerGroupSpecs"]}
    return {name: each["template"]["spec"]["containers"][0] for name, each in groups.items()}


@pytest.mark.parametrize("overlay", SERVICES)
def test_what_is_served_is_the_file_beside_it(overlay: str, render: Render) -> None:
    manifests = render(overlay)
    text = (K8S / "overlays" / overlay / "serve.yaml").read_text(encoding="utf-8")
    assert only(manifests, "RayService")["spec"]["serveConfigV2"] == text
    assert not [each for each in manifests if each["metadata"]["name"].startswith("kiago-serve")]


def test_an_upgrade_leaves_no_gap(service: Manifests) -> None:
    spec = only(service, "RayService")["spec"]
    assert spec["upgradeStrategy"] == {"type": "NewCluster"}
    timeout = yaml.safe_load(spec["serveConfigV2"])["http_options"]["request_timeout_s"]
    assert spec["rayClusterDeletionDelaySeconds"] > timeout
    assert spec["excludeHeadPodFromServeSvc"] is True


def test_the_port_is_the_one_that_serve_listens_on(service: Manifests) -> None:
    spec = only(service, "RayService")["spec"]
    port = yaml.safe_load(spec["serveConfigV2"])["http_options"]["port"]
    ports = {each["name"]: each["containerPort"] for each in containers(service)["head"]["ports"]}
    assert ports["serve"] == port
    assert spec["rayClusterConfig"]["headGroupSpec"]["serviceType"] == "ClusterIP"
    (rule,) = only(service, "NetworkPolicy", "service-http")["spec"]["ingress"]
    assert [each["port"] for each in rule["ports"]] == [port]
    (ingress,) = yaml.safe_load_all((K8S / "components/service/ingress.example.yaml").read_text("utf-8"))
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    name = only(service, "RayService")["metadata"]["name"]
    assert path["backend"]["service"] == {"name": f"{name}-serve-svc", "port": {"number": port}}


def test_only_where_replicas_run_is_the_token(service: Manifests) -> None:
    wanted = {
        "name": "KIAGO_TOKEN",
        "valueFrom": {"secretKeyRef": {"name": "kiago-service", "key": "token"}},
    }
    for name, container in containers(service).items():
        assert container.get("env", []) == ([] if name == "head" else [wanted])


def test_named_tokens_are_a_file_that_changes_with_the_secret(service: Manifests) -> None:
    """A variable, and a mount by subPath, would stay as they were until the pod restarts."""
    for group in only(service, "RayService")["spec"]["rayClusterConfig"]["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        assert pod["volumes"][-1] == {"name": "tokens", "secret": {"secretName": "kiago-service"}}
        mount = {"name": "tokens", "mountPath": "/etc/kiago-service", "readOnly": True}
        assert pod["containers"][0]["volumeMounts"][-1] == mount
    serve = yaml.safe_load(
        only(service, "RayService")["spec"]["serveConfigV2"].replace("# tokens:", "tokens:")
    )
    assert serve["applications"][0]["args"]["tokens"] == f"{mount['mountPath']}/tokens"


def test_the_cluster_is_the_standing_one_and_what_the_service_adds(render: Render) -> None:
    for hardware in ("cpu", "gpu"):
        manifests = render(f"{hardware}-service")
        cluster = copy.deepcopy(only(manifests, "RayService")["spec"]["rayClusterConfig"])
        del cluster["gcsFaultToleranceOptions"]
        del cluster["headGroupSpec"]["template"]["spec"]["containers"][0]["ports"][-1]
        for each in cluster["workerGroupSpecs"]:
            del each["template"]["spec"]["containers"][0]["env"]
            del each["template"]["spec"]["containers"][0]["volumeMounts"][-1]
            del each["template"]["spec"]["volumes"][-1]
        assert cluster == only(render(hardware), "RayCluster")["spec"]
        assert not [each for each in manifests if each["kind"] == "RayCluster"]


def test_the_head_finds_its_tables_again(service: Manifests) -> None:
    options = only(service, "RayService")["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]
    redis = only(service, "StatefulSet", "kiago-redis")["spec"]
    address = only(service, "Service", "kiago-redis")
    port = address["spec"]["ports"][0]["port"]
    assert options["redisAddress"] == f"{address['metadata']['name']}:{port}"
    assert (
        "externalStorageNamespace" not in options
    )  # of its own for each cluster: two live while one takes over
    labels = redis["template"]["metadata"]["labels"]
    assert address["spec"]["selector"].items() <= labels.items()
    (container,) = redis["template"]["spec"]["containers"]
    assert options["redisPassword"]["valueFrom"] == container["env"][0]["valueFrom"]
    (claim,) = redis["volumeClaimTemplates"]
    paths = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    (config,) = [each["data"]["redis.conf"] for each in service if "redis.conf" in (each.get("data") or {})]
    assert f"dir {paths[claim['metadata']['name']]}" in config.splitlines()
    assert "appendonly yes" in config.splitlines()
    assert "maxmemory-policy noeviction" in config.splitlines()


def test_redis_gets_its_password_by_standard_input(service: Manifests) -> None:
    (container,) = only(service, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    script = container["command"][-1]
    command, *document = script.splitlines()
    # `exec`, so that the server and no shell gets the signal to end.
    assert shlex.split(command.partition("<<")[0]) == ["exec", "redis-server", "/etc/redis/redis.conf", "-"]
    assert document == ['requirepass "$REDISCLI_AUTH"', "END"]


@pytest.fixture
def mlflow(render: Render) -> Manifests:
    return render("mlflow")


def test_mlflow_is_the_version_of_the_clients(mlflow: Manifests, locked: dict[str, str]) -> None:
    (container,) = only(mlflow, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"ghcr.io/mlflow/mlflow:v{locked['mlflow']}-full"


def test_mlflows_command_line_exists(mlflow: Manifests) -> None:
    from mlflow.cli import server

    (container,) = only(mlflow, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["command"][:2] == ["mlflow", "server"]
    known = {option: each for each in server.params for option in each.opts}
    given = dict(word.split("=", 1) for word in container["command"][2:])
    assert given.keys() <= known.keys()
    assert (given["--host"], given["--port"]) == ("0.0.0.0", "5000")
    # What isn't there comes from the environment by these names.
    settings = next(each["data"] for each in mlflow if each["kind"] == "ConfigMap")
    assert known["--artifacts-destination"].envvar in settings
    (secret,) = yaml.safe_load_all((K8S / "overlays/mlflow/secret.example.yaml").read_text("utf-8"))
    assert known["--backend-store-uri"].envvar in secret["stringData"]
    assert container["envFrom"][1] == {"secretRef": {"name": secret["metadata"]["name"]}}


def test_mlflow_answers_to_its_own_name_alone(mlflow: Manifests) -> None:
    from mlflow.server.security_utils import is_allowed_host_header

    (container,) = only(mlflow, "Deployment")["spec"]["template"]["spec"]["containers"]
    (hosts,) = [word.partition("=")[2].split(",") for word in container["command"] if "allowed-hosts" in word]
    service = only(mlflow, "Service")["metadata"]
    inside = f"{service['name']}.{service['namespace']}.svc"
    for host in (f"{inside}:5000", f"{inside}.cluster.local:5000", "localhost:5000", "127.0.0.1:5000"):
        assert is_allowed_host_header(hosts, host)
    for host in ("example.org", "10.0.0.7:5000", f"{inside}.example.org:5000"):
        assert not is_allowed_host_header(hosts, host)
    readme = (K8S / "README.md").read_text(encoding="utf-8")
    assert f"MLFLOW_TRACKING_URI=http://{inside}:5000" in readme


def test_mlflow_writes_only_where_it_may(mlflow: Manifests) -> None:
    (container,) = only(mlflow, "Deployment")["spec"]["template"]["spec"]["containers"]
    settings = next(each["data"] for each in mlflow if each["kind"] == "ConfigMap")
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert [each["mountPath"] for each in container["volumeMounts"]] == [settings["HOME"]] == ["/tmp"]


def test_the_base_opens_the_way_to_mlflow(render: Render, mlflow: Manifests) -> None:
    port = only(mlflow, "Service")["spec"]["ports"][0]["port"]
    rules = only(render("cpu"), "NetworkPolicy", "ray-nodes")["spec"]["egress"]
    ways = [rule for rule in rules if port in [each["port"] for each in rule.get("ports", [])]]
    assert any({"namespaceSelector": {}} in rule["to"] for rule in ways)


def test_serve_commands_of_the_readme_exist() -> None:
    from click import Group
    from ray.serve.scripts import cli

    assert isinstance(cli, Group)
    text = (K8S.parent / "deployments" / "README.md").read_text(encoding="utf-8")
    lines = [shlex.split(line, comments=True) for line in text.splitlines() if line.startswith("serve ")]
    assert {words[1] for words in lines} == {"deploy", "status", "shutdown"}
    for words in lines:
        command = cli.commands[words[1]]
        command.make_context(words[1], words[2:], resilient_parsing=False)


def test_the_command_line_has_the_same_timeout() -> None:
    from kiago_ray.cli.serve import REQUEST_TIMEOUT_S

    for path in (K8S.parent / "deployments/serve.yaml", *K8S.glob("overlays/*/serve.yaml")):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert config["http_options"]["request_timeout_s"] == REQUEST_TIMEOUT_S
