"""The import rules of pyproject.toml hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_rooms_import_only_from_rooms_below_them() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as l; l()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_no_file_has_grown_past_400_lines() -> None:
    long = {
        p.name: n for p in (ROOT / "kiago_ray").rglob("*.py") if (n := len(p.read_text().splitlines())) > 400
    }
    assert not long
