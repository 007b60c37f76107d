"""`kiago predict` and `kiago hull`: what is known of formulas; rows keep their order, and some get an `error`."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from rich.console import Console
from typer import Argument, Option

from kiago_ray.api import score
from kiago_ray.chemistry.formula import parse
from kiago_ray.cli import console
from kiago_ray.cli.console import plain_table, print_json, say
from kiago_ray.data.files import MAX_ROWS, finite, read_lines
from kiago_ray.errors import InputError
from kiago_ray.hull import EnergyHull, judge
from kiago_ray.models import Models, load_models
from kiago_ray.progress import parts
from kiago_ray.report.phase_diagrams import (
    check_section,
    diagram_of,
    diagram_plot,
    drawn_elements,
    section_of,
    section_plot,
)
from kiago_ray.report.plots import png_of, svg_of
from kiago_ray.report.reasons import undoped
from kiago_ray.report.tables import cell, measured_remarks, measured_tc, with_spread
from kiago_ray.report.terminal import UNKNOWN
from kiago_ray.storage.location import Location
from kiago_ray.storage.table import PREDICTED

if TYPE_CHECKING:  # its import takes longer than most commands
    from matplotlib.figure import Figure

PART = 512  # formulas, after which the progress is shown
IMAGES = (".png", ".svg")
COMPUTED = (
    "ef_ev_per_atom",
    "e_hull_ev_per_atom",
    "e_hull_std_ev_per_atom",
    "decomposition",
)  # a search has them
FILLED = ("e_decomposition_ev_per_atom", "n_phases", "is_phase", "error")

Formulas = Annotated[list[str] | None, Argument(help="Formulas, such as YBa2Cu3O7.")]
Input = Annotated[Path | None, Option(help="CSV file with a column `formula`, such as a run's top.csv.")]
Output = Annotated[Path | None, Option(help="File to write: .csv or .parquet.")]
Diagram = Annotated[
    Path | None,
    Option(help="Image to write, .png or .svg: the phase diagram of the formulas' two or three elements."),
]
Section = Annotated[
    Path | None,
    Option(
        help="Image to write, .png or .svg: the energy above the hull from the first formula to the second, such as "
        "La2CuO4 Sr2CuO4, and what falls apart into what on the way."
    ),
]
Row = Mapping[Any, Any]


def predict(
    formulas: Formulas = None,
    input: Input = None,
    output: Output = None,
    known: console.Known = None,
    phases: console.Phases = None,
    weights: console.Weights = None,
    as_json: console.AsJson = False,
) -> int:
    """Say of formulas what a search says of its rows.

    T_c (K), as the ensemble with its standard deviation and as the oracle sees it, E_f and the energy above the hull
    (eV/atom) with what it would decompose into, how plausible such a composition is and why, what it is expected to
    gain over the best known nearby, its oxidation states, the nearest known composition with its reference, whether it
    is known or made, and whether it passes the screens of `default`. A formula that can't be read gets an `error` and
    keeps its row; the T_c of all others stands, whatever the screens say.
    """
    table = requested(formulas, input, output, (*PREDICTED, "error"))
    models = load_models(weights, known=known, phases=phases)
    if phases is not None:
        console.tell_phases(models.hull)
    predicted = predict_table(table, models)
    return hand_over(predicted, "predictions", shown_prediction, output, as_json, listed=input is not None)


def hull(
    formulas: Formulas = None,
    phases: Annotated[
        Path | None,
        Option(
            help="CSV or TSV file of competing phases, plain or .gz: a column of formulas, and maybe one of energies "
            "on the Materials Project's scale (leave OQMD's out: missing ones are predicted). By default the shipped "
            "ones, of the Materials Project."
        ),
    ] = None,
    energies: Annotated[
        Literal["predicted", "file"],
        Option(
            help="Of formulas that are no phases. predicted: by the ensemble, on the Materials Project's scale, as "
            "the phases' should be. file: those of the input."
        ),
    ] = "predicted",
    input: Input = None,
    output: Output = None,
    weights: console.Weights = None,
    plot: Diagram = None,
    section: Section = None,
    as_json: console.AsJson = False,
) -> int:
    """Energy above the convex hull of competing phases (eV/atom), and what a formula would decompose into.

    Elements are at 0 eV/atom, phases have their source's energies (predicted ones where the file has none), and what
    is no phase a predicted one with its standard deviation. `e_hull_ev_per_atom` is at least 0;
    `e_decomposition_ev_per_atom` is held against the other phases alone and is negative below their hull. With
    --energies file, a formula's energy is the input's column `ef_ev_per_atom`, of the same kind as the phases', or
    where it has none that of its phase. A formula without a result gets an `error` and keeps its row.
    """
    if energies == "file" and weights is not None:
        raise InputError("--weights: with --energies file no predictor is asked; leave one of them out")
    table = requested(formulas, input, output, FILLED)
    asked = table["formula"].tolist()
    check_new("--plot", plot, IMAGES)
    check_new("--section", section, IMAGES)
    if plot is not None and plot == section:
        raise InputError(f"--section: {section} is --plot's file too; name another one")
    elements = () if plot is None else drawn_elements(asked)
    if section is not None:
        check_section(asked)
        if energies == "file":
            raise InputError("--section: it draws predicted energies; leave --energies file out")
    if energies == "file" and "ef_ev_per_atom" in table and "tc_k" in table:
        raise InputError(
            f"--energies file: ef_ev_per_atom of {input} is predicted and not to be held against the file's energies; "
            "choose --energies predicted, or drop the column"
        )
    found = EnergyHull.of(phases, energies=energies, weights=weights)
    console.tell_phases(found)
    anew = [name for name in (COMPUTED if energies == "predicted" else COMPUTED[1:]) if name in table]
    if anew:
        say(f"computed anew, in place of the input's: {', '.join(anew)}")
    placed, about = hull_table(table, found), {"phases": asdict(found.phases.report), "energies": energies}
    draw(found, placed, plot, elements, section)
    return hand_over(placed, "hull", shown_place, output, as_json, listed=input is not None, about=about)


def draw(
    hull: EnergyHull, placed: pd.DataFrame, plot: Path | None, elements: Sequence[str], section: Path | None
) -> None:
    """Write the diagram of these elements with the placed formulas, and the section between the two of them, where a
    file is named for it; both are drawn before one is written.
    """
    drawn: dict[Path, Figure] = {}
    if plot is not None:
        drawn[plot] = diagram_plot(diagram_of(hull, elements), records(placed))
    if section is not None:
        drawn[section] = section_plot(section_of(hull, *placed["formula"].tolist()))
    for path, figure in drawn.items():
        write_image(path, figure)


def predict_table(table: pd.DataFrame, models: Models) -> pd.DataFrame:
    """`table` with the columns of `storage.table.PREDICTED` and `error` added, in its order."""
    scores = scored(table["formula"].tolist(), models)
    found: pd.DataFrame = scores.select(PREDICTED).to_pandas().set_index(table.index)
    errors = pd.Series(scores["error"].to_pylist(), index=table.index, dtype=object)
    return pd.concat([table, found], axis=1).assign(error=errors)


def scored(formulas: Sequence[str], models: Models) -> Any:
    """What `api.score` says of formulas, with the progress on screen where there are many."""
    cuts, threads = parts(len(formulas), "formulas", PART), torch.get_num_threads()
    return pa.concat_tables([score(formulas[cut], models, threads=threads) for cut in cuts])


def hull_table(table: pd.DataFrame, hull: EnergyHull) -> pd.DataFrame:
    """`table` with the columns COMPUTED and FILLED, in its order. Of a file's energies its own count first."""
    texts = table["ef_ev_per_atom"] if hull.ef is None and "ef_ev_per_atom" in table else [""] * len(table)
    own = [finite(text) if text.strip() else np.nan for text in texts]
    formulas, energies = table["formula"].tolist(), np.array(own, dtype=np.float64)  # None becomes NaN
    cuts = parts(len(formulas), "formulas", PART)
    judged = [each for cut in cuts for each in judge(hull, formulas[cut], energies[cut])]
    rows: list[tuple[object, ...]] = []
    for formula, text, value, found in zip(table["formula"], texts, own, judged, strict=True):
        if value is None:
            rows.append((*[None] * 7, f"ef_ev_per_atom: {text[:40]!r} is not a number"))
        elif (place := found.place) is None:
            rows.append((*[None] * 7, found.error))
        else:
            above = found.ef_ev_per_atom, place.e_hull_ev_per_atom, found.ef_std_ev_per_atom
            reaction = place.reaction(formula) if len(parse(formula)) > 1 else None
            others = place.e_decomposition_ev_per_atom, place.n_phases, place.is_phase
            rows.append((*above, reaction, *others, None))
    filled = pd.DataFrame(rows, columns=[*COMPUTED, *FILLED], index=table.index, dtype=object)
    types = dict.fromkeys((*COMPUTED[:3], FILLED[0]), "float64") | {
        "n_phases": "Int64",
        "is_phase": "boolean",
    }
    return pd.concat([table.drop(columns=[*COMPUTED], errors="ignore"), filled.astype(types)], axis=1)


