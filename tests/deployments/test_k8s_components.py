"""The components of k8s/ that an overlay may list: what each adds, and that none is listed in vain."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml

Compose = Callable[..., subprocess.CompletedProcess[str]]


def manifests(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


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
