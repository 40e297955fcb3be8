# Two commands for a stranger: `make demo` and `make test`. Both set up .venv by themselves; after that, no network.
PYTHON ?= python3
VENV ?= .venv
TORCH_VERSION = $(shell sed -n 's/^torch==//p' constraints.txt)
TRANSFORMERS_VERSION = $(shell sed -n 's/^transformers==\([0-9.]*\).*/\1/p' constraints.txt)
# PyTorch's index of CPU wheels, or any other package index that holds them. Empty: only the indexes pip knows already.
TORCH_INDEX ?=
# For `make benchmark`: folder for ground-truth recordings, and the folder that `huidurep simulate cells` wrote.
RECORDINGS ?=
CELLS ?=
# Names of recordings and of sorters, with commas, for a trial of `make benchmark-sorting`. Empty: all.
ONLY ?=
SORTERS ?=
# Threads of one process (numpy, torch, numba).
THREADS ?= 2
EXTRAS = train,simulate,report,onnx,dev
# What pip is held to: the tested versions, or those of `make test-versions`.
CONSTRAINTS ?= constraints.txt
# Environment of the demo of examples/space/: gradio asks for an older pillow than constraints.txt has.
SPACE_VENV ?= .venv-space

# Environment of `make docs`: it needs neither torch nor the package.
DOCS_VENV ?= .venv-docs

BIN = $(VENV)/bin
COMMON = build/transformers-$(TRANSFORMERS_VERSION)
STAMP = $(VENV)/.installed
# Every thread pool is told its size: the default of several libraries is one thread a core each, which is slower.
RUN = OMP_NUM_THREADS=$(THREADS) OPENBLAS_NUM_THREADS=$(THREADS) MKL_NUM_THREADS=$(THREADS) \
	NUMBA_NUM_THREADS=$(THREADS) HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 MPLBACKEND=Agg

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all fuzz coverage test-common test-versions test-space space docs benchmark benchmark-sorting lint clean

help: ## this list
	@echo "usage: make TARGET [PYTHON=python3.11] [TORCH_INDEX=URL] [THREADS=2]"; echo
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{printf "%-21s%s\n", $$1, $$2}'

install: $(STAMP) ## build .venv from constraints.txt (demo, test and benchmark do it by themselves)

demo: $(STAMP) ## simulate a tetrode recording, sort it, compare with the truth, draw pictures into demo_output/
	@echo "==> Simulating, sorting and scoring a tetrode recording; pictures go to demo_output/"
	@$(RUN) $(BIN)/python examples/01_sort_recording.py --output demo_output

# Two processes of one thread each: together faster than one process with two threads. A file stays in one process, for
# its fixtures; the order of the files is that of tests/conftest.py.
TWO = -n 2 --dist loadfile --no-loadscope-reorder
test test-all fuzz: THREADS = 1
test: $(STAMP) ## run the tests (offline; without those marked network, gpu or slow)
	@echo "==> Running the tests"
	@$(RUN) $(BIN)/python -m pytest $(TWO)

test-all: $(STAMP) ## run the slow tests too
	@echo "==> Running all tests but those that need the network or a GPU"
	@$(RUN) $(BIN)/python -m pytest $(TWO) -m "not network and not gpu"

fuzz: $(STAMP) ## ten times as many random recordings, checkpoints and command lines as `make test`, other ones each time
	@echo "==> 2,000 random cases"
	@HUIDUREP_FUZZ_FACTOR=10 $(RUN) $(BIN)/python -m pytest tests/properties --timeout 3600 -n 2

coverage: THREADS = 1
coverage: $(STAMP) ## run the tests and fail where they execute less than 90 % of the package's lines
	@$(RUN) $(BIN)/python -m pytest $(TWO) --cov --cov-report term:skip-covered

test-common: $(STAMP) ## run transformers' own common model tests on ours (fetches its source from PyPI the first time)
	@echo "==> Running the common model tests of transformers $(TRANSFORMERS_VERSION)"
	@test -d $(COMMON)/tests || { $(BIN)/python -m pip download -qq --no-deps --no-binary transformers -d build \
		"transformers==$(TRANSFORMERS_VERSION)" && tar -xzf $(COMMON).tar.gz -C build; }
	@$(BIN)/python -m pip install -qq -c $(CONSTRAINTS) parameterized
	@$(RUN) PYTHONPATH=$(COMMON) $(BIN)/python -m pytest -o addopts= -q tests/models/common_model_tests.py

test-versions: ## run the tests with the lowest and the newest versions that setup.cfg allows, each in its environment
	@echo "==> Lowest versions (constraints-lowest.txt), in .venv-lowest"
	@$(MAKE) --no-print-directory test VENV=.venv-lowest CONSTRAINTS=constraints-lowest.txt
	@echo "==> Newest versions, in a fresh .venv-newest"
	@rm -rf .venv-newest
	@$(MAKE) --no-print-directory test VENV=.venv-newest CONSTRAINTS=/dev/null

