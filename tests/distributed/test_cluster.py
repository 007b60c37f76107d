from __future__ import annotations

import pytest

from kiago_ray.distributed.cluster import _close_the_door, capacity, fits, nodes
from kiago_ray.runs.spec import ResourcesSpec

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
    (node,) = nodes()
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
