"""`kiago paper` and `kiago baseline`: the paper's tables and figures run on this machine beside what is printed, and
what the paper compares with, judged as a search's rows are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.markdown import Markdown

from kiago_ray import __version__
from kiago_ray.baselines.substitution import exchange
from kiago_ray.baselines.superdiff import Guidance, check_factor, load_superdiff, noise_scheduler, sample
from kiago_ray.chemistry.formula import parse_amounts
from kiago_ray.cli import console
from kiago_ray.cli.console import plural, print_json, say
from kiago_ray.cli.search import run, sites
from kiago_ray.data import NONE
from kiago_ray.errors import InputError
from kiago_ray.machine import provenance
from kiago_ray.models import load_models
from kiago_ray.paper.experiments import Lab, open_cells
from kiago_ray.paper.run import PAGE, measure, write_report, write_table
from kiago_ray.paper.tables import PaperTable, Size, comparison
from kiago_ray.search.spec import load_preset

ALL = "all"

app = typer.Typer(add_completion=False)
baseline = typer.Typer(
    help="Elemental substitution and SuperDiff, into the same table and run directory as a search.",
    no_args_is_help=True,
)
app.add_typer(baseline, name="baseline")

Candidates = Annotated[int, typer.Option(help="Formulas to propose.")]
Seed = Annotated[int, typer.Option(help="Seed of the draws.")]
Preset = Annotated[str, typer.Option(help="Whose T_c predictor, screens and order judge the formulas.")]
GuidanceWeight = Annotated[
    float,
    typer.Option(
        min=0, help="Weight of the predictors' guidance, 0 for none; 4e-6 acts as the paper's 1e-3."
    ),
]
Alpha = Annotated[float, typer.Option(min=0, help="Weight of E_f in the guidance, K per eV/atom.")]
Factors = Annotated[str, typer.Option(help="ILVR's, an equal share of the rows each.")]


@app.command()
def paper(
    table: Annotated[
        str, typer.Argument(help="table1 to table11, fig2, fig3, seeds (S.4), screens (S.6), or all.")
    ],
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Sizes for two cores and minutes, instead of the paper's 4,096 × 1,000."
        ),
    ] = False,
    candidates: Annotated[int | None, typer.Option(help="Formulas of each method from each base.")] = None,
    steps: Annotated[str | None, typer.Option(help="Steps of stage 1 and 2, such as 500,500.")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds, such as 0,1,2; figures are means over them.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="Directory or URI; by default runs/paper, with --quick runs/paper-quick."),
    ] = None,
    known: Annotated[
        str | None,
        typer.Option(
            help="Known compounds for tables 8 and 11: SuperCon's primary.tsv, a CSV file, landmarks or none. "
            "By default supercon: the shipped ones."
        ),
    ] = None,
    phases: Annotated[
        Path | None,
        typer.Option(help="File of competing phases: ΔE_hull in tables 3 and 8 (see kiago hull)."),
    ] = None,
    weights: console.Weights = None,
    superdiff_weights: console.SuperDiffWeights = None,
    device: console.Device = "cpu",
    as_json: console.AsJson = False,
) -> None:
    """Run what TABLE needs and print ours beside the paper's; write CSV, Markdown and plots, and for `all` one page.

    What is done is kept in the directory: the same command again, or another table, computes only what is missing.
    """
    names = [*comparison().tables]
    if table not in (*names, ALL):
        raise InputError(f"{table!r} is no table; choose one of {', '.join(names)}, {ALL}")
    size = comparison().sizes["quick" if quick else "full"]
    size = size.changed(
        candidates=candidates,
        steps=None if steps is None else console.two_steps(steps),
        seeds=None if seeds is None else tuple(console.whole_numbers(seeds, "--seeds", "0,1,2")),
    )
    where = out if out is not None else ("runs/paper-quick" if quick else "runs/paper")
    lab, facts = open_lab(size, where, known, phases, weights, superdiff_weights, device)
    try:
        tables = run_tables(lab, names if table == ALL else [table])
    except KeyboardInterrupt:
        say(f"stopped; what was done is in {where}, and the same command goes on")
        raise typer.Exit(1) from None
    raise typer.Exit(finish(lab, tables, facts, where, table == ALL, as_json))


def open_lab(
    size: Size,
    where: str,
    known: str | None,
    phases: Path | None,
    weights: Path | None,
    superdiff_weights: Path | None,
    device: str,
) -> tuple[Lab, list[tuple[str, str]]]:
    """Models, data and the directory, and in words what results rest on. Raises the input errors of all of them."""
    console.check_device(device)
    made = provenance()
    models = load_models(weights, known=known, phases=NONE if phases is None else phases, device=device)
    kind = torch.device(device).type
    identity = {
        "kiago_ray": __version__,
        "weights": models.hashes,
        "known": models.identity["known"],
        "device": kind,
    }
    superdiff = None if superdiff_weights is None else load_superdiff(superdiff_weights)
    console.tell_phases(models.hull, phases)
    location = open_cells(where, identity)
    lab = Lab(models=models, location=location, size=size, device=device, diffusion=superdiff, say=say)
    name = torch.cuda.get_device_name(torch.device(device)) if kind == "cuda" else made["cpu"]
    phases_kept = "none" if models.hull is None else f"{models.hull.phases.report.rows_kept:,} of {phases}"
    facts = [
        ("size", size.name),
        ("kiago-ray", f"{__version__} ({made['git'] or 'no commit known'})"),
        ("PyTorch", f"{torch.__version__} on {name}, {plural(torch.get_num_threads(), 'thread')}"),
        ("known compounds", "none" if models.known is None else models.known.source),
        ("competing phases", phases_kept),
        ("weights", ", ".join(f"{key} {value[:12]}" for key, value in models.hashes.items())),
    ]
    return lab, facts


def run_tables(lab: Lab, names: Sequence[str]) -> list[tuple[PaperTable, float]]:
    """The tables and the seconds that each took beyond what earlier ones left."""
    done = []
    for name in names:
        began = time.perf_counter()
        table = measure(name, lab)
        write_table(table, lab.location)
        done.append((table, time.perf_counter() - began))
        say(f"{table.heading}: {done[-1][1]:.0f} s")
    return done


def finish(
    lab: Lab,
    done: Sequence[tuple[PaperTable, float]],
    facts: Sequence[tuple[str, str]],
    where: str,
    everything: bool,
    as_json: bool,
) -> int:
    """Write the page, show the tables, return the exit code."""
    failures = by_cause(lab.failures)
    if everything:
        seconds = sum(spent for _, spent in done)
        all_facts = [*facts, ("wall clock of this run", f"{seconds / 60:.1f} min")]
        write_report([table for table, _ in done], lab.location, all_facts, failures)
    if as_json:
        tables = {table.name: {**table.as_plain(), "seconds": round(spent, 1)} for table, spent in done}
        print_json({"out": where, "tables": tables, "failures": failures})
    else:
        for table, _ in done:
            Console().print(Markdown(table.as_markdown()))
        page = f" ({PAGE} has all of them)" if everything else ""
        say(f"CSV, Markdown and plots are in {where}/{page}")
    for line in failures:
        say(f"failed: {line}")
    if failures:
        say(f"{len(lab.failures)} experiments failed; the same command tries them again")
    return 3 if failures else 0


def by_cause(failures: Mapping[str, str]) -> list[str]:
    """A line for each cause, with the experiments that it stopped."""
    named: dict[str, list[str]] = {}
    for name, cause in failures.items():
        named.setdefault(cause, []).append(name)
    return [
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {cause}"
        for cause, names in named.items()
    ]


@baseline.command()
def substitution(
    formula: console.Base,
    candidates: Candidates = 512,
    seed: Seed = 0,
    substitute: Annotated[
        str | None, typer.Option(help="Exchange these elements alone, with their states, such as La:+3.")
    ] = None,
    keep: Annotated[str | None, typer.Option(help="Leave these elements alone, such as H.")] = None,
    preset: Preset = "paper",
    known: console.Known = None,
    phases: console.Phases = None,
    weights: console.Weights = None,
    out: console.Out = None,
    top: console.Top = 15,
    as_json: console.AsJson = False,
) -> None:
    """Elements of FORMULA exchanged, whole, for others of the same oxidation state (the paper's C-ES)."""
    states = {} if substitute is None else sites(substitute)
    if not all(isinstance(state, int) for state in states.values()):
        raise InputError("--substitute: elements are exchanged whole; leave the number of atoms out")
    kept = [] if keep is None else console.symbols(keep)
    spec = load_preset(preset, {"base": formula, "candidates": candidates, "seed": seed})
    models = load_models(weights, known=known, phases=phases)
    models.check(spec)
    supported = models.predictors.supported.cpu().numpy()
    found = exchange(formula, supported, spec.oxidation_set, sites=states or None, keep=kept)
    about = {"kind": "substitution", "sites": states, "keep": kept}
    code = run(
        spec,
        "substitution",
        models,
        out,
        top,
        as_json,
        phases=phases,
        baseline=about,
        formulas=lambda: found.rows(candidates, seed),
    )
    raise typer.Exit(code)


@baseline.command()
def superdiff(
    formula: console.Base,
    candidates: Candidates = 512,
    seed: Seed = 0,
    guidance: GuidanceWeight = 0.0,
    alpha: Alpha = 4.0,
    scale_factors: Factors = "1,2,4,6",
    preset: Preset = "paper",
    known: console.Known = None,
    phases: console.Phases = None,
    weights: console.Weights = None,
    superdiff_weights: console.SuperDiffWeights = None,
    device: console.Device = "cpu",
    out: console.Out = None,
    top: console.Top = 15,
    as_json: console.AsJson = False,
) -> None:
    """Samples of SuperDiff conditioned on FORMULA, with or without guidance by the predictors."""
    for option, value in (("--guidance", guidance), ("--alpha", alpha)):
        if not math.isfinite(value):
            raise InputError(f"{option}: {value} is no weight; give a number")
    factors = checked_factors(scale_factors)
    spec = load_preset(preset, {"base": formula, "candidates": candidates, "seed": seed})
    model = load_superdiff(superdiff_weights)
    console.check_device(device)
    models = load_models(weights, known=known, phases=phases, device=device)
    models.check(spec)
    noise_scheduler()  # whether the extra is there
    follow = models.predictors.following(spec.tc_predictor)
    code = run(
        spec,
        "superdiff",
        models,
        out,
        top,
        as_json,
        phases=phases,
        baseline={
            "kind": "superdiff",
            "sha256": model.card["sha256"],
            "guidance": guidance,
            "alpha": alpha,
            "scale_factors": factors,
        },
        formulas=lambda: (
            sample(
                model,
                candidates,
                base=parse_amounts(formula),
                scale_factors=factors,
                guidance=Guidance(follow.tc, follow.ef, alpha=alpha, weight=guidance) if guidance else None,
                seed=seed,
                device=device,
                progress=tell_step,
            ).amounts
        ),
    )
    raise typer.Exit(code)


def checked_factors(text: str) -> list[int]:
    """ILVR's scale factors, such as 1,2,4,6. Raises InputError."""
    factors = console.whole_numbers(text, "--scale-factors", "1,2,4,6")
    try:
        for factor in factors:
            check_factor(factor)
    except ValueError as error:
        raise InputError(f"--scale-factors: {error}; write such as 1,2,4,6") from None
    return factors


def tell_step(done: int, total: int) -> None:
    """Say each tenth of the steps."""
    if done % max(1, total // 10) == 0:
        say(f"step {done:,} of {total:,}")
