"""The page at /, its files, the description of the API at /docs: read once, no path of a request is ever opened."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

from kiago_ray.report.page import render
from kiago_ray.service.problems import ProblemError

_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}
_LONGEST_EXAMPLE = 1500


@cache
def page_files() -> dict[str, bytes]:
    """The files of the page by name."""
    folder = files("kiago_ray.service").joinpath("page")
    found = {each.name: each.read_bytes() for each in folder.iterdir() if each.name.endswith((".js", ".css"))}
    return {**found, "index.html": render("service.html.j2").encode("utf-8")}


def page_router(app: FastAPI) -> APIRouter:
    """Open to all: nothing of it is anybody's data."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def index(request: Request) -> Response:
        return _file(request, "index.html")

    @router.get("/assets/{name}")
    def asset(request: Request, name: str) -> Response:
        if name not in page_files() or name == "index.html":
            raise ProblemError(404, "there is no such file; the page is at /")
        return _file(request, name)

    @router.get("/docs")
    def docs() -> Response:
        return Response(docs_page(app.openapi()), media_type="text/html; charset=utf-8")

    @router.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)

    return router


def docs_page(description: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI description."""
    schemas = description.get("components", {}).get("schemas", {})
    operations = [
        _operation(path, method, operation, schemas)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    return render("docs.html.j2", info={"description": "", **description["info"]}, operations=operations)


def _operation(
    path: str, method: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]
) -> dict[str, Any]:
    """What the page shows of an operation."""
    responses = operation["responses"]
    bodies = operation.get("requestBody", {}).get("content", {})
    return {
        "id": operation.get("operationId", path),
        "summary": operation.get("summary", path),
        "method": method,
        "path": path,
        "description": " ".join(operation.get("description", "").split()),
        "parameters": [
            (each["name"], f"{_kind(each.get('schema', {}))}. {each.get('description', '')}")
            for each in operation.get("parameters", [])
        ],
        "bodies": [(kind, _example(content, schemas)) for kind, content in bodies.items()],
        "answers": [_example(each, schemas) for each in responses.get("200", {}).get("content", {}).values()],
        "statuses": [
            (status, f"{answer.get('description', '')} {', '.join(answer.get('content', {}))}")
            for status, answer in responses.items()
        ],
    }


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    bounds = [
        f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema
    ]
    default = [f"default {json.dumps(schema['default'])}"] if "default" in schema else []
    return ", ".join([str(schema.get("type", "")), *bounds, *default])


def _example(content: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """An example of a body, its own or that of its schema; "" where there is none."""
    schema = content.get("schema", {})
    named = schemas.get(str(schema.get("$ref", "")).rpartition("/")[2], schema)
    by_field = {
        name: each["examples"][0]
        for name, each in named.get("properties", {}).items()
        if each.get("examples")
    }
    example = content.get("example") or named.get("example") or by_field
    text = example if isinstance(example, str) else json.dumps(example, indent=1, ensure_ascii=False)
    return text[:_LONGEST_EXAMPLE] if example else ""


def _file(request: Request, name: str) -> Response:
    content = page_files()[name]
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"Cache-Control": "no-cache", "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    kind = _TYPES["." + name.rpartition(".")[2]]
    return Response(content, media_type=f"{kind}; charset=utf-8", headers=headers)
