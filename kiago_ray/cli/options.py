"""The options of commands: those of a search, and those that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Argument, Option = typer.Argument, typer.Option

# Shared.
Known = Annotated[
    str | None,
    Option(
        help="Compositions to hold the rows against: a CSV file with formula and tc_k, SuperCon's primary.tsv, "
        "landmarks or none. By default supercon: the shipped ones."
    ),
]
Weights = Annotated[Path | None, Option(help="Folder that `kiago train` wrote.")]
Device = Annotated[str, Option(help="cpu, cuda, cuda:1, …")]
Out = Annotated[str | None, Option(help="Directory or URI; by default below runs/.")]
Top = Annotated[int, Option(min=0, max=1000, help="Rows to print.")]
AsJson = Annotated[bool, Option("--json", help="One JSON object on stdout.")]
Output = Annotated[Path | None, Option(help="File to write: .csv or .parquet.")]

# Of what runs on Ray.
NamedOut = Annotated[str | None, Option(help="Directory or URI; by default runs/NAME.")]
Address = Annotated[
    str | None, Option(help="Ray cluster, such as auto; by default RAY_ADDRESS, else this machine.")
]
KnownInstead = Annotated[
    str | None,
    Option(help="Instead of the file's known: primary.tsv, supercon (as shipped), landmarks or none."),
]
TrackingUri = Annotated[
    str | None,
    Option(help="MLflow store or server; by default MLFLOW_TRACKING_URI, else beside the output."),
]
NoTracking = Annotated[bool, Option("--no-tracking", help="Keep no MLflow record.")]

# Of a search.
Base = Annotated[str | None, Argument(help="Base material, such as LaNiAsO.")]
Preset = Annotated[
    str | None,
    Option(help="default, open, paper, reference, hydride, substitution, or a file such as best.yaml."),
]
Spec = Annotated[Path | None, Option(help="YAML file with (part of) a specification.")]
Candidates = Annotated[int | None, Option(help="Rows to optimise.")]
Steps = Annotated[str | None, Option(help="Steps of stage 1 and 2, such as 200,200.")]
Seed = Annotated[int | None, Option(help="Seed of the starts.")]
Fixed = Annotated[list[str] | None, Option(help="Fixed fraction of all atoms, such as O=0.25.")]
Allow = Annotated[str | None, Option(help="Only these elements, such as La,Ni,As,O.")]
Forbid = Annotated[str | None, Option(help="None of these elements, such as Hg,Tl,Pb.")]
Without = Annotated[
    str | None,
    Option(
        help="None of these: toxic, radioactive, noble-gas, rare, arsenic, or symbols. A word lets the base's own "
        "elements stay, a symbol doesn't."
    ),
]
Keep = Annotated[str | None, Option(help="Elements of the base whose sites stay as they are, such as Fe,As.")]
Dope = Annotated[
    list[str] | None,
    Option(help="What alone may come in on a site, such as La:Sr,Ba; other sites stay."),
]
Range = Annotated[
    str | None, Option("--range", help="Share of a site that foreign elements take, such as 0:0.3.")
]
MaxElements = Annotated[int | None, Option(help="Most elements of a candidate.")]
Substitute = Annotated[str | None, Option(help="Site and its state, such as La:+3; several as Ti:+4,O:-2*1.")]
SubstituteBy = Annotated[int | None, Option(help="State of the substitutes, where it isn't the site's.")]
Change = Annotated[list[str] | None, Option("--set", help="Any other field: alpha=4, start.kind=random.")]
Phases = Annotated[
    str | None,
    Option(
        help="Competing phases, by which the best rows get their energy above the hull: a CSV or TSV file, or "
        "none. By default the shipped ones, of the Materials Project."
    ),
]
Tried = Annotated[
    str | None,
    Option(
        help="What was made and measured, which isn't proposed again and re-weighs what is near: a CSV file with "
        "formula, tc_k (0: none found) and maybe down_to_k, or shipped, a survey of 2009. By default none."
    ),
]
