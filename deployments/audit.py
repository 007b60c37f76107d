"""Ask for known vulnerabilities of what the lock files pin, as `make lint` does: exit code 1 where there are some.

Not every machine reaches an index that knows; that is said in a line and is no failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCKS = ("requirements.lock", "requirements-torch-cu130.txt")


def answers() -> tuple[list[dict[str, Any]], str]:
    """What pip-audit says of each pin; nothing, and its last words, where it reached no index."""
    files = [word for lock in LOCKS for word in ("--requirement", str(ROOT / lock))]
    options = ["--require-hashes", "--disable-pip", "--progress-spinner=off", "--timeout=10", "--format=json"]
    command = [sys.executable, "-m", "pip_audit", *options, *files]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout.strip():
        return [], (done.stderr.strip().splitlines() or ["pip-audit says nothing"])[-1][:200]
    return list(json.loads(done.stdout)["dependencies"]), ""


def summary(pins: list[dict[str, Any]], failure: str) -> tuple[int, list[str]]:
    """The exit code, and a line for each vulnerability and for what nobody knows about."""
    found = [(pin, each) for pin in pins for each in pin.get("vulns", [])]
    lines = [
        f"audit: {pin['name']} {pin['version']} has {each['id']}; "
        f"it is mended in {', '.join(each['fix_versions']) or 'no release'}"
        for pin, each in found
    ]
    unknown = [pin for pin in pins if "skip_reason" in pin]
    if unknown:
        lines.append(f"audit: not known of {len(unknown)} of {len(pins)} pins: {unknown[0]['skip_reason']}")
    if not pins:
        lines.append(f"audit: nothing was asked: {failure}")
    if not lines:
        lines.append(f"audit: no vulnerability is known of {len(pins)} pins")
    return bool(found), lines


if __name__ == "__main__":
    code, said = summary(*answers())
    print("\n".join(said))
    sys.exit(code)
