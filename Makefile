# Every target sets up what it needs. `make help` lists them.
# VENV=dir uses another environment; PYTHON=python3.12 chooses the interpreter (3.11, 3.12 or 3.13).

VENV ?= .venv
PYTHON ?=
PYTEST_ARGS ?=
WORKERS ?= 2
ONLY ?=
DEMO_ARGS ?=
GAME_ARGS ?=
PORT ?= 8545
INPUTS ?= 20000
FIRST ?= 0
NIGHTLY_ARGS ?=
SEEDS ?= 1000

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := $(VENV)/bin
RUN := $(BIN)/python
PYTEST := $(RUN) -m pytest $(PYTEST_ARGS)
PARALLEL := -n $(WORKERS) --dist loadscope
CODE := channels runtime reducers examples tests benchmarks

export PYTHON

.PHONY: help setup setup-runtime demo game browser screenshots test sim nightly cover lint format types bench conformance fuzz reducers kernel contracts gas \
	devchain check-artifacts lock check wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## everything needed to run, test and develop, into .venv
	@bash .ci/venv.sh $(VENV) dev

setup-runtime:
	@bash .ci/venv.sh $(VENV) runtime

demo: setup-runtime ## two nodes, PostgreSQL, a game, tables filling
	@$(BIN)/scapp demo $(DEMO_ARGS)

game: setup-runtime ## play the example game in the browser, against bots
	@$(BIN)/scapp game $(GAME_ARGS)

browser: ## Chromium for the tests of pages, from Debian's packages
	@bash .ci/browser.sh

screenshots: setup ## make the pictures of the game in docs/images anew
	@SCAPP_SCREENSHOTS=docs/images $(PYTEST) -m slow tests/acceptance/test_game_page.py -k pictures

test: setup ## all tests but the slow ones
	@$(PYTEST) $(PARALLEL) -m "not slow"

sim: setup ## simulated networks with every fault, drawn from seeds; SEEDS=1000 FIRST=0 (docs/reference/simulation.md)
	@$(RUN) -m tests.simulation.run $(SEEDS) $(FIRST) --jobs $(WORKERS)

nightly: setup ## everything, with far more seeds and examples; resumable. The last result stands in docs/reference/qualification.md
	@$(RUN) -m tests.nightly $(NIGHTLY_ARGS)

cover: setup ## `make test` with the coverage gate (90 % of scapp.channels and scapp.runtime)
	@$(BIN)/coverage erase
	@$(PYTEST) $(PARALLEL) -m "not slow" --cov --cov-config=pyproject.toml --cov-report=term:skip-covered

lint: setup ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: setup ## let ruff rewrite the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: setup ## mypy strict, then pyright
	@$(BIN)/mypy
	@PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

bench: setup ## every measure beside its reference; ONLY=NAME runs one
	@$(RUN) -m benchmarks $(if $(ONLY),--only $(ONLY))

conformance: setup ## protocol vectors; VECTORS=FILE runs another file of the same format
	@$(RUN) -m tests.spec.nitro_vectors $(or $(VECTORS),tests/golden/nitro-vectors.json)

fuzz: setup ## INPUTS inputs for each decoder of foreign bytes; ONLY=NAME runs one, FIRST=K goes on from input K
	@$(RUN) -m tests.fuzz --inputs $(INPUTS) --first $(FIRST) --workers $(WORKERS) $(if $(ONLY),--only $(ONLY))

reducers: setup ## compile every reducer that ships with the package
	@$(RUN) -m scapp.reducers.build --all

kernel: setup ## compile the kernel that runs beside every reducer
	@$(RUN) runtime/kernel/build.py

contracts: setup ## compile the contracts into the package
	@$(RUN) channels/contracts/build.py

gas: setup ## gas of each on-chain operation beside the published contracts; rewrites docs/reference/gas.md
	@$(RUN) -m tests.chain.gas

devchain: setup ## a development chain (anvil) with the contracts on it, until interrupted; PORT=8545
	@$(RUN) -m tests.chain.anvil $(PORT)

check-artifacts: setup ## rebuild reducers, kernel and contracts from empty caches and compare with what is committed
	@bash .ci/artifacts.sh $(VENV)

wheel: setup ## a wheel in dist/
	@$(RUN) -m hatchling build -t wheel

lock: setup ## resolve pyproject.toml again into requirements/*.txt
	@bash .ci/lock.sh $(VENV)

check: ## what continuous integration runs
	@.ci/run

clean: ## remove the environment, caches and build products
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* benchmarks/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
