"""The options of commands, those of a search above all, and what a search's options say as overrides of a preset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from kiago_ray.chemistry.elements import INDEX, named_elements
from kiago_ray.chemistry.formula import parse
from kiago_ray.errors import InputError
from kiago_ray.search.spec import PRESETS, SearchSpec

MAX_SPEC_BYTES = 100_000
Argument, Option = typer.Argument, typer.Option

# Shared.
Known = Annotated[
    str | None,
    Option(
        help="Compositions to hold the rows against: a CSV file with formula and tc_k, SuperCon's primary.tsv, "
        "landmarks or none. By default supercon: the shipped ones."
    ),
]
Weights = Annotated[Path | None, Option(help="Folder that `kiago train` wrote.")]
Device = Annotated[str, Option(help="cpu, cuda, cuda:1, …")]
Out = Annotated[str | None, Option(help="Directory or URI; by default below runs/.")]
Top = Annotated[int, Option(min=0, max=1000, help="Rows to print.")]
AsJson = Annotated[bool, Option("--json", help="One JSON object on stdout.")]
Output = Annotated[Path | None, Option(help="File to write: .csv or .parquet.")]

# Of what runs on Ray.
NamedOut = Annotated[str | None, Option(help="Directory or URI; by default runs/NAME.")]
Address = Annotated[
    str | None, Option(help="Ray cluster, such as auto; by default RAY_ADDRESS, else this machine.")
]
KnownInstead = Annotated[
    str | None,
    Option(help="Instead of the file's known: primary.tsv, supercon (as shipped), landmarks or none."),
]
TrackingUri = Annotated[
    str | None,
    Option(help="MLflow store or server; by default MLFLOW_TRACKING_URI, else beside the output."),
]
NoTracking = Annotated[bool, Option("--no-tracking", help="Keep no MLflow record.")]

# Of a search.
Base = Annotated[str | None, Argument(help="Base material, such as LaNiAsO.")]
Preset = Annotated[
    str | None,
    Option(help="default, open, paper, reference, hydride, substitution, or a file such as best.yaml."),
]
Spec = Annotated[Path | None, Option(help="YAML file with (part of) a specification.")]
Candidates = Annotated[int | None, Option(help="Rows to optimise.")]
Steps = Annotated[str | None, Option(help="Steps of stage 1 and 2, such as 200,200.")]
Seed = Annotated[int | None, Option(help="Seed of the starts.")]
Fixed = Annotated[list[str] | None, Option(help="Fixed fraction of all atoms, such as O=0.25.")]
Allow = Annotated[str | None, Option(help="Only these elements, such as La,Ni,As,O.")]
Forbid = Annotated[str | None, Option(help="None of these elements, such as Hg,Tl,Pb.")]
Without = Annotated[
    str | None,
    Option(
        help="None of these: toxic, radioactive, noble-gas, rare, arsenic, or symbols. A word lets the base's own "
        "elements stay, a symbol doesn't."
    ),
]
Keep = Annotated[str | None, Option(help="Elements of the base whose sites stay as they are, such as Fe,As.")]
Dope = Annotated[
    list[str] | None,
    Option(help="What alone may come in on a site, such as La:Sr,Ba; other sites stay."),
]
Range = Annotated[
    str | None, Option("--range", help="Share of a site that foreign elements take, such as 0:0.3.")
]
MaxElements = Annotated[int | None, Option(help="Most elements of a candidate.")]
Substitute = Annotated[str | None, Option(help="Site and its state, such as La:+3; several as Ti:+4,O:-2*1.")]
SubstituteBy = Annotated[int | None, Option(help="State of the substitutes, where it isn't the site's.")]
Change = Annotated[list[str] | None, Option("--set", help="Any other field: alpha=4, start.kind=random.")]
Phases = Annotated[
    str | None,
    Option(
        help="Competing phases, by which the best rows get their energy above the hull: a CSV or TSV file, or "
        "none. By default the shipped ones, of the Materials Project."
    ),
]
Tried = Annotated[
    str | None,
    Option(
        help="What was made and measured, which isn't proposed again and re-weighs what is near: a CSV file with "
        "formula, tc_k (0: none found) and maybe down_to_k, or shipped, a survey of 2009. By default none."
    ),
]


def read_spec(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A YAML file's specification, with `preset` where it names one, and the record of the run that it is of.

    A run's spec.yaml counts by its `search` part; any other file has no record ({}). Raises InputError.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SPEC_BYTES + 1)
    except OSError as error:
        raise InputError(f"--spec: can't read {path} ({error.strerror}); check the path") from None
    if len(content) > MAX_SPEC_BYTES:
        raise InputError(f"--spec: {path} is larger than {MAX_SPEC_BYTES:,} bytes; that is no specification")
    try:
        values = yaml.safe_load(content.decode("utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"--spec: {path} is not YAML ({str(error)[:200]}); correct it") from None
    if isinstance(values, dict) and isinstance(values.get("search"), dict) and "identity" in values:
        named = values.get("preset")  # a file's name, which says nothing here, where every field is given
        return {**values["search"], "preset": named if named in PRESETS else "default"}, values
    if not isinstance(values, dict):
        raise InputError(f"--spec: {path} holds no keys and values; write such as 'alpha: 4'")
    return values, {}


def overrides_from(given: Mapping[str, Any], change: list[str]) -> dict[str, Any]:
    """Dotted overrides. given: what the options say, by field; None or [] for those that weren't given. change: what
    --set says. Raises InputError.
    """
    read = {
        field: READERS[field](value) if field in READERS else value
        for field, value in given.items()
        if value is not None and value != []
    }
    changed = once(change, "--set", "alpha=4")
    twice = sorted(read.keys() & changed.keys())
    if twice:
        raise InputError(f"--set: {twice[0]} is given by an option of its own too; give it once")
    return read | changed


def without(text: str, spec: SearchSpec) -> list[str]:
    """What `spec` forbids and the elements that --without names, such as toxic,rare,Hg.

    A word leaves the elements of a base whose sites are kept, a symbol doesn't. Raises InputError.
    """
    own = frozenset(parse(spec.base)) if spec.family.enabled and spec.base else frozenset[str]()
    try:
        return sorted({*spec.elements.forbid, *named_elements(symbols(text), own)}, key=INDEX.__getitem__)
    except ValueError as error:
        raise InputError(f"--without: {error}") from None


def once(texts: list[str], option: str, example: str) -> dict[str, Any]:
    """KEY=VALUE texts as a mapping; a key given twice is refused."""
    pairs = [pair(text, option, example) for text in texts]
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"{option}: {key} is given twice; give it once")
    return dict(pairs)


def two_numbers(text: str) -> list[int]:
    """Such as 200,200."""
    try:
        first, second = (int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--steps: {text!r} is not two whole numbers such as 200,200") from None
    return [first, second]


def pair(text: str, option: str, example: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as YAML reads it."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"{option}: {text!r} is not KEY=VALUE such as {example}")
    try:
        return key.strip(), yaml.safe_load(value)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InputError(
            f"{option}: the value of {text[:80]!r} can't be read; write such as {example}"
        ) from None


def symbols(text: str) -> list[str]:
    """Such as La,Ni,As,O."""
    return [part.strip() for part in text.split(",") if part.strip()]


def dopants(texts: list[str]) -> dict[str, list[str]]:
    """Such as La:Sr,Ba and O:F, each in a text of its own or several in one with semicolons."""
    found: dict[str, list[str]] = {}
    for part in (part for text in texts for part in text.split(";")):
        site, colon, others = part.partition(":")
        if not colon or not site.strip() or not symbols(others):
            raise InputError(
                f"--dope: {part[:80]!r} is not a site and what may come in on it, such as La:Sr,Ba"
            )
        if site.strip() in found:
            raise InputError(f"--dope: {site.strip()} is given twice; give it once")
        found[site.strip()] = symbols(others)
    return found


def two_shares(text: str) -> list[float]:
    """Such as 0:0.3."""
    try:
        first, second = (float(part) for part in text.split(":"))
    except ValueError:
        raise InputError(f"--range: {text[:80]!r} is not two shares of a site such as 0:0.3") from None
    return [first, second]


def sites(text: str) -> dict[str, Any]:
    """Such as La:+3, or Ti:+4,O:-2*1 with the number of atoms."""
    found: dict[str, Any] = {}
    for part in text.split(","):
        symbol, _, rest = part.partition(":")
        state, star, atoms = rest.partition("*")
        if symbol.strip() in found:
            raise InputError(f"--substitute: {symbol.strip()} is given twice; give it once")
        try:
            found[symbol.strip()] = {"state": int(state), "atoms": float(atoms)} if star else int(state)
        except ValueError:
            raise InputError(
                f"--substitute: {part!r} is not a site and its state such as La:+3, or O:-2*1 for one of its atoms"
            ) from None
    return found


READERS: Mapping[str, Callable[[Any], Any]] = {
    "steps": two_numbers,
    "fixed": lambda texts: once(texts, "--fixed", "O=0.25"),
    "elements.allow": symbols,
    "elements.forbid": symbols,
    "substitute": sites,
    "family.keep": symbols,
    "family.dope": dopants,
    "family.range": two_shares,
}
