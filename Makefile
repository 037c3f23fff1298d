# make demo    see it answer          make test    every check but the slow ones and those that need servers
# make test-slow   the slow ones      make test-services   the ones on real PostgreSQL, Redis and S3 servers
# make test-processors   the engine's suites as on a processor with AVX2 only, and as without a C++ compiler
# make test-chaos  sweeps, kills and soaks; CHAOS=0: every case
# make bench   measure this machine   make docs    write the generated pages
# make bench-engine   Quire, transformers and vLLM on the same requests (docs/benchmarks.md)
# PIP_FLAGS goes to pip: make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu" installs PyTorch
# without CUDA on Linux.

PYTHON ?= python3
PIP_FLAGS ?=
# e.g. make bench BENCH_FLAGS="--document page.md --threads 1"
BENCH_FLAGS ?=
# How many cases each suite of test-chaos tries; 0: all of them.
CHAOS ?= 10
BIN := .venv/bin
PIP := $(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt
RUNS := .venv/.runs
DEVELOPS := .venv/.develops
# The suites use tiny models: a second thread costs more than it gives, and a busy machine makes it far worse. The plain
# suite runs in as many processes as there are cores, the others, which measure or have servers of their own, in one.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest
SHARED := -n auto --maxprocesses 8 --dist loadscope

.PHONY: demo test test-slow test-services test-processors test-chaos lint bench bench-engine docs docs-models venv clean

demo: $(RUNS)
	$(BIN)/quire demo

test: lint
	$(PYTEST) $(SHARED) -m "not slow and not services and not chaos"

test-slow: venv
	$(PYTEST) -m "slow and not services and not chaos"

# Starts its own servers from the programs of the system: apt-get install postgresql redis-server
test-services: venv
	$(PYTEST) -m "services and not chaos"

# What depends on the processor, and a project from init to its golden answers. Kernels for GPUs do not.
ENGINE := $(SHARED) tests/model tests/engine tests/cli/test_example.py --ignore-glob='tests/model/test_cuda_*' \
	-m "(not slow or processors) and not services and not chaos"
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 QUIRE_MAX_CPU_ISA=AVX2

test-processors: venv
	$(AVX2) $(PYTEST) $(ENGINE)
	CXX=no-such-compiler $(PYTEST) $(ENGINE)

test-chaos: venv
	QUIRE_CHAOS=$(CHAOS) $(PYTEST) -m chaos

lint: venv
	$(BIN)/ruff format --check src tests
	$(BIN)/ruff check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(RUNS)
	mkdir -p bench-results
	$(BIN)/quire bench restore $(BENCH_FLAGS) --json bench-results/restore-$$(date -u +%Y%m%dT%H%M%SZ).json

bench-engine: $(RUNS)
	$(PIP) -q -e '.[bench]'
	mkdir -p bench-results
	at=bench-results/engine-$$(date -u +%Y%m%dT%H%M%SZ); \
		$(BIN)/quire bench engine --pip-flags="$(PIP_FLAGS)" $(BENCH_FLAGS) --json $$at.json --plot $$at.svg

docs: $(RUNS)
	$(BIN)/python -m quire.cli.reference docs

docs-models: venv
	PYTHONPATH=tests $(BIN)/python -m model.sweep docs/models.md

venv: $(DEVELOPS)

# PyTorch first and pinned: whatever asks for it later finds it and downloads no other build.
$(RUNS): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Quire needs Python 3.11 or newer: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) -e .
	touch $@

$(DEVELOPS): $(RUNS)
	$(PIP) -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache bench-results examples/*/.quire
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
