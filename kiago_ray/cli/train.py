"""`kiago data` and `kiago train`: raw public files checked, counted and packed, and weights made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from typer import Argument, Option

from kiago_ray.baselines.superdiff import NetworkSettings
from kiago_ray.baselines.superdiff_training import SETTINGS as SUPERDIFF_SETTINGS
from kiago_ray.baselines.superdiff_training import train_superdiff
from kiago_ray.cli import console
from kiago_ray.cli.console import print_facts, print_json, say
from kiago_ray.data.sources import load, load_oqmd, load_supercon, without
from kiago_ray.data.tables import made_compounds, superconductors
from kiago_ray.data.tables import pack as write_tables
from kiago_ray.errors import InputError
from kiago_ray.plausibility.literature import Literature, site_odds
from kiago_ray.plausibility.model import Prospects, save_plausibility, train_plausibility
from kiago_ray.predictors.base import multiplies_bfloat16
from kiago_ray.predictors.weights import ENERGIES, ORACLE, PLAUSIBILITY, TUNING_ORACLE
from kiago_ray.storage.location import Location, StorageError, reason
from kiago_ray.training.energy import SETTINGS as ENERGY_SETTINGS
from kiago_ray.training.energy import EnergyTables, train_energies
from kiago_ray.training.fit import FitSettings, RunOptions
from kiago_ray.training.oracle import TUNING_SETTINGS, OracleSettings, train_oracle
from kiago_ray.training.recipes import (
    EF_SETTINGS,
    ENSEMBLE_SETTINGS,
    TC_SETTINGS,
    train_ef,
    train_tc,
    train_tc_ensemble,
)
from kiago_ray.training.tables import SPLITS, TcTables, TrainingTable

train = typer.Typer(help="Train a model; run again to resume after a stop.", no_args_is_help=True)
data = typer.Typer(help="Raw public files: check them, pack them.", no_args_is_help=True)

SuperConFile = Annotated[Path, Option(help="SuperCon's primary.tsv.")]
NonSuperconductors = Annotated[
    Path, Option(help="Materials Project or COD table, whose compositions stand for T_c = 0.")
]
HeldBack = Annotated[
    Path | None,
    Option(help="Compositions in SuperCon's format that no fit may see; the card has their score."),
]
Epochs = Annotated[int | None, Option(min=1, max=100_000, help="Instead of the recipe's.")]
Seed = Annotated[int, Option(min=0, help="Of all that is drawn.")]
Out = Annotated[Path, Option(help="Folder for checkpoints, weights and card.")]
Compile = Annotated[bool, Option("--compile", help="Compile the network (needs a C++ compiler).")]
Card = dict[str, Any]
Splits = Annotated[Literal["random,system", "random"], Option(help="Which fits; the random one is saved.")]


@train.command()
def tc(
    data: SuperConFile,
    non_superconductors: NonSuperconductors,
    held_back: HeldBack = None,
    out: Out = Path("training"),
    epochs: Epochs = None,
    seed: Seed = 0,
    device: console.Device = "cpu",
    compile_network: Compile = False,
    splits: Splits = "random,system",
    threads: console.Threads = None,
    network: Annotated[Literal["ensemble", "resnet18"], Option(help="Which T_c predictor.")] = "ensemble",
    tracking_uri: console.TrackingUri = None,
    no_tracking: console.NoTracking = False,
) -> None:
    """The T_c predictor: the ensemble with its spread and extrapolation, or the paper's ResNet-18."""
    if network == "ensemble" and splits == "random":
        raise InputError(
            "--splits: the ensemble needs both, its spread is calibrated on them; leave the option out"
        )
    tables = TcTables.read(data, non_superconductors, held_back)
    how = options(out, threads, device, compile_network, splits)
    ensemble = network == "ensemble"
    fit, recipe = (train_tc_ensemble, ENSEMBLE_SETTINGS) if ensemble else (train_tc, TC_SETTINGS)
    kind = "tc_ensemble" if ensemble else "tc"
    show(recorded(kind, how, tracking_uri, no_tracking, partial(fit, tables, adapted(recipe, epochs, seed))))


@train.command()
def ef(
    data: Annotated[Path, Option(help="OQMD's formation energies.")],
    out: Out = Path("training"),
    epochs: Epochs = None,
    seed: Seed = 0,
    device: console.Device = "cpu",
    compile_network: Compile = False,
    splits: Splits = "random,system",
    threads: console.Threads = None,
    tracking_uri: console.TrackingUri = None,
    no_tracking: console.NoTracking = False,
) -> None:
    """The paper's formation-energy predictor: ElemNet."""
    table, report = load_oqmd(data)
    how = options(out, threads, device, compile_network, splits)
    known = TrainingTable.of(table, "ef_ev_per_atom", report)
    fit = partial(train_ef, known, adapted(EF_SETTINGS, epochs, seed))
    show(recorded("ef", how, tracking_uri, no_tracking, fit))


