"""The image: pinned, without root, without secrets, dependencies before the code; and only what it needs goes in."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import kiago_ray
from kiago_ray.distributed.cluster import SERVE_ENVIRONMENT

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deployments" / "Dockerfile").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """Name and arguments of each, comments gone, continued lines joined."""
    lines = [line for line in TEXT.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def arguments(name: str) -> list[str]:
    return [rest for each, rest in instructions() if each == name]


def stages() -> list[list[tuple[str, str]]]:
    cut: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            cut.append([])
        if cut:  # the argument with the base stands before the first
            cut[-1].append((name, rest))
    return cut


def test_it_is_made_of_known_instructions() -> None:
    known = {"FROM", "ARG", "ENV", "RUN", "COPY", "LABEL", "USER", "WORKDIR", "CMD"}
    assert {name for name, _ in instructions()} <= known
    for run in arguments("RUN"):
        shlex.split(run)  # raises where a quote is left open


def test_its_base_is_pinned_by_digest_to_a_patch_release_of_the_right_python() -> None:
    names = {rest.split()[-1] for rest in arguments("FROM") if " AS " in rest}
    outside = [rest.split()[0] for rest in arguments("FROM") if rest.split()[0] not in names]
    assert outside == ["${BASE}"]
    (base,) = [rest for rest in arguments("ARG") if rest.startswith("BASE=")]
    assert re.fullmatch(r"BASE=python:3\.11\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)


def test_no_compiler_is_in_it() -> None:
    """The last stage installs none, and is refused where one comes along."""
    (run,) = [rest for name, rest in stages()[-1] if name == "RUN"]
    installed = set(run.partition("--no-install-recommends")[2].partition("&&")[0].split())
    assert installed == {"openssh-client", "procps", "rsync", "wget"}
    assert {"! command -v cc", "! command -v gcc"} <= {part.strip() for part in run.split("&&")}


def test_its_list_of_contents_is_cyclonedx(tmp_path: Path) -> None:
    """The Dockerfile's own command, on a small environment with one package."""
    (run,) = [rest for rest in arguments("RUN") if "cyclonedx-py" in rest]
    words = shlex.split(run.rpartition("&&")[2])
    venv.create(tmp_path / "env", with_pip=False)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    info = Path(str(distribution("packaging")._path))  # type: ignore[attr-defined]
    shutil.copytree(info, site / info.name)
    out = tmp_path / "sbom.cdx.json"
    made = {"/sbom/bin/cyclonedx-py": str(Path(sys.executable).parent / "cyclonedx-py")}
    made |= {"/sbom.cdx.json": str(out), "/usr/local/bin/python": str(tmp_path / "env/bin/python")}
    subprocess.run([made.get(word, word) for word in words], check=True, capture_output=True, timeout=60)
    sbom = json.loads(out.read_text(encoding="utf-8"))
    assert sbom["bomFormat"] == "CycloneDX"
    (component,) = sbom["components"]
    assert (component["name"], component["version"]) == ("packaging", distribution("packaging").version)
    assert "--from=sbom /sbom.cdx.json" in " ".join(arguments("COPY"))


def test_it_does_not_run_as_root() -> None:
    assert [rest for name, rest in stages()[-1] if name == "USER"] == ["1000:1000"]
    after = stages()[-1][[name for name, _ in stages()[-1]].index("USER") :]
    assert not any(name in ("RUN", "COPY") for name, _ in after)
    assert "--uid 1000" in TEXT


def test_dependencies_come_before_the_code() -> None:
    """The stage that installs them sees only the pins, so that a change of the code doesn't repeat it."""
    (dependencies,) = [stage for stage in stages() if stage[0][1].endswith("AS dependencies")]
    assert [rest for name, rest in dependencies if name == "COPY"] == [
        "requirements-torch-*.txt requirements.lock ./"
    ]
    (package,) = [stage for stage in stages() if stage[0][1].endswith("AS package")]
    assert package[0][1].split()[0] == "dependencies"


def test_all_that_pip_brings_is_pinned_by_digest() -> None:
    installs = [each for run in arguments("RUN") for each in run.split("&&") if "pip install" in each]
    brought = [each for each in installs if "--no-index" not in each]
    assert all({"--no-deps", "--require-hashes", "--requirement"} <= set(each.split()) for each in brought)
    assert [shlex.split(each)[-1] for each in brought] == [
        "requirements-torch-${TORCH}.txt",
        "requirements.lock",
        "requirements-sbom.lock",
    ]
    builds = {"cpu", *re.findall(r"--build-arg TORCH=(\w+)", TEXT)}
    assert builds == {"cpu", "cu130"}
    assert all((ROOT / f"requirements-torch-{build}.txt").exists() for build in builds)


def test_no_secret_and_nothing_from_the_network_is_added() -> None:
    assert not arguments("ADD")
    given = " ".join(arguments("ARG") + arguments("ENV")).upper()
    assert not any(word in given for word in ("SECRET", "PASSWORD", "ACCESS_KEY", "AUTH_TOKEN"))
    assert "RAY_AUTH_MODE=token" in TEXT


def test_it_holds_what_kuberay_and_ray_up_call() -> None:
    (apt,) = [rest for rest in arguments("RUN") if "apt-get install" in rest]
    assert {"wget", "rsync", "openssh-client"} <= set(apt.split())
    # `ray up` runs IMAGE bash, and finds the home directory in the image's environment.
    assert not arguments("ENTRYPOINT")
    assert "HOME=/home/kiago" in " ".join(rest for name, rest in stages()[-1] if name == "ENV")


def test_ray_serve_finds_there_what_it_takes_from_the_environment() -> None:
    given = " ".join(rest for name, rest in stages()[-1] if name == "ENV").split()
    assert {f"{name}={value}" for name, value in SERVE_ENVIRONMENT.items()} <= set(given)


def test_its_label_is_the_version() -> None:
    assert f'org.opencontainers.image.version="{kiago_ray.__version__}"' in TEXT


def test_the_builder_gets_only_what_the_image_is_made_of() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    rules = [line for line in ignore if line and not line.startswith("#")]
    assert rules[0] == "*"
    sent = {line[1:] for line in rules if line.startswith("!")}
    copied = {source for rest in arguments("COPY") if "--from" not in rest for source in rest.split()[:-1]}
    assert copied == sent
    assert all(any(ROOT.glob(each)) for each in sent)
