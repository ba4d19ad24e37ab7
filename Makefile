# One entry for everything: `make help`. Each target does its own set-up, repeats cheaply, and leaves its work in
# .venv/, target/ and dist/. What is kept between clones (the newest erofs-utils, the demo's wheels) lies in
# $XDG_CACHE_HOME/pyerofs-tests, by default ~/.cache/pyerofs-tests.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

# Debian's own interpreter comes first: one in a home directory cannot be read by the ordinary user that tests and
# the demo make for themselves.
PYTHON ?= $(shell for p in /usr/bin/python3 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
RUST_SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find crates -name '*.rs' -o -name Cargo.toml)
PYTHON_DIRS := python tests tools benchmarks demo

# The virtual environment's programs are found first, and no setting of the caller's reaches into it.
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport PYTHONPATH PYTHONHOME

.PHONY: help build demo test test-rust test-python lint lint-rust lint-python bench dist reference fuzz lock clean distclean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' \
		| while IFS=$$'\t' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

# -- set-up -----------------------------------------------------------------------------------------------------

$(STAMPS)/requirements: requirements-dev.txt
	@tools/system-packages build
	test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed"; exit 1; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	mkdir -p $(STAMPS) && touch $@

$(STAMPS)/build: $(STAMPS)/requirements $(RUST_SOURCES)
	@tools/system-packages build
	PIP_QUIET=1 VIRTUAL_ENV=$(CURDIR)/$(VENV) maturin develop --quiet --release --locked
	touch $@

build: $(STAMPS)/build ## Build the release extension and install the package into .venv

# -- what a person runs -----------------------------------------------------------------------------------------

demo: build ## Mount a Python stack twice in one domain, as an ordinary user, and show what sharing saves
	@tools/system-packages demo
	PYTHONPATH=tools:tests $(BIN)/python demo/demo.py

bench: build ## Measure against peers and the kernel; write benchmarks/results (ARGS="reading" for one group)
	@tools/system-packages bench
	PYTHONPATH=tools:tests $(BIN)/python benchmarks/bench.py $(ARGS)

# -- tests and lints --------------------------------------------------------------------------------------------

test: test-rust test-python ## Run every test; what a machine cannot do is skipped with its reason

test-rust: $(STAMPS)/requirements ## Run the Rust tests only
	@tools/system-packages build
	if cargo nextest --version >/dev/null 2>&1; then
		cargo nextest run --locked --workspace --no-tests=pass --status-level=fail --final-status-level=fail
		cargo test --locked --workspace --doc --quiet
	else
		cargo test --locked --workspace --quiet
	fi

test-python: build ## Run the Python tests only (ARGS="-k name" is handed to pytest)
	@tools/system-packages test
	tools/system-packages vm
	$(BIN)/python -m pytest $(ARGS)

lint: lint-rust lint-python ## Formatting, clippy, dependencies, ruff, mypy, stubtest, plain-ASCII sources

lint-rust: $(STAMPS)/requirements
	@cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
	$(BIN)/python tools/dependencies.py

lint-python: build
	@$(BIN)/python tools/ascii.py
	ruff check --quiet $(PYTHON_DIRS)
	ruff format --quiet --check $(PYTHON_DIRS)
	mypy --no-error-summary $(PYTHON_DIRS)
	$(BIN)/python tools/reference.py --check
	$(BIN)/python -m mypy.stubtest --concise pyerofs._core

reference: build ## Write docs/reference from the help texts and docstrings
	@$(BIN)/python tools/reference.py

fuzz: build ## Fuzz the reader, FUZZ_SECONDS=60 for each target
	@tools/fuzz "$${FUZZ_SECONDS:-60}"

# -- releases ---------------------------------------------------------------------------------------------------

dist: $(STAMPS)/requirements ## Make the sdist and the abi3 wheel, install and try both in clean environments
	@tools/system-packages build
	tools/dist

lock: $(STAMPS)/requirements ## Renew requirements-*.txt from requirements-*.in
	@$(PYTHON) -m venv $(VENV)/.lock
	$(VENV)/.lock/bin/pip install --quiet --disable-pip-version-check pip-tools
	$(VENV)/.lock/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o requirements-dev.txt requirements-dev.in
	$(VENV)/.lock/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o requirements-dist.txt requirements-dist.in

clean: ## Remove what was built here
	@rm -rf target dist $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find python tests tools benchmarks demo -name __pycache__ -prune -exec rm -rf {} +
	rm -f python/pyerofs/*.so

distclean: clean ## Remove also what is kept between clones (peers, wheels)
	@rm -rf "$${XDG_CACHE_HOME:-$$HOME/.cache}/pyerofs-tests"
