# Everything that a newcomer needs is `make demo` and `make test`: each prepares what it lacks, says so, and can be
# interrupted anywhere and repeated.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
KEEP ?= 1
unexport PYTHONPATH PYTHONHOME  # of other projects; the environment has all that is needed
UNTIL_MAKE_ENDS := $(if $(shell command -v setpriv),setpriv --pdeathsig TERM)
PYTEST := $(UNTIL_MAKE_ENDS) $(BIN)/python -m pytest
SOURCES := operator workloads local tests bench

.PHONY: help demo test check crash e2e bench up down clean lock environment control-plane
.NOTPARALLEL:

help:
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

environment:
	@scripts/prepare-environment

control-plane: environment
	@$(BIN)/python -m diffusion_local.binaries

demo: environment ## Dataset to image on a real control plane (1 to 3 minutes; the first time 8 to 20); KEEP=0 stops it after
	@$(UNTIL_MAKE_ENDS) $(BIN)/python -m diffusion_local.demo $(if $(filter 0,$(KEEP)),--stop,--keep)

test: control-plane check ## All checks and tests, crash and bad input in their short form (15 to 25 minutes)
	@echo "==> Tests (usually 10 to 20 minutes on 2 cores)"
	@KUBECONFIG_UNDER_TEST= $(PYTEST)

check: environment ## Formatting, lint, types, architecture, spelling, shell, YAML, size limits (2 minutes)
	@echo "==> Checks"
	@$(BIN)/ruff format --check --quiet $(SOURCES)
	@$(BIN)/ruff check --quiet $(SOURCES)
	@$(BIN)/mypy $(SOURCES)
	@PYTHONPATH=operator:workloads:local $(BIN)/lint-imports --no-cache
	@$(BIN)/codespell
	@$(BIN)/shellcheck .ci/run scripts/*
	@$(BIN)/yamllint --strict crds examples charts/diffusion-operator/values.yaml charts/diffusion-operator/Chart.yaml
	@$(PYTEST) -q tests/unit/test_size_limits.py tests/unit/test_repository.py

crash: control-plane ## Crash after every write with all faults, and properties on new examples (long)
	@CRASH_FULL=1 $(PYTEST) -s --hypothesis-profile=search tests/crash tests/property

e2e: $(if $(KUBECONFIG),environment,control-plane) ## Tests on a cluster, all bad input; KUBECONFIG=FILE runs the portable ones on that cluster
	@KUBECONFIG_UNDER_TEST="$(KUBECONFIG)" E2E_FULL=1 $(PYTEST) tests/cluster tests/e2e

bench: control-plane ## Benchmarks against peers and baselines; rewrites the table in docs/benchmarks.md
	@$(BIN)/python -m bench $(BENCH)

up: environment ## Start the embedded cluster
	@$(BIN)/diffusion-local up

down: ## Stop every embedded cluster of this checkout, the demo's too
	@if [ -x $(BIN)/diffusion-local ]; then $(BIN)/diffusion-local down --all; fi

clean: down ## Stop every cluster of this checkout and remove the environment and what tests left in the checkout
	@rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis demo-output *.egg-info

# Write the lock files anew from pyproject.toml: versions stay while they fit, and are the same in all locks.
LOCK = $(BIN)/uv pip compile --quiet pyproject.toml --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-header
lock: environment
	@$(LOCK) --extra dev --output-file requirements/dev.txt
	@for extra in operator trainer server router local; do \
		$(LOCK) --extra $$extra --constraint requirements/dev.txt --output-file requirements/$$extra.txt || exit 1; done
	@sed -nE '/^(setuptools|uv)==/,/# via/{/# via/!p}' requirements/dev.txt > requirements/bootstrap.txt
