from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import kiago_ray
from kiago_ray.distributed import cluster as cluster_module
from kiago_ray.distributed import joining
from kiago_ray.distributed.cluster import (
    Node,
    _close_the_door,
    _show_token,
    capacity,
    connected,
    fits,
    living,
    one_line,
)
from kiago_ray.distributed.code import Code, WorkerSetupError
from kiago_ray.distributed.joining import joinable
from kiago_ray.errors import InputError
from kiago_ray.runs.spec import ResourcesSpec
from kiago_ray.service.settings import ServiceSettings

GB = 1 << 30


@pytest.mark.parametrize(
    ("resources", "node", "workers"),
    [
        ({}, {"CPU": 4}, 4),
        ({}, {}, 0),
        ({"cpus": 2}, {"CPU": 5}, 2),
        ({"cpus": 0.5}, {"CPU": 2}, 4),
        ({"cpus": 0.1}, {"CPU": 1}, 10),
        ({"gpus": 1}, {"CPU": 8}, 0),
        ({"gpus": 1}, {"CPU": 8, "GPU": 2}, 2),
        ({"gpus": 2}, {"CPU": 8, "GPU": 5}, 2),
        ({"gpus": 0.25}, {"CPU": 8, "GPU": 1}, 4),
        ({"gpus": 0.4}, {"CPU": 8, "GPU": 2}, 4),  # two to a device, and a fifth fits on neither
        ({"gpus": 0.25}, {"CPU": 2, "GPU": 4}, 2),
        ({"memory_gb": 3}, {"CPU": 8, "memory": 10 * GB}, 3),
        ({"memory_gb": 3}, {"CPU": 8}, 0),
    ],
)
def test_how_many_workers_a_node_holds(
    resources: dict[str, float], node: dict[str, float], workers: int
) -> None:
    assert fits(ResourcesSpec(**resources), Node(node, {})) == workers  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("selector", "labels", "held"),
    [
        ({}, {}, True),
        ({"a/b": "x"}, {"a/b": "x"}, True),
        ({"a/b": "x"}, {"a/b": "y"}, False),
        ({"a/b": "x"}, {}, False),
        ({"a": "!x"}, {"a": "x"}, False),
        ({"a": "!x"}, {}, True),
        ({"a": "in(x, y)"}, {"a": "y"}, True),
        ({"a": "in(x,y)"}, {"a": "z"}, False),
        ({"a": "!in(x,y)"}, {"a": "y"}, False),
        ({"a": "!in(x,y)"}, {"a": "z"}, True),
        ({"a": "in", "b": "z"}, {"a": "in"}, False),
    ],
)
def test_nodes_are_selected_by_their_labels(
    selector: dict[str, str], labels: dict[str, str], held: bool
) -> None:
    assert fits(ResourcesSpec(label_selector=selector), Node({"CPU": 1}, labels)) == held


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        (
            {"label_selector": {"market": "spot"}},
            "(1 CPU, 0 GPU, market spot): its 2 node(s) have market absent, market on-demand; "
            "correct resources.label_selector",
        ),
        (
            {"gpus": 1, "accelerator_type": "H200"},
            "(1 CPU, 1 GPU, accelerator H200): its 2 node(s) have these accelerators: A100; "
            "correct resources.accelerator_type",
        ),
        (
            {"gpus": 4, "accelerator_type": "A100", "label_selector": {"market": "!spot"}},
            "the best of its 2 node(s) has 8 CPU, 1 GPU, 0 GB; lower the file's resources",
        ),
    ],
)
def test_what_no_node_has_is_told_with_what_there_is(
    resources: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = {
        "1": Node({"CPU": 8.0, "GPU": 1.0, "accelerator_type:A100": 1.0}, {"market": "on-demand"}),
        "2": Node({"CPU": 2.0}, {}),
    }
    monkeypatch.setattr(cluster_module, "living", lambda: nodes)
    assert told in cluster_module.refusal(ResourcesSpec(**resources))
    assert capacity(ResourcesSpec(gpus=0.25, accelerator_type="A100")) == 4


@pytest.mark.usefixtures("cluster")
def test_a_running_cluster_is_counted() -> None:
    (node,) = living().values()
    assert (node.totals["CPU"], node.totals["GPU"]) == (2, 2)
    assert capacity(ResourcesSpec()) == 2
    assert capacity(ResourcesSpec(cpus=0.5, gpus=0.5)) == 4
    assert capacity(ResourcesSpec(gpus=1)) == 2


def test_an_embedded_cluster_gets_a_token_unless_the_user_has_chosen() -> None:
    bare: dict[str, str] = {}
    _close_the_door(bare)
    assert bare["RAY_AUTH_MODE"] == "token"
    assert len(bare["RAY_AUTH_TOKEN"]) == 64
    for chosen in (
        {"RAY_AUTH_MODE": "disabled"},
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "mine"},
        {"RAY_AUTH_TOKEN_PATH": "/secrets/token"},
    ):
        given = dict(chosen)
        _close_the_door(given)
        assert {key: given[key] for key in chosen} == chosen
        assert given.get("RAY_AUTH_TOKEN") == chosen.get("RAY_AUTH_TOKEN")


