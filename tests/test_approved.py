"""What users build on, as approved texts: every command's help, the API's description, the presets, and what a small
search of each preset proposes.

A change of any is a decision. To accept what is now, say `python -m tests.test_approved`, and read the difference.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import Mock

import click
import pytest
import typer.main
from click.testing import CliRunner

from kiago_ray.api import propose
from kiago_ray.cli.main import app
from kiago_ray.search.spec import PRESETS, preset_values
from kiago_ray.service.app import build_app
from kiago_ray.service.jobs import JobStore
from kiago_ray.service.settings import ServiceSettings

FOLDER = Path(__file__).parent / "approved"
SAME_ROWS = 0.85  # share of a search's rows that have to be the same; processors round differently
SEARCHES: dict[str, dict[str, Any]] = {
    "default": {"base": "LaFeAsO"},
    "open": {"base": "LaNiAsO"},
    "paper": {"base": "LaPt2B2C"},
    "reference": {"base": "LaNiAsO"},
    "hydride": {"base": "LaH10"},
    "substitution": {"base": "LaFeAsO", "substitute": {"La": 3}},
}


def commands() -> str:
    """The help of every command, one after the other."""
    root = typer.main.get_command(app)
    texts: list[str] = []

    def walk(command: click.Command, words: tuple[str, ...]) -> None:
        environment = {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}
        ended = CliRunner().invoke(root, [*words, "--help"], prog_name="kiago", env=environment)
        assert ended.exit_code == 0, ended.output
        lines = [line.rstrip() for line in ended.output.strip().splitlines()]
        texts.append("\n".join([f"# {' '.join(('kiago', *words))}", *lines]))
        for name, inner in sorted(getattr(command, "commands", {}).items()):
            walk(getattr(inner, "whole", inner), (*words, name))

    walk(root, ())
    return "\n\n".join(texts) + "\n"


def description() -> str:
    """The API's description, which asks no model."""
    with TemporaryDirectory() as folder:
        settings = ServiceSettings(require_token=False)
        service = build_app(Mock(), JobStore.of(folder), settings)
        document = service.openapi()
    document["info"]["version"] = ""
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def presets() -> str:
    """Every preset as it is read."""
    values = {name: preset_values(name) for name in PRESETS}
    return json.dumps(values, indent=1, sort_keys=True) + "\n"


def searches() -> str:
    """What small searches propose, row by row: the formula, and whether it passes."""
    found = {}
    for preset, given in SEARCHES.items():
        small = {"candidates": 16, "steps": [15, 15], "seed": 3, "precision": "float32"}
        table = propose(preset=preset, overrides={**given, **small}).table
        rows = sorted(table.select(["row", "formula", "passed"]).to_pylist(), key=lambda row: row["row"])
        found[preset] = {
            str(row["row"]): f"{row['formula']}{', passed' if row['passed'] else ''}" for row in rows
        }
    return json.dumps(found, indent=1) + "\n"


TEXTS: dict[str, Callable[[], str]] = {
    "commands.txt": commands,
    "openapi.json": description,
    "presets.json": presets,
}


@pytest.mark.parametrize("name", TEXTS)
def test_is_as_approved(name: str) -> None:
    assert TEXTS[name]() == (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.slow
def test_small_searches_propose_what_was_approved() -> None:
    approved, now = json.loads((FOLDER / "searches.json").read_text(encoding="utf-8")), json.loads(searches())
    for preset, rows in approved.items():
        same = sum(now[preset].get(row) == text for row, text in rows.items())
        assert same >= SAME_ROWS * len(rows), preset


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in {**TEXTS, "searches.json": searches}.items():
        (FOLDER / name).write_text(text(), encoding="utf-8")
