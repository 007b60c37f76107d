"""What CONTRIBUTING.md shows works: its Python runs, its preset is one, and the rooms that it names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kiago_ray.runs.spec import read_preset
from kiago_ray.search.spec import build_spec

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_its_examples_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 3
    exec(compile("\n".join(blocks), "CONTRIBUTING.md", "exec"), {"__name__": "contributing"})


def test_its_preset_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    file = tmp_path / "light.yaml"
    file.write_text(text, encoding="utf-8")
    spec = build_spec({"preset": read_preset(file)}, {"base": "LaNiAsO"})
    assert spec.steps == (50, 50)
    assert spec.screens.names == ("neutral", "ef_negative")


def test_every_room_is_named_and_every_place_is_there() -> None:
    table = PAGE.partition("## Where things go")[2].partition("## How we write")[0]
    named = {place for place in re.findall(r"`([\w/.]+)`", table) if "/" in place}
    rooms = {init.parent.name for init in (ROOT / "kiago_ray").glob("*/__init__.py")}
    assert rooms <= {place.partition("/")[0] for place in named}
    assert all((ROOT / "kiago_ray" / place).exists() for place in named)


def test_its_commands_are_those_of_the_makefile() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"`make ([\w-]+)`", PAGE)) <= targets
