"""`kiago structures`: relaxed crystals with an energy, and DFT inputs, for formulas or a run's best."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from rich.console import Console
from typer import Argument, Option

from kiago_ray import __version__
from kiago_ray.chemistry.formula import FormulaError, parse
from kiago_ray.cli import console
from kiago_ray.cli.console import plain_table, print_json, say
from kiago_ray.cli.laboratory import candidates
from kiago_ray.errors import InputError
from kiago_ray.hull import EnergyHull
from kiago_ray.plausibility.model import load_prospects
from kiago_ray.progress import Counted, watching
from kiago_ray.report.structures import summary_line
from kiago_ray.runs.structures import PAGE, README, STABLE, TABLE, TABLE_CSV, StructureRun, screens_of
from kiago_ray.storage.location import Location
from kiago_ray.storage.run_directory import IDENTITY, open_run, read_run
from kiago_ray.storage.table import columns, written
from kiago_ray.structures.proposals import Found, Request, Settings, structure_of
from kiago_ray.structures.prototypes import (
    ENDINGS,
    MOST_ATOMS,
    Prototype,
    StructureError,
    read_structures,
    require_packages,
)
from kiago_ray.structures.relaxation import MODES_ATOMS, Potential

STRETCHED = 0.05  # of a length of the cell, which is told
FEW = 4  # rows up to which no Ray cluster is started unless workers are asked for
_TOLD = {
    "formula": "formula",
    "cell": "approximant",
    "prototype": "prototype",
    "space group": "spacegroup",
    "E_f": "ef_chgnet_ev_per_atom",
    "composition's": "ef_composition_ev_per_atom",
    "ΔE_hull": "e_hull_chgnet_ev_per_atom",
    "volume": "volume_change",
    "stable": STABLE,
}
_MOST_FILES = 2000
_MOST_BYTES = 20 << 20


What = Annotated[
    list[str],
    Argument(
        metavar="RUN|FORMULA…",
        help="Directory or URI of a search or campaign, a CSV or Parquet file, or formulas.",
    ),
]
Out = Annotated[
    str | None,
    Option(help="Directory or URI to write; by default `structures` in the run, else a new one below runs/."),
]
Own = Annotated[
    Path | None,
    Option(
        "--structures",
        metavar="DIR",
        help="Your own structures, which are tried first: CIF, POSCAR, or JSON of the Materials Project.",
    ),
]
Tried = Annotated[
    int,
    Option(
        min=1, max=20, help="Prototypes to relax of each row; one whose base is known keeps that structure."
    ),
]
Workers = Annotated[
    int | None,
    Option(
        min=1,
        help=f"Ray workers of one core each; by default one a core, and no Ray for up to {FEW} rows.",
    ),
]


def structures(
    what: What,
    top: Annotated[int, Option(min=1, max=1000, help="Rows of a run to take, the first of its table.")] = 20,
    out: Out = None,
    own: Own = None,
    prototypes: Tried = 2,
    orderings: Annotated[
        int, Option(min=1, max=50, help="Ordered cells to compare where sites are shared.")
    ] = 3,
    max_atoms: Annotated[int, Option(min=2, max=MOST_ATOMS, help="Largest cell.")] = MOST_ATOMS,
    seed: Annotated[int, Option(min=0, help="Seed of the random choice among orderings.")] = 0,
    modes: Annotated[bool, Option(help=f"Modes at Γ of cells of up to {MODES_ATOMS} atoms.")] = True,
    workers: Workers = None,
    address: Annotated[str | None, Option(help="Address of a Ray cluster.")] = None,
    as_json: console.AsJson = False,
) -> int:
    """Turn formulas, or a run's best, into relaxed crystals with an energy and inputs for DFT.

    A formula takes the structure of its base or of what it resembles, shared sites become an ordered cell, and CHGNet
    relaxes it. The same command again goes on where it was stopped. Formation energies stand beside the composition
    model's: where both disagree, believe neither.
    """
    require_packages()
    torch.set_num_threads(1)
    requests, rows = requested(what, top)
    mine, problems = own_structures(own)
    for problem in problems:
        say(str(problem))
    settings = Settings(tuple(mine), prototypes, orderings, max_atoms, seed=seed, modes=modes)
    where, potential = out or default_out(what, rows), Potential()
    of = read_run(what[0]) if rows and Location.of(what[0]).kind() == "directory" else None
    source = [[each.formula, each.base] for each in requests] if of is None else of.record[IDENTITY]
    directory = open_run(where, identity_of(source, settings, potential))
    screens = {} if of is None else screens_of(of.record)
    run = StructureRun(directory.location, requests, rows, None if out else of, screens)
    left = [(at, request) for at, request in enumerate(requests) if run.kept(at) is None]
    if len(left) < len(requests):
        say(f"{len(requests) - len(left):,} of {len(requests):,} rows were done before")
    view = Counted("structures", len(requests))
    view.done = view.before = len(requests) - len(left)
    notice = "stopping after this structure; what is done is kept"
    with console.stop_on_signal(notice) as stopping, watching(view):
        for at, found in all_found(left, settings, potential, workers, address):
            run.keep(at, found)
            view.done += 1
            view.moved(at_most_each_s=5)
            if error := found.values["error"]:
                view.note(f"{found.values['formula']}: {error}")
            if stopping():
                break
    done = run.finish()
    if len(done) == len(requests):
        directory.finish([TABLE, TABLE_CSV, PAGE, README])
    status = 3 if problems else 0
    return told(done, len(requests), where, as_json) or status


def identity_of(source: object, settings: Settings, potential: Potential) -> dict[str, Any]:
    """What makes the results of a directory the same. source: a run, of which more rows may be asked for later, or all
    formulas.
    """
    told = {**vars(settings), "own": [each.structure.as_dict() for each in settings.own]}
    own = hashlib.sha256(json.dumps(told.pop("own"), default=float).encode()).hexdigest()
    return {
        "structures": source,
        "settings": {**told, "own": own if settings.own else None},
        "chgnet": potential.identity,
        "kiago_ray": __version__,
    }


def all_found(
    left: Sequence[tuple[int, Request]],
    settings: Settings,
    potential: Potential,
    workers: int | None,
    address: str | None,
) -> Iterator[tuple[int, Found]]:
    """What comes of each row, in this process or on Ray, with the row's place."""
    if not left:
        return
    hull, odds = EnergyHull.of(), load_prospects().odds
    if workers is None and address is None and len(left) <= FEW:
        for at, request in left:
            yield at, structure_of(request, settings, potential, hull, odds)
        return
    from kiago_ray.distributed.structures import found_on_ray

    yield from found_on_ray(left, settings, hull, odds, workers=workers, address=address)


