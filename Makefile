# Short names for what one does often. `make help` lists them.
.PHONY: help setup demo test check format clean
.DEFAULT_GOAL := help
PYTHON ?= .venv/bin/python

help:    ## this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */	/' | expand -t 10

setup:   ## a fresh environment in .venv with all that is needed
	python3 -m venv .venv
	$(PYTHON) -m pip install -q -r requirements-dev.txt

demo: setup  ## draw the demo set, train on it, test the best checkpoint
	$(PYTHON) train.py -c config.json
	$(PYTHON) test.py -r saved/models/best.pth

test: setup  ## all tests
	$(PYTHON) -m pytest

check:   ## linters and types, as in CI
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format:  ## put the code into its usual form
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

clean:   ## remove caches; keeps data/ and saved/
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
