# Every target makes what it needs in .venv, from requirements/test.txt. Only Python 3.11 or later is assumed.
PYTHON ?= python3
ARGS ?=
# Most tests wait more than they compute.
JOBS ?= 3

# Kept, whatever the environment says: every process of the tests would compile hundreds of modules again.
export PYTHONDONTWRITEBYTECODE :=

BIN := .venv/bin
READY := .venv/.ready
PYTEST := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal
CODE := collector tests tools .ci $(wildcard benchmarks contrib)

.DEFAULT_GOAL := help

$(READY): requirements/test.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("pai-collector needs Python 3.11 or later: make PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements/test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

##@ Everyday

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^##@ / { print "\n" substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST)

.PHONY: demo
demo: $(READY) ## Collect a simulated history into an embedded store; options in ARGS
	$(BIN)/pai-collector demo $(ARGS)

.PHONY: test
test: $(READY) ## Run the fast tests: below 5 minutes on two cores; choose some with ARGS, JOBS=3 at a time
	$(PYTEST) $(ARGS)

.PHONY: lint
lint: $(READY) ## Check style, formatting, spelling, imports and dead code
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/lint-imports --no-cache
	$(BIN)/vulture
	$(BIN)/codespell
	$(BIN)/python .ci/vendor.py --check

.PHONY: types
types: $(READY) ## Check types
	$(BIN)/mypy

.PHONY: format
format: $(READY) ## Put the code into its format
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

.PHONY: clean
clean: ## Remove what the other targets have made
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find collector tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Tests

.PHONY: test-all
test-all: $(READY) ## Run all tests: also every seed, kill, hostile query, client and the simulated week; 20 to 30 minutes
	$(PYTEST) --all $(ARGS)

.PHONY: test-rest
test-rest: $(READY) ## Run the tests that `make test` leaves out
	$(PYTEST) --rest $(ARGS)

.PHONY: week
week: $(READY) ## A simulated week of incidents, with what happens when; another length with SIMULATED_DAYS=30
	$(BIN)/python -m pytest --all tests/simulation -s -k leaves_the_truth $(ARGS)

SEEDS ?= 200
FROM ?= 0

.PHONY: simulate-faults
simulate-faults: $(READY) ## Live through SEEDS=200 seeded histories of faults, from FROM=0, on all cores; options in ARGS
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --from $(FROM) $(ARGS)

.PHONY: simulate-breakages
simulate-breakages: $(READY) ## Break the program on purpose, and see at which seed the simulation notices
	$(BIN)/python -m tests.simulation.breakages $(ARGS)

# In an environment of its own, so that what it needs is not part of what is looked at.
.PHONY: audit
audit: ## Ask for known weaknesses of the locked dependencies; needs the network
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	build/audit/bin/pip-audit --requirement requirements/test.txt --no-deps --disable-pip --strict

##@ Benchmarks

.PHONY: bench
bench: $(READY) ## Run the benchmarks; options in ARGS
	$(BIN)/python -m benchmarks.run $(ARGS)

.PHONY: soak
soak: $(READY) ## Run the service at full quota for 20 minutes and look at its memory; options in ARGS
	$(BIN)/python -m benchmarks.run soak $(ARGS)

##@ Generated files

.PHONY: schemas
schemas: $(READY) ## Renew schemas/ from the types; look for differences only with ARGS=--check
	$(BIN)/python -m tools.schemas $(ARGS)

.PHONY: reference
reference: $(READY) ## Renew docs/reference from the catalogues and the tables
	$(BIN)/python -m tools.operations
	$(BIN)/python -m tools.tables
	$(BIN)/python -m tools.events > docs/reference/events.md
	$(BIN)/python -m tools.metrics > docs/reference/metrics.md
	$(BIN)/python -m tools.faults > docs/reference/faults.md
	$(BIN)/python -m tools.queries > docs/reference/queries.md

.PHONY: dashboards
dashboards: $(READY) ## Renew contrib/grafana/dashboards from the boards; look for differences only with ARGS=--check
	$(BIN)/python -m contrib.grafana.build $(ARGS)

.PHONY: vendor
vendor: $(READY) ## Fetch the files of others that vendor.toml lists; compare what is here only with ARGS=--check
	$(BIN)/python .ci/vendor.py $(ARGS)

.PHONY: pictures
pictures: $(READY) ## Renew docs/pictures from the console over a demo, in the tests' browser
	PICTURES=$(CURDIR)/docs/pictures $(BIN)/python -m pytest -q tests/integration/console/test_browser.py -k pictures

# uv resolves for every Python and platform at once; what it writes, plain pip installs.
.PHONY: lock
lock: ## Renew requirements/test.txt from pyproject.toml
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	build/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links --all-extras \
		pyproject.toml --output-file requirements/test.txt
