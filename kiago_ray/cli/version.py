"""`kiago version`: what runs here. A module of its own, for what the others import takes seconds."""

from __future__ import annotations

from typing import Annotated

import typer

from kiago_ray.cli.console import print_json
from kiago_ray.machine import provenance
from kiago_ray.predictors.weights import TUNING_ORACLE, load_card, weights_hashes

app = typer.Typer(add_completion=False)


@app.command()
def version(as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Versions, the weights' hashes and the devices."""
    # No search rests on the tuning oracle, sweeps do.
    hashes = weights_hashes() | {TUNING_ORACLE: load_card(TUNING_ORACLE)["sha256"]}
    facts = {**provenance(), "weights": hashes}
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        for key, item in value.items() if isinstance(value, dict) else [("", value)]:
            print(f"{name} {key}".strip().ljust(24), item)
