"""`kiago paper` and `kiago baseline`: the paper's tables and figures run on this machine beside what is printed, and
what the paper compares with, judged as a search's rows are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.text import Text
from typer import Argument, Option

from kiago_ray import __version__
from kiago_ray.baselines.substitution import exchange
from kiago_ray.baselines.superdiff import Guidance, check_factor, load_superdiff, noise_scheduler, sample
from kiago_ray.chemistry.formula import parse_amounts
from kiago_ray.cli import console
from kiago_ray.cli.console import plain_table, plural, print_json, say
from kiago_ray.cli.search import run, sites, symbols, whole_numbers
from kiago_ray.data import NONE
from kiago_ray.errors import InputError, first_of
from kiago_ray.models import load_models
from kiago_ray.paper.experiments import Lab, open_cells
from kiago_ray.paper.run import PAGE, measure, write_report, write_table
from kiago_ray.paper.tables import PaperTable, comparison
from kiago_ray.progress import Counted
from kiago_ray.search.spec import load_preset
from kiago_ray.storage.run_directory import versions

ALL = "all"

baseline = typer.Typer(
    help="Elemental substitution and SuperDiff, into the same table and run directory as a search.",
    no_args_is_help=True,
)

Base = Annotated[str, Argument(help="Base material, such as LaNiAsO.")]
Candidates = Annotated[int, Option(help="Formulas to propose.")]
Seed = Annotated[int, Option(help="Seed of the draws.")]
Preset = Annotated[str, Option(help="Whose T_c predictor, screens and order judge the formulas.")]
SuperDiffWeights = Annotated[Path | None, Option(help="Folder that `kiago train superdiff` wrote.")]
GuidanceWeight = Annotated[
    float,
    Option(
        min=0, max=1000, help="Weight of the predictors' guidance, 0 for none; 4e-6 acts as the paper's 1e-3."
    ),
]
Alpha = Annotated[float, Option(min=0, max=1000, help="Weight of E_f in the guidance, K per eV/atom.")]
Factors = Annotated[str, Option(help="ILVR's, an equal share of the rows each.")]
Quick = Annotated[
    bool, Option("--quick", help="Sizes for two cores and minutes, instead of the paper's 4,096 × 1,000.")
]
Phases = Annotated[
    Path | None, Option(help="File of competing phases: ΔE_hull in tables 3 and 8 (see kiago hull).")
]


def paper(
    table: Annotated[
        str, Argument(help="table1 to table11, fig2, fig3, seeds (S.4), screens (S.6), or all.")
    ],
    quick: Quick = False,
    candidates: Annotated[int | None, Option(help="Formulas of each method from each base.")] = None,
    steps: console.Steps = None,
    seeds: Annotated[str | None, Option(help="Seeds, such as 0,1,2; figures are means over them.")] = None,
    out: Annotated[
        str | None, Option(help="Directory or URI; by default runs/paper, with --quick runs/paper-quick.")
    ] = None,
    known: console.Known = None,
    phases: Phases = None,
    weights: console.Weights = None,
    superdiff_weights: SuperDiffWeights = None,
    device: console.Device = "cpu",
    as_json: console.AsJson = False,
) -> int:
    """Run what TABLE needs and print ours beside the paper's; write CSV, Markdown and plots, and for `all` one page.

    What is done is kept in the directory: the same command again, or another table, computes only what is missing.
    Tables 8 and 11 hold proposals against the known compounds.
    """
    names = [*comparison().tables]
    if table not in (*names, ALL):
        raise InputError(f"{table!r} is no table; choose one of {', '.join(names)}, {ALL}")
    size = comparison().sizes["quick" if quick else "full"]
    size = size.changed(
        candidates=candidates,
        steps=None if steps is None else whole_numbers(steps, "--steps", "200,200"),
        seeds=None if seeds is None else whole_numbers(seeds, "--seeds", "0,1,2"),
    )
    where = out if out is not None else f"runs/paper{'-quick' if quick else ''}"
    asked = names if table == ALL else [table]
    diffused = superdiff_weights is not None or any(comparison().tables[name].diffused for name in asked)
    diffusion = load_superdiff(superdiff_weights) if diffused else None
    models = load_models(weights, known=known, phases=NONE if phases is None else phases, device=device)
    console.tell_phases(models.hull)
    identity = {"kiago_ray": __version__, "weights": models.hashes, "known": models.identity["known"]}
    identity["device"] = torch.device(device).type
    lab = Lab(models, diffusion, open_cells(where, identity), size, say)
    done, view = [], Counted("tables", len(asked))
    try:
        for name in asked:
            began = time.perf_counter()
            found = measure(name, lab)
            write_table(found, lab.location)
            done.append((found, time.perf_counter() - began))  # seconds beyond what earlier ones left
            view.done = len(done)
            say(f"{found.heading}: {done[-1][1]:.0f} s; {view.progress()}")
    except KeyboardInterrupt:
        say(f"stopped; what was done is in {where}, and the same command goes on")
        return 1
    return finish(lab, done, where, table == ALL, as_json)


def finish(
    lab: Lab, done: Sequence[tuple[PaperTable, float]], where: str, everything: bool, as_json: bool
) -> int:
    """Write the page, show the tables, return the exit code."""
    failures = by_cause(lab.failures)
    if everything:
        spent = ("wall clock of this run", f"{sum(spent for _, spent in done) / 60:.1f} min")
        write_report([table for table, _ in done], lab.location, [*facts(lab), spent], failures)
    if as_json:
        tables = {table.name: {**table.as_plain(), "seconds": round(spent, 1)} for table, spent in done}
        print_json({"out": where, "tables": tables, "failures": failures})
    else:
        for table, _ in done:
            show(table)
        page = f" ({PAGE} has all of them)" if everything else ""
        say(f"CSV, Markdown and plots are in {where}/{page}")
    for line in failures:
        say(f"failed: {line}")
    if failures:
        say(f"{len(lab.failures)} experiments failed; the same command tries them again")
    return 3 if failures else 0


def show(table: PaperTable) -> None:
    """A table for a person: size, what came of it, the panels, the notes."""
    terminal = Console()
    terminal.print(Text("\n".join(["", table.heading, table.size, *table.verdicts])))
    for panel in table.panels:
        rows = [
            {panel.head: label} | {each.label: each.text(values[each.name]) for each in panel.columns}
            for label, values in panel.lines.items()
        ]
        terminal.print(Text(f"\n{panel.title}"), plain_table(rows, names=(panel.head,)), sep="\n")
    terminal.print(Text("\n".join(["", *table.notes])))


def facts(lab: Lab) -> list[tuple[str, str]]:
    """In words, what the results rest on."""
    made, models, device = versions(), lab.models, torch.device(lab.models.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else made["cpu"]
    phases = None if models.hull is None else models.hull.phases.report
    return [
        ("size", lab.size.name),
        ("kiago-ray", f"{__version__} ({made['git'] or 'no commit known'})"),
        ("PyTorch", f"{torch.__version__} on {name}, {plural(torch.get_num_threads(), 'thread')}"),
        ("known compounds", "none" if models.known is None else models.known.source),
        ("competing phases", "none" if phases is None else f"{phases.rows_kept:,} of {phases.file}"),
        ("weights", ", ".join(f"{key} {value[:12]}" for key, value in models.hashes.items())),
    ]


def by_cause(failures: Mapping[str, str]) -> list[str]:
    """A line for each cause, with the experiments that it stopped."""
    named: dict[str, list[str]] = {}
    for name, cause in failures.items():
        named.setdefault(cause, []).append(name)
    return [f"{first_of(names, 1, ' ')}: {cause}" for cause, names in named.items()]


@baseline.command()
def substitution(
    formula: Base,
    candidates: Candidates = 512,
    seed: Seed = 0,
    substitute: Annotated[
        str | None, Option(help="Exchange these elements alone, with their states, such as La:+3.")
    ] = None,
    keep: Annotated[str | None, Option(help="Leave these elements alone, such as H.")] = None,
    preset: Preset = "paper",
    known: console.Known = None,
    phases: console.Phases = None,
    weights: console.Weights = None,
    out: console.Out = None,
    top: console.Top = 15,
    as_json: console.AsJson = False,
) -> int:
    """Elements of FORMULA exchanged, whole, for others of the same oxidation state (the paper's C-ES)."""
    states = {} if substitute is None else sites(substitute)
    if not all(isinstance(state, int) for state in states.values()):
        raise InputError("--substitute: elements are exchanged whole; leave the number of atoms out")
    kept = [] if keep is None else symbols(keep)
    spec = load_preset(preset, {"base": formula, "candidates": candidates, "seed": seed})
    models = load_models(weights, known=known, phases=phases)
    models.check(spec)
    supported = models.predictors.supported.cpu().numpy()
    found = exchange(formula, supported, spec.oxidation_set, sites=states or None, keep=kept)
    about = {"kind": "substitution", "sites": states, "keep": kept}
    baseline = about, lambda: found.rows(candidates, seed)
    return run(spec, "substitution", models, out, top, as_json, baseline=baseline)


@baseline.command()
def superdiff(
    formula: Base,
    candidates: Candidates = 512,
    seed: Seed = 0,
    guidance: GuidanceWeight = 0.0,
    alpha: Alpha = 4.0,
    scale_factors: Factors = "1,2,4,6",
    preset: Preset = "paper",
    known: console.Known = None,
    phases: console.Phases = None,
    weights: console.Weights = None,
    superdiff_weights: SuperDiffWeights = None,
    device: console.Device = "cpu",
    out: console.Out = None,
    top: console.Top = 15,
    as_json: console.AsJson = False,
) -> int:
    """Samples of SuperDiff conditioned on FORMULA, with or without guidance by the predictors."""
    factors = whole_numbers(scale_factors, "--scale-factors", "1,2,4,6")
    for factor in factors:
        check_factor(factor)
    spec = load_preset(preset, {"base": formula, "candidates": candidates, "seed": seed})
    model = load_superdiff(superdiff_weights)
    models = load_models(weights, known=known, phases=phases, device=device)
    models.check(spec)
    noise_scheduler()  # whether the extra is there
    follow = models.predictors.following(spec.tc_predictor, spec.ef_predictor)
    about = {"kind": "superdiff", "sha256": model.card["sha256"], "guidance": guidance, "alpha": alpha}
    drawn = partial(
        sample,
        model,
        candidates,
        base=parse_amounts(formula),
        scale_factors=factors,
        guidance=Guidance(follow.tc, follow.ef, alpha=alpha, weight=guidance) if guidance else None,
        seed=seed,
        device=device,
        progress=Counted("steps", 0),
    )
    baseline = {**about, "scale_factors": factors}, lambda: drawn().amounts
    return run(spec, "superdiff", models, out, top, as_json, baseline=baseline)
