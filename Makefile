# `make search` and `make test` each set everything up first; a second run finds it done.
PYTHON ?= python3.11
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup search campaign test test-long lint docs clean

help:  ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make the environment .venv/ with the pinned dependencies

$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "kiago-ray needs Python 3.11: install it, or say 'make PYTHON=/path/to/python3.11 …'" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

search: $(STAMP)  ## the main job: ranked proposals around LaFeAsO
	$(BIN)/kiago search LaFeAsO

campaign: $(STAMP)  ## eight small searches on Ray with an MLflow record, in runs/smoke/
	$(BIN)/kiago campaign run campaigns/smoke.yaml

test: $(STAMP)  ## all tests, in two processes of one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-long: $(STAMP)  ## the few tests that are too long for that
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long

lint: $(STAMP)  ## ruff, mypy and the import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)  ## the documentation, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:  ## remove the environment and what the tools left behind
	rm -rf .venv .ruff_cache .mypy_cache .pytest_cache .import_linter_cache .hypothesis build site *.egg-info
