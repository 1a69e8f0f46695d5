# Each target makes the virtual environment that it needs; a second run finds it ready.
#     make demo    four pictures in demo/
#     make test    the fast tests (others: make test PYTEST="-m slow", or long, or gpu)
#     make lint    ruff and mypy
#     make bench   everything in benchmarks/

PYTHON ?= python3
PYTEST ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -c constraints.txt
USE := $(VENV)/use.stamp
DEV := $(VENV)/dev.stamp

.PHONY: demo test lint bench clean

demo: $(USE)
	$(BIN)/relay generate \
		"a mushroom on a meadow" \
		"a castle at night, starry sky" \
		"a big strawberry, pencil sketch" \
		"a fox in front of a brick wall" \
		--out demo
	@echo "The pictures are in $(CURDIR)/demo"

# One thread each: the tensors of tests are too small to share, and workers already use the cores.
test: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 8 $(PYTEST)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(DEV)
	failed=; for script in benchmarks/*.py; do \
		echo "== $$script"; $(BIN)/python $$script || failed="$$failed $$script"; \
	done; [ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }

clean:
	rm -rf $(VENV) demo

# torch on its own first: pip then prefers a CPU build lying on this machine over a download.
$(USE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; name another one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) -e .
	touch $@

$(DEV): $(USE)
	$(PIP) -e '.[train,data,eval,expand,dev]'
	touch $@
