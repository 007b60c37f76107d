"""Every equation of the paper is found by its number: in docs/method.md, and there where the document says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = re.findall(
    r"^\| eq\. (\d+) \|.*\| `([\w/.]+): ([\w.]+)` \|$",
    (ROOT / "docs" / "method.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def test_the_table_has_every_equation() -> None:
    assert [int(number) for number, _, _ in ROWS] == list(range(1, 18))


@pytest.mark.parametrize(("number", "file", "function"), ROWS)
def test_the_number_stands_in_the_function(number: str, file: str, function: str) -> None:
    text = (ROOT / "kiago_ray" / file).read_text(encoding="utf-8")
    node: ast.AST = ast.parse(text)
    for name in function.split("."):
        node = next(each for each in ast.iter_child_nodes(node) if getattr(each, "name", "") == name)
    assert isinstance(node, ast.FunctionDef)
    lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
    assert re.search(rf"eq\. {number}\b", "\n".join(lines))


def test_the_other_places_exist() -> None:
    document = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    for place in re.findall(r"`([a-z_]+/[\w/.]*)[`:]", document):
        assert (ROOT / "kiago_ray" / place).exists(), place
