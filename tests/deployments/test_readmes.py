"""The READMEs of deployments/ and k8s/: their commands parse, their files are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from kiago_ray.cli.main import Command

ROOT = Path(__file__).parents[2]
READMES = ("deployments/README.md", "k8s/README.md")


def shell_lines(text: str) -> list[str]:
    """Commands of the code blocks and of the tables, continued lines joined."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.S | re.M)
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", re.sub(r"^```\n.*?^```", "", text, flags=re.S | re.M))


def kiago_commands(text: str) -> list[list[str]]:
    """Words behind `kiago`, of every command that has some."""
    found = []
    for line in shell_lines(text):
        words = (
            shlex.split(line, comments=True) if line.count('"') % 2 == 0 and "'" not in line else line.split()
        )
        if "kiago" in words and words[words.index("kiago") + 1 :][:1] == ["campaign"]:
            found.append(words[words.index("kiago") + 1 :])
    return found


@pytest.mark.parametrize("name", READMES)
def test_its_commands_exist(name: str) -> None:
    command = Command("campaign", callback=None).whole
    commands = kiago_commands((ROOT / name).read_text(encoding="utf-8"))
    assert {words[1] for words in commands} >= {"run", "status", "report"}
    for words in commands:
        context = command.make_context("campaign", [words[1]], resilient_parsing=True)
        part = command.commands[words[1]]
        if len(words) > 2:
            part.make_context(
                words[1], [word.replace("SPEC.yaml", "x.yaml") for word in words[2:]], parent=context
            )


@pytest.mark.parametrize("name", READMES)
def test_campaigns_it_hands_in_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    handed_in = re.findall(r"kiago campaign run (?:campaigns/)?(\w+\.yaml)", text)
    assert handed_in
    assert all((ROOT / "campaigns" / each).exists() for each in handed_in if each != "SPEC.yaml")


@pytest.mark.parametrize("name", READMES)
def test_its_files_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    folder = (ROOT / name).parent
    links = [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text) if "://" not in target]
    assert links
    assert all((folder / link).exists() for link in links)
    for path in re.findall(r"(?:-f|--file|-k|up|down|dashboard) ((?:deployments|k8s)/[\w./-]+)", text):
        assert (ROOT / path).exists(), path


def test_overlays_of_the_table_exist() -> None:
    text = (ROOT / "k8s" / "README.md").read_text(encoding="utf-8")
    table = text.partition("| overlay |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`([\w-]+)`", " ".join(row.split("|")[1] for row in table.splitlines()[2:])))
    assert named == {path.parent.name for path in (ROOT / "k8s/overlays").glob("*/kustomization.yaml")}


def test_components_of_the_table_are_those_an_overlay_may_add() -> None:
    text = (ROOT / "k8s" / "README.md").read_text(encoding="utf-8")
    table = text.partition("| component |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`([\w-]+)`", " ".join(row.split("|")[1] for row in table.splitlines()[2:])))
    there = {path.parent.name for path in (ROOT / "k8s/components").glob("*/kustomization.yaml")}
    assert named - {"campaign"} == there - {"campaign", "service", "cpu-only"}
