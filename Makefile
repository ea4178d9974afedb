# PAGI Mesh. `make` lists the targets; `make run-dev` and `make test` set up whatever is missing.

VENV := .venv
BIN := $(VENV)/bin
# The virtual environment's Python once it is there, else the first that is new enough; override with PYTHON=...
PYTHON ?= $(or $(wildcard $(BIN)/python),$(shell for python in python3.11 python3.12 python3.13 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done),python3)
SETUP := $(PYTHON) scripts/setup_env.py --profile
COMPOSE ?= docker compose
# Test processes: one more than there are cores, since many tests wait for real processes; five at most.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(min(5, (os.cpu_count() or 1) + 1))')
# How a command here shows itself to a mesh that was started with MTLS=1.
CLIENT_TLS = TLS_CA_CERT_PATH=tls_certs/ca.crt TLS_CLIENT_CERT_PATH=tls_certs/client.crt TLS_CLIENT_KEY_PATH=tls_certs/client.key
# What the linters read.
CODE := scripts services tests $(wildcard benchmarks)

.DEFAULT_GOAL := help
.PHONY: help run-dev stop-dev status-dev ingest test chaos check format bench bench-glance bench-leaks bench-gateway bench-retrieval bench-memory proto lock env certs up down clean setup setup-dev

help: ## List the targets
	@echo "PAGI Mesh: make <target>"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name text; \
		do printf '%-16s %s\n' "$$name" "$$text"; done

run-dev: setup ## Set up what is missing, run the whole mesh here (MTLS=1: mutual TLS between the services)
	@exec $(BIN)/python scripts/run_all_dev.py --profile core $(if $(MTLS),--mtls)

stop-dev: ## Stop the mesh that runs here
	@$(PYTHON) scripts/run_all_dev.py --stop

status-dev: ## Show what runs: process, readiness, restarts, memory, ports
	@$(PYTHON) scripts/run_all_dev.py --status || true

ingest: setup ## Bring memory in step with the knowledge bases, with a bar (REBUILD=1: take in everything anew; MTLS=1: as run-dev)
	@$(if $(MTLS),$(CLIENT_TLS)) $(BIN)/python scripts/ingest.py $(if $(REBUILD),--rebuild)

test: setup-dev ## Set up what is missing, run every check and every test
	@$(MAKE) --no-print-directory check
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

chaos: setup-dev ## Try every fault at every point of a run, and random ones in whole runs (minutes); prints the numbers
	@CHAOS_ALL=1 $(BIN)/python -m pytest -q -s tests/chaos

check: setup-dev ## Format, lint, types, import contract; protos, locks and .env.example fresh
	@$(BIN)/ruff format --check --quiet $(CODE) || { echo "Run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/mypy --no-error-summary scripts benchmarks $(wildcard services/*/src)
	@$(BIN)/lint-imports --no-logo
	@PYTHON=$(BIN)/python bash scripts/gen_proto.sh --check
	@$(BIN)/python scripts/lock.py --check
	@$(BIN)/python scripts/gen_env_example.py --check
	@echo "check: all passed"

format: setup-dev ## Format the code and mend what the linter can
	@$(BIN)/ruff format $(CODE)
	@$(BIN)/ruff check --fix $(CODE)

bench: setup-dev ## Measure the mesh against its floor (ONLY=plans,starts: parts alone; QUICK=1: roughly; JSON=file)
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) $(if $(JSON),--json $(JSON))

bench-glance: setup-dev ## Look at one plan, 16 at once, process by process, in half a minute
	@$(BIN)/python -m benchmarks.glance

bench-leaks: setup-dev ## Show what the sandbox holds before and after many calls (CALLS=10000)
	@$(BIN)/python -m benchmarks.leaks $(CALLS)

bench-retrieval: setup-dev ## Measure how well memory finds passages (BEIR="folder ...": on these sets too)
	@$(BIN)/python -m benchmarks.retrieval --weights $(BEIR)

bench-memory: setup-dev ## Measure how quick memory is (PASSAGES=100000: with as many; some minutes)
	@$(BIN)/python -m benchmarks.retrieval.speed $(PASSAGES)

bench-gateway: setup-dev ## Measure what the model gateway adds to a call, against a bare gRPC echo
	@$(BIN)/python -m benchmarks.gateway
	@$(BIN)/python -m benchmarks.gateway_accounting

proto: setup-dev ## Generate the code beside each .proto
	@PYTHON=$(BIN)/python bash scripts/gen_proto.sh

lock: ## Pin every dependency with hashes into requirements/ (UPGRADE=1: newest versions)
	@test -x $(BIN)/uv || $(SETUP) dev
	@$(BIN)/python scripts/lock.py $(if $(UPGRADE),--upgrade)

env: setup-dev ## Write .env.example from the settings of the services
	@$(BIN)/python scripts/gen_env_example.py

certs: ## Make the certificates for mutual TLS in tls_certs/ (FORCE=1: anew)
	@bash scripts/gen_certs.sh $(if $(FORCE),--force)

up: ## Build and start the mesh with Docker Compose, wait until it is healthy
	@$(COMPOSE) up --build --wait --detach

down: ## Stop what `make up` started (VOLUMES=1: and delete its data)
	@$(COMPOSE) down --remove-orphans $(if $(VOLUMES),--volumes)

clean: ## Delete the virtual environment and every cache; data/ and tls_certs/ stay
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .grimp_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Both return at once where nothing has changed.
setup:
	@$(SETUP) run

setup-dev:
	@$(SETUP) dev
