# Short names for what one does often. `make help` lists them.
.PHONY: help setup demo test faults check format clean
.DEFAULT_GOAL := help
VENV ?= .venv
PYTHON := $(VENV)/bin/python

help:    ## this list
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */	/' | expand -t 10

setup: $(VENV)/installed  ## an environment in .venv with all that is needed

$(VENV)/installed: requirements.txt requirements-export.txt requirements-dev.txt
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install -q --disable-pip-version-check -r requirements-dev.txt
	@touch $@

demo: setup  ## draw the demo set, train on it, test the best checkpoint
	$(PYTHON) train.py -c config.json
	$(PYTHON) test.py -r saved/models/best.pth

test: setup  ## all tests, a file to each core
	$(PYTHON) -m pytest -n auto --dist loadfile

faults: setup  ## kill, stop and starve runs, each fault many times (40 minutes), and write docs/reliability.md
	FAULTS=full $(PYTHON) -m pytest -n auto -p tests.fault_table tests/test_faults.py tests/test_broken_variants.py \
		tests/test_checkpoint.py tests/test_checkpoints.py tests/test_durable_file.py tests/test_continuation.py \
		tests/test_resume.py tests/test_skipped.py tests/test_decode.py tests/test_security.py

check: setup  ## linters and types, as in CI
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

format: setup  ## put the code into its usual form
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

clean:   ## remove caches; keeps data/ and saved/
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
