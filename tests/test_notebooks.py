"""The notebooks of docs/ run from the first cell to the last."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from kiago_ray import propose
from kiago_ray.storage.table import table_bytes

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
pytestmark = pytest.mark.slow


def run(name: str, folder: Path) -> str:
    """All that the cells of a notebook print and return, run in this folder. Raises for a cell that fails."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=280, kernel_name="python3")
    with client.setup_kernel(cwd=str(folder)):
        for at, cell in enumerate(notebook.cells):
            client.execute_cell(cell, at)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(each.get("text", "") or each.get("data", {}).get("text/plain", "") for each in outputs)


def test_a_family_search(tmp_path: Path) -> None:
    assert "La1.85Sr0.15CuO4" in run("family_search", tmp_path)


def test_a_shortlist_of_a_campaign(tmp_path: Path) -> None:
    outcome = propose("LaFeAsO", overrides={"candidates": 24, "steps": [2, 2]})
    folder = tmp_path / "runs" / "smoke"  # one search's table, which a campaign's is too
    folder.mkdir(parents=True)
    (folder / "candidates.parquet").write_bytes(table_bytes(outcome.table))
    assert f"{outcome.table.num_rows} formulas from 1 base(s)" in run("campaign_shortlist", tmp_path)
    shortlist = pd.read_csv(tmp_path / "shortlist.csv")
    assert 0 < len(shortlist) <= 10
    assert shortlist["passed"].all()
    assert shortlist["known"].isna().all()
