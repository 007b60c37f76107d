"""Every command that the README and docs/ show: all are read by the real command line, the light ones run, smaller
than they stand there, and those that take minutes run as they stand (`long`).
"""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from kiago_ray.cli.main import app

Kiago = Callable[..., Any]
ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"), key=lambda page: (page.name != "tasks.md", page.name))
PAGES = (ROOT / "README.md", *DOCS)
SMALL = ("--candidates", "8", "--steps", "2,2", "--top", "2")
# A search with nothing but its base, and those of the other presets, run in the tests of their rooms.
LIGHT = re.compile(
    r"^(compare|fields|hull|predict|runs|scan|shortlist|version)|^search \S+ --(?!.*preset)|--dry-run"
)
FILES = {
    "formulas.csv": "formula\nMgB2\nLaNiAsO\n",
    "mine.csv": "formula,tc_k\nLaNiAsO,2.4\nLaFeAsO0.9F0.1,26\n",
    "tried.csv": "formula,tc_k\nLaCoAsO,0\n",
    "my_cifs/MgB2.cif": """data_MgB2
_symmetry_space_group_name_H-M 'P 1'
_cell_length_a 3.086
_cell_length_b 3.086
_cell_length_c 3.524
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 120
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Mg1 Mg 0 0 0
B1 B 0.333333 0.666667 0.5
B2 B 0.666667 0.333333 0.5
""",
}
# What isn't here: a bucket, a GPU, other people's raw files, somebody who stops the service.
ELSEWHERE = re.compile(r"s3://|cuda|\.tsv|\.csv\.gz|^serve|^train|--weights training|--address")
# Ten minutes each; the tests of their rooms run smaller ones. What a sweep found is there after it alone.
HEAVY = re.compile(r"^paper|^sweep (?!.*--dry-run)|runs/trust")


def shown(page: Path) -> list[list[str]]:
    """The command lines in blocks of a page, without variables that are set before them."""
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    lines = [
        shlex.split(line.replace(".venv/bin/", ""), comments=True)
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [[*without(line)] for line in lines if line]


def without(words: list[str]) -> Iterator[str]:
    """The words behind variables, and of what is handed to Ray's job server the command itself."""
    if words[:3] == ["ray", "job", "submit"] or (words and re.match(r"[A-Z_]+=", words[0])):
        yield from without(words[words.index("--") + 1 :] if "submit" in words[:5] else words[1:])
    else:
        yield from words


def mentioned(page: Path) -> list[list[str]]:
    """Commands in the text: `kiago …` and `python benchmarks/…`."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    return [shlex.split(each) for each in re.findall(r"`(kiago [^`]+|python benchmarks/[^`]+)`", text)]


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command, by the real command line, and the words behind its name."""
    command: Any = typer.main.get_command(app)
    rest = words
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, words
        command, rest = command.commands[rest[0]], rest[1:]
        command = getattr(command, "whole", command)
    return command, rest


def can_run(words: list[str]) -> bool:
    """Whether a command runs on any machine, in minutes at most."""
    line = " ".join(words[1:])
    return words[0] == "kiago" and not ELSEWHERE.search(line) and not HEAVY.search(line)


def made(words: list[str]) -> list[list[str]]:
    """The commands of ours that `make TARGET` runs; any other command as it is."""
    if words[0] != "make":
        return [words]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(rf"^{words[1]}:.*\n((?:\t.*\n)*)", makefile, re.M)
    assert recipe, words
    return [shlex.split(line) for line in re.findall(r"\$\(BIN\)/(kiago .*)", recipe[1])]


def light_commands() -> dict[str, list[list[str]]]:
    """By page, the commands that every test run runs: each once, wherever else it stands."""
    pages, seen = {}, set[str]()
    for page in PAGES:
        pages[page.name] = []
        for words in filter(can_run, shown(page)):
            line = re.sub(r" --out \S+", "", " ".join(words[1:]))
            if LIGHT.search(line) and line not in seen:
                seen.add(line)
                pages[page.name].append(words)
    return {page: commands for page, commands in pages.items() if commands}


def prepare(folder: Path) -> None:
    """The files that commands of a page name, and the checkout's folders that they find things in."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for name in ("campaigns", "tune_configs"):
        (folder / name).symlink_to(ROOT / name)


def check_make(words: list[str]) -> None:
    """The Makefile has the target and the variables, and there is what TORCH names."""
    makefile, given = (ROOT / "Makefile").read_text(encoding="utf-8"), words[1:]
    made(["make", words[0]])
    for name, value in (each.split("=") for each in given):
        assert re.search(rf"^{name} \?=", makefile, re.M), words
        assert name != "TORCH" or (ROOT / f"requirements-torch-{value}.txt").is_file(), words


def check_pip(words: list[str]) -> None:
    """The files that pip is to read are there, and the package has the extras."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in words[1:]:
        extras = re.fullmatch(r"\.(?:\[(.+)\])?", word)
        files = word.endswith(".txt") and (ROOT / word).is_file()
        assert word.startswith("-") or files or extras, words
        if extras and extras[1]:
            assert set(extras[1].split(",")) <= declared["optional-dependencies"].keys(), words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_read(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "training").mkdir()  # what `kiago train` wrote
    for words in shown(page):
        name, *rest = words
        if name == "kiago":
            command, arguments = command_of(["cpu" if word == "cuda" else word for word in rest])
            command.make_context(rest[0], arguments)  # raises for what it doesn't know
        elif name == "make":
            check_make(rest)
        elif name == "pip":
            check_pip(rest)
        else:
            assert name == "mlflow", words
    for name, *words in mentioned(page):
        named = {word for word in words if word.startswith("--")}
        if name == "kiago":
            command, _ = command_of(words)
            assert named <= {option for each in command.params for option in each.opts} | {"--help"}, words
        else:
            script = (ROOT / words[0]).read_text(encoding="utf-8")
            assert all(f'"{option}"' in script for option in named), words


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("page", "commands"), light_commands().items())
def test_light_commands_run(
    page: str, commands: list[list[str]], kiago: Kiago, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    for words in commands:
        ended = kiago(*words[1:], *(SMALL if words[1] == "search" else ()))
        assert ended.code == 0, (page, words, ended.err)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", [page for page in PAGES if shown(page)], ids=lambda page: page.name)
def test_commands_run_as_they_stand(page: Path, start: Callable[..., Any], tmp_path: Path) -> None:
    prepare(tmp_path)
    for words in filter(can_run, (each for line in shown(page) for each in made(line))):
        process = start(*words[1:])
        _, told = process.communicate()
        assert process.returncode == 0, (words, told)
