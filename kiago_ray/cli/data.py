"""`kiago data`: raw public files fetched from their publisher, checked, counted."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kiago_ray.datasets import LoadReport
    from kiago_ray.datasets.cache import CachedFile

data_app = typer.Typer(
    help="Raw public files: fetch them, check them, count what they hold.", no_args_is_help=True
)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@data_app.callback()
def data() -> None:
    """Raw public files: fetch them, check them, count what they hold."""


class Fetchable(StrEnum):
    """What can be fetched."""

    SUPERCON = "supercon"


@data_app.command()
def fetch(
    name: Annotated[Fetchable, typer.Argument(help="What to fetch.")],
    url: Annotated[
        str | None, typer.Option(help="Another address: of the archive, or of primary.tsv itself.")
    ] = None,
    sha256: Annotated[
        str | None, typer.Option(help="What the download, or the table in it, must have.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch it again, whatever is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Download SuperCon from its publisher into the cache, where `kiago search` finds it."""
    from kiago_ray.cli.console import say
    from kiago_ray.datasets.fetch import URL, fetch_supercon

    found = None if force else present(sha256)
    if found is None:
        say(f"fetching {url or URL}")
        found = fetch_supercon(url or URL, pinned=sha256)
    else:
        say("it is there already and as it was fetched; --force fetches it again")
    show_fetched(found, as_json)


@data_app.command()
def check(
    files: Annotated[list[Path], typer.Argument(help="SuperCon, OQMD, Materials Project or COD tables.")],
    as_json: AsJson = False,
) -> None:
    """Read files as training would, and say what was kept, merged and dropped, and why."""
    from kiago_ray.datasets import load

    reports = [load(file)[1] for file in files]
    if as_json:
        print(json.dumps({"files": [report.to_dict() for report in reports]}, indent=2, ensure_ascii=False))
        return
    for report in reports:
        show(report)


@data_app.command("count-elements")
def count_elements(
    supercon: Annotated[Path, typer.Option(help="SuperCon's primary.tsv.")],
    materials_project: Annotated[Path, typer.Option(help="The Materials Project's ground states.")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
) -> None:
    """Count how many compositions hold each element: the frequencies that a search substitutes by."""
    from kiago_ray.cli.failures import InputError
    from kiago_ray.datasets.statistics import write_element_counts

    if out.exists():
        raise InputError(f"--out: {out} exists; remove it or name another file")
    if not out.parent.is_dir():
        raise InputError(f"--out: there is no folder {out.parent}; make it first")
    try:
        counts = write_element_counts(out, supercon, materials_project)
    except OSError as error:
        raise InputError(f"--out: can't write {out} ({error.strerror}); choose another place") from None
    print(f"{out}: {counts.supercon.compositions} and {counts.non_superconductors.compositions} compositions")


@data_app.command("fingerprint")
def fingerprint(
    supercon: Annotated[Path, typer.Option(help="SuperCon's primary.tsv.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
) -> None:
    """Write the fingerprints by which the screen not_in_supercon knows SuperCon's compositions."""
    from kiago_ray.cli.failures import InputError
    from kiago_ray.datasets import fractions, load_supercon
    from kiago_ray.datasets.fingerprints import write_fingerprints

    if out.exists():
        raise InputError(f"--out: {out} exists; remove it or name another file")
    table, _ = load_supercon(supercon)
    try:
        count = write_fingerprints(out, fractions(table))
    except OSError as error:
        raise InputError(f"--out: can't write {out} ({error.strerror}); choose another place") from None
    print(f"{out}: {count:,} compositions")


def present(pinned: str | None) -> CachedFile | None:
    """The fetched SuperCon; None where there is none, it is damaged, or it isn't the one that is asked for."""
    from kiago_ray.cli.console import say
    from kiago_ray.datasets import DataError
    from kiago_ray.datasets.fetch import cached_supercon

    try:
        found = cached_supercon()
    except DataError as error:
        say(f"not usable, so that it is fetched again: {error}")
        return None
    hashes = () if found is None else (found.sha256, found.about.get("download_sha256"))
    return found if pinned is None or pinned.lower() in hashes else None


def show_fetched(found: CachedFile, as_json: bool) -> None:
    """What was fetched, from where, and on what terms it may be used."""
    from kiago_ray.datasets.fetch import VERSION, is_shipped_version

    version = VERSION if is_shipped_version(found.sha256) else f"another one than {VERSION}"
    facts = {"file": str(found.path), **found.about, "version": version}
    if as_json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    trained = " (what the shipped weights were made from)" if version == VERSION else ""
    for label, value in {
        "source": facts["source"],
        "version": version + trained,
        "DOI": f"https://doi.org/{facts['doi']}",
        "licence": f"{facts['licence']}: name the source wherever you use it",
        "from": f"{facts['url']}, {facts['fetched_at']}",
        "SHA-256": f"{found.sha256} (of the download: {facts['download_sha256']})",
        "usable rows": f"{int(facts['usable_rows']):,}",
        "file": facts["file"],
    }.items():
        print(f"{label.ljust(12)} {value}")


def show(report: LoadReport) -> None:
    """One file's account as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(title=Text(f"{report.file} ({report.kind})"), title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    table.add_column(style="dim", overflow="fold")
    table.add_row("rows read", f"{report.rows_read:,}")
    for reason, count in report.dropped.items():
        table.add_row(f"dropped: {reason}", f"{count:,}", Text("; ".join(report.examples[reason][:3])))
    table.add_row("merged into another row", f"{report.duplicates_merged:,}")
    table.add_row("compositions kept", f"{report.rows_kept:,}")
    table.add_row("SHA-256", "", report.sha256)
    console.print(table)
    for warning in report.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)
