# Every target sets itself up: the first one called fills .venv, later ones find it there.
PYTHON  ?= python3
PROFILE ?= quick
VENV    := .venv
BIN     := $(VENV)/bin
READY   := $(VENV)/ready
STRIP   := $(BIN)/nbstripout --keep-id --extra-keys 'metadata.papermill cell.metadata.papermill'
NOTEBOOKS = $(wildcard book/notebooks/*.ipynb)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup reproduce book pdf test book-test bench check format clean distclean

help: ## this list
	@echo 'usage: make TARGET [PROFILE=smoke|quick|paper] [PYTHON=python3.12]'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## fill .venv with the pinned dependencies and this package

# The stamp comes last: an installation that broke off is taken up again.
$(READY): pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  command -v $(PYTHON) >/dev/null || { echo "make: no '$(PYTHON)' here; install Python 3.11 or later, or name one with PYTHON=..." >&2; exit 1; }; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "make: Python 3.11 or later is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1 | cut -d' ' -f2); name another with PYTHON=python3.12" >&2; exit 1; }; \
	  $(PYTHON) -m venv $(VENV); }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: $(VENV) holds a Python older than 3.11; remove it with 'make distclean' and try again" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

reproduce: $(READY) ## train what is not stored yet, run the notebooks, build the book in build/book
	$(BIN)/lra-companion reproduce --profile $(PROFILE)

book: $(READY) ## build the book from the committed results, training nothing
	$(BIN)/lra-companion book

pdf: book ## print the whole book into build/book.pdf; needs a Chromium
	$(BIN)/lra-companion pdf

test: $(READY) ## all tests, the notebooks included
	$(BIN)/python -m pytest

book-test: book ## open every page of the book in a Chromium: links, formulas, search, accessibility
	$(BIN)/python -m pytest tests/book

bench: $(READY) ## measure speed and memory
	$(BIN)/python -m pytest tests/benchmarks -s

check: $(READY) ## formatting, lint, types; no outputs in the notebooks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(if $(NOTEBOOKS),$(STRIP) --verify $(NOTEBOOKS))

format: $(READY) ## put right what can be put right by machine
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .
	$(if $(NOTEBOOKS),$(STRIP) $(NOTEBOOKS))

clean: ## remove everything generated
	rm -rf build

distclean: clean ## remove the environment as well
	rm -rf $(VENV) *.egg-info