@train.command()
def energies(
    oqmd: Annotated[Path, Option(help="OQMD's formation energies.")],
    materials_project: Annotated[Path, Option(help="The Materials Project's ground states.")],
    out: Out = Path("training"),
    epochs: Epochs = None,
    seed: Seed = 0,
    device: console.Device = "cpu",
    compile_network: Compile = False,
    threads: console.Threads = None,
    tracking_uri: console.TrackingUri = None,
    no_tracking: console.NoTracking = False,
) -> None:
    """The ensemble of formation energies, on both sources together."""
    how = options(out, threads, device, compile_network)
    tables = EnergyTables.read(oqmd, materials_project)
    fit = partial(train_energies, tables, adapted(ENERGY_SETTINGS, epochs, seed))
    card = recorded(ENERGIES, how, tracking_uri, no_tracking, fit)
    show(card, "sha256", "splits", "spread", "signs", "stability")


@train.command()
def oracle(
    data: SuperConFile,
    non_superconductors: NonSuperconductors,
    held_back: HeldBack = None,
    out: Out = Path("training"),
    seed: Seed = 0,
    threads: console.Threads = None,
    tracking_uri: console.TrackingUri = None,
    no_tracking: console.NoTracking = False,
) -> None:
    """The second opinion on T_c: boosted trees on statistics of element properties."""
    tables = TcTables.read(data, non_superconductors, held_back)
    fit = partial(train_oracle, tables, OracleSettings(seed=seed))
    show(recorded(ORACLE, options(out, threads), tracking_uri, no_tracking, fit))


@train.command()
def tuning_oracle(
    data: SuperConFile,
    non_superconductors: NonSuperconductors,
    held_back: HeldBack = None,
    out: Out = Path("training"),
    seed: Annotated[
        int, Option(min=0, help="Of folds and samples; another than the oracle's keeps the two apart.")
    ] = 1,
    threads: console.Threads = None,
    tracking_uri: console.TrackingUri = None,
    no_tracking: console.NoTracking = False,
) -> None:
    """The judge of sweeps, which never reports: boosted trees on the amounts of the elements."""
    tables = TcTables.read(data, non_superconductors, held_back)
    settings = replace(TUNING_SETTINGS, seed=seed, fold_seed=seed)
    fit = partial(train_oracle, tables, settings, kind=TUNING_ORACLE)
    show(recorded(TUNING_ORACLE, options(out, threads), tracking_uri, no_tracking, fit))


@train.command()
def plausibility(
    data: Annotated[Path | None, Option(help="SuperCon's primary.tsv, instead of what ships of it.")] = None,
    before: Annotated[
        int | None, Option(min=1912, max=9999, help="Learn only from what was printed before this year.")
    ] = None,
    out: Out = Path("training"),
    seed: Seed = 0,
    threads: console.Threads = None,
    tracking_uri: console.TrackingUri = None,
    no_tracking: console.NoTracking = False,
) -> None:
    """What can be made: how often elements replaced one another, from what was known and what came of it."""
    if before is not None and data is None:
        raise InputError(
            "--before: what ships is merged over all years; give SuperCon's primary.tsv as --data"
        )
    how = options(out, threads)
    fit = partial(fit_plausibility, data, before, seed)
    card = recorded(PLAUSIBILITY, how, tracking_uri, no_tracking, fit)
    show(card, "year", "compositions", "systems", "held_out")


def fit_plausibility(data: Path | None, before: int | None, seed: int, how: RunOptions) -> Card:
    """Train plausibility, write its weights, return their card. Raises InputError."""
    table, report = (
        (superconductors(), None)
        if data is None
        else load_supercon(data, undetermined_oxygen=True, before=before)
    )
    try:
        literature = Literature.of(table, before)
        fitted, card = train_plausibility(literature, seed=seed, on_step=how.on_step)
    except ValueError as error:
        raise InputError(f"--data: {error}") from None
    given = {"seed": seed, "data": data and data.name, "before": before}
    words = "".join(f" --{name} {value}" for name, value in given.items() if value is not None)
    card["command"] = f"kiago train plausibility{words}"
    card["data"] = "as shipped" if report is None else [asdict(report)]
    prospects = Prospects(literature, fitted, site_odds(literature), made_compounds())
    save_plausibility(prospects, card, how.out, with_literature=data is not None)
    return card


