# Every command of the project. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# uv is used where it is installed, else put into .tools with pip: Python 3.11 and pip are all a machine needs
UV := $(shell command -v uv 2>/dev/null || echo .tools/bin/uv)
RUN := $(UV) run --frozen
PYTHON ?= python3
ENCODER := build/encoder
DEMO := "I'm at the food court about to eat a bowl of spicy ramen. It's noisy and the neon signs are bright."
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1767225600)

.PHONY: help demo test lint format types bench bench-corpora build build-reprompt clean sync

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 18

.tools/bin/uv:
	@$(PYTHON) -m pip --version >/dev/null || { echo "pip is missing: install python3-pip"; exit 1; }
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .tools uv

sync: $(filter .tools/bin/uv,$(UV))
	@$(UV) sync --frozen --quiet

$(ENCODER)/encoder.json: | sync
	@echo "building the sentence encoder (once, about half a minute)"
	@REPROMPT_OFFLINE=1 $(RUN) reprompt encoder build --output $(ENCODER)

demo: sync $(ENCODER)/encoder.json ## words to a prompt with its reasons, and a sound: demo.wav
	@echo $(DEMO)
	@REPROMPT_ENCODER=$(CURDIR)/$(ENCODER) $(RUN) reprompt --why --audio demo.wav $(DEMO)

test: sync $(ENCODER)/encoder.json ## all tests
	$(RUN) pytest -n 2 --dist loadgroup --max-worker-restart 0

lint: sync ## check style and formatting
	$(RUN) ruff check .
	$(RUN) ruff format --check .

format: sync ## format and mend what can be mended
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

types: sync ## check types (pyright, strict)
	$(RUN) basedpyright

bench: sync $(ENCODER)/encoder.json ## measure speed and memory against a straightforward version; JSON in benchmarks/results
	REPROMPT_ENCODER=$(CURDIR)/$(ENCODER) $(RUN) python benchmarks/core.py
	REPROMPT_ENCODER=$(CURDIR)/$(ENCODER) $(RUN) python benchmarks/llm.py

bench-corpora: sync $(ENCODER)/encoder.json ## corpora at 10 k to CAPTIONS captions: make bench-corpora DATA=folder SCRATCH=folder
	REPROMPT_ENCODER=$(CURDIR)/$(ENCODER) $(RUN) python benchmarks/corpora.py $(DATA) $(SCRATCH) $(or $(CAPTIONS),1000000)

build: sync ## wheels of every member, in dist
	rm -rf dist
	$(UV) build --quiet --wheel --all-packages --out-dir dist

build-reprompt: sync $(ENCODER)/encoder.json ## the reprompt-core wheel and its encoder bundle, for the API image
	find services/api/wheels -mindepth 1 ! -name README.md -delete
	$(UV) build --quiet --wheel --package reprompt-core --out-dir services/api/wheels
	rm -f services/api/wheels/.gitignore
	cp -r $(ENCODER) services/api/wheels/encoder
	@cd services/api/wheels && sha256sum *.whl

clean: ## remove what was built, but not the environment
	rm -rf dist build services/api/wheels/*.whl services/api/wheels/encoder benchmarks/results demo.wav .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -not -path './.tools/*' -prune -exec rm -rf {} +
