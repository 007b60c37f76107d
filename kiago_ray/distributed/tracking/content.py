"""What MLflow is told of a campaign and of its searches, worked out from their files. It knows nothing of MLflow."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import yaml

from kiago_ray.campaign.plan import Plan, PlannedSearch
from kiago_ray.campaign.summaries import CampaignResults, SearchResults
from kiago_ray.distributed.tracking.target import shown_uri
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import CANDIDATES, REPORT, SPEC, TOP

SEARCH_FILES = (CANDIDATES, TOP)
CAMPAIGN_FILES = (SPEC, CANDIDATES, TOP, REPORT)
CURVE_POINTS = 250  # of each curve at most: a point takes 300 bytes of a database, and time
_CURVES = (
    "tc_k_mean",
    "tc_k_p50",
    "ef_ev_per_atom_mean",
    "ef_ev_per_atom_p50",
    "integer_loss_mean",
    "integer_loss_p50",
)
# MLflow's limits.
_KEY_LENGTH, _PARAM_LENGTH, _TAG_LENGTH = 250, 6000, 5000
# Of spec.yaml's record: what is told elsewhere, or is of the run directory alone.
_NO_TAGS = ("campaign", "campaign_id", "identity", "finished", "outputs")


@dataclass(frozen=True)
class Point:
    """One value of a metric. Its key's part before a slash heads a section of charts in MLflow's pages."""

    key: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class Facts:
    """What a run is from its beginning: parameters and tags, as MLflow takes them."""

    params: dict[str, str]
    tags: dict[str, str]


def campaign_facts(campaign: Location, record: Mapping[str, Any], plan: Plan) -> Facts:
    """The campaign's own fields; where it comes from. record: what its spec.yaml says."""
    fields = plan.campaign
    bases = ", ".join(fields.bases) or "none, starts are random"
    if plan.families:
        bases = f"{len(plan.families):,} known families"
    note = (
        f"Searches: {len(plan.searches):,}. Candidates: {plan.candidates:,}, in shards: {plan.shard_count:,}. "
        f"Bases: {bases}. Seeds: {len(fields.seeds)}. "
        f"Output: {shown_uri(campaign.text)}"
    )
    tags = {**provenance_tags(record), "mlflow.note.content": note, "kiago.output": shown_uri(campaign.text)}
    return Facts(params_of(record["campaign"]), clipped(tags))


def search_facts(record: Mapping[str, Any], search: PlannedSearch) -> Facts:
    """Every parameter of a search, defaults resolved; where it comes from."""
    tags = {**provenance_tags(record), "kiago.variant": search.variant}
    return Facts(params_of(search.spec.model_dump(mode="json")), clipped(tags))


def spec_text(search: PlannedSearch) -> str:
    """The search's whole specification as YAML."""
    values = search.spec.model_dump(mode="json")
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110))


def search_points(results: SearchResults, curves: Any) -> list[Point]:
    """The numbers of a search and its curves. curves: a table of CURVES_SCHEMA."""
    summary = results.summary
    numbers: dict[str, float | None] = {
        "rows": summary.rows,
        "unique": summary.unique,
        "unique_fraction": summary.unique_fraction,
        "passed": summary.passed,
        "passed_fraction": summary.passed_fraction,
        "passed_above_base": summary.passed_above_base,
        "shards_done": results.shards_done,
        "wall_s": results.wall_s,
        **{f"screen.{name}": value for name, value in summary.screen_fractions.items()},
        **{f"status.{name}": count for name, count in summary.statuses.items()},
    }
    for top in summary.top:
        numbers |= _top_numbers(asdict(top))
    if summary.base is not None:
        numbers["base.tc_predicted_k"] = summary.base.tc_predicted_k
        numbers["base.tc_oracle_k"] = summary.base.tc_oracle_k
        numbers["base.ef_predicted_ev_per_atom"] = summary.base.ef_predicted_ev_per_atom
    return [*finite_points(numbers), *_curve_points(curves)]


def campaign_points(results: CampaignResults) -> list[Point]:
    """The numbers of a campaign."""
    best = results.best[0] if results.best else {}
    return finite_points(
        {
            "searches": results.searches,
            "searches_complete": results.searches_complete,
            "shards": results.shards,
            "shards_done": results.shards_done,
            "shards_failed": len(results.failures),
            "shards_damaged": len(results.damaged),
            "candidates": results.candidates,
            "rows": results.rows,
            "unique": results.unique,
            "passed": results.passed,
            "best.tc_k": best.get("tc_k"),
            "best.delta_tc_k": best.get("delta_tc_k"),
            "best.trusted_tc_k": best.get("trusted_tc_k"),
            "best.tc_oracle_k": best.get("tc_oracle_k"),
            **{name: value for top in results.top for name, value in _top_numbers(top).items()},
            **{f"status.{name}": count for name, count in results.statuses.items()},
        }
    )


def _top_numbers(top: Mapping[str, Any]) -> dict[str, float | None]:
    """What is told of the best k: top30.gap_k and so on."""
    return {f"top{top['k']}.{name}": value for name, value in top.items() if name not in ("k", "used")}


def params_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Nested values as MLflow's parameters: dotted keys; a text as it is, anything else as JSON.

    A value that is too long ends in words that say so; the whole one is in the specification among the files.
    """
    params: dict[str, str] = {}
    for path, value in _leaves(values):
        key = _usable_key(path)
        number = 2
        while key in params:
            key, number = f"{_usable_key(path)[: _KEY_LENGTH - 8]}_{number}", number + 1
        params[key] = _clip(_text(value), _PARAM_LENGTH)
    return params


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _usable_key(path: str) -> str:
    return re.sub(r"[^\w.\- ]", "_", path, flags=re.ASCII)[:_KEY_LENGTH]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _clip(text: str, length: int) -> str:
    if len(text) <= length:
        return text
    ending = f"… ({len(text):,} characters)"
    return text[: length - len(ending)] + ending


def provenance_tags(record: Mapping[str, Any]) -> dict[str, str]:
    """Versions, weights' hashes and the like as tags, by the names that spec.yaml has for them."""
    about = {key: value for key, value in record.items() if key not in _NO_TAGS}
    tags = {_usable_key(path): _text(value) for path, value in _leaves(about) if value is not None}
    git = record.get("git")
    commit = git.get("commit") if isinstance(git, Mapping) else git
    if isinstance(commit, str):
        tags["mlflow.source.git.commit"] = commit
    tags["mlflow.source.name"] = "kiago campaign"
    return tags


def clipped(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: _clip(value, _TAG_LENGTH) for key, value in tags.items() if value}


def finite_points(numbers: Mapping[str, float | None]) -> list[Point]:
    """Those that are known and finite."""
    return [
        Point(_usable_key(key), float(value))
        for key, value in numbers.items()
        if value is not None and math.isfinite(value)
    ]


def _curve_points(curves: Any) -> list[Point]:
    last = len(curves) - 1
    stride = max(1, -(-last // (CURVE_POINTS - 1)))
    chosen = np.unique(np.append(np.arange(0, last, stride), last))
    steps = curves["step"].to_numpy()[chosen].tolist()
    points = []
    for name in _CURVES:
        values = curves[name].to_numpy()[chosen].tolist()
        points += [
            Point(f"curve/{name}", value, step)
            for step, value in zip(steps, values, strict=True)
            if value is not None and math.isfinite(value)
        ]
    return points
