"""`kiago search`: one search on this machine, into a run directory and a table; its options, and how they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
import typer
import yaml
from numpy.typing import NDArray
from rich.console import Console
from typer import Argument, Option
from typer.core import TyperCommand

from kiago_ray.api import SearchOutcome, judged_formulas, propose
from kiago_ray.chemistry.elements import INDEX, named_elements
from kiago_ray.chemistry.formula import parse
from kiago_ray.cli import console
from kiago_ray.cli.console import View, print_json, say, symbols
from kiago_ray.errors import InputError
from kiago_ray.machine import provenance
from kiago_ray.models import Models, load_models
from kiago_ray.predictors.base import step_precision
from kiago_ray.report.reasons import Background, row_background
from kiago_ray.report.tables import best_table, no_gain, reasons_table, summary_table, top_table
from kiago_ray.runs.outcome import SearchResults, whole_results
from kiago_ray.runs.results import write_outcome
from kiago_ray.runs.spec import is_preset_file, read_preset, read_yaml
from kiago_ray.screening.screens import REQUIRED, SCREENS, load_screen_recall
from kiago_ray.screening.summary import Summary
from kiago_ray.search.sections import ScreensSpec
from kiago_ray.search.spec import PRESETS, SearchSpec, build_spec
from kiago_ray.search.stages import Progress
from kiago_ray.storage.run_directory import CANDIDATES, open_run
from kiago_ray.storage.table import first_rows

Amounts = NDArray[np.float64]
Value = TypeVar("Value")

Preset = Annotated[
    str | None,
    Option(help="default, open, paper, reference, hydride, substitution, or a file such as best.yaml."),
]
Fixed = Annotated[list[str] | None, Option(help="Fixed fraction of all atoms, such as O=0.25.")]
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
Substitute = Annotated[str | None, Option(help="Site and its state, such as La:+3; several as Ti:+4,O:-2*1.")]
SubstituteBy = Annotated[int | None, Option(help="State of the substitutes, where it isn't the site's.")]
Change = Annotated[list[str] | None, Option("--set", help="Any other field: alpha=4, start.kind=random.")]
Tried = Annotated[
    str | None,
    Option(
        help="What was made and measured, which isn't proposed again and re-weighs what is near: a CSV file with "
        "formula, tc_k (0: none found) and maybe down_to_k, or shipped, a survey of 2009. By default none."
    ),
]

app = typer.Typer(add_completion=False)


class ScreensCommand(TyperCommand):
    """A command whose help ends with the screens: what each asks, and what it lets pass."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, then a row for each screen and one for all that the preset default requires."""
        super().format_help(ctx, formatter)
        measured = load_screen_recall()
        asks = {name: screen.description() for name, screen in SCREENS.items()}
        asks[REQUIRED] = f"All that the preset default requires: {', '.join(ScreensSpec().names)}."
        rows = []
        for name, description in asks.items():
            found = measured["screens"].get(name, {})
            shares = {"known": "recall", "> 30 K": "recall_above_30_k", "swapped": "swaps"}
            cells = {
                key: f"{100 * found[each]:.1f}" if each in found else "–" for key, each in shares.items()
            }
            rows.append({"screen": name, "asks": description, **cells})
        table = console.plain_table(
            rows,
            names=("screen",),
            texts=("asks",),
            title="Screens (screens.names), and the share of compositions that pass, %",
            caption=f"Of {measured['superconductors']:,} known superconductors, and of {measured['swaps']:,} of them "
            "with one or two elements swapped at random.",
        )
        Console().print(table)


