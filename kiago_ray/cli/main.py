"""The `kiago` command: its sub-commands, and how errors end it.

Exit codes: 0 done; 2 the input is wrong (one line on stderr); 3 finished with failures that are listed; 1
anything else.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer
from typer._click.exceptions import ClickException

from kiago_ray.cli.baseline import baseline_app
from kiago_ray.cli.bench import bench
from kiago_ray.cli.campaign import campaign_app
from kiago_ray.cli.data import data_app
from kiago_ray.cli.hull import hull
from kiago_ray.cli.paper import paper
from kiago_ray.cli.predict import predict
from kiago_ray.cli.screens_help import ScreensCommand
from kiago_ray.cli.search import search
from kiago_ray.cli.serve import serve
from kiago_ray.cli.sweep import sweep
from kiago_ray.cli.train import train_app
from kiago_ray.errors import KiagoError

app = typer.Typer(
    name="kiago",
    help="Propose superconductor compositions with a higher critical temperature.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(cls=ScreensCommand)(search)
app.command()(predict)
app.command()(hull)
app.command()(sweep)
app.command()(serve)
app.command()(bench)
app.command()(paper)
app.add_typer(campaign_app, name="campaign")
app.add_typer(baseline_app, name="baseline")
app.add_typer(train_app, name="train")
app.add_typer(data_app, name="data")


@app.command()
def version(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Versions, the weights' hashes and the devices."""
    import json

    from kiago_ray.cli.provenance import provenance
    from kiago_ray.predictors.oracle import TUNING_KIND
    from kiago_ray.predictors.weights import load_card

    facts = provenance()
    facts["weights"] |= {TUNING_KIND: load_card(TUNING_KIND)["sha256"]}  # no search rests on it, sweeps do
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for key, item in inner:
            print(f"{name} {key}".strip().ljust(24), item)


def main() -> NoReturn:
    """Run the command line; an error that a person can put right ends it with its exit code and one line."""
    # Threads that spin while they wait cost several times their work as soon as another program runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        status = app(standalone_mode=False) or 0
    except typer.Abort:
        status = fail("interrupted")
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the reader has gone; nothing is lost
        status = 0
    except KiagoError as error:
        status = fail(str(error), error.exit_code)
    except ClickException as error:
        status = fail(error.format_message())
    sys.exit(status)


def fail(message: str, code: int = 2) -> int:
    """Write one line to stderr, where there is something to say, and return the exit code."""
    if message:
        print("kiago: " + " ".join(message.split()), file=sys.stderr)
    return code
