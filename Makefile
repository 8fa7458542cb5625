# `make demo` and `make test` work on a fresh machine with Python 3.11 or newer and git; everything goes into .venv.
SHELL := /bin/bash
PYTHON := $(or $(PYTHON),$(shell for name in python3.13 python3.12 python3.11 python3.14 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$name && break; done))
BIN := .venv/bin
READY := .venv/.ready
export OMP_WAIT_POLICY ?= passive

.PHONY: setup server kernels demo check test test-all bench format pins clean

setup: $(READY)

$(READY): constraints.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found. Do this: install one, or name it: make PYTHON=/path/to/python"; exit 1; }
	@test -x $(BIN)/python || { echo "== making .venv with $(PYTHON)"; $(PYTHON) -m venv .venv; }
	@command -v uv >/dev/null || test -x $(BIN)/uv || { echo "== installing uv"; $(BIN)/python -m pip install --quiet uv; }
	@echo "== installing pinned packages"
	@uv=$$(command -v uv || echo $(BIN)/uv); \
	$$uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r constraints.txt && \
	$$uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $(READY)

server: $(READY)
	@$(BIN)/triform doctor --get-server

# Once for all tests, so that none of them waits for a compiler; float64 is for the tests alone.
kernels: $(READY)
	@$(BIN)/triform doctor --compile-kernels
	@$(BIN)/python -c "from triform.training.process import keep_kernels; keep_kernels(); import torch; \
	from triform.kernels.compile_torch import compile_kernels; compile_kernels(torch.float64)"

# The kernels are compiled beside what comes before the training; those that are there already take no time.
demo: server
	@$(BIN)/triform doctor --compile-kernels >/dev/null 2>&1 & \
	$(BIN)/triform grow-maize demo/plants && $(BIN)/triform run experiments/maize_demo.yaml --output-dir demo/run; \
	status=$$?; wait; exit $$status

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: server kernels
	$(BIN)/pytest -m alone
	$(BIN)/pytest -n 2 -m "not long and not alone"

test-all: server kernels
	$(BIN)/pytest -m alone
	$(BIN)/pytest -n 2 -m "not alone"

# The libraries that a user would pick come with it, to be measured beside.
bench: $(READY)
	@uv=$$(command -v uv || echo $(BIN)/uv); $$uv pip install --quiet --python $(BIN)/python --group bench
	$(BIN)/python benchmarks/everything.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Renew constraints.txt: newest versions that fit pyproject.toml and tools/pins.in.
pins: $(READY)
	uv pip compile pyproject.toml --all-extras --group dev -c tools/pins.in --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header --upgrade -o constraints.txt

clean:
	rm -rf .venv demo runs build dist
