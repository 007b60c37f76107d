from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kiago_ray
from kiago_ray.distributed.cluster import _close_the_door, capacity, fits, living, one_line
from kiago_ray.distributed.code import Code, WorkerSetupError
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
    assert fits(ResourcesSpec(**resources), node) == workers  # type: ignore[arg-type]


@pytest.mark.usefixtures("cluster")
def test_a_running_cluster_is_counted() -> None:
    (node,) = living().values()
    assert (node["CPU"], node["GPU"]) == (2, 2)
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

with connected("local"):
    import ray

    @ray.remote
    def found():
        import numpy, kiago_ray
        return kiago_ray.__file__, numpy.__file__

    print(json.dumps(ray.get(found.remote())))
"""


def test_no_worker_runs_what_lies_in_the_working_directory(tmp_path: Path) -> None:
    """Python itself has that directory first on the path of `-c`, but for -P."""
    (tmp_path / "kiago_ray").mkdir()
    for name in ("kiago_ray/__init__.py", "numpy.py", "torch.py", "yaml.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ended = subprocess.run(
        [sys.executable, "-P", "-c", DRIVER],
        cwd=tmp_path,
        env={**environment, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    own, numpy = json.loads(ended.stdout)
    assert own == kiago_ray.__file__
    assert Path(numpy).parent.name == "numpy"
    assert not (tmp_path / "ran").exists()


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
    predictor = Predictor.func_or_class  # type: ignore[attr-defined]
    with pytest.raises(WorkerSetupError, match="the driver /elsewhere/"):
        asyncio.run(
            predictor.__init__(predictor.__new__(predictor), settings, other, None)
        )  # as Serve makes it


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_cannot_import_its_class_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    (tmp_path / "only_here.py").write_text("class Worker:\n    def start(self): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # type: ignore[import-not-found]

    with pytest.raises(ray.exceptions.RayActorError) as died:
        ray.get(ray.remote(only_here.Worker).remote().start.remote())
    assert "ModuleNotFoundError: No module named 'only_here'; install the same kiago-ray" in one_line(
        died.value
    )
