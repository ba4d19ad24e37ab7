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
PYTHON_DIRS := python tests tools benchmarks demo docs/examples

# The virtual environment's programs are found first, and no setting of the caller's reaches into it.
export PATH := $(CURDIR)/$(BIN):$(PATH)
unexport PYTHONPATH PYTHONHOME

.PHONY: help build demo test test-rust test-python test-grid test-deep test-free-threaded lint lint-rust lint-python bench dist reference fuzz lock clean distclean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' \
		| while IFS=$$'\t' read -r name text; do printf '  make %-18s %s\n' "$$name" "$$text"; done

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
	PYTHONPATH=tools:tests:demo $(BIN)/python benchmarks/bench.py $(ARGS)

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

test-grid: build ## Run the whole grid: every set of mkfs.erofs' options with every tree, in three quarters of an hour
	@tools/system-packages test
	tools/system-packages vm
	$(BIN)/python -m pytest -m grid tests/differential/test_grid.py $(ARGS)

test-deep: build ## Try a thousand random trees and options instead of a few, in half an hour
	@tools/system-packages test
	tools/system-packages vm
	HYPOTHESIS_PROFILE=deep $(BIN)/python -m pytest tests/differential/test_any_tree.py \
		tests/differential/test_any_options.py $(ARGS)

# Not in CI: no package of Debian's holds such an interpreter. The stable ABI does not exist there, so PyO3 makes a
# version-specific extension by itself; everything else is the same.
PYTHON_FT ?= $(shell for p in python3.15t python3.14t python3.13t; do command -v "$$p" && break; done)
VENV_FT := $(VENV)/.free-threaded

test-free-threaded: $(STAMPS)/requirements ## Build for a free-threaded CPython (PYTHON_FT=python3.14t) and test threads there
	@test -n "$(PYTHON_FT)" || {
		echo "no free-threaded CPython found: name one, PYTHON_FT=/path/to/python3.14t"
		echo "(CPython's sources make one, also those of Debian's python3.13: ./configure --disable-gil)"
		exit 1
	}
	"$(PYTHON_FT)" -c 'import sysconfig; raise SystemExit(not sysconfig.get_config_var("Py_GIL_DISABLED"))' || {
		echo "$(PYTHON_FT) is not a free-threaded CPython"
		exit 1
	}
	tools/system-packages build
	"$(PYTHON_FT)" -m venv $(VENV_FT)
	sed -n 's/^\([a-z0-9._-]*==[^ ]*\).*/\1/p' requirements-dev.txt >$(VENV_FT)/constraints
	$(VENV_FT)/bin/python -m pip install --quiet --disable-pip-version-check -c $(VENV_FT)/constraints \
		click rich fsspec hypothesis pytest pytest-timeout
	PIP_QUIET=1 VIRTUAL_ENV=$(CURDIR)/$(VENV_FT) maturin develop --quiet --release --locked --target-dir target/free-threaded
	$(VENV_FT)/bin/python -m pytest tests/test_threads.py tests/test_image.py tests/test_read_many.py tests/test_pickle.py \
		tests/test_sources.py tests/test_fsspec.py tests/test_fsspec_places.py tests/test_ranges.py $(ARGS)

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
	@tools/system-packages fuzz
	tools/fuzz "$${FUZZ_SECONDS:-60}"

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
