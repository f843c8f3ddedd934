# make figures | claims | report | explore | notebook | docs | test | fuzz | kills | bench | league | mutants | check | clean
# Each sets up .venv first; the stamp files in it skip pip while pyproject.toml and constraints.txt are unchanged.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
ARGS ?=
FULL ?=

.PHONY: help figures claims report explore notebook docs test fuzz kills bench league mutants check clean
.DEFAULT_GOAL := help

help:
	@echo "make figures   verify the formulas, then draw all figures into out/figures (ARGS='figure-1 --seed 1')"
	@echo "               FULL=1 takes the long protocols of tables-1-2 and table-3"
	@echo "make claims    judge every claim: proved, reproduced, corrected? (ARGS='--only figure-1')"
	@echo "make report    write all of it on one page, out/report.html; 'make figures' does so too"
	@echo "make explore   open a prompt with the derivations and their symbols (ARGS='list mean field')"
	@echo "make notebook  open the closed forms with sliders in a browser"
	@echo "make docs      write an API page for every room and module into out/api"
	@echo "make test      run the whole test suite (ARGS='-k gate')"
	@echo "make fuzz      try many spoilt arguments of every public function, others each time; prints the seed"
	@echo "make kills     kill runs at 50 random moments: what goes on must end the same (ARGS='--count 10')"
	@echo "make bench     measure, print a table and write out/bench.json"
	@echo "make league    hypergradients of several libraries against closed forms, writes out/league.json"
	@echo "make mutants   plant faults in the code, and see whether tests notice (ARGS='--count 50 --only solvers')"
	@echo "make check     lint, format check, types, import rules"
	@echo "make clean     remove .venv, out and caches"
	@echo "PYTHON=...     the Python to set up .venv with, 3.11 or newer; now: $(PYTHON)"

figures: .venv/.base
	@$(BIN)/python -m figures $(if $(FULL),--full) $(ARGS)
	@$(if $(ARGS),,$(BIN)/python -m paper_checks report)

claims: .venv/.base
	@$(BIN)/python -m paper_checks $(ARGS)

report: .venv/.base
	@$(BIN)/python -m paper_checks report $(ARGS)

explore: .venv/.base
	@$(BIN)/python -m analysis $(ARGS)

notebook: .venv/.all
	@$(BIN)/marimo run docs/closed_forms.py

# Of conformance the one module that users call: its package imports on first use.
docs: .venv/.all
	@$(BIN)/pdoc --docformat google --no-show-source --output-directory out/api \
	  ./analysis ./solvers ./figures ./paper_checks '!paper_checks\.conformance' \
	  ./paper_checks/conformance/harness.py
	@echo "written to out/api/index.html"

test: .venv/.all
	@$(BIN)/python -m pytest -n 2 --dist=worksteal $(ARGS)

SEED ?= $(shell date +%s)
fuzz: .venv/.all
	@echo "seed $(SEED): 'make fuzz SEED=$(SEED)' tries the same again"
	@$(BIN)/python -m pytest -n 2 --dist=worksteal tests/fuzz --hypothesis-profile fuzz --hypothesis-seed $(SEED) $(ARGS)

kills: .venv/.all
	@$(BIN)/python -m tests.kills $(ARGS)

bench: .venv/.bench
	@$(BIN)/python -m benchmarks $(ARGS)

league: .venv/.league
	@$(BIN)/python -m benchmarks.league $(ARGS)

mutants: .venv/.mutants
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants $(ARGS)

check: .venv/.all
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports

clean:
	rm -rf .venv out build *.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find analysis solvers figures paper_checks tests benchmarks docs \( -name __pycache__ -o -name __marimo__ \) -type d -exec rm -rf {} +

# What the figures need; table-3 is about the data of MuJoCo's simulators.
.venv/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, and '$(PYTHON)' is not: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "installing into .venv (a few minutes the first time) ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) -e '.[dynamics]'
	@touch $@

# What the tests and checks need besides.
.venv/.all: .venv/.base
	@echo "installing what tests and checks need into .venv ..."
	@$(PIP) -e '.[dynamics,cluster,dev]'
	@touch $@

# What the benchmarks compare with.
.venv/.bench: .venv/.base
	@echo "installing what the benchmarks compare with into .venv ..."
	@$(PIP) -e '.[bench]'
	@touch $@

# The libraries of the league.
.venv/.league: .venv/.base
	@echo "installing the libraries of the league into .venv ..."
	@$(PIP) -e '.[league]'
# boat-torch asks for numpy <= 1.26.4, betty-ml has requirements that pip >= 24.1 does not read.
	@for library in betty-ml boat-torch; do $(PIP) --no-deps $$library || \
	  echo "$$library cannot be installed here: the tables name it as missing"; done
	@touch $@

# What plants the faults, besides what the tests need.
.venv/.mutants: .venv/.all
	@echo "installing what plants faults into .venv ..."
	@$(PIP) -e '.[mutants]'
	@touch $@
