# make demo   creates the environment and opens the app on the shipped checkpoints
# make test   creates the environment, installs Chromium where it may, runs lint, types, tests
# make test-slow   the tests that make test leaves out: whole recipes, benchmarks, a Ray cluster
# make models DATA=FOLDER   makes every checkpoint that is stale (CONTRIBUTING.md); TOY=1: of toy data

PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint types unit system models figures clean

demo: $(VENV)/.run
	WSDEMO_OPEN_BROWSER=1 $(BIN)/python app.py

test: $(VENV)/.dev system lint types unit

test-slow: $(VENV)/.dev system
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(BIN)/python -m pytest

# Chromium drives the browser tests, packages.txt lets pyrender draw; without them some tests are
# skipped, by name, at the end.
system:
	@if (command -v chromium || command -v chromium-browser) >/dev/null && \
		{ ldconfig -p 2>/dev/null | grep -q libEGL.so.1; }; then :; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core \
		$$(cat packages.txt) >/dev/null || \
		echo "WARNING: system packages could not be installed; some tests will be skipped."; \
	else echo "WARNING: no Chromium or EGL, and no right to install them; some tests will be skipped."; fi

# STAGES: only these and what they need; JOBS: stages at a time, as many as there are cores.
models: $(VENV)/.dev
	$(BIN)/python -m wsdemo.train.pipeline.run $(if $(TOY),--toy,$(if $(DATA),--data "$(DATA)")) \
		$(if $(JOBS),--jobs $(JOBS)) $(STAGES)

# The docs' pictures and docs/results.md, from the shipped checkpoints and stored results.
figures: $(VENV)/.run
	$(BIN)/python -m benchmarks.figures
	$(BIN)/python -m benchmarks.report

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