@train.command()
def superdiff(
    data: SuperConFile,
    held_back: HeldBack = None,
    out: Out = Path("training"),
    epochs: Epochs = None,
    width: Annotated[int, Option(help="Channels; a multiple of 8.")] = 32,
    depth: Annotated[int, Option(help="Residual blocks a level.")] = 1,
    samples: Annotated[int, Option(min=0, max=100_000, help="Drawn for the card's figures; 0: none.")] = 512,
    seed: Seed = 0,
    device: console.Device = "cpu",
    compile_network: Compile = False,
    threads: console.Threads = None,
    tracking_uri: console.TrackingUri = None,
    no_tracking: console.NoTracking = False,
) -> None:
    """The diffusion model that the paper compares with; it needs the extra `superdiff`."""
    size = NetworkSettings(width, depth)
    how = options(out, threads, device, compile_network)
    known, *reports = load_supercon(data)
    if held_back is not None:
        held, report = load_supercon(held_back)
        known = without(known, held)
        reports.append(report)
    settings = adapted(SUPERDIFF_SETTINGS, epochs, seed)

    def fit(how: RunOptions) -> Card:
        return train_superdiff(known["formula"].tolist(), size, settings, how, reports, samples=samples)

    card = recorded("superdiff", how, tracking_uri, no_tracking, fit)
    show(card, "sha256", "seconds", "held_out_loss", "samples")


@train.command()
def register(
    weights: console.Weights = None,
    tracking_uri: Annotated[
        str | None,
        Option(help="MLflow store or server; by default MLFLOW_TRACKING_URI, else runs/mlflow.db."),
    ] = None,
) -> None:
    """Register the predictors as the model `kiago-predictors` of MLflow, which `mlflow models serve` serves."""
    from kiago_ray.tracking.model import registered

    print(registered(tracking_uri, weights))


def recorded(
    kind: str, how: RunOptions, uri: str | None, no_tracking: bool, fit: Callable[[RunOptions], Card]
) -> Card:
    """Train, with a record in MLflow unless none is wanted, and return the card. kind: of weights."""
    if no_tracking:
        if uri is not None:
            raise InputError("--tracking-uri and --no-tracking contradict each other; give one of them")
        return fit(how)
    from kiago_ray.tracking.training import TrainingRecord  # it takes a second

    record = TrainingRecord.of(how.out, kind, uri)
    try:
        card = fit(replace(how, on_epoch=record.epoch))
    except BaseException as error:
        record.fail("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    say(record.finish(card).in_words("kiago train register --weights " + str(how.out)))
    return card


def adapted(settings: FitSettings, epochs: int | None, seed: int) -> FitSettings:
    """The recipe's settings with what the command line changes."""
    return replace(settings, seed=seed, epochs=epochs or settings.epochs)


def options(
    out: Path,
    threads: int | None,
    device: str = "cpu",
    compile_network: bool = False,
    splits: Splits = "random,system",
) -> RunOptions:
    """Where and how, with progress lines on stderr. Makes the folder. Raises InputError."""
    console.check_local("--out", out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (Location.of(out) / "weights").try_out()
    except (OSError, StorageError) as error:
        raise InputError(f"--out: can't write to {out} ({reason(error)}); choose another folder") from None
    if threads:
        torch.set_num_threads(threads)
    return RunOptions(
        out=out,
        device=device,
        compile_network=compile_network,
        bfloat16=multiplies_bfloat16(torch.device(device)),
        splits=[split for split in SPLITS if split in splits.split(",")],
        on_step=say,
    )


def show(card: dict[str, Any], *names: str) -> None:
    """Figures of a card; by default its scores."""
    print_json({name: card.get(name) for name in names or ("sha256", "splits")})


@data.command()
def check(
    files: Annotated[list[Path], Argument(help="SuperCon, OQMD, Materials Project or COD tables.")],
    as_json: console.AsJson = False,
) -> None:
    """Read files as training would, and say what was kept, merged and dropped, and why."""
    reports = [asdict(load(file)[1]) for file in files]
    if as_json:
        print_json({"files": reports})
        return
    for report in reports:
        print_facts(report)


@data.command()
def pack(
    supercon: SuperConFile,
    phases: Annotated[Path, Option(help="The Materials Project's ground states.")],
    made: Annotated[Path, Option(help="COD's formulas: formula,code,spacegroup,e_hull_ev_per_atom.")],
    made_2007: Annotated[Path, Option(help="COD's formulas of 2007, one a line.")],
    tried: Annotated[Path, Option(help="What was made and measured: matter,Tc.")],
    out: Annotated[Path, Option(exists=True, file_okay=False, help="Folder to write the tables into.")],
) -> None:
    """Write the tables that ship: superconductors, competing phases, made compounds, the tried, element counts."""
    packed = write_tables(
        out,
        supercon=supercon,
        phases=phases,
        made=made,
        made_2007=made_2007,
        tried=tried,
    )
    for name, rows in packed.items():
        print(f"{out / name}: {rows:,} rows, {(out / name).stat().st_size:,} bytes")
