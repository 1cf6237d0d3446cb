# GNU make 3.81 (macOS) reads this file. `make` alone prints what there is.
# Another Python: make setup PYTHON=/path/to/python3.12    Options for a command: make up ARGS="--port 9090"
.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-fast test-faults soak test-engines lint format docs bench clean locks schemas test-servers

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.12 python3.13 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; exit; }; done)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST ?= $(BIN)/python -m pytest
ENGINES := .venv-engines
ENGINES_PYTEST ?= $(ENGINES)/bin/python -m pytest
ARGS ?=

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(VENV)/.stamp-local ## Make .venv and install what `make demo` needs, pinned by hash

demo: $(VENV)/.stamp-local ## Start everything, feed it the shipped speech, search it, end
	$(BIN)/earshot demo $(ARGS)

up: $(VENV)/.stamp-local ## Start everything and leave it running
	$(BIN)/earshot up $(ARGS)

test: $(VENV)/.stamp-dev ## Run the tests; real servers where they can be had
	$(PYTEST) -m "not full" $(ARGS)

test-fast: $(VENV)/.stamp-dev ## Run the unit tests alone; nothing else has to run
	$(PYTEST) tests/unit $(ARGS)

test-faults: $(VENV)/.stamp-dev ## Run every fault test, the full matrix, and write docs/guarantees.md
	EARSHOT_GUARANTEES=docs/guarantees.json $(PYTEST) tests/faults $(ARGS)
	$(BIN)/python docs/build.py

soak: $(VENV)/.stamp-dev ## Random faults over real stages for 30 minutes; ARGS="--minutes 3 --seed 7 --transport kafka"
	$(BIN)/python -m tests.faults.soak $(ARGS)

test-engines: $(ENGINES)/.stamp ## Run the tests that need torch, in .venv-engines (about 7 GB)
	EARSHOT_TEST_ENGINES=required $(ENGINES_PYTEST) tests/engines $(ARGS)

lint: $(VENV)/.stamp-dev ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict services

format: $(VENV)/.stamp-dev ## Format the code and sort its imports
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

docs: schemas ## Write what is generated: schemas, .env.example, the tables of the documents
	$(BIN)/python deploy/env_example.py
	$(BIN)/python docs/build.py
	$(BIN)/python docs/asyncapi.py

bench: $(VENV)/.stamp-dev ## Measure the pipeline against a bare loop
	$(BIN)/python benchmarks/pipeline.py $(ARGS)

clean: ## Delete .venv, .venv-engines and caches; never ./data
	rm -rf $(VENV) $(ENGINES) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov dist
	find services tests benchmarks deploy -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

schemas: $(VENV)/.stamp-dev # Write schemas/*.avsc from the events' models
	$(BIN)/python -m earshot.kernel.avro

test-servers: $(VENV)/.stamp-dev # Fetch the servers of the tests (Java 17, Maven, Go, npm)
	$(BIN)/python -m tests.servers fetch

COMPILE := uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links pyproject.toml

locks: # Resolve the dependencies again and pin them (needs uv)
	@command -v uv >/dev/null || { echo "uv is needed: https://docs.astral.sh/uv/"; exit 1; }
	$(COMPILE) --extra local --extra asr --extra mcp --extra otlp --extra postgres --extra redis --extra dev -o requirements-dev.lock
	$(COMPILE) --constraint requirements-dev.lock --extra local --extra asr --extra mcp --extra otlp --extra postgres --extra redis \
		-o requirements-local.lock
	$(COMPILE) --constraint requirements-dev.lock --extra mcp --extra otlp --extra postgres --extra redis -o requirements.lock
	$(COMPILE) --extra local --extra asr --extra embedding --extra diarization --extra mcp --extra otlp --extra postgres --extra redis --extra eval \
		--extra dev -o requirements-engines.lock
	$(COMPILE) --constraint requirements-engines.lock --extra asr --extra embedding --extra diarization --extra mcp --extra otlp \
		--extra postgres --extra redis -o requirements-gpu.lock

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed, and none was found. Install one, or name it: make setup PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

# The stamps say that a lock file is installed, so that a second run needs no network.
$(VENV)/.stamp-local: requirements-local.lock pyproject.toml | $(BIN)/python
	@echo "Installing Earshot into $(VENV) …"
	$(INSTALL) --require-hashes -r requirements-local.lock
	$(INSTALL) --no-deps -e .
	@touch $@

$(VENV)/.stamp-dev: requirements-dev.lock pyproject.toml | $(BIN)/python
	@echo "Installing Earshot and its development tools into $(VENV) …"
	$(INSTALL) --require-hashes -r requirements-dev.lock
	$(INSTALL) --no-deps -e .
	@touch $@ $(VENV)/.stamp-local

# Byte code of 7 GB that is imported in part: written when it is.
$(ENGINES)/.stamp: requirements-engines.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed, and none was found."; exit 1; }
	@echo "Installing Earshot and every engine into $(ENGINES) …"
	@test -x $(ENGINES)/bin/python || $(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements-engines.lock
	$(ENGINES)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
