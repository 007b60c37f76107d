"""A search that ran alone leaves the files that a campaign's search leaves, and a page."""

from __future__ import annotations

from pathlib import Path

import yaml

from kiago_ray import propose
from kiago_ray.predictors.weights import load_card, load_cards
from kiago_ray.report.page import card_notes
from kiago_ray.runs.outcome import write_outcome
from kiago_ray.storage.run_directory import SearchResults, open_run, read_run, whole_results


def test_every_file_is_written_and_the_page_holds_the_best_row(tmp_path: Path) -> None:
    outcome = propose("MgB2", overrides={"candidates": 16, "steps": [5, 5]})
    run = open_run(tmp_path / "run", {"search": outcome.spec.model_dump(mode="json")})
    results = write_outcome(outcome, run, cards=load_cards(), remark="Stopped <early>.")
    files = {file.name for file in (tmp_path / "run").iterdir()}
    assert files == {"spec.yaml", *read_run(tmp_path / "run").record["outputs"]}
    assert {"candidates.parquet", "top.csv", "curves.parquet", "summary.json", "report.html"} < files
    assert whole_results(read_run(tmp_path / "run"), SearchResults) == results
    assert results.complete
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"{outcome.table['tc_k'][0].as_py():.1f}" in page
    assert card_notes(load_cards())[0].partition(" of chemical systems ")[2].split(" (")[0] in page
    assert "Stopped &lt;early&gt;." in page
    assert "Why these may be believed, and why not" in page
    assert f"{load_card('ef')['splits']['system']['elemnet']['mae']:.3f} eV/atom on average" in page
    for name in ("tc_against_ef.png", "pareto.png", "search_against_oracle.png", "trajectory.png"):
        assert (tmp_path / "run" / name).read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "run" / "candidates.parquet").open("ab") as table:
        table.write(b"\0")
    assert whole_results(read_run(tmp_path / "run"), SearchResults) is None


def test_a_search_that_was_stopped_is_not_finished(tmp_path: Path) -> None:
    outcome = propose("MgB2", overrides={"candidates": 8, "steps": [5, 5]}, should_stop=lambda: True)
    run = open_run(tmp_path / "run", {"search": outcome.spec.model_dump(mode="json")})
    assert not write_outcome(outcome, run, cards=load_cards()).complete
    assert yaml.safe_load((tmp_path / "run" / "spec.yaml").read_text())["finished"] is False


def test_notes_are_those_of_the_cards_in_use() -> None:
    shipped, others = load_cards(), load_cards()
    for kind, network in (("tc", "resnet18"), ("ef", "elemnet")):
        others[kind]["splits"]["system"][network]["mae"] = 99.125
    others["ef_ensemble"]["splits"]["system"]["oqmd"]["ensemble"]["mae"] = 99.125
    assert all("99.1" in note for note in card_notes(others))
    assert not any("99.1" in note for note in card_notes(shipped))
    assert len(card_notes(shipped)) == 3
    assert card_notes({}) == ()
