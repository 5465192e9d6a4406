# Every target makes the virtual environment it needs, from pinned constraints; a second call finds it made.
PYTHON ?= python3
NEWEST_PYTHON ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.13*/bin/python) python3.13)
VENV := .venv
VENV_PEERS := .venv-peers
VENV_NEWEST := .venv-newest
VENV_NATIVE := .venv-native
BIN := $(VENV)/bin
PROJECT := pyproject.toml constraints.txt CMakeLists.txt $(wildcard native/*)
# As many processes as cores: nearly all of the time of the tests is compilation.
PYTEST = -m pytest --numprocesses auto --dist loadgroup
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-newest test-peers test-browser browser lint format bench bench-rivals docs sanitize wheel lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rnnjax needs Python 3.11 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of extras; a set that contains another touches its stamp too.
$(VENV)/.experiments: $(PROJECT) | $(VENV)/bin/python
	@echo "Installing rnnjax with what the experiments need into $(VENV) (about a minute)"
	$(BIN)/python $(PIP_INSTALL) --editable '.[experiments]'
	@touch $@

$(VENV)/.test: $(PROJECT) | $(VENV)/bin/python
	@echo "Installing rnnjax with what the tests need into $(VENV) (about a minute)"
	$(BIN)/python $(PIP_INSTALL) --editable '.[test]'
	@touch $(VENV)/.experiments $@

$(VENV)/.dev: $(PROJECT) | $(VENV)/bin/python
	@echo "Installing rnnjax with what development needs into $(VENV) (about a minute)"
	$(BIN)/python $(PIP_INSTALL) --editable '.[dev]'
	@touch $(VENV)/.experiments $(VENV)/.test $@

$(VENV_PEERS)/.peers: $(PROJECT) constraints-peers.txt
	@echo "Installing the other frameworks into $(VENV_PEERS) (PyTorch is large)"
	$(PYTHON) -m venv $(VENV_PEERS)
	$(VENV_PEERS)/bin/python $(PIP_INSTALL) --constraint constraints-peers.txt --editable '.[peers]'
	@touch $@

$(VENV_NEWEST)/.test: $(PROJECT)
	$(NEWEST_PYTHON) -m venv $(VENV_NEWEST)
	$(VENV_NEWEST)/bin/python $(PIP_INSTALL) --editable '.[test]'
	@touch $@

$(VENV_NATIVE)/.native: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV_NATIVE)
	$(VENV_NATIVE)/bin/python $(PIP_INSTALL) $$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["native"])')
	@touch $@

demo: $(VENV)/.experiments ## Train a character language model on Shakespeare, and show that it learned
	$(BIN)/python -m experiments.character_language_model train --preset demo

# What is computed does not depend on how hard XLA tries; how long the tests take does. `make test-all` has it try.
test: $(VENV)/.test ## Set up, and run the tests (under 10 minutes on 2 cores)
	JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(BIN)/python $(PYTEST)

test-all: $(VENV)/.test test-newest ## All tests, slow ones included, also on the newest Python and JAX
	$(BIN)/python $(PYTEST) -m 'not peers and not browser'

test-newest: $(VENV_NEWEST)/.test
	$(VENV_NEWEST)/bin/python $(PYTEST) -m 'not peers and not browser'

test-peers: $(VENV_PEERS)/.peers ## Compare live with PyTorch and other peers
	$(VENV_PEERS)/bin/python $(PYTEST) -m peers

test-browser: $(VENV)/.test browser ## Open the page that compares runs in a real browser
	$(BIN)/python $(PYTEST) -m browser

# Chromium is the one thing here that no Python package brings; as root on Debian it is installed.
browser:
	@for program in chromium chromium-browser google-chrome google-chrome-stable; do \
	  command -v $$program > /dev/null && exit 0; \
	done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium; \
	else \
	  echo "test-browser needs Chromium: sudo apt-get install chromium" >&2; exit 1; \
	fi

lint: $(VENV)/.dev ## Format check, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(VENV)/.dev ## Format, and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.experiments ## Scan against unrolled, and every other plan
	$(BIN)/python -m benchmarks.scan_vs_unrolled

bench-rivals: $(VENV_PEERS)/.peers ## Against PyTorch, Flax, Haiku, Equinox and Keras (half an hour)
	$(VENV_PEERS)/bin/python -m benchmarks.rivals

docs: $(VENV)/.experiments ## Write what is generated from the code: README tables, list of public names
	$(BIN)/python docs/generated.py

# What is not sanitised is compiled as it is installed: from its objects is told what is in them.
BUILDS := build/native
CMAKE = PATH=$(abspath $(VENV_NATIVE)/bin):$$PATH cmake
SANITIZED = ASAN_OPTIONS=allocator_may_return_null=1 TSAN_OPTIONS=allocator_may_return_null=1

sanitize: $(VENV)/.test $(VENV_NATIVE)/.native ## Check the native kernels under sanitizers (15 minutes), and their objects
	$(CMAKE) -G Ninja -S . -B $(BUILDS)/library -DPython_EXECUTABLE=$(abspath $(BIN)/python)
	$(CMAKE) --build $(BUILDS)/library
	$(BIN)/python tests/native/check_objects.py $(BUILDS)/library
	for sanitizers in address,undefined thread; do \
	  $(CMAKE) -G Ninja -S . -B $(BUILDS)/$$sanitizers -DRNNJAX_CHECKS=ON -DRNNJAX_SANITIZERS=$$sanitizers && \
	  $(CMAKE) --build $(BUILDS)/$$sanitizers && \
	  $(SANITIZED) $(BUILDS)/$$sanitizers/check_kernels || exit 1; \
	done

wheel: $(VENV_NATIVE)/.native ## Build the wheel, and install it where there is no compiler
	tests/native/check_wheel.sh $(VENV_NATIVE)/bin/python

COMPILE = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 \
  --no-header --no-annotate --no-emit-index-url

lock: ## Write constraints.txt and constraints-peers.txt anew (uses uv)
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv
	$(COMPILE) --upgrade --extra dev --extra all --output-file constraints.txt pyproject.toml
	$(COMPILE) --extra peers --constraint constraints.txt pyproject.toml | grep -vxFf constraints.txt > constraints-peers.txt
	rm -rf .venv-lock

clean: ## Remove the virtual environments and caches
	rm -rf $(VENV) $(VENV_PEERS) $(VENV_NEWEST) $(VENV_NATIVE) build .pytest_cache .ruff_cache