@app.command(cls=ScreensCommand)
def search(
    formula: Annotated[str | None, Argument(help="Base material, such as LaNiAsO.")] = None,
    preset: Preset = None,
    spec: Annotated[Path | None, Option(help="YAML file with (part of) a specification.")] = None,
    candidates: Annotated[int | None, Option(help="Rows to optimise.")] = None,
    steps: Annotated[str | None, Option(help="Steps of stage 1 and 2, such as 200,200.")] = None,
    seed: Annotated[int | None, Option(help="Seed of the starts.")] = None,
    fixed: Fixed = None,
    allow: Annotated[str | None, Option(help="Only these elements, such as La,Ni,As,O.")] = None,
    forbid: Annotated[str | None, Option(help="None of these elements, such as Hg,Tl,Pb.")] = None,
    without: Without = None,
    keep: Keep = None,
    dope: Dope = None,
    span: Range = None,
    max_elements: Annotated[int | None, Option(help="Most elements of a candidate.")] = None,
    substitute: Substitute = None,
    substitute_by: SubstituteBy = None,
    change: Change = None,
    known: console.Known = None,
    phases: console.Phases = None,
    tried: Tried = None,
    weights: console.Weights = None,
    device: console.Device = "cpu",
    out: console.Out = None,
    top: console.Top = 15,
    as_json: console.AsJson = False,
) -> None:
    """Search for compositions with a higher T_c around FORMULA; print the best and write a run directory."""
    overrides = overrides_from(
        {
            "base": formula,
            "candidates": candidates,
            "steps": steps,
            "seed": seed,
            "fixed": fixed,
            "max_elements": max_elements,
            "elements.allow": allow,
            "elements.forbid": forbid,
            "substitute": substitute,
            "substitute_by": substitute_by,
            "family.keep": keep,
            "family.dope": dope,
            "family.range": span,
        },
        change or [],
    )
    resolved, name, repeated = specification(spec, preset, overrides, without)
    console.check_device(device)
    models = load_models(weights, known=known, tried=tried, phases=phases, device=device)
    models.check(resolved)  # what can't run is refused before anything is written
    raise typer.Exit(run(resolved, name, models, out, top, as_json, phases=phases, repeated=repeated))


def overrides_from(options: Mapping[str, Any], change: list[str]) -> dict[str, Any]:
    """Dotted overrides. options: what the options say, by field; None or [] for those that weren't given. change: what
    --set says. Raises InputError.
    """
    read = {
        field: READERS[field](value) if field in READERS else value
        for field, value in options.items()
        if value is not None and value != []
    }
    changed = assignments(change, "--set", "alpha=4")
    twice = sorted(read.keys() & changed.keys())
    if twice:
        raise InputError(f"--set: {twice[0]} is given by an option of its own too; give it once")
    return read | changed


def specification(
    file: Path | None, preset: str | None, overrides: Mapping[str, Any], without: str | None
) -> tuple[SearchSpec, str, Mapping[str, Any]]:
    """The search that a command asks for, the name of its preset, and the record of the run that `file` is of."""
    values, record = read_spec(file) if file is not None else ({}, {})
    named = values.pop("preset", None)
    if preset is not None and named is not None and named != preset:
        raise InputError(f"--preset: {preset}, but {file} names {named}; give one of them")
    chosen: Any = preset or named or "default"
    name = str(chosen)
    if is_preset_file(chosen):
        chosen, name = read_preset(Path(chosen)), Path(chosen).stem
    elif file is not None and isinstance(chosen, Mapping):  # of a preset's file that the specification names
        name = file.stem
    layers = [{"preset": chosen}, {**values, **overrides}]
    spec = build_spec(*layers)
    if without is not None:
        spec = build_spec(*layers, {"elements.forbid": forbidden(without, spec)})
    if name == "substitution" and spec.substitute is None:
        raise InputError(
            "--preset: substitution needs a site and its oxidation state, such as --substitute La:+3"
        )
    return spec, name, record


