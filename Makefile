# `make demo` and `make test` set up all they need below .venv; the README says what Debian itself must have.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --quiet

.PHONY: demo test lint clean

demo: $(VENV)/.agent
	$(RUN) -m merbridge demo

test: lint
	sh tools/install-test-packages
	$(RUN) -m pytest

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(RUN) -m mypy
	PYTHONPATH=. $(VENV)/bin/lint-imports

clean:
	rm -rf $(VENV)

# Python packages come as wheels: nothing is built from source.
$(VENV)/.agent: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(PIP) install --only-binary :all: --editable '.[agent]'
	touch $@

$(VENV)/.dev: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(PIP) install --only-binary :all: --editable '.[agent,dev]'
	touch $@ $(VENV)/.agent

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