def shown_prediction(row: Row) -> dict[str, str]:
    """What a person sees of a formula's prediction, header → cell."""
    states = cell(row, "oxidation_states") + (", undoped" if row["error"] is None and undoped(row) else "")
    return {
        "formula": row["formula"],
        "measured": measured_tc(row),
        "T_c (K)": with_spread(row),
        "oracle": cell(row, "tc_oracle_k"),
        "exists": cell(row, "existence"),
        "gain": cell(row, "expected_improvement_k"),
        "ΔE_hull": cell(row, "e_hull_ev_per_atom"),
        "passed": cell(row, "passed"),
        "error": row["error"] or "",
        "charges": states,
    }


def shown_place(row: Row) -> dict[str, str]:
    """What a person sees of a formula's place against the hull, header → cell."""
    to_others = row["e_decomposition_ev_per_atom"]
    return {
        "formula": row["formula"],
        "ΔE_hull\n(eV/atom)": with_spread(row, "e_hull_ev_per_atom", "e_hull_std_ev_per_atom", 3),
        "to the others": UNKNOWN if to_others is None else f"{to_others:z.3f}",
        "E_f\n(eV/atom)": cell(row, "ef_ev_per_atom"),
        "phases": cell(row, "n_phases"),
        "error": row["error"] or "",
        "would decompose so": row["decomposition"] or "",
    }


