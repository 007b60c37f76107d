"""What a RayJob runs: only a lost head leads to a new cluster, and the log says how the command ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "k8s" / "components" / "campaign" / "entrypoint.sh"
KIAGO = [sys.executable, "-m", "kiago_ray"]


def run(*command: str, cwd: Path, tries: int = 3) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KIAGO_TRIES": str(tries), "KIAGO_PAUSE_S": "0"}
    return subprocess.run(
        ["bash", str(SCRIPT), *command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )


def counted(*codes: int) -> list[str]:
    """A command that ends with one of these codes after the other and then stays with the last."""
    listed = " ".join(map(str, codes))
    return [
        "bash",
        "-c",
        f"codes=({listed}); echo start >> starts; n=$(wc -l < starts); "
        f"exit ${{codes[$((n < {len(codes)} ? n - 1 : {len(codes) - 1}))]}}",
    ]


def starts(folder: Path) -> int:
    return len((folder / "starts").read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(("code", "says"), [(0, "done"), (2, "input is wrong"), (3, "listed above")])
def test_an_end_that_no_cluster_mends_is_recorded_and_good(code: int, says: str, tmp_path: Path) -> None:
    done = run(*counted(code), cwd=tmp_path)
    assert (done.returncode, starts(tmp_path)) == (0, 1)
    last = done.stdout.splitlines()[-1]
    assert last.startswith(f"entrypoint: exit code {code} of the command: ")
    assert says in last


def test_other_ends_are_tried_again_on_the_same_cluster(tmp_path: Path) -> None:
    done = run(*counted(1, 137, 0), cwd=tmp_path)
    assert (done.returncode, starts(tmp_path)) == (0, 3)
    assert "exit code 137 of the command; try 3 of 3" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("entrypoint: exit code 0")


def test_tries_have_an_end(tmp_path: Path) -> None:
    done = run(*counted(1), cwd=tmp_path, tries=3)
    assert (done.returncode, starts(tmp_path)) == (0, 3)
    assert "exit code 1 of the command: it ended so 3 times in a row" in done.stdout.splitlines()[-1]


def test_a_lost_head_ends_badly(tmp_path: Path) -> None:
    """The head's pod takes the script along: KubeRay sees no good end, and starts a new cluster."""
    process = subprocess.Popen(
        ["bash", str(SCRIPT), "bash", "-c", "echo runs; exec sleep 60"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "runs\n"
    os.killpg(process.pid, signal.SIGTERM)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert rest == ""


def test_a_typo_in_a_campaign_starts_nothing_again(tmp_path: Path) -> None:
    (tmp_path / "typo.yaml").write_text("name: typo\nbases: [LaNiAsO]\ncandidate: 8\n", encoding="utf-8")
    done = run(*KIAGO, "campaign", "run", "typo.yaml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0
    last = done.stdout.splitlines()[-1]
    assert "candidate" in done.stdout
    assert "exit code 2" in last
    assert done.stdout.count("entrypoint:") == 1
    assert not (tmp_path / "out").exists()


def test_the_scripts_words_reach_the_command_as_they_are(tmp_path: Path) -> None:
    words = ["bash", "-c", 'printf "<%s>" "$@"', "sh", "a b", "*", "s3://bucket/x"]
    assert "<a b><*><s3://bucket/x>" in run(*words, cwd=tmp_path).stdout


def test_the_smoke_test_says_what_is_missing(tmp_path: Path) -> None:
    script = SCRIPT.parents[2] / "smoke-test.sh"
    (tmp_path / "dirname").symlink_to("/usr/bin/dirname")
    done = subprocess.run(
        ["/bin/bash", str(script)], env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "smoke test: docker is missing: install it\n"
