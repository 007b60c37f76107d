"""`kiago baseline`: what the paper compares with, proposed from a base and judged as a search's rows are."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from kiago_ray.baselines.substitution import exchange
from kiago_ray.baselines.superdiff import Guidance, load_superdiff, sample
from kiago_ray.baselines.superdiff.network import noise_scheduler
from kiago_ray.baselines.superdiff.sampling import check_factor
from kiago_ray.chemistry.formula import parse_amounts
from kiago_ray.cli.console import say
from kiago_ray.cli.options import sites, symbols
from kiago_ray.cli.search import Baseline, Request, run
from kiago_ray.errors import InputError
from kiago_ray.predictors import Predictors
from kiago_ray.search import load_preset

app = typer.Typer(
    add_completion=False,
    help="Elemental substitution and SuperDiff, into the same table and run directory as a search.",
    no_args_is_help=True,
)

Formula = Annotated[str, typer.Argument(help="Base material, such as LaNiAsO.")]
Candidates = Annotated[int, typer.Option(help="Formulas to propose.")]
Seed = Annotated[int, typer.Option(help="Seed of the draws.")]
Preset = Annotated[str, typer.Option(help="Whose T_c predictor, screens and order judge the formulas.")]
Known = Annotated[str | None, typer.Option(help="As for kiago search: a file, supercon, landmarks or none.")]
Phases = Annotated[str | None, typer.Option(help="As for kiago search: a file of competing phases, or none.")]
Weights = Annotated[Path | None, typer.Option(help="Folder that `kiago train` wrote.")]
Out = Annotated[str | None, typer.Option(help="Directory or URI; by default below runs/.")]
Top = Annotated[int, typer.Option(min=0, max=1000, help="Rows to print.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command()
def substitution(
    formula: Formula,
    candidates: Candidates = 512,
    seed: Seed = 0,
    substitute: Annotated[
        str | None, typer.Option(help="Exchange these elements alone, with their states, such as La:+3.")
    ] = None,
    keep: Annotated[str | None, typer.Option(help="Leave these elements alone, such as H.")] = None,
    preset: Preset = "paper",
    known: Known = None,
    phases: Phases = None,
    weights: Weights = None,
    out: Out = None,
    top: Top = 15,
    as_json: Json = False,
) -> None:
    """Elements of FORMULA exchanged, whole, for others of the same oxidation state (the paper's C-ES)."""
    states = {} if substitute is None else sites(substitute)
    if not all(isinstance(state, int) for state in states.values()):
        raise InputError("--substitute: elements are exchanged whole; leave the number of atoms out")
    kept = [] if keep is None else symbols(keep)
    spec = load_preset(preset, {"base": formula, "candidates": candidates, "seed": seed})

    def prepare(predictors: Predictors) -> Callable[[], NDArray[np.float64]]:
        supported = predictors.supported.cpu().numpy()
        found = exchange(formula, supported, spec.oxidation_set, sites=states or None, keep=kept)
        return lambda: found.rows(candidates, seed)

    about = {"kind": "substitution", "sites": states, "keep": kept}
    _run(spec, Baseline(about, prepare), known, phases, weights, "cpu", out, top, as_json)


@app.command()
def superdiff(
    formula: Formula,
    candidates: Candidates = 512,
    seed: Seed = 0,
    guidance: Annotated[
        float,
        typer.Option(
            min=0, help="Weight of the predictors' guidance, 0 for none; 4e-6 acts as the paper's 1e-3."
        ),
    ] = 0.0,
    alpha: Annotated[float, typer.Option(min=0, help="Weight of E_f in the guidance, K per eV/atom.")] = 4.0,
    scale_factors: Annotated[str, typer.Option(help="ILVR's, an equal share of the rows each.")] = "1,2,4,6",
    preset: Preset = "paper",
    known: Known = None,
    phases: Phases = None,
    weights: Weights = None,
    superdiff_weights: Annotated[
        Path | None, typer.Option(help="Folder that `kiago train superdiff` wrote.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    out: Out = None,
    top: Top = 15,
    as_json: Json = False,
) -> None:
    """Samples of SuperDiff conditioned on FORMULA, with or without guidance by the predictors."""
    for option, value in (("--guidance", guidance), ("--alpha", alpha)):
        if not math.isfinite(value):
            raise InputError(f"{option}: {value} is no weight; give a number")
    factors = _factors(scale_factors)
    spec = load_preset(preset, {"base": formula, "candidates": candidates, "seed": seed})
    model = load_superdiff(superdiff_weights)

    def report(done: int, total: int) -> None:
        if done % max(1, total // 10) == 0:
            say(f"step {done:,} of {total:,}")

    def prepare(predictors: Predictors) -> Callable[[], NDArray[np.float64]]:
        noise_scheduler()  # whether the extra is there
        follow = predictors.following(spec.tc_predictor)
        return lambda: (
            sample(
                model,
                candidates,
                base=parse_amounts(formula),
                scale_factors=factors,
                guidance=Guidance(follow.tc, follow.ef, alpha=alpha, weight=guidance) if guidance else None,
                seed=seed,
                device=device,
                progress=report,
            ).amounts
        )

    about: dict[str, Any] = {"kind": "superdiff", "sha256": model.card["sha256"]}
    about |= {"guidance": guidance, "alpha": alpha, "scale_factors": factors}
    _run(spec, Baseline(about, prepare), known, phases, weights, device, out, top, as_json)


def _factors(text: str) -> list[int]:
    """ILVR's scale factors, such as 1,2,4,6. Raises InputError."""
    try:
        factors = [int(part) for part in text.split(",")]
        for factor in factors:
            check_factor(factor)
    except ValueError as error:
        raise InputError(f"--scale-factors: {text!r}: {error}; write such as 1,2,4,6") from None
    return factors


def _run(
    spec: Any,
    baseline: Baseline,
    known: str | None,
    phases: str | None,
    weights: Path | None,
    device: str,
    out: str | None,
    top: int,
    as_json: bool,
) -> None:
    """Judge, write and show as a search's; end with its exit code."""
    name = str(baseline.about["kind"])
    request = Request(spec, name, known, phases, weights, device, out, {}, baseline)
    raise typer.Exit(run(request, top, as_json))