TEXTS = ("error", "measured", "charges", "would decompose so")


def requested(
    formulas: list[str] | None, input: Path | None, output: Path | None, fills: Sequence[str]
) -> pd.DataFrame:
    """The formulas that a command was given, as arguments or as a file. fills: the columns that the command adds.
    Raises InputError for both or neither, and for an output that can't be written or would overwrite something.
    """
    if bool(formulas) == (input is not None):
        raise InputError("give formulas or --input FILE.csv, one of the two")
    check_new("--output", output, (".csv", ".parquet"))
    return pd.DataFrame({"formula": formulas}) if input is None else read_table(input, fills)


def check_new(option: str, path: Path | None, endings: Sequence[str]) -> None:
    """Raise InputError for a file that an option names and that can't be written or would overwrite something."""
    if path is None:
        return
    console.check_local(option, path)
    if path.suffix not in endings:
        raise InputError(f"{option}: {path} must end in {' or '.join(endings)}")
    if path.exists():
        raise InputError(f"{option}: {path} exists; remove it or name another file")
    if not path.parent.is_dir():
        raise InputError(f"{option}: there is no folder {path.parent}; make it first")
    Location.of(path).try_out()


def write_table(table: pd.DataFrame, output: Path) -> None:
    """Write a table in the form that the file's name has, whole or not at all. Raises StorageError."""
    if output.suffix == ".csv":
        content = table.to_csv(index=False, float_format="%.4f").encode()
    else:
        content = table.to_parquet(index=False)
    Location.of(output).write_bytes(content)


def write_image(path: Path, figure: Figure) -> None:
    """Write a figure in the form that the file's name has. Raises StorageError."""
    Location.of(path).write_bytes(svg_of(figure) if path.suffix == ".svg" else png_of(figure))
    say(f"written to {path}")


def records(table: pd.DataFrame) -> Sequence[Row]:
    """A table's rows, with None for what they lack."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def read_table(path: Path, fills: Sequence[str]) -> pd.DataFrame:
    """A CSV file as texts, whose short rows are filled up and empty ones left out. Raises InputError where it is none,
    lacks `formula`, or has a column that the command `fills`.
    """
    try:
        read = csv.reader(read_lines(path), strict=True)
        lines = list(islice((line for line in read if any(map(str.strip, line))), MAX_ROWS + 2))
    except csv.Error as error:
        raise InputError(f"--input: {path} is not a CSV file ({error}); export it again") from None
    if not lines:
        raise InputError(f"--input: {path} is empty; give a CSV file with a column `formula`")
    header, rows = lines[0], lines[1:]
    if header.count("formula") != 1:
        raise InputError(
            f"--input: {path} has no single column `formula` (its columns: {', '.join(header)[:200]})"
        )
    taken = [name for name in header if name in fills or header.count(name) > 1]
    if taken:
        raise InputError(f"--input: {path} already has {taken[0]!r}, or has it twice; rename or remove it")
    if len(rows) > MAX_ROWS:
        raise InputError(f"--input: {path} has more than {MAX_ROWS:,} rows; split it")
    for at, row in enumerate(rows, start=1):
        if len(row) > len(header):
            raise InputError(
                f"--input: {path}, row {at}: {len(row)} fields under {len(header)} names; correct it"
            )
    padded = [row + [""] * (len(header) - len(row)) for row in rows]
    return pd.DataFrame(padded, columns=header, dtype=object)


def hand_over(
    table: pd.DataFrame,
    key: str,
    shown: Callable[[Row], dict[str, str]],
    output: Path | None,
    as_json: bool,
    *,
    listed: bool,
    about: Mapping[str, Any] | None = None,
) -> int:
    """Write the rows to `output`; or print them as one JSON object, under `key` beside `about`; or as a table, of each
    row what `shown` gives. listed: they came from a file. Return the exit code: 3 where some have an error, 2 where
    all of those that were given as arguments have one.
    """
    errors = table["error"].dropna()
    if output is not None:
        write_table(table, output)
        if as_json:
            print_json({"rows": len(table), "errors": len(errors)})
        else:
            say(f"{len(table):,} rows, {len(errors):,} of them with an error, written to {output}")
    else:
        rows = records(table)
        if as_json:
            print_json({**(about or {}), key: rows})
        else:
            terminal = Console()
            terminal.print(plain_table([shown(row) for row in rows], names=("formula",), texts=TEXTS))
            for line in measured_remarks(rows):
                terminal.print(line)
    if errors.empty:
        return 0
    say(f"{len(errors):,} of {len(table):,} formulas came to nothing; the first: {errors.iloc[0]}")
    return 3 if listed or len(errors) < len(table) else 2
