"""What is imported is declared, what is declared is locked, and what is built installs and runs."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
TORCH_BUILDS = ("cpu", "cu130")
USE, DEVELOP = "requirements.lock", "requirements-dev.lock"


def declared(*extras: str) -> list[Requirement]:
    """What the package asks for, and these extras of it."""
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    return [each for each in map(Requirement, lines) if each.name != PROJECT["name"]]


def pins(name: str) -> dict[str, Requirement]:
    """The pins of a lock file; each must have digests, and nothing but these may be in the file."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "--extra-index-url"))]
    assert all(
        re.fullmatch(r"[^ ]+==[^ ]+( ; [^\\]+?)?( +--hash=sha256:[0-9a-f]{64})+", line) for line in lines
    )
    return {canonical(each.name): each for each in (Requirement(line.split(" --hash")[0]) for line in lines)}


def version(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    return specifier.version


def imported(files: Iterable[Path]) -> set[str]:
    """The top-level modules that these files import, wherever they do."""
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    plain = {each.name for node in nodes if isinstance(node, ast.Import) for each in node.names}
    froms = {
        node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level
    }
    return {name.partition(".")[0] for name in plain | froms} - sys.stdlib_module_names


def test_what_is_imported_is_declared() -> None:
    installed = packages_distributions()
    ours = {"kiago_ray", "tests", *(file.stem for file in (ROOT / "benchmarks").glob("*.py"))}
    for folders, extras in (
        (["kiago_ray"], ["superdiff", "s3", "structures"]),
        (["tests", "benchmarks"], list(EXTRAS)),
    ):
        known = {canonical(each.name) for each in declared(*extras)}
        modules = imported(file for folder in folders for file in (ROOT / folder).rglob("*.py")) - ours
        assert {"numpy", "torch"} <= modules
        holders = {name: set(map(canonical, installed.get(name, []))) for name in modules}
        assert not {name: found for name, found in holders.items() if not found & known}


@pytest.mark.parametrize(("lock", "extras"), [(USE, ["s3"]), (DEVELOP, list(EXTRAS))])
def test_what_is_declared_is_locked(lock: str, extras: list[str]) -> None:
    found = pins(lock)
    wanted = {canonical(each.name): each for each in declared(*extras) if each.name != "torch"}
    assert not wanted.keys() - found.keys(), "run `make lock`"
    assert all(each.specifier.contains(version(found[name])) for name, each in wanted.items())


def test_the_locks_agree_and_torch_is_in_files_of_its_own() -> None:
    use, develop = pins(USE), pins(DEVELOP)
    assert not [name for name, pin in use.items() if pin.specifier != develop[name].specifier]
    assert not {"torch", "triton"} & develop.keys()
    drivers = {"nvidia-ml-py3"}  # CHGNet asks for it; it reads a card's state, and brings no CUDA along
    assert not [name for name in develop if name.startswith(("nvidia-", "cuda-")) and name not in drivers]
    (torch,) = [each for each in declared() if each.name == "torch"]
    for build in TORCH_BUILDS:
        found = pins(f"requirements-torch-{build}.txt")
        assert torch.specifier.contains(version(found["torch"]))
        assert all(use[name].specifier == found[name].specifier for name in use.keys() & found.keys())
    needs = {
        canonical(each.name) for each in map(Requirement, requires("torch") or []) if each.marker is None
    }
    assert "sympy" in needs <= use.keys()
    cpu, cuda = (version(pins(f"requirements-torch-{build}.txt")["torch"]) for build in TORCH_BUILDS)
    assert cpu.partition("+")[0] == cuda
    assert "nvidia-cublas" in found


def test_its_python_is_said_in_one_way() -> None:
    said = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r"Python :: 3\.", each)]
    assert tuple(said) == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"


def run(*command: str | Path, cwd: Path) -> str:
    """What it prints; it sees no checkout that PYTHONPATH may name."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path) -> Path:
    """The wheel or source archive of this folder, without the network."""
    call = f"from setuptools import build_meta; build_meta.build_{kind}('dist')"
    run(sys.executable, "-c", call, cwd=source)
    (made,) = (source / "dist").iterdir()
    return made


@pytest.mark.long
def test_the_source_archive_makes_a_wheel_that_runs_in_an_environment_of_its_own(tmp_path: Path) -> None:
    source = tmp_path / "source"  # what git knows, so that building leaves nothing behind
    known = run(
        "git", "ls-files", "kiago_ray", "pyproject.toml", "README.md", "LICENSE", cwd=ROOT
    ).splitlines()
    for name in known:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    with tarfile.open(build("sdist", source)) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    wheel = build("wheel", next((tmp_path / "unpacked").iterdir()))
    package = {name for name in known if name.startswith("kiago_ray/")}
    assert {"kiago_ray/py.typed", "kiago_ray/search/presets/default.yaml"} <= package
    assert {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name} == package

    # Empty but for what it needs, which is read from this environment: without the network there is no other.
    run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=tmp_path)
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", "env")
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    needed = {path for path in sys.path if Path(path).name == "site-packages"}
    (site / "needed.pth").write_text("\n".join(needed), encoding="utf-8")
    binaries = tmp_path / "env" / "bin"
    where = "import kiago_ray; print(kiago_ray.__file__)"
    assert str(site) in run(binaries / "python", "-c", where, cwd=tmp_path)
    assert "Propose superconductor compositions" in run(binaries / "kiago", "--help", cwd=tmp_path)
    assert "MgB2" in run(binaries / "kiago", "predict", "MgB2", cwd=tmp_path)


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A pip that reads metadata alone, and a folder with wheels of what is published as source only."""
    place = tmp_path_factory.mktemp("pip")
    run(sys.executable, "-m", "venv", "env", cwd=place)
    python = place / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--upgrade", "pip", cwd=place)
    sources = ("bibtexparser", "pandarallel", "nvidia-ml-py3")
    locked = [f"{name}=={version(pins(DEVELOP)[name])}" for name in sources]
    run(python, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "wheels", *locked, cwd=place)
    return python, place / "wheels"


@pytest.mark.network
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("what", ["ranges", "lock"])
def test_it_resolves(what: str, python: str, pip: tuple[Path, Path], tmp_path: Path) -> None:
    """Ranges with all extras, and the pins of development, each to wheels for that Python."""
    asked = declared(*EXTRAS) if what == "ranges" else [*pins(DEVELOP).values()]
    then = {
        "python_version": python,
        "python_full_version": f"{python}.0",
    }  # pip asks markers of its own Python
    lines = [
        f"{each.name}[{','.join(each.extras)}]{each.specifier}"
        for each in asked
        if not each.marker or each.marker.evaluate(then)
    ]
    (tmp_path / "asked.txt").write_text("\n".join(lines), encoding="utf-8")
    dry = ("install", "--dry-run", "--ignore-installed", "--python-version", python, "--only-binary=:all:")
    where = ("--target", tmp_path / "nowhere", "--find-links", pip[1])
    said = run(pip[0], "-m", "pip", *dry, *where, "-r", tmp_path / "asked.txt", cwd=tmp_path)
    assert re.search(r"^Would install .*\bray-\d", said, re.M)
