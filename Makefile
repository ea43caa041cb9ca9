# Everything is installed into .venv from locked, hashed dependencies; nothing else is touched.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Wheels that are taken for the files in them, without what their Python would need.
ALONE := baskets scripts

.PHONY: demo test check docs bench simulate chaos fuzz schemas lock clean

demo: .venv/demo.ok
	@exec $(BIN)/oms demo $(ARGS)

# A process a core, four at most; each has a PostgreSQL and what else its tests need for itself.
WORKERS ?= auto --maxprocesses 4
test: .venv/dev.ok
	@$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: .venv/dev.ok
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

# The pages that are written from the code.
docs: .venv/dev.ok
	@$(BIN)/python -m ordermill.reference docs/reference

bench: .venv/dev.ok
	@$(BIN)/python -m bench $(ARGS)

# SEEDS runs of all six services under faults that each seed decides; ARGS as of `oms simulate --help`.
SEEDS ?= 1000
simulate: .venv/dev.ok
	@$(BIN)/oms simulate --seeds $(SEEDS) $(ARGS)

# Real faults on the real stack; with KAFKA_HOME set, on Apache Kafka. ARGS: --only NAME, --seed N, --orders N.
chaos: .venv/dev.ok
	@$(BIN)/python -m tests.chaos $(ARGS)

# Each parser that meets the outside, fed with damaged samples for SECONDS of CPU; `make test` does it for about a minute in all.
SECONDS ?= 60
fuzz: .venv/dev.ok
	@FUZZ_SECONDS=$(SECONDS) $(BIN)/pytest -s tests/fuzz $(ARGS)

# What other programs rely on; refuses what would break one of them.
schemas: .venv/dev.ok
	@$(BIN)/python -m ordermill.schemas

# Sets: run and world for the image, build to make its wheel; demo for a laptop, dev for tests.
# Pins stay as they are unless pyproject.toml asks for more; UPGRADE=--upgrade renews them.
lock: .venv/dev.ok
	@cd requirements && for set in build run world demo dev; do from=../pyproject.toml; case $$set in \
	    build) from=build.in;; world) from="$$from --extra world";; demo) from="$$from build.in --extra demo";; \
	    dev) from="$$from build.in --extra demo --extra dev";; esac; \
	  ../$(BIN)/uv pip compile -q $$from $(UPGRADE) --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-header --no-annotate -o $$set.lock; done
	@cd requirements && for set in $(ALONE); do \
	  ../$(BIN)/uv pip compile -q $$set.in --no-deps $(UPGRADE) --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-header --no-annotate -o $$set.lock; done

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Ordermill needs Python 3.11 or newer; $(PYTHON) is older. Name another: make PYTHON=python3.12 demo" >&2; exit 2; }
	@$(PYTHON) -m venv .venv || \
	  { echo "Python's venv module is missing (on Debian: apt install python3-venv)" >&2; rm -rf .venv; exit 2; }

.venv/%.ok: .venv/bin/python requirements/%.lock $(ALONE:%=requirements/%.lock) pyproject.toml
	@echo "installing locked dependencies ($*)" >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/$*.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps $(ALONE:%=-r requirements/%.lock)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:
	@rm -rf .venv .ordermill build .pytest_cache .mypy_cache .ruff_cache .hypothesis
