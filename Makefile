# Every target does its own set-up in .venv; a second run skips it.
PYTHON ?= python3
STEPS ?= 500000
LOGS ?= logs
SEED ?= 1
BIN := .venv/bin
READY := .venv/.ready

# Four workers, each on one thread, on two cores: a fifth of the time a test waits for a process.
# loadgroup keeps a server's tests together.
# They start some hundred processes, which would compile all sources anew where Python is told to write no bytecode.
PYTEST := PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 4 --dist loadgroup

.PHONY: pong demo test quick check docs setup clean

# Until the agent wins by 18 points in the mean of 30 games, or STEPS are over.
pong: $(READY)
	$(BIN)/sb3-stable-ppo train --env PongNoFrameskip-v4 -n $(STEPS) --stop-at-return 18 -f $(LOGS) --seed $(SEED)

# Two minutes: the layers and the report, before the agent has learnt anything.
demo:
	$(MAKE) pong STEPS=20000

test: $(READY)
	$(PYTEST) --durations=20

# What a developer runs after each change: all but the slow tests, in less than two minutes on two cores.
quick: $(READY)
	$(PYTEST) -m "not slow"

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	MYPYPATH=tests $(BIN)/mypy benchmarks/*.py
	$(BIN)/lint-imports

# The documentation site, into site/; a warning is an error.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

setup: $(READY)

# constraints.txt pins exact versions; they need Python 3.11 or newer (the package itself: 3.10).
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make needs Python 3.11 or newer, as the pinned versions do: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist site
