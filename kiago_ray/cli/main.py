"""The `kiago` command: its sub-commands, and how errors end it. Exit codes: 0 done; 2 the input is wrong (one line
on stderr); 3 finished with failures that are listed; 1 anything else.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer import Option
from typer.core import TyperCommand, TyperGroup

from kiago_ray.errors import InputError, KiagoError

# What the list of commands says of each, and the module of this package that holds it under its name.
COMMANDS = {
    "search": "Search for compositions with a higher T_c around FORMULA; print the best and write a run directory.",
    "predict": "Say of formulas what a search says of its rows.",
    "scan": "Scan doping series of a formula: T_c, plausibility, energy above the hull and charges at each x.",
    "hull": "Energy above the convex hull of competing phases (eV/atom), and what a formula would decompose into.",
    "structures": "Turn formulas, or a run's best, into relaxed crystals with an energy and inputs for DFT.",
    "shortlist": "A list for the laboratory of a run's best: precursors with masses, reactions, hazards, references.",
    "runs": "List the runs in a directory with what they were, the latest first.",
    "compare": "Say what two runs differ in: specification and results.",
    "sweep": "Run the sweep in FILE; the same command again runs only what is missing.",
    "serve": "Serve predictions, searches and the page at http://HOST:PORT/ until Ctrl-C.",
    "bench": "Measure this machine: a step's CPU seconds, the share of the arithmetic limit, a whole search.",
    "paper": "Run what TABLE needs and print ours beside the paper's; write CSV, Markdown and plots, and for `all` "
    "one page.",
    "campaign": "Many searches on Ray: bases × variants × seeds.",
    "baseline": "Elemental substitution and SuperDiff, into the same table and run directory as a search.",
    "train": "Train a model; run again to resume after a stop.",
    "fields": "Every field of a search, a campaign, a sweep and the service: what it takes, its default, and why.",
    "data": "Raw public files: check them, pack them.",
}
MODULES = {"predict": "formulas", "hull": "formulas", "baseline": "paper", "data": "train"}
MODULES |= dict.fromkeys(("shortlist", "runs", "compare"), "laboratory")


class Command(TyperCommand):
    """Stands for a command in the list. Its module is imported when it is called, for that takes seconds."""

    @property
    def whole(self) -> Any:
        """The command itself, or the group of commands."""
        assert self.name is not None
        module = import_module(f"kiago_ray.cli.{MODULES.get(self.name, self.name)}")
        command = getattr(module, self.name)  # a function, or a group of several
        if isinstance(command, typer.Typer):
            return typer.main.get_group(command)
        alone = typer.Typer(add_completion=False)
        alone.command(cls=module.HelpWithScreens if self.name == "search" else None)(command)
        return typer.main.get_command(alone)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **more: Any) -> Any:
        """The context of the command itself, which is what runs."""
        return self.whole.make_context(info_name, args, parent, **more)


class Commands(TyperGroup):
    """All commands, of which none but `version` is imported."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        own = self.commands
        self.commands = {name: Command(name, callback=None, help=text) for name, text in COMMANDS.items()}
        self.commands |= own


app = typer.Typer(
    name="kiago", cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.callback()
def kiago() -> None:
    """Propose superconductor compositions with a higher critical temperature."""


@app.command()
def version(as_json: Annotated[bool, Option("--json", help="One JSON object on stdout.")] = False) -> None:
    """Versions, the weights' hashes and the devices."""
    # These take a second, which the list of commands doesn't wait.
    from kiago_ray.cli.console import print_facts, print_json
    from kiago_ray.predictors.weights import TUNING_ORACLE, load_card, weights_hashes
    from kiago_ray.storage.run_directory import provenance

    # No search rests on the tuning oracle, sweeps do.
    hashes = weights_hashes() | {TUNING_ORACLE: load_card(TUNING_ORACLE)["sha256"]}
    (print_json if as_json else print_facts)({**provenance(), "weights": hashes})


def main() -> NoReturn:
    """Run the command line; an error that a person can put right ends it with its exit code and one line."""
    # Threads that spin while they wait cost several times their work as soon as another program runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    write_what_is_not_there()
    reach_loopback_directly()
    try:
        check_text(sys.argv[1:])
        status = app(standalone_mode=False) or 0
    except typer.Abort:
        status = fail("interrupted")
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the reader has gone; nothing is lost
        status = 0
    except KiagoError as error:
        status = fail(str(error), error.exit_code)
    except typer.TyperException as error:
        status = fail(error.format_message())
    sys.exit(status)


def write_what_is_not_there() -> None:
    """Let both streams write signs that their encoding lacks in ASCII, instead of failing after all the work."""

    def instead(error: UnicodeError) -> tuple[str, int]:
        from kiago_ray.report.terminal import in_ascii

        assert isinstance(error, UnicodeEncodeError)
        return in_ascii(error.object[error.start : error.end]), error.end

    codecs.register_error("kiago", instead)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="kiago")


def reach_loopback_directly() -> None:
    """Add this machine to what needs no proxy, for MLflow and whatever else asks the environment, here and in workers:
    a proxy would look for 127.0.0.1 on its own machine.
    """
    without = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if without != "*":
        hosts = [host.strip() for host in without.split(",") if host.strip()]
        os.environ["no_proxy"] = ",".join(dict.fromkeys([*hosts, "localhost", "127.0.0.1", "::1"]))


def check_text(arguments: Sequence[str]) -> None:
    """Raise InputError for an argument that holds bytes which are no text."""
    for number, argument in enumerate(arguments, start=1):
        if not argument.isascii() and re.search("[\ud800-\udfff]", argument):
            shown, encoding = os.fsencode(argument), sys.getfilesystemencoding().upper()
            raise InputError(f"argument {number} is no {encoding}: {shown!r}; write it in that encoding")


def fail(message: str, code: int = 2) -> int:
    """Write one line to stderr, where there is something to say, and return the exit code."""
    if message:
        print("kiago: " + " ".join(message.split()), file=sys.stderr)
    return code
