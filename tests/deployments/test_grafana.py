"""The dashboard: what it asks for is exported by the service, Ray or Ray Serve, and asked for as its kind needs."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

DASHBOARD = Path(__file__).parents[2] / "deployments" / "grafana.json"
# Name without `ray_`, kind, labels.
OURS = {
    "kiago_rows_total": ("counter", {"outcome"}),
    "kiago_batch_rows": ("histogram", set()),
    "kiago_model_seconds": ("histogram", set()),
    "kiago_queue_searches": ("gauge", {"state"}),
    "kiago_requests_total": ("counter", {"route", "status"}),
    "kiago_request_seconds": ("histogram", {"route"}),
}
# Of all: what Prometheus adds.
COMMON = {"le", "namespace", "instance"}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return dict(json.loads(DASHBOARD.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def source() -> str:
    """Ray's own code where metrics are named."""
    found = importlib.util.find_spec("ray")
    assert found is not None
    assert found.submodule_search_locations is not None
    ray = Path(found.submodule_search_locations[0])
    folders = [*ray.glob("serve/**/*.py"), *ray.glob("dashboard/modules/reporter/*.py")]
    return "\n".join(path.read_text(encoding="utf-8") for path in folders)


def expressions(dashboard: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def metrics(text: str) -> set[str]:
    return set(re.findall(r"\bray_\w+", text))


def base_name(metric: str) -> str:
    """The name in the code of what is exported."""
    return re.sub(r"_bucket$", "", metric.removeprefix("ray_"))


def test_ours_are_those_of_the_service() -> None:
    from kiago_ray.distributed import service

    text = Path(service.__file__).read_text(encoding="utf-8")
    made = re.findall(r'(Counter|Gauge|Histogram)\(\s*"(\w+)"', text)
    assert {name: kind.lower() for kind, name in made} == {name: kind for name, (kind, _) in OURS.items()}


def test_every_metric_exists(dashboard: dict[str, Any], source: str) -> None:
    asked = {name for text in expressions(dashboard) for name in metrics(text)}
    assert {f"ray_{name}" for name in OURS} <= {re.sub("_bucket$", "", name) for name in asked}
    for metric in asked:
        name = base_name(metric)
        if name in OURS:
            continue
        # A counter's name gets _total on the way out; the proxies' names hold the protocol.
        plain = name.removesuffix("_total")
        assert any(
            f'"{each}"' in source for each in (plain, plain.replace("_http_", "_{protocol_name}_", 1))
        ), metric


def test_counters_are_rates_and_histograms_quantiles(dashboard: dict[str, Any], source: str) -> None:
    for text in expressions(dashboard):
        for metric in metrics(text):
            name = base_name(metric)
            counter = metric.endswith("_total")
            histogram = metric.endswith("_bucket")
            if name in OURS:
                kind = OURS[name][0]
                assert (counter, histogram) == (kind == "counter", kind == "histogram")
            assert (f"rate({metric}{{" in text) is (counter or histogram)
            assert histogram is ("histogram_quantile(" in text)
            assert histogram is bool(re.search(r"sum by \(le(, \w+)?\)", text))


def test_our_labels_exist(dashboard: dict[str, Any]) -> None:
    for text in expressions(dashboard):
        for metric in metrics(text):
            if (name := base_name(metric)) in OURS:
                by = {
                    each.strip() for found in re.findall(r"by \(([^)]*)\)", text) for each in found.split(",")
                }
                chosen = set(re.findall(r"(\w+)=~?\"", text))
                assert by | chosen <= OURS[name][1] | COMMON, text


def test_what_the_legend_shows_is_there(dashboard: dict[str, Any]) -> None:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            by = {
                each.strip()
                for found in re.findall(r"by \(([^)]*)\)", target["expr"])
                for each in found.split(",")
            }
            assert shown == by - {"le"}


def test_each_replica_says_the_same_of_the_queue(dashboard: dict[str, Any]) -> None:
    """Added up it would grow with the replicas of Predictor."""
    (text,) = [each for each in expressions(dashboard) if "kiago_queue_searches" in each]
    assert text.startswith("max by (state)")


def test_it_can_be_imported_anywhere(dashboard: dict[str, Any]) -> None:
    """Its source is chosen there; ids are its own, panels don't overlap."""
    assert dashboard["schemaVersion"] >= 39
    assert "id" not in dashboard
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    sources = {each["datasource"]["uid"] for each in dashboard["panels"] if each["type"] != "row"}
    assert sources == {"${datasource}"}
    used = set(re.findall(r"\$(\w+)", " ".join(expressions(dashboard)))) - {"__rate_interval"}
    assert used == variables.keys() - {"datasource"}
    assert len({each["id"] for each in dashboard["panels"]}) == len(dashboard["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells


@pytest.mark.parametrize(
    "wanted",
    [
        "ray_kiago_requests_total",
        "ray_kiago_request_seconds_bucket",
        "ray_kiago_queue_searches",
        "ray_serve_deployment_replica_healthy",
        "ray_serve_deployment_queued_queries",
        "ray_serve_deployment_processing_latency_ms_bucket",
        "ray_serve_deployment_error_counter_total",
        "ray_node_gpus_utilization",
    ],
)
def test_it_shows_what_an_operator_asks_for(dashboard: dict[str, Any], wanted: str) -> None:
    assert any(wanted in metrics(text) for text in expressions(dashboard))
