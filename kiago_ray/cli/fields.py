"""`kiago fields`: every field that a file or `--set` may give, with what it takes, its default, where presets differ,
and why; made from the models that check them.
"""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import BaseModel
from rich.console import Console
from rich.text import Text
from typer import Argument, Option

from kiago_ray.cli.console import AsJson, plural, print_json
from kiago_ray.errors import InputError
from kiago_ray.runs.spec import CampaignSpec
from kiago_ray.search.spec import PRESETS, SearchSpec, load_preset
from kiago_ray.service.settings import ServiceSettings
from kiago_ray.sweep.spec import SweepSpec

KINDS: Mapping[str, tuple[type[BaseModel], str]] = {
    "search": (
        SearchSpec,
        "`kiago search --set NAME=VALUE`, `--spec FILE`, and `search:` of campaigns and sweeps",
    ),
    "campaign": (CampaignSpec, "`kiago campaign run FILE`"),
    "sweep": (SweepSpec, "`kiago sweep FILE`"),
    "service": (ServiceSettings, "`kiago serve --settings FILE`"),
}
NO_DEFAULT = "required"
_NEAR = 5  # names that are offered for one that isn't there
_LIKE = 0.55  # difflib's ratio from which a name is near
_SECTION = "section"
_IN = "    "
_POWERS = {2**63: "2^63", 2**32: "2^32"}

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class FieldFacts:
    """A field as a person gives it. of: one of KINDS. name: dotted. values: what it takes. default: as in YAML,
    "" of a section. presets: those whose value differs → the value. why: its description.
    """

    of: str
    name: str
    values: str
    default: str
    presets: Mapping[str, str]
    why: str

    @property
    def defaults(self) -> str:
        """The default, and of each preset that differs its own: 0; 4 in paper, reference."""
        differing: dict[str, list[str]] = {}
        for preset, value in self.presets.items():
            differing.setdefault(value, []).append(preset)
        own = [f"{value} in {', '.join(names)}" for value, names in differing.items()]
        return "; ".join([*([self.default] if self.default else []), *own])


def fields(
    name: Annotated[
        str | None, Argument(help="A field, a section or a part of a name: alpha, screens, campaign, tc.")
    ] = None,
    markdown: Annotated[bool, Option("--markdown", help="Print docs/fields.md.")] = False,
    as_json: AsJson = False,
) -> None:
    """Every field of a search, a campaign, a sweep and the service: what it takes, its default, and why."""
    found = all_fields() if name is None else matching(all_fields(), name)
    if as_json:
        print_json({"fields": [asdict(each) for each in found]})
    elif markdown:
        print(as_markdown(found), end="")
    else:
        show(found)


def all_fields() -> list[FieldFacts]:
    """The fields of all KINDS, in the order of their models."""
    presets = {name: load_preset(name).model_dump(mode="json") for name in PRESETS}
    texts = f"{', '.join(PRESETS)}, or a file"
    found = [FieldFacts("search", "preset", texts, PRESETS[0], {}, "What all other fields start from.")]
    for of, (model, _) in KINDS.items():
        schema = model.model_json_schema()
        for name, field in _walk(schema, schema.get("$defs", {}), ""):
            section = field["values"] == _SECTION
            own = (
                {}
                if section or of != "search"
                else {key: _at(values, name) for key, values in presets.items()}
            )
            default = "" if section else field["default"]
            differing = {key: value for key, value in own.items() if value not in (None, default)}
            found.append(FieldFacts(of, name, field["values"], default, differing, field["why"]))
    return found


def _walk(schema: Schema, kinds: Schema, above: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The dotted name and the facts of every field of a JSON schema, those of its sections after each."""
    required = schema.get("required", ())
    for key, field in schema["properties"].items():
        name = above + key
        inner, within = _section(field, kinds)
        default = NO_DEFAULT if key in required else shown(field.get("default", {}))  # {}: a factory's
        # pydantic leaves out a description that is the section's own.
        why = " ".join((field.get("description") or (inner or {}).get("description", "")).split())
        yield name, {"values": values_text(field, kinds), "default": default, "why": why}
        if inner is not None:
            yield from _walk(inner, kinds, f"{name}.{within}")


def _section(field: Schema, kinds: Schema) -> tuple[Schema | None, str | None]:
    """The section that a field is or holds, and what stands between its name and the section's: NAME. in a mapping."""
    if "$ref" in field:
        kind = kinds[field["$ref"].rpartition("/")[2]]
        return (kind, "") if "properties" in kind else (None, None)
    if isinstance(field.get("additionalProperties"), Mapping):
        kind, within = _section(field["additionalProperties"], kinds)
        return kind, None if within is None else f"NAME.{within}"
    return next(
        (found for each in field.get("anyOf", ()) if (found := _section(each, kinds))[0]), (None, None)
    )


def values_text(field: Schema, kinds: Schema) -> str:
    """What a field of a JSON schema takes, in words: number, at least 0."""
    if "$ref" in field:
        return values_text(kinds[field["$ref"].rpartition("/")[2]], kinds)
    if "anyOf" in field:
        return " or ".join(values_text(each, kinds) for each in field["anyOf"])
    if "enum" in field:
        return ", ".join(map(shown, field["enum"]))
    kind = field.get("type")
    if kind == "array":
        if "prefixItems" in field:
            items = [values_text(each, kinds) for each in field["prefixItems"]]
            return f"[a, b], each a {items[0]}"
        return f"list of {values_text(field['items'], kinds)}"
    if kind == "object":
        inner = field.get("additionalProperties")
        if "properties" in field:
            return _SECTION
        return f"mapping to {values_text(inner, kinds)}" if isinstance(inner, Mapping) else "mapping"
    names = {"integer": "whole number", "string": "text", "boolean": "true or false", None: "any value"}
    return ", ".join([names.get(kind, str(kind)), *_bounds(field)])


def _bounds(field: Schema) -> list[str]:
    """Such as 0 to 1, or above 0 and at most 10. gt, lt: what pydantic writes where a validator comes before."""
    if "minimum" in field and "maximum" in field:
        return [f"{_number(field['minimum'])} to {_number(field['maximum'])}"]
    words = {"minimum": "at least", "exclusiveMinimum": "above", "gt": "above"}
    words |= {"maximum": "at most", "exclusiveMaximum": "below", "lt": "below"}
    return [f"{word} {_number(field[key])}" for key, word in words.items() if key in field]


def _number(value: float) -> str:
    return _POWERS.get(int(value), f"{value:,.12g}" if abs(value) >= 10_000 else f"{value:g}")


def shown(value: Any) -> str:
    """A value as YAML has it: null, true, 0.5, [a, b]."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shown(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)


def _at(values: Any, name: str) -> str | None:
    """The value under a dotted name, as shown; None where there is no such part."""
    for part in name.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return None
        values = values[part]
    return shown(values)


def matching(found: Sequence[FieldFacts], name: str) -> list[FieldFacts]:
    """The fields of that name, kind or section; where there are none those with the text in their name. Raises
    InputError, with near names, where there is none at all.
    """
    asked = name.strip().lstrip("-").replace("-", "_").casefold()
    whole = [each for each in found if f".{asked}." in f".{each.of}.{each.name}.".casefold()]
    matches = whole or [each for each in found if asked in f"{each.of}.{each.name}".casefold()]
    if matches and asked:
        return matches
    ends = {part: each.name for each in reversed(found) for part in (each.name.rpartition(".")[2], each.name)}
    near = dict.fromkeys(ends[each] for each in difflib.get_close_matches(asked, ends, _NEAR, _LIKE))
    advice = f"did you mean {', '.join(near)}?" if near else "`kiago fields` lists all"
    raise InputError(f"fields: there is no field {name[:80]!r}; {advice}")


def show(found: Sequence[FieldFacts]) -> None:
    """The fields for a person: name and what it takes, then the default and the reason below it."""
    terminal, kind = Console(), ""
    for each in found:
        if each.of != kind:
            kind = each.of
            terminal.print(Text(f"{kind}: {KINDS[kind][1].replace('`', '')}", style="bold"), end="\n\n")
        terminal.print(Text.assemble((each.name, "bold"), f"  {each.values}"))
        lines = [*([f"default: {each.defaults}"] if each.defaults else []), each.why]
        for line in lines:
            terminal.print(
                Text(textwrap.fill(line, terminal.width, initial_indent=_IN, subsequent_indent=_IN))
            )
        terminal.print()
    terminal.print(Text(plural(len(found), "field")))


def as_markdown(found: Sequence[FieldFacts]) -> str:
    """The fields as a page, a table for each kind."""
    parts = [
        "# Fields",
        "Every field that a file or `--set` may give. `kiago fields NAME` prints those of a name, a section or a part "
        "of a name. This page is made by `kiago fields --markdown > docs/fields.md`.",
    ]
    for kind, (_, given) in KINDS.items():
        rows = [each for each in found if each.of == kind]
        if rows:
            lines = [f"## {kind.capitalize()}", "", f"Given in {given}.", ""]
            lines += ["| field | takes | default | what it does |", "| --- | --- | --- | --- |"]
            parts.append("\n".join([*lines, *map(_markdown_row, rows)]))
    return "\n\n".join(parts) + "\n"


def _markdown_row(each: FieldFacts) -> str:
    cells = (each.values, each.defaults, each.why)
    escaped = [cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells]
    return f"| `{each.name}` | {' | '.join(escaped)} |"
