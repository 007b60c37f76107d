"""The command as a whole: help is quick, versions are told, nothing heavy is imported for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from kiago_ray.cli.main import COMMANDS, Command
from kiago_ray.screening.screens import SCREENS, load_screen_recall

Kiago = Callable[..., Any]


def test_version_names_the_weights(kiago: Kiago) -> None:
    facts = json.loads(kiago("version", "--json").out)
    assert set(facts["weights"]) == {
        "tc",
        "tc_ensemble",
        "ef",
        "ef_ensemble",
        "tc_oracle",
        "tc_tuning_oracle",
        "plausibility",
    }
    assert facts["devices"][0] == "cpu"
    assert "torch" in kiago("version").out


@pytest.mark.parametrize(
    "command",
    [[], ["search"], ["predict"], ["train"], ["train", "tc"], ["train", "oracle"], ["data", "check"]],
)
def test_help_is_there(kiago: Kiago, command: list[str]) -> None:
    ended = kiago(*command, "--help")
    assert ended.code == 0
    assert "Usage" in ended.out


def test_the_help_of_search_tells_what_each_screen_lets_pass(kiago: Kiago) -> None:
    told = kiago("search", "--help").out
    for name in SCREENS:
        assert name in told
    assert "known superconductors" in told
    share = load_screen_recall()["screens"]["balanced"]["recall"]
    assert share is not None
    assert f"{100 * share:.1f}" in told


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_a_command_what_its_own_help_says(name: str) -> None:
    whole = Command(name, callback=None, help=COMMANDS[name]).whole
    assert whole.get_short_help_str(limit=1000).rstrip(".") == COMMANDS[name].rstrip(".")


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_help_imports_nothing_heavy() -> None:
    heavy = {
        "torch",
        "pandas",
        "ray",
        "mlflow",
        "matplotlib",
        "pymatgen",
        "smact",
        "sklearn",
        "scipy",
        "lightgbm",
    }
    assert not heavy & loaded_by("import kiago_ray, kiago_ray.cli.main")


def test_a_search_imports_neither_ray_nor_mlflow() -> None:
    loaded = loaded_by(
        "from kiago_ray import propose, load_predictors, SearchSpec\nimport kiago_ray.cli.search"
    )
    assert "torch" in loaded
    assert not {"ray", "mlflow"} & loaded
