# `make search` and `make test` each set everything up first; a second run finds it done.
PYTHON ?= $(or $(shell command -v python3.11),python3)
# The build of PyTorch: cpu, or cu130 for NVIDIA's GPUs.
TORCH ?= cpu
BIN := .venv/bin
STAMP := .venv/.installed-$(TORCH)
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" $(UPGRADE)

.DEFAULT_GOAL := help
.PHONY: help setup search campaign test test-long test-network lint docs lock clean

help:  ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make the environment .venv/ with what the lock files pin; TORCH=cu130 for a GPU

# PyTorch in a call of its own, so that its index is asked for nothing else.
$(STAMP): pyproject.toml requirements-dev.lock requirements-torch-$(TORCH).txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "kiago-ray needs Python 3.11 or later: install it, or say 'make PYTHON=/path/to/python …'" >&2; exit 2; }
	$(PYTHON) -m venv $(if $(wildcard $(STAMP)),,--clear) .venv
	$(INSTALL) --retries 1 --require-hashes -r requirements-torch-$(TORCH).txt
	$(INSTALL) --require-hashes -r requirements-dev.lock
	$(INSTALL) --no-build-isolation -e .
	@touch $@

search: $(STAMP)  ## the main job: ranked proposals around LaFeAsO
	$(BIN)/kiago search LaFeAsO

campaign: $(STAMP)  ## eight small searches on Ray with an MLflow record, in runs/smoke/
	$(BIN)/kiago campaign run campaigns/smoke.yaml

test: $(STAMP)  ## all tests, in two processes of one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-long: $(STAMP)  ## the few tests that are too long for that
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long

test-network: $(STAMP)  ## does everything resolve on each Python? asks the package index
	$(BIN)/python -m pytest -m network

lint: $(STAMP)  ## ruff, mypy, the import rules, and known vulnerabilities of the pins (where the index knows them)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(BIN)/python deployments/audit.py

docs: $(STAMP)  ## the documentation, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# torch is left out of the two lock files, for requirements-torch-*.txt have it; what it needs for macOS, where it brings
# no CUDA, is what every build of it needs.
lock: $(STAMP)  ## pin what pyproject.toml asks for, and keep the other pins; UPGRADE=--upgrade renews all
	sed -n 's/^\(torch==[0-9.]*\) .*/\1/p' requirements-torch-cpu.txt > .venv/torch.txt
	MACOSX_DEPLOYMENT_TARGET=14.0 $(BIN)/uv pip compile --quiet --no-header --no-annotate --python-platform macos \
		--python-version 3.11 .venv/torch.txt -o .venv/torch-for-macos.txt
	sed '/^torch==/d; s/==.*//' .venv/torch-for-macos.txt > .venv/torch-needs.txt
	echo "torch; python_version < '3'" > .venv/no-torch.txt
	$(LOCK) pyproject.toml .venv/torch-needs.txt --extra s3 --overrides .venv/no-torch.txt -o requirements.lock
	$(LOCK) pyproject.toml .venv/torch-needs.txt --all-extras -c requirements.lock --overrides .venv/no-torch.txt -o requirements-dev.lock
	$(LOCK) .venv/torch.txt -c requirements.lock -o requirements-torch-cu130.txt
	echo cyclonedx-bom > .venv/sbom.txt
	$(LOCK) .venv/sbom.txt -c requirements-dev.lock -o requirements-sbom.lock

clean:  ## remove the environment and what the tools left behind
	rm -rf .venv .ruff_cache .mypy_cache .pytest_cache .import_linter_cache .hypothesis build site *.egg-info
