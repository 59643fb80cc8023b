# Springtide. `make help` lists what there is; every target sets up .venv by itself and remembers that it did.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip
# The build of torch that uv chooses: empty (as on the registry, with CUDA), cpu, cu130, auto. Said once, it is remembered.
TORCH_BACKEND ?= $(shell cat $(VENV)/torch-backend 2>/dev/null)
READY := $(VENV)/installed$(addprefix -,$(TORCH_BACKEND))
QUICK_WORKERS ?= 2
# Where Python is told to keep no bytecode, every process compiles torch anew: 14 s instead of 4.
unexport PYTHONDONTWRITEBYTECODE
WARM := import torch._dynamo, springtide.train.run, springtide.train.supervisor, springtide.cli.run, springtide.cli.commands
BENCHES ?= elastic steady memory checkpoint sequence scaling planner pool bulk streams stream_training serving loop
PEERS := .venv-peers

.PHONY: help setup demo demo-voice demo-elastic test lint types layers quick test-slow test-cluster test-long bench lock format clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

setup: $(READY) ## Make .venv with everything in it (every other target does so by itself)
	@echo "$(VENV) is ready"

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Springtide needs Python 3.11 or newer, and $(PYTHON) is not; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "$(PYTHON) -m venv failed (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet "$$(sed -nE 's/^(uv==[0-9.]+).*/\1/p' requirements.lock)"
ifeq ($(TORCH_BACKEND),)
	$(UV) sync --quiet --python $(BIN)/python requirements.lock
else
	@# Another build of torch needs other packages beside it, so here the lock only limits versions.
	$(UV) install --quiet --python $(BIN)/python --torch-backend $(TORCH_BACKEND) --reinstall-package torch \
	  --constraints requirements.lock --requirements pyproject.toml --extra dev
endif
	$(UV) install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c '$(WARM)'
	@rm -f $(VENV)/installed*; echo "$(TORCH_BACKEND)" > $(VENV)/torch-backend; touch $@

demo: $(READY) ## See the whole thing work on this machine: a day of a pool, in 90 seconds
	@$(BIN)/python examples/demo_pool.py

demo-voice: $(READY) ## Speech controls a television, and learns a new word from its users: about three minutes
	@$(BIN)/python examples/demo_voice.py

demo-elastic: $(READY) ## Train under chaos and undisturbed, and compare the bits
	@$(BIN)/python examples/demo_elastic.py

test: lint types layers quick ## All that must hold before a commit: about seven minutes on two cores

lint: $(READY) ## Style and likely mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## mypy, strict, on src
	$(BIN)/mypy

layers: $(READY) ## A room imports only from below
	$(BIN)/lint-imports

quick: $(READY) ## The quick tests
	$(BIN)/pytest -q -n $(QUICK_WORKERS) --dist loadgroup

test-slow: $(READY) ## Longer chaos and model checking: about 25 minutes on two cores
	$(BIN)/pytest -q -m slow -n $(QUICK_WORKERS) --dist loadgroup --timeout 900

test-cluster: $(READY) ## Against a real Kafka and a real HDFS, which it starts (needs Java and Maven)
	$(BIN)/pytest -q -m cluster --timeout 900 tests/cluster

test-long: $(READY) ## The whole storm: a thousand schedules
	$(BIN)/pytest -q -m long --timeout 0

bench: $(READY) $(PEERS)/installed ## Every benchmark against its peers, in tables
	@for name in $(BENCHES); do $(BIN)/python -m benchmarks.$$name --json benchmarks/results/$$name.json; done
	@$(BIN)/python -m benchmarks.document

# The peers have an environment of their own: what they ask for need not suit us.
$(PEERS)/installed: requirements.lock benchmarks/peers/requirements.txt | $(READY)
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(UV) install --quiet --python $(PEERS)/bin/python $(addprefix --torch-backend ,$(TORCH_BACKEND)) \
	  --constraints requirements.lock --requirements benchmarks/peers/requirements.txt
	@touch $@

lock: $(READY) ## Pin the newest versions that suit pyproject.toml (no address of a registry in the file)
	$(UV) compile --quiet --universal --python-version 3.11 --upgrade --no-header --no-annotate --extra dev pyproject.toml --output-file requirements.lock

format: $(READY) ## Let ruff lay out the code and sort the imports
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .

clean: ## Remove the environments and all caches
	rm -rf $(VENV) $(PEERS) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .made
	find . -name __pycache__ -type d -prune -exec rm -rf {} + ; rm -rf src/*.egg-info
