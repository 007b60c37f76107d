"""`kiago scan`: doping series of a formula, as a table, a file, a plot and in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.text import Text
from typer import Argument, Option

import kiago_ray.api as api
from kiago_ray.chemistry.series import VACANT, Change, series_of
from kiago_ray.cli import console
from kiago_ray.cli.console import plain_table, print_json, say
from kiago_ray.cli.formulas import IMAGES, Output, check_new, scored, write_image, write_table
from kiago_ray.data.names import read
from kiago_ray.errors import InputError
from kiago_ray.models import load_models
from kiago_ray.report.scans import described, rows_of, scan_plot, summary_lines, text_plot, warnings
from kiago_ray.report.tables import cell, kelvin, with_spread
from kiago_ray.report.terminal import in_ascii

LONGEST = 40  # rows of a series that are printed with the known compositions between them
MOST = 12  # rows of a map

Site = Annotated[
    list[str],
    Option(help="Element of the base whose atoms go, such as La; Y,Ba: each alone. Twice for a map."),
]
Dopants = Annotated[
    list[str] | None,
    Option(
        "--with", help=f"What comes in, such as Sr,Ba,Ca: a curve each; {VACANT}: nothing. Twice for a map."
    ),
]
Amounts = Annotated[
    list[str] | None,
    Option("--x", help="Atoms of the formula as written: from:to:step, such as 0:0.3:0.01. Twice for a map."),
]
Vacant = Annotated[
    str | None,
    Option(help=f"Places that stay empty, such as 0:1:0.05: short for --with {VACANT} --x 0:1:0.05."),
]
Image = Annotated[Path | None, Option(help="Image to write, .png or .svg: curves, or a map of two changes.")]


def scan(
    formula: Annotated[str, Argument(help="Base, such as La2CuO4.")],
    site: Site,
    dopants: Dopants = None,
    x: Amounts = None,
    vacant: Vacant = None,
    output: Output = None,
    plot: Annotated[
        Path | None, Option(help="Image to write, .png or .svg: curves, or a map of two changes.")
    ] = None,
    known: console.Known = None,
    phases: console.Phases = None,
    weights: console.Weights = None,
    as_json: console.AsJson = False,
) -> int:
    """Scan doping series of a formula: T_c, plausibility, energy above the hull and charges at each x.

    Known compositions of the same series stand beside, with their measured T_c. Where no model can be right the remark
    says so: an undoped cuprate, what superconducts under pressure, what a measurement contradicts.

    A curve for each dopant: kiago scan La2CuO4 --site La --with Sr,Ba,Ca --x 0:0.3:0.01

    Oxygen that leaves: kiago scan YBa2Cu3O7 --site O --vacant 0:1:0.05

    A map of two sites: kiago scan LaFeAsO --site La --with Ce --x 0:1:0.1 --site O --with F --x 0:0.2:0.02

    A map of two dopants on one site: kiago scan La2CuO4 --site La --with Sr --with Ca --x 0:0.2:0.02
    """
    changes = changes_of(site, dopants or [], x or [], vacant)
    check_new("--output", output, (".csv", ".parquet"))
    check_new("--plot", plot, IMAGES)
    read(formula)
    series_of(formula, changes)  # what is wrong is refused before the models are read
    models = load_models(weights, known=known, phases=phases)
    planned = api.planned_scan(formula, changes, models)
    found = planned.scored(scored(planned.formulas, models))
    table = found.table.to_pandas()
    if output is not None:
        write_table(table, output)
    if plot is not None:
        write_image(plot, scan_plot(found))
    if as_json:
        print_json({"formula": formula, "series": described(found)})
    else:
        show(found, listed=output is None)
    failed = table["error"].dropna()
    if len(failed):
        say(f"{len(failed):,} of {len(table):,} compositions came to nothing; the first: {failed.iloc[0]}")
    return 3 if len(failed) else 0


def changes_of(sites: list[str], dopants: list[str], x: list[str], vacant: str | None) -> list[Change]:
    """The changes that the options say together; one site or one range may serve two. Raises InputError."""
    if vacant is not None:
        if len(sites) > 1:
            raise InputError(
                f"--vacant: of two sites say which one loses atoms: --site O --with {VACANT} --x {vacant}"
            )
        dopants, x = [*dopants, VACANT], [*x, vacant]
    if not dopants or not x:
        raise InputError(
            "--with and --x: say what comes in and how much of it, such as --with Sr,Ba --x 0:0.3:0.01, or --vacant "
            "0:1:0.05 for places that stay empty"
        )
    count = max(len(sites), len(dopants))
    if any(len(each) not in (1, count) for each in (sites, dopants, x)):
        raise InputError(
            f"--site, --with, --x: {len(sites)}, {len(dopants)} and {len(x)} of them; for a map give each twice, in "
            "the same order"
        )
    alike = [each * count if len(each) == 1 else each for each in (sites, dopants, x)]
    return list(zip(*alike, strict=True))


def show(found: Any, *, listed: bool) -> None:
    """Tables where `listed`, plots in characters, and what is highest, for a person."""
    terminal = Console()
    for series in found.series:
        rows = rows_of(found, series)
        warned = warnings(rows)
        if len(series.dopings) > 1:
            rows = sorted((row for row in rows if row["on_grid"]), key=lambda row: -(row["tc_k"] or 0))[:MOST]
        elif len(rows) > LONGEST:
            between = sum(not row["on_grid"] for row in rows)
            say(
                f"{series.name}: {between} known compositions between these are in --output FILE and in the plot"
            )
            rows = [row for row in rows if row["on_grid"]]
        if listed or warned:
            terminal.print(f"\n{series.name}", markup=False, highlight=False)
        for line in warned:
            terminal.print(Text(line, "bold red"))
        if listed:
            terminal.print(plain_table([shown(row) for row in rows], names=("formula",), texts=("remark",)))
    lines = ["", *text_plot(found, terminal.width), ""]
    for line in [*lines, *summary_lines(found)]:
        terminal.print(in_ascii(line) if terminal.options.ascii_only else line, markup=False, highlight=False)


def shown(row: Mapping[str, Any]) -> dict[str, str]:
    """What a person sees of a composition, header → cell."""
    places = {letter: f"{row[letter]:g}" for letter in ("x", "y") if row[letter] is not None}
    return places | {
        "formula": row["formula"],
        "T_c (K)": with_spread(row),
        "oracle": cell(row, "tc_oracle_k"),
        "measured": kelvin(row["known_tc_k"]).removesuffix(" K"),
        "exists": cell(row, "existence"),
        "ΔE_hull": cell(row, "e_hull_ev_per_atom"),
        "valence": cell(row, "mean_valences"),
        "remark": row["error"] or "; ".join(row["doubts"]),
    }
