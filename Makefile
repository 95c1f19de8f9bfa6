# `make demo` and `make test` do all set-up by themselves: virtual environment, compiled core, both packages.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt
# what a change of asks for a new installation
SOURCES := constraints.txt Makefile retrim/pyproject.toml retrim/CMakeLists.txt conebeam/pyproject.toml \
           $(wildcard retrim/csrc/*.cpp retrim/csrc/*.hpp retrim/csrc/*.inc)
CODE := retrim conebeam examples docs/conf.py conftest.py
LINEAR := retrim/benchmarks/linear.py --verify
RESULTS := retrim/benchmarks/results

.PHONY: setup demo test test-slow lint format bench experiments docs wheel clean

setup: $(STAMP)

$(STAMP): $(SOURCES)
	@command -v g++ >/dev/null || command -v c++ >/dev/null || \
	  { echo "a C++17 compiler must be installed (Debian: apt-get install g++)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer must be used: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "Python's venv module must be installed (Debian: apt-get install python3-venv)"; exit 1; }
	@echo "installing into $(VENV) (once; a minute or two)"
	@$(INSTALL) torch
	@$(INSTALL) scikit-build-core nanobind cmake ninja hatchling editables
	@$(INSTALL) --no-build-isolation --editable 'retrim[dev]' --editable 'conebeam[dev]'
	@touch $(STAMP)

demo: setup
	$(BIN)/retrim demo
	$(BIN)/conebeam demo

lint: setup
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy retrim/src conebeam/src
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

test: lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-slow: setup
	$(BIN)/python -m pytest -m slow

bench: setup
	$(INSTALL) 'retrim[bench]'
	$(BIN)/python $(LINEAR) --precision fp32 --json $(RESULTS)/linear-fp32.json
	$(BIN)/python $(LINEAR) --precision bf16 --group 1 2 --json $(RESULTS)/linear-bf16.json
	$(BIN)/python $(LINEAR) --precision int8 --group 1 4 --json $(RESULTS)/linear-int8.json
	for precision in fp32 bf16 int8; do \
	  $(BIN)/python $(LINEAR) --precision $$precision --threads 2 --tokens 128 384 \
	    --json $(RESULTS)/linear-$$precision-2-threads.json || exit 1; done
	$(BIN)/python retrim/benchmarks/table.py $(RESULTS)/linear-fp32*.json $(RESULTS)/linear-bf16*.json \
	  $(RESULTS)/linear-int8*.json
	$(BIN)/python retrim/benchmarks/model.py --json $(RESULTS)/model.json
	$(BIN)/python retrim/benchmarks/pruners.py --json $(RESULTS)/pruners.json
	$(BIN)/python retrim/benchmarks/switch.py --json $(RESULTS)/switch-fp32.json
	$(BIN)/python retrim/benchmarks/switch.py --precision bf16 --json $(RESULTS)/switch-bf16.json
	$(BIN)/python conebeam/benchmarks/water.py --json conebeam/benchmarks/results/water.json

experiments: setup
	$(BIN)/python retrim/experiments/lm.py
	$(BIN)/python retrim/experiments/masks.py
	$(BIN)/python retrim/experiments/groups.py
	@echo "comparisons of pruners: retrim experiment slr RECIPE (docs/retrim/comparing.md); pictures: retrim/experiments/pictures.py"
	$(BIN)/python conebeam/experiments/tg195.py --json conebeam/experiments/results/tg195.json
	$(BIN)/python conebeam/experiments/tg61.py --json conebeam/experiments/results/tg61.json

docs: setup
	$(INSTALL) 'retrim[docs]'
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs docs/_build

wheel: setup
	retrim/wheel.sh $(BIN)/python dist
	$(BIN)/python -m build --outdir dist conebeam

clean:
	rm -rf $(VENV) build dist docs/_build retrim-demo conebeam-demo runs
	find retrim conebeam examples docs -name __pycache__ -prune -exec rm -rf {} +
	rm -rf retrim/build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
