"""The help of `kiago search` ends with the screens: what each asks, and what it lets pass."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from typer.core import TyperCommand

from kiago_ray.screening.screens import REQUIRED, Passing, available_screens, load_screen_recall
from kiago_ray.search.sections import ScreensSpec


class ScreensCommand(TyperCommand):
    """A command whose help has the table of screens below."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, then the table."""
        super().format_help(ctx, formatter)
        Console().print(screens_table())


def screens_table() -> Table:
    """A row for each screen, and one for all that the preset default requires."""
    measured = load_screen_recall()
    required = ScreensSpec().names
    asked = {name: screen.description for name, screen in available_screens().items()}
    asked[REQUIRED] = f"All that the preset default requires: {', '.join(required)}."
    table = Table(
        title="Screens (screens.names), and the share of compositions that pass, %",
        title_justify="left",
        caption=f"Of {measured.superconductors:,} known superconductors, and of {measured.swaps:,} of them with one "
        "or two elements swapped at random.",
        caption_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("screen", no_wrap=True)
    table.add_column("asks")
    for header in ("known", "> 30 K", "swapped"):
        table.add_column(header, justify="right", no_wrap=True)
    for name, description in asked.items():
        found = measured.screens.get(name, Passing(None, None, None))
        shares = (found.recall, found.recall_above_30_k, found.swaps)
        table.add_row(
            name, description, *("–" if share is None else f"{100 * share:.1f}" for share in shares)
        )
    return table
