"""The shapes of answers, for the description at /v1/openapi.json."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, create_model

from kiago_ray.search.spec import PRESETS, SearchSpec
from kiago_ray.service.explain import CHARGE
from kiago_ray.service.jobs import State
from kiago_ray.storage.table import PREDICTED, columns, description

JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"


@cache
def _examples() -> dict[str, Any]:
    """An example of most shapes, by its name."""
    text = files("kiago_ray.service").joinpath("examples.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def _add_example(schema: dict[str, Any], shape: type[BaseModel]) -> None:
    if shape.__name__ in _examples():
        schema["example"] = _examples()[shape.__name__]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra=_add_example)


class Problem(_Shape):
    """Problem details (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="One line: what is wrong, and what to do.")
    instance: str
    request_id: str = Field(description="As in the header X-Request-Id and in the service's log.")
    errors: list[dict[str, str]] | None = None


def _column(name: str) -> Any:
    """A field that is a column of a table of candidates."""
    return Field(description=description(name))


def _columns(names: Iterable[str]) -> dict[str, Any]:
    """The fields of these columns, which are null where there is no value."""
    types = {"string": str, "double": float, "bool": bool}
    return {name: (types[str(columns()[name].type)] | None, _column(name)) for name in names}


Row = create_model(
    "Row",
    __base__=_Shape,
    __doc__="What is known of one formula, as of a row of a search; null for what isn't.",
    formula=(str, ...),
    **_columns(PREDICTED),
)


class Prediction(Row):  # type: ignore[misc, valid-type]
    """One formula; with an error all else is null."""

    error: str | None = Field(description="Why nothing is known of this formula.")


class Predictions(_Shape):
    """In the order of the request."""

    version: str = Field(description="Changes with any of the models' weights.")
    predictions: list[Prediction]


class FormulaBody(_Shape):
    """One formula."""

    formula: str = Field(examples=["YBa2Cu3O7"])


class Element(_Shape):
    """One element of a formula."""

    symbol: str
    amount: float
    fraction: float


Charge = create_model(
    "Charge",
    __base__=_Shape,
    __doc__="Whether oxidation states balance, by the row's columns.",
    **{**_columns(CHARGE), "charge_kind": (Literal["ionic", "metallic"], _column("charge_kind"))},
    remark=(str, Field(description="What a person should know of these charges.")),
)


class Neighbour(_Shape):
    """A known composition."""

    formula: str
    distance: float = Field(description="L1 distance in atomic fractions, 0 to 2.")
    tc_k: float | None = Field(description="Measured, in K.")
    pressure_gpa: float | None
    reports: int = Field(description="Measurements that tc_k is the median of.")
    reference: str = Field(description="The first report, as far as it is known.")


class Sentence(_Shape):
    """Why to believe it, or not."""

    side: Literal["for", "against"]
    sentence: str
    brief: str


class Slope(_Shape):
    """What T_c does as an element takes atoms from all others alike."""

    symbol: str
    dtc_k_per_percent: float = Field(description="The slope, in K for each 1 % of the atoms.")
    tc_with_5_percent_k: float = Field(description="T_c in K once 5 % of the atoms are this element.")


class Explanation(Row):  # type: ignore[misc, valid-type]
    """One formula in full."""

    version: str
    elements: list[Element]
    trusted_tc_k: float | None = _column("trusted_tc_k")
    extrapolated: bool | None = _column("extrapolated")
    gain: bool | None = _column("gain")
    nearest_pressure_gpa: float | None = _column("nearest_pressure_gpa")
    charge: Charge  # type: ignore[valid-type]
    neighbours: list[Neighbour]
    known_source: str
    reasons: list[Sentence]
    gradient: list[Slope]


class JobView(_Shape):
    """A search as it stands."""

    id: str
    state: State
    submitted_at: str
    started_at: str | None
    ended_at: str | None
    base: str | None
    preset: str
    candidates: int
    spec: dict[str, Any] | None = Field(description="The whole specification; null in lists and streams.")
    progress: dict[str, Any] = Field(description="done of total steps, and phase.")
    place_in_queue: int | None
    error: str | None
    summary: dict[str, Any] | None
    links: dict[str, str]
    plots: list[str]


class JobList(_Shape):
    """Searches, newest first."""

    total: int
    searches: list[JobView]


class CandidatePage(_Shape):
    """Some candidates of a finished search, by rank; columns as in candidates.parquet."""

    total: int
    offset: int
    limit: int
    candidates: list[dict[str, Any]]


class ModelsView(_Shape):
    """What answers here, and its limits."""

    service: dict[str, str]
    version: str
    known: dict[str, Any]
    elements: list[str]
    models: list[dict[str, Any]]
    limits: dict[str, Any]
    presets: dict[str, dict[str, Any]]


class Health(_Shape):
    """The service answers and its models predict."""

    status: Literal["ok"]
    version: str


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer with, beside those that any of /v1 may."""
    return {
        status: {"model": Problem, "content": {"application/problem+json": {}}}
        for status in sorted({401, 403, 413, 429, 500, 503, *statuses})
    }


PREDICT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "required": ["formulas"],
                    "additionalProperties": False,
                    "properties": {"formulas": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
                },
                "example": {"formulas": ["MgB2", "LaNiAsO"]},
            },
            CSV: {"schema": {"type": "string"}, "example": "formula\nMgB2\nLaNiAsO\n"},
        },
    }
}


def search_body() -> dict[str, Any]:
    """The body that asks for a search: any fields of a specification over those of a preset."""
    schema = SearchSpec.model_json_schema(ref_template="#/components/schemas/{model}")
    sections = schema.pop("$defs", {})
    schema.pop("required", None)
    schema["properties"] = {"preset": {"enum": list(PRESETS), "default": "default"}, **schema["properties"]}
    inlined = _inlined(schema, sections)
    return {
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": inlined,
                    "example": {"base": "LaNiAsO", "candidates": 64, "steps": [100, 100]},
                }
            },
        }
    }


def _inlined(value: Any, sections: dict[str, Any]) -> Any:
    """A schema without references, and with no field required: what is missing is the preset's."""
    if isinstance(value, list):
        return [_inlined(each, sections) for each in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return _inlined(sections[value["$ref"].rpartition("/")[2]], sections)
    return {
        key: _inlined(each, sections)
        for key, each in value.items()
        if not (key == "required" and isinstance(each, list))
    }