def read_spec(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A YAML file's specification, with `preset` where it names one, and the record of the run that it is of.

    A run's spec.yaml counts by its `search` part; any other file has no record ({}). Raises InputError.
    """
    values = read_yaml(path, "specification")
    if not isinstance(values, dict):
        raise InputError(f"--spec: {path} holds no keys and values; write such as 'alpha: 4'")
    if not isinstance(values.get("search"), dict) or "identity" not in values:
        return values, {}
    named = values.get("preset")  # a file's name, which says nothing here, where every field is given
    return {**values["search"], "preset": named if named in PRESETS else "default"}, values


def run(
    spec: SearchSpec,
    preset: str,
    models: Models,
    out: str | None,
    top: int,
    as_json: bool,
    *,
    phases: str | None = None,
    repeated: Mapping[str, Any] = MappingProxyType({}),
    baseline: Mapping[str, Any] | None = None,
    formulas: Callable[[], Amounts] | None = None,
) -> int:
    """Run a search that `models` were checked for, or find it done, and show it; return the exit code.

    phases: as the option names them. repeated: the record of the run that is to be repeated. formulas: gives what
    something else than the search proposes, amounts (n, 118), to be judged by it; baseline: what decides them beside
    the specification.
    """
    identity = {"search": spec.model_dump(mode="json"), **models.identity}
    if baseline is not None:
        identity["baseline"] = dict(baseline)
    about = {
        "preset": preset,
        **provenance(),
        "precision": step_precision(spec.precision, torch.device(models.device)),
        "known_source": models.known.source if models.known is not None else "",
    }
    now = {**identity, **about}
    for name in ("weights", "known", "phases", "tried", "precision"):
        if repeated and repeated.get(name) != now.get(name):
            say(f"note: the run that --spec names had other {name}; this one will differ from it")
    background = row_background(models.cards)
    where = out if out is not None else default_directory(spec, preset, identity)
    directory = open_run(where, identity, about)
    if (results := whole_results(directory, SearchResults)) is not None:
        say(f"{where} already holds this search; shown as it is")
        rows = first_rows(directory.file(CANDIDATES), top).to_pylist()
        show(rows, results.summary, spec, where, background, as_json)
        return 0
    console.tell_known(models.known)
    console.tell_tried(models.tried)
    console.tell_phases(models.hull, phases)
    outcome = proposed(spec, models, formulas)
    remark = ""
    if (stopped := outcome.result.stopped_at_step) is not None:
        remark = (
            f"Stopped at step {stopped} of {sum(spec.steps)} of the rows then running; "
            f"{len(outcome.result.rows):,} of {spec.row_count:,} rows were begun."
        )
    write_outcome(outcome, directory, cards=models.cards, remark=remark)
    rows = outcome.table.slice(0, top).to_pylist()
    show(rows, outcome.summary, spec, where, background, as_json, remark)
    if remark:
        say(f"{remark} What was done is in {where}; the same command starts it again.")
        return 1
    return 0


class SearchView(View):
    """A search's steps and its best T_c; to be called with each step."""

    at: Progress | None = None

    def __call__(self, at: Progress) -> None:
        self.at, self.done, self.total = at, at.step, at.total
        if at.step % max(1, at.total // 10) == 0:
            self.moved()

    def progress(self) -> str:
        """Such as step 20/200 of stage 1: T_c best 31.4 K, mean 12.0 K, 25 s left."""
        if self.at is None:
            return "starting"
        return (
            f"step {self.done}/{self.total}, stage {self.at.stage}: T_c best {self.at.best_tc_k:.1f} K, mean "
            f"{self.at.mean_tc_k:.1f} K, {self.left()}"
        )


def proposed(
    spec: SearchSpec, models: Models, formulas: Callable[[], Amounts] | None = None
) -> SearchOutcome:
    """What a search proposes under a live view, until it is done or a signal stops it; or what comes of `formulas`."""
    if formulas is not None:
        return judged_formulas(formulas(), spec, models).outcome(spec)
    notice = "stopping after this step; what is done will be written"
    with console.stop_on_signal(notice) as stopper, console.watching(SearchView()) as view:
        return propose(spec=spec, models=models, progress=view, should_stop=stopper)


def default_directory(spec: SearchSpec, preset: str, identity: dict[str, Any]) -> str:
    """runs/BASE-PRESET-xxxxxxxx: another search gets another directory."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return f"runs/{spec.base or spec.start.kind}-{preset}-{digest}".replace(" ", "")


def show(
    rows: Sequence[dict[str, Any]],
    summary: Summary,
    spec: SearchSpec,
    where: str,
    background: Background,
    as_json: bool,
    remark: str = "",
) -> None:
    """The best rows, reasons to believe the first of them or not, and the summary: tables for a person, or one JSON
    object.
    """
    if as_json:
        print_json({"out": where, "stopped": remark or None, "summary": summary.to_dict(), "top": rows})
        return
    terminal = Console()
    title = f"Proposals from {spec.base or 'a random start'}"
    terminal.print(best_table(rows, tuple(spec.screens.names), title, width=terminal.width))
    if rows:
        terminal.print("\nThe best, for (+) and against (−) believing them; report.html says it in full:")
        terminal.print(reasons_table(rows, background))
    if gains := no_gain(summary.gains, summary.passed):
        terminal.print(f"\n[bold]{gains}[/bold]")
    terminal.print("", summary_table(summary), "", top_table(summary.top), sep="\n")
    terminal.print(
        f"\nEverything is in {where}/ (report.html, top.csv, candidates.parquet, plots).", markup=False
    )


def forbidden(text: str, spec: SearchSpec) -> list[str]:
    """What `spec` forbids and the elements that --without names, such as toxic,rare,Hg.

    A word leaves the elements of a base whose sites are kept, a symbol doesn't. Raises InputError.
    """
    own = frozenset(parse(spec.base)) if spec.family.enabled and spec.base else frozenset[str]()
    try:
        return sorted({*spec.elements.forbid, *named_elements(symbols(text), own)}, key=INDEX.__getitem__)
    except ValueError as error:
        raise InputError(f"--without: {error}") from None


def once(pairs: Iterable[tuple[str, Value]], option: str) -> dict[str, Value]:
    """The pairs as a mapping. Raises InputError where a key is given twice."""
    found: dict[str, Value] = {}
    for key, value in pairs:
        if key in found:
            raise InputError(f"{option}: {key} is given twice; give it once")
        found[key] = value
    return found


def assignments(texts: list[str], option: str, example: str) -> dict[str, Any]:
    """KEY=VALUE texts as a mapping, the values as YAML reads them. Raises InputError."""

    def pair(text: str) -> tuple[str, Any]:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{option}: {text!r} is not KEY=VALUE such as {example}")
        try:
            return key.strip(), yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise InputError(
                f"{option}: the value of {text[:80]!r} can't be read; write such as {example}"
            ) from None

    return once(map(pair, texts), option)


def dopants(texts: list[str]) -> dict[str, list[str]]:
    """Such as La:Sr,Ba and O:F, each in a text of its own or several in one with semicolons."""

    def pair(part: str) -> tuple[str, list[str]]:
        site, _, others = part.partition(":")
        if not site.strip() or not symbols(others):
            raise InputError(
                f"--dope: {part[:80]!r} is not a site and what may come in on it, such as La:Sr,Ba"
            )
        return site.strip(), symbols(others)

    return once((pair(part) for text in texts for part in text.split(";")), "--dope")


def two_shares(text: str) -> list[float]:
    """Such as 0:0.3."""
    try:
        first, second = (float(part) for part in text.split(":"))
    except ValueError:
        raise InputError(f"--range: {text[:80]!r} is not two shares of a site such as 0:0.3") from None
    return [first, second]


def sites(text: str) -> dict[str, Any]:
    """Such as La:+3, or Ti:+4,O:-2*1 with the number of atoms."""

    def pair(part: str) -> tuple[str, Any]:
        symbol, _, rest = part.partition(":")
        state, star, atoms = rest.partition("*")
        try:
            return symbol.strip(), {"state": int(state), "atoms": float(atoms)} if star else int(state)
        except ValueError:
            raise InputError(
                f"--substitute: {part!r} is not a site and its state such as La:+3, or O:-2*1 for one of its atoms"
            ) from None

    return once(map(pair, text.split(",")), "--substitute")


READERS: Mapping[str, Callable[[Any], Any]] = {
    "steps": console.two_steps,
    "fixed": lambda texts: assignments(texts, "--fixed", "O=0.25"),
    "elements.allow": symbols,
    "elements.forbid": symbols,
    "substitute": sites,
    "family.keep": symbols,
    "family.dope": dopants,
    "family.range": two_shares,
}
