"""What the README shows works: its Python runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kiago_ray.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    block, client = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(compile(block, "README.md", "exec"), {})
    assert "unique formulas pass every screen" in capsys.readouterr().out
    from kiago_ray.client import Client

    compile(
        client, "README.md", "exec"
    )  # it needs a service; its calls are run in tests/service/test_client.py
    assert set(re.findall(r"client\.(\w+)\(", client)) <= set(dir(Client))


def test_its_commands_exist() -> None:
    shown = set(re.findall(r"^kiago (\w+)", README, re.M))
    assert shown <= {*COMMANDS, "version"}
    assert {"search", "predict", "train", "data"} <= shown


def test_its_files_exist() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    local = [target for target in targets if "://" not in target]
    assert local
    assert all((ROOT / target).exists() for target in local)


def test_its_campaign_can_be_planned() -> None:
    import yaml

    from kiago_ray.models import load_models
    from kiago_ray.runs.plan import make_plan
    from kiago_ray.runs.spec import CampaignSpec
    from kiago_ray.search.sections import validated

    campaign, _ = re.findall(r"```yaml\n(.*?)```", README, re.S)
    plan = make_plan(validated(CampaignSpec, yaml.safe_load(campaign)), load_models(known="none").check)
    assert (len(plan.searches), plan.candidates, plan.shard_count) == (12, 24_576, 48)


def test_its_sweep_is_one() -> None:
    import yaml

    from kiago_ray.search.sections import validated
    from kiago_ray.sweep.spec import SweepSpec

    _, sweep = re.findall(r"```yaml\n(.*?)```", README, re.S)
    assert validated(SweepSpec, yaml.safe_load(sweep)).points == 30
