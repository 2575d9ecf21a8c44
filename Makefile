# Everything a user or contributor does. `make` alone lists it.
VENV    ?= .venv
PYTHON  ?= python3
BIN     := $(VENV)/bin
PIP     := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
IMAGES  ?=
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help demo serve test lint types protos bench bench-methods soak lock audit clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One stamp a set of extras: installed again only when pyproject.toml or constraints.txt changes.
$(VENV)/.serving: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e ".[cpu]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e ".[cpu,train,export,bench,dev]"
	@touch $@ $(VENV)/.serving

demo: $(VENV)/.serving ## Start a server, index people, search them partly hidden (IMAGES=folder: your own crops)
	$(BIN)/glimpse demo $(if $(IMAGES),--images "$(IMAGES)")

serve: $(VENV)/.serving ## Serve the embedded model on localhost:50051
	$(BIN)/glimpse serve

test: $(VENV)/.dev ## Run the tests
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.dev ## Check style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev ## Check types
	$(BIN)/mypy

protos: $(VENV)/.dev ## Generate the gRPC stubs again
	$(BIN)/python -m protos.generate

bench: $(VENV)/.dev ## Measure serving, people and metrics; prints ratios
	$(BIN)/glimpse bench serving
	$(BIN)/glimpse bench people

bench-methods: $(VENV)/.dev ## Train and test all seven methods on generated people (hours)
	$(BIN)/glimpse bench methods

soak: $(VENV)/.dev ## Hurt the server in every way of docs/security.md for hours; prints a table (MINUTES=60 ONLY=steady)
	$(BIN)/python -m tests.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(LOAD),--load $(LOAD)) $(if $(SHORT),--short) $(if $(ONLY),--only $(ONLY))

# Their own environment: what pins and audits a server is no part of it.
$(VENV)/lock/bin/uv: | $(BIN)/python
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check uv pip-audit

lock: $(VENV)/.dev $(VENV)/lock/bin/uv ## Pin what a server installs, with hashes (requirements.lock)
	$(VENV)/lock/bin/python deploy/lock.py $(BIN)/python

audit: $(VENV)/lock/bin/uv ## Look the locked packages up among known vulnerabilities
	$(VENV)/lock/bin/python deploy/audit.py

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