test-space: $(SPACE_VENV)/.with-gradio ## run the tests of the demo, in an environment of its own with gradio
	@echo "==> Running the tests of examples/space"
	@$(RUN) $(SPACE_VENV)/bin/python -m pytest tests/examples/test_space.py tests/examples/test_space_browser.py

space: $(SPACE_VENV)/.with-gradio ## serve the demo of examples/space/ at http://127.0.0.1:7860
	@$(RUN) $(SPACE_VENV)/bin/python examples/space/app.py

benchmark: $(STAMP) ## measure again and rewrite the tables (RECORDINGS=FOLDER CELLS=FOLDER: sorting too, see benchmarks/)
	@echo "==> Embeddings against principal components"
	@$(RUN) $(BIN)/python benchmarks/embedding.py
	@$(if $(RECORDINGS),$(MAKE) --no-print-directory benchmark-sorting)
	@$(BIN)/python benchmarks/tables.py

benchmark-sorting: $(STAMP) ## the sortings alone (with ONLY=tet_static_s151 SORTERS=huidurep, or without CELLS, a trial, into build/)
	@echo "==> Recordings with ground truth that $(RECORDINGS) does not have yet"
	@$(RUN) $(BIN)/python benchmarks/made_recordings.py $(RECORDINGS) $(if $(ONLY),--only $(ONLY)) \
		$(if $(CELLS),--kind cells --cells $(CELLS),--kind simulated)
	@echo "==> Sorting beside other sorters"
	@$(RUN) $(BIN)/python benchmarks/sorting.py $(RECORDINGS) $(if $(SORTERS),--sorters $(SORTERS)) \
		$(if $(ONLY),--only $(ONLY)) $(if $(CELLS),$(if $(ONLY),--output build/sorting.json),--output build/sorting.json)

docs: $(DOCS_VENV)/.installed ## build the pages of docs/ into site/ (mkdocs, in an environment of its own)
	@NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict

lint: $(STAMP) ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

clean: ## remove what was built: the environments, demo_output, caches
	rm -rf $(VENV) $(SPACE_VENV) $(DOCS_VENV) .venv-lowest .venv-newest demo_output build site *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): setup.cfg pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
		echo "huidurep needs Python 3.10 or newer, found '$(PYTHON)': $$($(PYTHON) --version 2>/dev/null || echo no such program)." \
			"Name another one: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "==> Creating $(VENV) with $$($(PYTHON) --version)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "'$(PYTHON) -m venv' failed; on Debian and Ubuntu install the package python3-venv, then run make again." >&2; exit 1; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c $(CONSTRAINTS) setuptools
	@if nvidia-smi -L >/dev/null 2>&1; then \
		echo "==> Installing torch $(TORCH_VERSION) (an NVIDIA GPU was found)"; \
		$(BIN)/python -m pip install -qq "torch==$(TORCH_VERSION)" -c $(CONSTRAINTS); \
	else \
		echo "==> Installing torch $(TORCH_VERSION) for the CPU (no NVIDIA GPU was found)"; \
		$(BIN)/python -m pip install -qq $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --only-binary=:all: \
			"torch==$(TORCH_VERSION)+cpu" -c $(CONSTRAINTS) 2>/dev/null || { \
		echo "    no CPU-only build in the indexes known to pip (see TORCH_INDEX in docs/howto/install.md); taking the default build"; \
		$(BIN)/python -m pip install -qq "torch==$(TORCH_VERSION)" -c $(CONSTRAINTS); }; \
	fi
	@echo "==> Installing huidurep and what it needs ($(CONSTRAINTS))"
	@$(BIN)/python -m pip install -qq --no-build-isolation -c $(CONSTRAINTS) -e ".[$(EXTRAS)]"
	@touch $(STAMP)
	@echo "==> $(VENV) is ready; nothing below needs the network"

$(SPACE_VENV)/.with-gradio: setup.cfg pyproject.toml constraints.txt
	@mkdir -p $(SPACE_VENV)
	@grep -v '^pillow==' constraints.txt > $(SPACE_VENV)/constraints.txt
	@$(MAKE) --no-print-directory install VENV=$(SPACE_VENV) EXTRAS=space,dev CONSTRAINTS=$(SPACE_VENV)/constraints.txt
	@touch $@

$(DOCS_VENV)/.installed: setup.cfg constraints.txt
	@test -x $(DOCS_VENV)/bin/python || $(PYTHON) -m venv $(DOCS_VENV)
	@sed -n '/^docs =/,/^[^ ]/s/^    //p' setup.cfg > $(DOCS_VENV)/requirements.txt
	@$(DOCS_VENV)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt \
		-r $(DOCS_VENV)/requirements.txt
	@touch $@
