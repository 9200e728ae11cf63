# `make demo` and `make test` set everything up themselves; a second run skips finished set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
export TOKENIZERS_PARALLELISM := false

.PHONY: demo results test lint setup clean

demo: setup
	$(BIN)/fmrilm demo --output demo

results: demo
	$(BIN)/python docs/results.py

test: setup
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt demo-requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt -e '.[dev]'
	$(PIP) --no-deps -r demo-requirements.txt
	touch $@

clean:
	rm -rf $(VENV) demo build dist