def told(rows: Sequence[Mapping[str, Any]], asked: int, where: str, as_json: bool) -> int:
    """Show what was done of the rows that were asked for; return the exit code."""
    if as_json:
        own = ("number", "formula", "folder", STABLE, *columns("structures"))
        print_json({"out": where, "rows": [{name: row[name] for name in own} for row in rows]})
    else:
        table = plain_table([shown_row(row) for row in rows], names=("formula",), texts=("cell", "remark"))
        Console().print(table)
        say(f"{summary_line(rows)} {where} has {PAGE}, {TABLE_CSV}, {README} and a folder a row")
    if len(rows) < asked:
        say(f"{asked - len(rows):,} rows are left; the same command goes on")
        return 1
    return 3 if any(row["error"] for row in rows) else 0


def shown_row(row: Mapping[str, Any]) -> dict[str, object]:
    """What a person sees of a row, header → cell."""
    remarks = {
        "energies disagree": row["energies_disagree"],
        "another structure after relaxation": row["prototype_survived"] is False,
        f"length {row['largest_stretch'] or 0:+.0%}": abs(row["largest_stretch"] or 0) > STRETCHED,
        f"{row['imaginary_modes']} imaginary modes": row["imaginary_modes"],
        "not converged": row["converged"] is False,
    }
    remark = row["error"] or "; ".join(text for text, told in remarks.items() if told)
    return {**{header: written(row, name) for header, name in _TOLD.items()}, "remark": remark}


def requested(what: Sequence[str], top: int) -> tuple[list[Request], list[Mapping[str, Any]]]:
    """The rows that a person asks for, and those of the run's table. Raises InputError."""
    formulas = []
    for text in what:
        try:
            parse(text)
            formulas.append(text)
        except FormulaError:
            if len(what) > 1 and Location.of(text).kind() == "nothing":
                formulas.append(text)  # a row with an error among others
    if formulas or len(what) > 1:
        if len(formulas) < len(what):
            raise InputError("give one run, or formulas, not both")
        return [Request(each) for each in formulas], []
    place = Location.of(what[0])
    if place.kind() == "nothing":
        parse(what[0])  # says what is wrong with it as a formula
    rows = [row for row in candidates(what[0], top) if row.get("formula")]
    if not rows:
        raise InputError(f"{what[0]}: there are no candidates in it")
    return [Request(str(row["formula"]), row.get("base")) for row in rows], list(rows)


def default_out(what: Sequence[str], rows: Sequence[Any]) -> str:
    """Where structures go that no one named a place for."""
    if rows and Location.of(what[0]).kind() == "directory":
        return (Location.of(what[0]) / "structures").text
    if rows:
        return f"runs/structures-{Path(what[0]).stem}"
    return f"runs/structures-{'-'.join(what)[:60]}".replace("/", "")


def own_structures(folder: Path | None) -> tuple[list[Prototype], list[StructureError]]:
    """The structures in a folder, and what is wrong with the others. Raises InputError."""
    if folder is None:
        return [], []
    if not folder.is_dir():
        raise InputError(f"--structures: {folder} is no directory")
    files = sorted(
        each
        for each in folder.iterdir()
        if each.suffix.lower() in ENDINGS or each.name.upper().startswith(("POSCAR", "CONTCAR"))
    )
    if not files:
        raise InputError(f"--structures: {folder} holds no {', '.join(ENDINGS)} and no POSCAR")
    found, problems = list[Prototype](), list[StructureError]()
    for file in files[:_MOST_FILES]:
        if file.stat().st_size > _MOST_BYTES:
            problems.append(
                StructureError(f"{file.name}: larger than {_MOST_BYTES >> 20} MB; the others are used")
            )
            continue
        for each in read_structures(file.name, file.read_bytes()):
            if isinstance(each, Prototype):
                found.append(each)
            else:
                problems.append(each)
    return found, problems