DRIVER = """
import json
import sys
from kiago_ray.distributed.cluster import connected
from kiago_ray.errors import InputError

def refusal():
    try:
        with connected("local"):
            return "none"
    except InputError as error:
        return str(error)

import os
refusals = []
for place in sys.argv[1:]:
    os.environ["RAY_TMPDIR"] = place
    refusals.append(refusal())
del os.environ["RAY_TMPDIR"]

with connected("local"):
    import ray

    @ray.remote
    def imported():
        import numpy, kiago_ray
        return kiago_ray.__file__, numpy.__file__

    address = ray.get_runtime_context().gcs_address
    print(json.dumps([*ray.get(imported.remote()), refusals, address]), flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class Driver:
    """What a process found that has started a cluster for itself, which is still there. folder: its working directory.
    own, numpy: the files that a worker imported. refusals: of places that were no good. address: of the cluster.
    """

    folder: Path
    own: str
    numpy: str
    refusals: list[str]
    address: str


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """A driver between files of the user's. Python itself has the working directory on the path of -c, but for -P."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "kiago_ray").mkdir()
    for name in ("kiago_ray/__init__.py", "numpy.py", "torch.py", "yaml.py"):
        (folder / name).write_text(f"open({str(folder / 'ran')!r}, 'a').write({name!r})")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    places = [folder / "numpy.py", folder / ("long" * 20)]
    places[1].mkdir()
    with subprocess.Popen(
        [sys.executable, "-P", "-c", DRIVER, *map(str, places)],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Driver(folder, *json.loads(process.stdout.readline()))
        process.stdin.close()


def test_no_worker_runs_what_lies_in_the_working_directory(driver: Driver) -> None:
    assert driver.own == kiago_ray.__file__
    assert Path(driver.numpy).parent.name == "numpy"
    assert not (driver.folder / "ran").exists()


def test_a_machine_without_a_place_for_rays_files_is_told_what_to_set(driver: Driver) -> None:
    for refusal, why in zip(driver.refusals, ("Not a directory", "path length cannot exceed"), strict=True):
        assert why in refusal
        assert "set RAY_TMPDIR to a directory that is yours, of at most 40 characters" in refusal


def test_a_machine_that_is_too_slow_for_ray_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray raises a bare Exception there."""
    import ray

    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(InputError, match=r"timed out during startup\.\); try again when"), connected("local"):
        pass


def test_a_cluster_that_another_program_keeps_to_itself_is_not_joined(driver: Driver, cluster: None) -> None:
    for address in (driver.address, f"ray://{driver.address}"):
        with pytest.raises(
            InputError, match=f"Ray cluster at {address}: it refuses this process's token; set"
        ):
            joinable(address, "--address")


def test_a_cluster_is_joined_by_one_of_its_nodes_alone(
    cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    address = str(ray.get_runtime_context().gcs_address)
    host, _, port = address.rpartition(":")
    assert joinable(address, "--address") == address
    assert joinable(f"[::1]:{port}", "--address") == joinable(f"localhost:{port}", "--address") == address
    with pytest.raises(InputError, match="leave out ray://"):
        joinable(f"ray://{address}", "--address")
    monkeypatch.setattr("ray._private.services.find_node_ids", set)
    with pytest.raises(
        InputError, match=f"this machine is none of its 1 nodes \\({host}\\); run this on one of them"
    ):
        joinable(address, "--address")


@pytest.mark.parametrize(
    "answer", [None, b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.0 400 Bad Request\r\n\r\n", b""]
)
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_other_servers_are_no_clusters(
    answer: bytes | None, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """answer: what a server says to each who connects before it hangs up; None for one that says nothing."""
    monkeypatch.setattr(joining, "_ANSWER_S", 1.0)
    with socket.create_server(("", 0)) as server:
        kept: list[socket.socket] = []

        def serve() -> None:
            with suppress(OSError):  # the test is over
                while True:
                    connection, _ = server.accept()
                    kept.append(connection)
                    if answer is not None:
                        connection.sendall(answer)
                        connection.close()

        threading.Thread(target=serve, daemon=True).start()
        told = (
            r"nothing within 1 s\); check"
            if answer is None
            else "check the address, and that the cluster runs"
        )
        with pytest.raises(InputError, match=f"no cluster of Ray's answers there .*{told}"):
            joinable(f"{scheme}127.0.0.1:{server.getsockname()[1]}", "--address")


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("http://127.0.0.1:8265", "RAY_ADDRESS: http://127.0.0.1:8265 is a dashboard"),
        ("here", "'here' is no address of a Ray cluster; give HOST:PORT, auto or local"),
        (":6379", "':6379' is no address"),
        ("host:99999", "'host:99999' is no address"),
        ("s3://bucket:1", "'s3://bucket:1' is no address"),
    ],
)
def test_what_is_no_address_of_a_cluster_is_refused(address: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        joinable(address, "RAY_ADDRESS")


def test_code_is_compared_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Code.imported()
    assert driver.file == kiago_ray.__file__
    driver.check_here()

    monkeypatch.setattr(kiago_ray, "__file__", str(tmp_path / "__init__.py"))
    versions = set()
    for name, content in (("__init__.py", "1"), ("__init__.py", "2"), ("a.csv", "2"), ("b.csv", "2")):
        (tmp_path / name).write_text(content)
        versions.add(Code.imported().sha256)
    assert len(versions) == 4
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/__init__.cpython-311.pyc").write_bytes(b"whatever Python kept")
    assert Code.imported().sha256 in versions
    with pytest.raises(WorkerSetupError, match=f"imported {tmp_path}/__init__.py, the driver {driver.file}"):
        driver.check_here()


@pytest.mark.usefixtures("cluster")
def test_a_replica_with_other_code_does_not_start(tmp_path: Path) -> None:
    from kiago_ray.distributed.service import Predictor, Searcher

    other, settings = Code("00", "/elsewhere/kiago_ray/__init__.py"), ServiceSettings(data=str(tmp_path))
    with pytest.raises(WorkerSetupError, match="the driver /elsewhere/"):
        Searcher.func_or_class(settings, other)  # type: ignore[attr-defined]
    written = Predictor.func_or_class.__mro__[1]  # type: ignore[attr-defined]  # without what Serve makes of it
    with pytest.raises(WorkerSetupError, match="the driver /elsewhere/"):
        written(settings, other, None)


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_cannot_import_its_class_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    (tmp_path / "only_here.py").write_text("class Worker:\n    def start(self): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    only_here = import_module("only_here")
    with pytest.raises(ray.exceptions.RayActorError) as died:
        ray.get(ray.remote(only_here.Worker).remote().start.remote())
    assert "ModuleNotFoundError: No module named 'only_here'; install the same kiago-ray" in one_line(
        died.value
    )


def test_a_token_of_the_users_is_shown_to_a_cluster_that_is_found(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    for given in ({}, {"RAY_AUTH_TOKEN": "mine"}, {"RAY_AUTH_TOKEN": "mine", "RAY_AUTH_MODE": "disabled"}):
        environment = {**home, **given}
        _show_token(environment)
        assert environment == {**home, **({"RAY_AUTH_MODE": "token"} if given else {}), **given}
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("mine")
    _show_token(home)
    assert home["RAY_AUTH_MODE"] == "token"
