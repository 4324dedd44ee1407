PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install demo test test-slow test-figures lint bench readme screenshots clean

# What a person types first: the whole pipeline on an embedded model. Needs nothing but Python 3.11.
demo: install
	$(BIN)/unsee run --preset embedded --method vkd --out runs/demo

test: install
	$(BIN)/pytest -m "not slow"

# Kill-and-resume of every step, real photographs end to end, a small comparison, rebuilding the base model.
test-slow: install
	$(BIN)/pytest -m "slow and not figures"

# The reported figures, at three seeds with both forms of the mask.
test-figures: install
	$(BIN)/pytest -m figures

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/unsee bench --out runs/bench.json

# After changing a component's docstring or the DAG: both are checked by tests.
readme: install
	$(BIN)/python -m unsee_components.readme
	$(BIN)/python -m unsee_pipelines.readme
	$(BIN)/unsee pipeline compile

# Pictures of MLflow's pages, by Chromium, of the last two runs on the stack.
screenshots: install
	. runs/stack/stack.env && $(BIN)/python docs/screenshots.py

install: $(INSTALLED)

$(INSTALLED): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[pipelines,stack,dev]"
	touch $@

clean:
	rm -rf $(VENV) build src/*.egg-info
