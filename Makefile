# Two commands do everything on a machine that has Python 3.11 or newer: `make demo` and `make test`.
# Another Python: make test PYTHON=python3.13. Each version has a folder of its own, .venv-3.11, .venv-3.13.

PYTHON ?= python3
JOBS ?= 2
PYTEST_ARGS ?=

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV := .venv-$(VERSION)
BIN := $(VENV)/bin
MADE := $(VENV)/.made
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint format docs build venv clean

help:  ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(RUNTIME)  ## The main job on the embedded sweep: fit, forecast 20x, picture, report, into demo/
	$(BIN)/bayes-l2l demo -o demo

test: $(DEV)  ## The whole test suite (fast tests alone: PYTEST_ARGS="-m 'not slow'")
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(DEV)  ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV)  ## Put the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DEV)  ## The documentation site, into docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -c docs -d docs/_build/doctrees . docs/_build/html

build: $(DEV)  ## The sdist and, from it, the wheel, into dist/
	$(BIN)/python -m build --no-isolation

venv: $(DEV)  ## Only create and fill the environment

clean:  ## Remove environments, caches and everything built
	rm -rf .venv-* build dist docs/_build demo .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: a folder that an interrupted run left half filled is taken up again, a finished one is not touched
# until pyproject.toml changes.
$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "bayes_l2l needs Python 3.11 or newer, and '$(PYTHON)' is $(or $(VERSION),not a Python that runs)." \
	       "Name another one: make $(or $(MAKECMDGOALS),test) PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(RUNTIME): pyproject.toml | $(MADE)
	$(PIP) install --editable .
	@touch $@

$(DEV): pyproject.toml | $(MADE)
	$(PIP) install --editable '.[dev]'
	@touch $(RUNTIME) $@
