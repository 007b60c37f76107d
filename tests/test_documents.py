"""The README and the pages of docs/: the site builds without a warning and asks no other host, links lead somewhere,
Python runs, and the files that are shown are what they are called.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiago_ray.search.sections import validated

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(page: str, language: str) -> str:
    """The one block of this language on a page of docs/."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.S)
    return str(found)


def anchors(page: Path) -> set[str]:
    """What a link to a page may end in, by its headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.encode()) <= 10_000
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(links) > 20
    for link in links:
        path, _, anchor = link.partition("#")
        target = ROOT / path if path else ROOT / "README.md"
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_asks_no_other_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    config: Any = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path))
    assert config.strict
    build(config)  # strict: a warning is an error
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        loaded = re.findall(
            r"<(?:script|img|iframe)[^>]* src=\"([^\"]+)|<link[^>]* href=\"([^\"]+)", page.read_text()
        )
        assert not [url for pair in loaded for url in pair if "//" in url], page


def test_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block("chemists.md", "python"), "chemists.md", "exec"), {})
    assert "unique formulas pass every screen" in capsys.readouterr().out


def test_calls_of_the_client_exist() -> None:
    """They need a service; tests/service/test_client.py runs them."""
    from kiago_ray.client import Client

    shown = block("serving.md", "python")
    compile(shown, "serving.md", "exec")
    called = set(re.findall(r"client\.(\w+)\(", shown))
    assert called
    assert called <= set(dir(Client))


def test_the_campaign_can_be_planned() -> None:
    from kiago_ray.models import load_models
    from kiago_ray.runs.plan import make_plan
    from kiago_ray.runs.spec import CampaignSpec

    shown = validated(CampaignSpec, yaml.safe_load(block("campaigns.md", "yaml")))
    plan = make_plan(shown, load_models(known="none").check)
    assert (len(plan.searches), plan.candidates, plan.shard_count) == (12, 24_576, 48)


def test_the_sweep_is_one() -> None:
    from kiago_ray.sweep.spec import SweepSpec

    sweep = yaml.safe_load(block("sweeps.md", "yaml"))
    assert validated(SweepSpec, sweep).points == 30
    assert validated(SweepSpec, {**sweep, "scheduler": {"kind": "none"}}).points == 30


def test_every_plot_has_its_command() -> None:
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for image in re.finditer(r"!\[", text):
            after = text[image.start() :].split("\n\n", 2)
            assert re.search(r"`(kiago|python benchmarks/)", "\n".join(after[:2])), (page, after[0])
