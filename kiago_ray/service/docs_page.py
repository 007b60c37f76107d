"""/docs: the API in one page without scripts, made from its own OpenAPI description."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

DOCS_STYLE = """:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}
code,pre{font:0.9em ui-monospace,monospace}
pre{overflow-x:auto;padding:.75rem;border:1px solid #8888;border-radius:.4rem}
h2{margin-top:2.5rem;border-bottom:1px solid #8888}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #8884}
.method{font-weight:700}
"""
_LONGEST_EXAMPLE = 1500


def docs_page(description: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI description. All of its text is escaped."""
    schemas = description.get("components", {}).get("schemas", {})
    sections = "\n".join(
        _operation(path, method, operation, schemas)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    )
    info = description["info"]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(info["title"])}: the API</title><link rel="stylesheet" href="assets/docs.css"></head>
<body><main><h1>{escape(info["title"])}: the API</h1>
<p>{escape(info.get("description", ""))}</p>
<p>For machines: <a href="v1/openapi.json">v1/openapi.json</a>. For people: <a href="./">the page</a>.</p>
{sections}</main></body></html>"""


def _operation(path: str, method: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    parts = [
        f'<h2 id="{escape(operation.get("operationId", path))}">{escape(operation.get("summary", path))}</h2>',
        f'<p><code><span class="method">{method.upper()}</span> {escape(path)}</code></p>',
        f"<p>{escape(' '.join(operation.get('description', '').split()))}</p>",
    ]
    parameters = operation.get("parameters", [])
    if parameters:
        lines = [
            (each["name"], f"{_kind(each.get('schema', {}))}. {each.get('description', '')}")
            for each in parameters
        ]
        parts.append(_table(("Parameter", ""), lines))
    body = operation.get("requestBody", {}).get("content", {})
    for kind, content in body.items():
        example = content.get("example") or _example(content.get("schema", {}), schemas)
        if example is not None:
            parts.append(f"<p>Body, <code>{escape(kind)}</code>:</p>{_pre(example)}")
    answers = []
    for status, answer in operation["responses"].items():
        kinds = ", ".join(answer.get("content", {}))
        answers.append((status, f"{answer.get('description', '')} {kinds}"))
        for content in answer.get("content", {}).values():
            example = _example(content.get("schema", {}), schemas)
            if status == "200" and example is not None:
                parts.append(f"<p>Answer:</p>{_pre(example)}")
    parts.append(_table(("Status", ""), answers))
    return "\n".join(parts)


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    bounds = [
        f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema
    ]
    default = [f"default {json.dumps(schema['default'])}"] if "default" in schema else []
    return ", ".join([str(schema.get("type", "")), *bounds, *default])


def _example(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    named = schemas.get(str(schema.get("$ref", "")).rpartition("/")[2], schema)
    if "example" in named:
        return named["example"]
    given = {
        name: each["examples"][0]
        for name, each in named.get("properties", {}).items()
        if each.get("examples")
    }
    return given or None


def _pre(example: Any) -> str:
    text = example if isinstance(example, str) else json.dumps(example, indent=1, ensure_ascii=False)
    return f"<pre>{escape(text[:_LONGEST_EXAMPLE])}</pre>"


def _table(heads: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><td><code>{escape(a)}</code></td><td>{escape(b)}</td></tr>" for a, b in rows)
    return (
        f"<table><thead><tr><th>{heads[0]}</th><th>{heads[1]}</th></tr></thead><tbody>{lines}</tbody></table>"
    )
