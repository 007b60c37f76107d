"""`kiago search`: one search on this machine, into a run directory and a table; its options, and how they are read."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import yaml
from rich.console import Console
from typer import Argument, Option
from typer.core import TyperCommand

from kiago_ray.api import SearchOutcome, judged_formulas, propose
from kiago_ray.chemistry.elements import INDEX, Floats, named_elements
from kiago_ray.chemistry.formula import parse
from kiago_ray.cli import console
from kiago_ray.cli.console import print_json, say
from kiago_ray.data.documents import DoubledKeyError, read_yaml_text
from kiago_ray.errors import InputError
from kiago_ray.models import Models, load_models
from kiago_ray.predictors.base import step_precision
from kiago_ray.progress import SearchView, watching
from kiago_ray.report.reasons import ef_error
from kiago_ray.report.tables import (
    best_table,
    measured_remarks,
    no_gain,
    reasons_table,
    summary_table,
    top_table,
)
from kiago_ray.runs.outcome import write_outcome
from kiago_ray.runs.spec import is_preset_file, read_preset, read_yaml
from kiago_ray.screening.screens import REQUIRED, SCREENS, Summary, load_screen_recall
from kiago_ray.search.sections import ScreensSpec
from kiago_ray.search.spec import PRESETS, SearchSpec, build_spec
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import (
    CANDIDATES,
    RunDirectory,
    SearchResults,
    open_run,
    provenance,
    whole_results,
)
from kiago_ray.storage.table import first_rows

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
    Option(
        help="What alone may come in on a site, such as La:Sr,Ba, or La:Sr,Ba:0.05:0.3 with the least and most atoms "
        "of FORMULA as written; other sites stay."
    ),
]
Range = Annotated[
    str | None, Option("--range", help="Share of a site that foreign elements take, such as 0:0.3.")
]
Substitute = Annotated[str | None, Option(help="Site and its state, such as La:+3; several as Ti:+4,O:-2*1.")]
SubstituteBy = Annotated[int | None, Option(help="State of the substitutes, where it isn't the site's.")]
Change = Annotated[list[str] | None, Option("--set", help="Any other field: alpha=4, start.kind=random.")]


class HelpWithScreens(TyperCommand):
    """A command whose help ends with the screens: what each asks, and what it lets pass."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, then a row for each screen and one for all that the preset default requires."""
        super().format_help(ctx, formatter)
        measured = load_screen_recall()
        asks = {name: screen.description() for name, screen in SCREENS.items()}
        asks[REQUIRED] = f"All that the preset default requires: {', '.join(ScreensSpec().names)}."
        shares, rows = {"known": "recall", "> 30 K": "recall_above_30_k", "swapped": "swaps"}, []
        for name, description in asks.items():
            found = measured["screens"].get(name, {})
            cells = {key: f"{100 * found[of]:.1f}" if of in found else "–" for key, of in shares.items()}
            rows.append({"screen": name, "asks": description, **cells})
        print("Screens (screens.names), and the share of compositions that pass, %")
        Console().print(console.plain_table(rows, names=("screen",), texts=("asks",)))
        print(
            f"Of {measured['superconductors']:,} known superconductors, and of {measured['swaps']:,} of them with one "
            "or two elements swapped at random."
        )


def search(
    formula: Annotated[str | None, Argument(help="Base material, such as LaNiAsO.")] = None,
    preset: Preset = None,
    spec: Annotated[Path | None, Option(help="YAML file with (part of) a specification.")] = None,
    candidates: Annotated[int | None, Option(help="Rows to optimise.")] = None,
    steps: console.Steps = None,
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
    tried: console.Tried = None,
    weights: console.Weights = None,
    device: console.Device = "cpu",
    out: console.Out = None,
    track: Annotated[bool, Option("--track", help="Keep an MLflow record.")] = False,
    tracking_uri: console.TrackingUri = None,
    top: console.Top = 15,
    as_json: console.AsJson = False,
) -> int:
    """Search for compositions with a higher T_c around FORMULA; print the best and write a run directory."""
    dope, span = doped(dope or [], span, formula)
    given: dict[str, Any] = {"base": formula, "candidates": candidates, "steps": steps, "seed": seed}
    given |= {"fixed": fixed, "max_elements": max_elements}
    given |= {"elements.allow": allow, "elements.forbid": forbid}
    given |= {"family.keep": keep, "family.dope": dope, "family.range": span}
    given |= {"substitute": substitute, "substitute_by": substitute_by}
    overrides = overrides_from(given, change or [])
    resolved, name, repeated = specification(spec, preset, overrides, without)
    models = load_models(weights, known=known, tried=tried, phases=phases, device=device)
    models.check(resolved)  # what can't run is refused before anything is written
    tracked = (tracking_uri, weights) if track or tracking_uri is not None else None
    return run(resolved, name, models, out, top, as_json, repeated=repeated, tracked=tracked)


