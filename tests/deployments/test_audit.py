"""What `make lint` says of known vulnerabilities: they fail it, and not knowing doesn't."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "deployments" / "audit.py"
SOUND: dict[str, Any] = {"name": "six", "version": "1.17.0", "vulns": []}
WEAK = {"name": "old", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1", "2.0"]}]}
UNMENDED = {"name": "bad", "version": "3.0", "vulns": [{"id": "GHSA-2", "fix_versions": []}]}
UNKNOWN = {"name": "own", "version": "1.0", "skip_reason": "not found on the index"}


@pytest.mark.parametrize(
    ("pins", "failure", "code", "says"),
    [
        ([SOUND], "", 0, ["no vulnerability is known of 1 pins"]),
        ([SOUND, WEAK], "", 1, ["old 1.0 has PYSEC-1; it is mended in 1.1, 2.0"]),
        ([UNMENDED], "", 1, ["bad 3.0 has GHSA-2; it is mended in no release"]),
        ([SOUND, UNKNOWN], "", 0, ["not known of 1 of 2 pins: not found on the index"]),
        ([], "no route to host", 0, ["nothing was asked: no route to host"]),
    ],
)
def test_a_line_for_each(pins: list[Any], failure: str, code: int, says: list[str]) -> None:
    summary = runpy.run_path(str(SCRIPT))["summary"]
    assert summary(pins, failure) == (code, [f"audit: {each}" for each in says])
