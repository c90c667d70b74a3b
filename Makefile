# Every target sets up what it needs in .venv from nothing but Python 3.11+, pip and apt.
VENV ?= .venv
BIN := $(VENV)/bin
SETUP := VENV=$(VENV) ./scripts/setup.sh
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help up down demo test contract check format bench soak clean

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: ## Start everything on this machine, with a real model (Ctrl-C stops it)
	@$(SETUP) llm
	@$(BIN)/pybrix up --model smollm2

down: ## Stop what `make up` started
	@$(SETUP) llm
	@$(BIN)/pybrix down

demo: ## Ask a real model one question through the gateway, then stop everything
	@$(SETUP) llm
	@PYBRIX=$(BIN)/pybrix ./scripts/demo.sh

test: ## Run the tests, end-to-end runs included
	@$(SETUP) dev llm ray
	@$(BIN)/python -m pytest -m "not soak" $(PYTEST_ARGS)

contract: ## Check the API contract: of our own cluster, or of another with KUBECONFIG=FILE
	@$(SETUP) dev
	@$(BIN)/python -m pytest tests/contract $(if $(filter command,$(origin KUBECONFIG)),--kubeconfig "$(abspath $(KUBECONFIG))") $(PYTEST_ARGS)

check: ## Check format, lint, types, import arrows, generated files, the Containerfile, links of the docs
	@$(SETUP) dev llm
	@$(BIN)/ruff format --check --quiet . && echo "format: ok"
	@$(BIN)/ruff check --quiet . && echo "lint: ok"
	@$(BIN)/mypy --no-error-summary && echo "types: ok"
	@$(BIN)/lint-imports >.lint-imports.log 2>&1 || { cat .lint-imports.log; exit 1; }; echo "import arrows: ok"; rm -f .lint-imports.log
	@$(BIN)/python scripts/generate_reference.py --check
	@$(BIN)/python scripts/generate_strategies.py --check
	@$(BIN)/python scripts/generate_chart.py --check
	@$(BIN)/hadolint Containerfile && echo "Containerfile: ok"
	@$(BIN)/python scripts/check_docs.py

format: ## Format the code, mend what the linter can, generate the reference
	@$(SETUP) dev llm
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .
	@$(BIN)/python scripts/generate_reference.py
	@$(BIN)/python scripts/generate_strategies.py
	@$(BIN)/python scripts/generate_chart.py

bench: ## Run the benchmarks
	@$(SETUP) dev llm
	@missed=; for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file || missed="$$missed $$file"; done; \
	if [ -n "$$missed" ]; then echo "failed, or missed a goal:$$missed"; exit 1; fi

soak: ## Run the long tests
	@$(SETUP) dev llm ray
	@$(BIN)/python -m pytest -m soak --timeout 0 $(PYTEST_ARGS)

clean: ## Remove the virtual environment, caches and the demo's data
	@if [ -x $(BIN)/pybrix ] && [ -d .pybrix ]; then $(BIN)/pybrix down --data-dir .pybrix/demo || true; fi
	rm -rf $(VENV) .cache .pybrix .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache src/*.egg-info build dist
