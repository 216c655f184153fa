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

.PHONY: help demo demo-eval test faults fuzz-api serve lint format types bench bench-corpora build build-reprompt clean sync

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

demo-eval: sync $(ENCODER)/encoder.json ## a small complete experiment with previews, to a report: runs/demo/report.html
	REPROMPT_ENCODER=$(CURDIR)/$(ENCODER) $(RUN) reprompt-eval run packages/reprompt-eval/demo/plan.toml -o runs/demo

# three workers on two cores: many tests wait
test: sync $(ENCODER)/encoder.json ## all tests
	$(RUN) pytest -n 3 --dist loadgroup --no-loadscope-reorder --max-worker-restart 0

faults: sync $(ENCODER)/encoder.json ## what workers must survive: long rounds, with figures
	REPROMPT_FAULT_ROUNDS=20 REPROMPT_FAULT_PREVIEWS=5000 $(RUN) pytest -o faulthandler_timeout=0 -n 0 -s -q $$(find packages services -name 'test_faults*.py') services/worker/tests/test_worker_process.py

fuzz-api: sync $(ENCODER)/encoder.json ## schemathesis against the API: 300 examples an operation, every phase
	FUZZ_EXAMPLES=$(or $(EXAMPLES),300) FUZZ_PHASES=examples,coverage,fuzzing,stateful FUZZ_SEED=$(or $(SEED),1) $(RUN) pytest -o faulthandler_timeout=0 -n 0 -s -q services/api/tests/test_fuzz.py

serve: sync $(ENCODER)/encoder.json ## the API and its page on http://127.0.0.1:8000 until Ctrl-C
	@REPROMPT_ENCODER=$(CURDIR)/$(ENCODER) $(RUN) reprompt-api

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
	REPROMPT_ENCODER=$(CURDIR)/$(ENCODER) $(RUN) python benchmarks/jobs.py
	REPROMPT_ENCODER=$(CURDIR)/$(ENCODER) $(RUN) python benchmarks/api.py
	REPROMPT_ENCODER=$(CURDIR)/$(ENCODER) $(RUN) python benchmarks/clap.py

bench-corpora: sync $(ENCODER)/encoder.json ## corpora at 10 k to CAPTIONS captions: make bench-corpora DATA=folder SCRATCH=folder
	REPROMPT_ENCODER=$(CURDIR)/$(ENCODER) $(RUN) python benchmarks/corpora.py $(DATA) $(SCRATCH) $(or $(CAPTIONS),1000000)

build: sync ## wheels of every member, in dist
	rm -rf dist
	$(UV) build --quiet --wheel --all-packages --out-dir dist

# what services/api/Dockerfile installs: two wheels, the locked requirements of the API, the encoder bundle
WHEELS := services/api/wheels
build-reprompt: sync $(ENCODER)/encoder.json ## the wheels and the encoder bundle for the API image
	mkdir -p $(WHEELS)
	find $(WHEELS) -mindepth 1 ! -name README.md -delete
	$(UV) build --quiet --wheel --package reprompt-core --out-dir $(WHEELS)
	$(UV) build --quiet --wheel --package reprompt-api --out-dir $(WHEELS)
	$(UV) export --quiet --frozen --no-dev --no-emit-workspace --package reprompt-api --output-file $(WHEELS)/requirements.txt
	rm -f $(WHEELS)/.gitignore
	cp -r $(ENCODER) $(WHEELS)/encoder
	@cd $(WHEELS) && sha256sum *.whl

clean: ## remove what was built, but not the environment
	rm -rf dist build services/api/wheels/*.whl services/api/wheels/encoder benchmarks/results demo.wav .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.venv/*' -not -path './.tools/*' -prune -exec rm -rf {} +
