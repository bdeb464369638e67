# On a fresh machine `make demo` and `make test` are enough: they make .venv first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
BENCHMARKS := $(sort $(wildcard benchmarks/[0-9]*.py))

.DEFAULT_GOAL := help
.PHONY: help venv demo test check shape ratchet wheel picture format bench bench-tiny nightly hooks clean

help:            ## this list
	@grep -E '^[a-z-]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## +/\t/' | expand -t 14

venv: $(STAMP)   ## make .venv with everything in it, at the versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(STAMP)   ## a study of convergence in depth on the iris data; results in runs/iris
	$(BIN)/python -m dnlcontrol study problems/iris_dense.py --depths 2,4,8,16,32,64 --exact-to 8 --out runs/iris

# One process a core, one thread each; the tests of a file share what they prepared.
pytest := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test: $(STAMP)   ## the tests, without the slow ones
	$(pytest)

# Pages whose examples run as they stand there.
PAGES := $(wildcard README.md docs/architecture.md)

check: $(STAMP)  ## format, lint, types and doctests; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy dnlcontrol
	$(BIN)/python -m pytest --doctest-modules $(PAGES:%=--doctest-glob=%) dnlcontrol $(PAGES)

shape: $(STAMP)  ## the package in numbers, each with its ceiling; then the rules not yet kept everywhere
	@$(BIN)/python .ci/shape.py
	@$(BIN)/python .ci/ratchet.py

ratchet: $(STAMP) ## renew the record of the rules not yet kept everywhere, after it fell or files moved
	@$(BIN)/python .ci/ratchet.py --write

wheel: $(STAMP)  ## build the wheel and use it alone, in an empty environment
	PYTHON=$(BIN)/python .ci/wheel

picture: $(STAMP) ## draw docs/images/architecture.png from the imports
	@$(BIN)/python docs/draw_architecture.py

format: $(STAMP) ## format, and mend what the linter can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# Every script runs, also after one that fails; then the failures are named.
run-all = failed=""; for script in $(BENCHMARKS); do echo "== $$script $(1)"; \
	$(BIN)/python $$script $(1) || failed="$$failed $$script"; done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed" >&2; exit 1; fi

bench: $(STAMP)  ## every benchmark at full size
	@$(call run-all,)

bench-tiny: $(STAMP) ## every benchmark at a tiny size, to see that it still runs
	@$(call run-all,--tiny)

nightly: $(STAMP) ## the slow tests, then every benchmark
	$(pytest) -m slow
	@$(call run-all,)

hooks:           ## let git check format and lint of the staged files before each commit
	git config core.hooksPath .githooks

clean:           ## remove caches and builds; .venv and runs/ stay
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +
