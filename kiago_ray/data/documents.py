"""YAML and JSON as people write them: a key that is given twice is an error that names both lines, and only `true` and
`false` are true and false in YAML, as in its version 1.2: No is nobelium, and a field that is yes or no takes it too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

import yaml

from kiago_ray.errors import InputError

MOST_NESTED = 64
"""Levels of a JSON document. Nothing of ours has ten, and what reads on would end at Python's own bound."""
_BOOL = "tag:yaml.org,2002:bool"


class DoubledKeyError(InputError):
    """A key that stands twice in one mapping; the last would win in silence."""

    def __init__(self, key: object, lines: Sequence[int]) -> None:
        where = f", in lines {lines[0]} and {lines[1]}" if len(set(lines)) == 2 else ""
        super().__init__(f"the key {str(key)[:80]!r} is given twice{where}; give it once")


class _Loader(yaml.SafeLoader):
    """Of plain values alone."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML has it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL or first in "tTfF"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node. Raises DoubledKeyError."""
        lines: dict[tuple[str, str], int] = {}
        for key in (each for each, _ in node.value if isinstance(each, yaml.ScalarNode)):
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                raise DoubledKeyError(key.value, (lines[name], line))
            lines[name] = line
        return super().construct_mapping(node, deep)


def read_yaml_text(text: str) -> Any:
    """The plain values of a YAML document. Raises DoubledKeyError, YAMLError, ValueError, RecursionError."""
    return yaml.load(text, Loader=_Loader)


def read_json_text(content: str | bytes) -> Any:
    """The values of a JSON document. Raises DoubledKeyError, ValueError, and RecursionError beyond MOST_NESTED."""

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                text = content if isinstance(content, str) else content.decode("utf-8", "replace")
                places = re.finditer(re.escape(json.dumps(key, ensure_ascii=False)) + r"\s*:", text)
                raise DoubledKeyError(key, [text.count("\n", 0, each.start()) + 1 for each in places])
            found[key] = value
        return found

    value = json.loads(content, object_pairs_hook=mapping)
    level = [value]
    for _ in range(MOST_NESTED):
        inner = (
            each.values() if isinstance(each, dict) else each
            for each in level
            if isinstance(each, dict | list)
        )
        if not (level := list(chain.from_iterable(inner))):
            return value
    raise RecursionError(f"more than {MOST_NESTED} levels")
