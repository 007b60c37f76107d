"""Which of the known public tables a file is, by its header, and loading it as that."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from itertools import islice
from types import MappingProxyType

import pandas as pd

from kiago_ray.data import cod, supercon
from kiago_ray.data import phases as formation_energies
from kiago_ray.data.files import LoadReport, PathLike, fail, read_lines

Loader = Callable[[PathLike], tuple[pd.DataFrame, LoadReport]]

LOADERS: Mapping[str, Loader] = MappingProxyType(
    {
        supercon.KIND: supercon.load_supercon,
        formation_energies.OQMD_KIND: formation_energies.load_oqmd,
        formation_energies.MATERIALS_PROJECT_KIND: formation_energies.load_materials_project,
        cod.KIND: cod.load_cod,
    }
)
KINDS = tuple(LOADERS)

# The Materials Project before OQMD, whose columns it has too.
_COMMA_SEPARATED = (
    (cod.KIND, cod.COLUMNS),
    (formation_energies.MATERIALS_PROJECT_KIND, formation_energies.MATERIALS_PROJECT_COLUMNS),
    (formation_energies.OQMD_KIND, formation_energies.OQMD_COLUMNS),
)

UNDERSTOOD = (
    "understood are: SuperCon's primary.tsv (third line: num name element str3 utc tc journal), "
    "OQMD (formula,formation_energy_ev_per_atom), "
    "the Materials Project (the same and decomposition_energy_ev_per_atom), "
    "COD's search export (file,…,formula,calcformula,…)"
)


def detect(path: PathLike) -> str:
    """One of `KINDS`, from the first three lines. Raises DataError for anything else."""
    lines = list(islice(read_lines(path), supercon.HEADER_LINE))
    if not lines:
        fail(path, None, "the file is empty", "fetch it again")
    if len(lines) == supercon.HEADER_LINE:
        names = set(lines[-1].rstrip("\r\n").split("\t"))
        if names.issuperset(supercon.COLUMNS):
            return supercon.KIND
    names = {name.strip() for name in next(csv.reader(lines[:1]), [])}
    kind = next((kind for kind, columns in _COMMA_SEPARATED if names.issuperset(columns)), None)
    if kind is None:
        fail(path, 1, f"the header {lines[0].strip()[:60]!r} is not one of a known table", UNDERSTOOD)
    return kind


def load(path: PathLike) -> tuple[pd.DataFrame, LoadReport]:
    """The file's table, one row a composition, and its report, whichever kind it is. Raises DataError."""
    return LOADERS[detect(path)](path)