def overrides_from(options: Mapping[str, Any], change: list[str]) -> dict[str, Any]:
    """Dotted overrides of options, by field, None or [] where not given, and of --set. Raises InputError."""
    given = {field: value for field, value in options.items() if value is not None and value != []}
    read = {field: READERS.get(field, lambda value: value)(value) for field, value in given.items()}
    changed = mapping(change, "=", read_yaml_text, "--set", "alpha=4")
    twice = sorted(read.keys() & changed.keys())
    if twice:
        raise InputError(f"--set: {twice[0]} is given by an option of its own too; give it once")
    return read | changed


def specification(
    file: Path | None, preset: str | None, overrides: Mapping[str, Any], without: str | None
) -> tuple[SearchSpec, str, Mapping[str, Any]]:
    """The search that a command asks for, the name of its preset, and the record of the run that `file` is of."""
    values, record = ({}, {}) if file is None else read_search(file)
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


def read_search(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A YAML file's specification, with `preset` where it names one, and the record of the run that it is of: a run's
    spec.yaml counts by its `search` part; any other file has no record ({}). Raises InputError.
    """
    values = read_yaml(path, "specification")
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
    repeated: Mapping[str, Any] | None = None,
    baseline: tuple[Mapping[str, Any], Callable[[], Floats]] | None = None,
    tracked: tuple[str | None, Path | None] | None = None,
) -> int:
    """Run a search that `models` were checked for, or find it done, and show it; return the exit code. repeated:
    the record of the run that is to be repeated. baseline: what proposes formulas instead of the search, which
    judges them: what decides them beside the specification, and a function that gives amounts (n, 118). tracked: the
    MLflow store, None for the default, and the weights' folder, of a search that is to be recorded.
    """
    identity = {"search": spec.model_dump(mode="json"), **models.identity}
    identity |= {} if baseline is None else {"baseline": dict(baseline[0])}
    about = {
        "preset": preset,
        **provenance(),
        "precision": step_precision(spec.precision, torch.device(models.device)),
        "known_source": "" if models.known is None else models.known.source,
    }
    now = {**identity, **about}
    for name in ("weights", "known", "phases", "tried", "precision"):
        if repeated and repeated.get(name) != now.get(name):
            say(f"note: the run that --spec names had other {name}; this one will differ from it")
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    base = spec.base or spec.start.kind  # another search gets another directory
    where = out if out is not None else f"runs/{base}-{preset}-{digest}".replace(" ", "")
    keep_record = None if tracked is None else recorder(where, spec, *tracked)
    directory = open_run(where, identity, about)
    results, remark = whole_results(directory, SearchResults), ""
    if results is not None:
        say(f"{where} already holds this search; shown as it is")
    else:
        console.tell_known(models.known, models.tried)
        console.tell_phases(models.hull)
        if baseline is not None:
            outcome = judged_formulas(baseline[1](), spec, models).outcome(spec)
        else:
            notice, view = "stopping after this step; what is done will be written", SearchView()
            with console.stop_on_signal(notice) as stopper, watching(view):
                outcome = propose(spec=spec, models=models, progress=view, should_stop=stopper)
        remark = where_stopped(outcome)
        results = write_outcome(outcome, directory, cards=models.cards, hull=models.hull, remark=remark)
    rows = first_rows(directory.location / CANDIDATES, top).to_pylist()
    if as_json:
        summary = results.summary.to_dict()
        print_json({"out": where, "stopped": remark or None, "summary": summary, "top": rows})
    else:
        show(rows, results.summary, spec, models, where)
    if keep_record is not None:
        say(keep_record(directory))
    if remark:
        say(f"{remark} What was done is in {where}; the same command starts it again.")
    return 1 if remark else 0


def where_stopped(outcome: SearchOutcome) -> str:
    """How far a search came that was stopped; "" of a whole one."""
    spec, stopped = outcome.spec, outcome.result.stopped_at_step
    if stopped is None:
        return ""
    return (
        f"Stopped at step {stopped} of {sum(spec.steps)} of the rows then running; "
        f"{len(outcome.result.rows):,} of {spec.row_count:,} rows were begun."
    )


def recorder(
    where: str, spec: SearchSpec, uri: str | None, weights: Path | None
) -> Callable[[RunDirectory], str]:
    """A function that records a search in MLflow and says where, in a line. Raises TrackingError, InputError."""
    # A search without a record waits for none of it.
    from kiago_ray.tracking.record import record
    from kiago_ray.tracking.target import tracking_target

    target = tracking_target(Location.of(where), uri, "kiago searches")
    if target is None:
        raise InputError("--track: the output is remote; give --tracking-uri or MLFLOW_TRACKING_URI")
    return lambda directory: record(directory, spec, target, weights=weights).in_words("the same command")


def show(
    rows: Sequence[Mapping[str, Any]], summary: Summary, spec: SearchSpec, models: Models, where: str
) -> None:
    """Tables for a person: the best rows, reasons to believe the first of them or not, and the summary."""
    terminal, title = Console(), f"Proposals from {spec.base or 'a random start'}"
    terminal.print(best_table(rows, tuple(spec.screens.names), title))
    for line in measured_remarks(rows):
        terminal.print(line)
    if rows:
        terminal.print("\nThe best, for (+) and against (−) believing them; report.html says it in full:")
        terminal.print(reasons_table(rows, ef_error(models.cards, spec.ef_predictor)))
    if gains := no_gain(summary.gains, summary.passed):
        terminal.print(f"\n[bold]{gains}[/bold]")
    terminal.print("", summary_table(summary), "", top_table(summary.top), sep="\n")
    terminal.print(
        f"\nEverything is in {where}/ (report.html, top.csv, candidates.parquet, plots).", markup=False
    )


def forbidden(text: str, spec: SearchSpec) -> list[str]:
    """What `spec` forbids and the elements that --without names, such as toxic,rare,Hg. A word leaves the elements of
    a base whose sites are kept, a symbol doesn't. Raises InputError.
    """
    own = frozenset(parse(spec.base)) if spec.family.enabled and spec.base else frozenset[str]()
    try:
        return sorted({*spec.elements.forbid, *named_elements(symbols(text), own)}, key=INDEX.__getitem__)
    except ValueError as error:
        raise InputError(f"--without: {error}") from None


def symbols(text: str) -> list[str]:
    """Such as La,Ni,As,O."""
    return [part.strip() for part in text.split(",") if part.strip()]


def whole_numbers(text: str, option: str, example: str, count: int | None = None) -> list[int]:
    """Such as 0,1,2, `count` of them where that is given. Raises InputError."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or count not in (None, len(found)):
        raise InputError(f"{option}: {text[:80]!r} is not whole numbers such as {example}")
    return found


def doped(texts: list[str], span: str | None, formula: str | None) -> tuple[list[str], str | None]:
    """`--dope` without the amounts of La:Sr,Ba:0.05:0.3, and `--range`, which they are in shares of the site. A site's
    whole is what the formula has of its element and of the dopants. Raises InputError.
    """
    plain, spans = list[str](), set[str]()
    for text in filter(None, ";".join(texts).split(";")):
        site, *rest = (part.strip() for part in text.split(":"))
        plain.append(":".join([site, *rest[:1]]))
        if len(rest) < 2:
            continue
        base = parse(formula) if formula is not None else {}
        whole = (
            sum(base.get(symbol, 0.0) for symbol in {site, *symbols(rest[0])}) if site in base else math.nan
        )
        try:
            low, high = (float(part) / whole for part in rest[1:])
        except ValueError:
            raise InputError(
                f"--dope: {text[:80]!r} can't be read; write such as La:Sr,Ba:0.05:0.3"
            ) from None
        if not 0 <= low <= high <= 1:
            of = f"{formula} has {whole:g}" if site in base else "give FORMULA, which holds it"
            raise InputError(
                f"--dope: {text[:80]!r} isn't from least to most atoms of the site of {site}; {of}"
            )
        spans.add(f"{low:.9g}:{high:.9g}")
    if len(spans) > 1 or (spans and span is not None):
        raise InputError(
            "--dope: a search has one range, the same share of each site; give amounts once, or --range"
        )
    return plain, spans.pop() if spans else span


def two_shares(text: str) -> list[str]:
    """Such as 0:0.3. Raises InputError."""
    shares = text.split(":")
    if len(shares) != 2:
        raise InputError(f"--range: {text[:80]!r} is not two shares of a site such as 0:0.3")
    return shares


def mapping(
    texts: Iterable[str], separator: str, read: Callable[[str], Any], option: str, example: str
) -> dict[str, Any]:
    """Texts of a key and a value, which `read` reads. Raises InputError, also for a key that is given twice."""
    found: dict[str, Any] = {}
    for text in texts:
        try:
            key, value = text.split(separator, 1)
            read_value = read(value)
            if not key.strip():
                raise ValueError("no key")
        except DoubledKeyError as error:
            raise InputError(f"{option}: {text[:80]!r}: {error}") from None
        except (ValueError, RecursionError, yaml.YAMLError):
            raise InputError(f"{option}: {text[:80]!r} can't be read; write such as {example}") from None
        if key.strip() in found:
            raise InputError(f"{option}: {key.strip()} is given twice; give it once")
        found[key.strip()] = read_value
    return found


def sites(text: str) -> dict[str, Any]:
    """Such as La:+3, or Ti:+4,O:-2*1 with the number of atoms. Raises InputError."""

    def site(text: str) -> Any:
        state, star, atoms = text.partition("*")
        return {"state": int(state), "atoms": float(atoms)} if star else int(state)

    example = "La:+3, or O:-2*1 for one of its atoms"
    return mapping(text.split(","), ":", site, "--substitute", example)


# Fields whose options are texts that a specification doesn't take as they are.
READERS: Mapping[str, Callable[[Any], Any]] = {
    "steps": lambda text: whole_numbers(text, "--steps", "200,200", 2),
    "fixed": lambda texts: mapping(texts, "=", read_yaml_text, "--fixed", "O=0.25"),
    "elements.allow": symbols,
    "elements.forbid": symbols,
    "substitute": sites,
    "family.keep": symbols,
    "family.dope": lambda texts: mapping(";".join(texts).split(";"), ":", symbols, "--dope", "La:Sr,Ba"),
    "family.range": two_shares,
}
