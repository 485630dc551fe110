# make demo   set everything up, run the demo session from real micrographs and simulated movies to maps
# make test   set everything up, run the test suite
# make live   process movies while they come: SESSION=my.yaml RUN=folder PROFILE=local (docs/live.md)
# For developers: make env | check | schema | bench | format
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TORCH := torch==2.13.0

.PHONY: env demo live test check schema bench format
.DEFAULT_GOAL := env

$(STAMP): envs/requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "firn needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements.lock
	@touch $@

env: $(STAMP)

demo: $(STAMP)
	$(BIN)/snakemake --profile profiles/local --configfile config/config.yaml
	@cat results/summary.txt

live: $(STAMP)
	$(BIN)/python scripts/live.py $(or $(RUN),.) --profile profiles/$(or $(PROFILE),local) --configfile $(or $(SESSION),config/config.yaml)

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check --line-length 120 Snakefile rules
	$(BIN)/snakemake --lint --configfile config/config.yaml
	cd scripts && ../$(BIN)/lint-imports --config ../pyproject.toml
	$(BIN)/mypy
	$(BIN)/python scripts/schema.py --check

schema: $(STAMP)
	$(BIN)/python scripts/schema.py

bench: $(STAMP)
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt --line-length 120 Snakefile rules
