# Two commands: `make run` measures a real engine on this machine; `make test` checks everything.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test check explore setup lock clean

run: setup
	@$(BIN)/dyno demo $(ARGS)

test: setup check
	@$(BIN)/python -m pytest $(ARGS)

check: setup
	@$(BIN)/ruff check .
	@$(BIN)/mypy

explore: setup
	@$(BIN)/dyno explore $(ARGS)

setup: $(STAMP)

# pip, not uv, so that the machine's own pip configuration (mirrors, find-links) is honoured. The lock is whole: left to
# resolve, pip would look for `sqlalchemy[asyncio]` beside the sqlalchemy that is pinned.
$(STAMP): requirements.lock pyproject.toml workloads/_reads.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "dyno needs Python 3.11 or newer: make PYTHON=/path/to/python3.12 run"; exit 1; }
	@echo "setting up $(VENV) (about a minute, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

# Pins names, versions and hashes for every platform; no address of a registry goes in.
lock:
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet \
	  --extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info
