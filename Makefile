# `make demo` and `make test` set up all they need below .venv; the README says what Debian itself must have.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# The running kernel is among those of the matrix where that is allowed.
KERNEL ?= all $(if $(filter 0,$(shell id -u)),native)
PIP := $(RUN) -m pip --disable-pip-version-check --quiet

.PHONY: demo test vmtest docs lint clean

demo: $(VENV)/.agent
	$(RUN) -m merbridge demo

test: lint docs
	sh tools/install-test-packages
	$(RUN) -m pytest

# The pages as HTML in build/docs; their examples are run first.
docs: $(VENV)/.dev
	$(RUN) -m sphinx -q -W -b html docs build/docs

# In virtual machines: every kernel of docs/kernels.md and the runner's own tests, or KERNEL=trixie alone.
vmtest: $(VENV)/.dev
	sh tools/install-test-packages
	$(RUN) -m tools.vm --total 3600 --timeout 1800 --table $(addprefix --kernel ,$(KERNEL)) -- python -m pytest -q @tests/kernel_matrix/in-vm.args
	$(if $(filter all,$(KERNEL)),$(RUN) -m pytest -m vm)

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
