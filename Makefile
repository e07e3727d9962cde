# Veduta: everything that a developer runs. `make` alone lists the targets.
# Needs Python >= 3.11, git and make. All of it happens in .venv, which each target sets up
# as far as it needs it; a second call finds a stamp there and starts at once.

VENV := .venv
BIN  := $(VENV)/bin
PHOTOS ?=
DEMO := .demo
DATA ?= ../shared/data
SEED ?= 1

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$python; break; }; done)

PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
INSTALL := $(PIP) install --constraint constraints.txt
# Tests compare with this package. Its other dependencies are there already.
YARDSTICKS := grad-cam==1.5.7 ttach==0.0.3
# Four processes on two cores: many tests wait, for a server or for a command that they interrupt.
TESTS := pytest -n 4 --dist loadfile --no-loadscope-reorder
INPUTS := pyproject.toml constraints.txt src/veduta/_version.py

MADE  := $(VENV)/.made
CORE  := $(VENV)/.installed-core
LINT  := $(VENV)/.installed-lint
TEST  := $(VENV)/.installed-test
BENCH := $(VENV)/.installed-bench
DOCS  := $(VENV)/.installed-docs
SAMPLES := $(DEMO)/samples/.fetched

# veduta loads its names at their first use; pdoc sees only what is loaded.
define WRITE_DOCS
from pathlib import Path
import pdoc, veduta
vars(veduta).update({name: getattr(veduta, name) for name in veduta.__all__})
pdoc.render.configure(docformat="google")
pdoc.pdoc("veduta", output_directory=Path("docs/site"))
endef
export WRITE_DOCS

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help install demo test test-fast test-wheel test-setup lint attack bench results docs constraints clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(CORE)  ## install veduta and its service into .venv, without torch

demo: $(CORE) $(if $(PHOTOS),,$(SAMPLES))  ## index and search sample photos, or yours: PHOTOS=folder
ifeq ($(strip $(PHOTOS)),)
	@$(BIN)/veduta demo --source $(DEMO)/samples/skimage/data --out $(DEMO)
else
	@$(BIN)/veduta demo --photos "$(PHOTOS)" --out $(DEMO)
endif

test: lint test-wheel  ## set up what the tests need, then run the checks and all tests

test-fast: $(TEST)  ## run the tests that are not marked slow, on the source tree
	$(BIN)/python -m $(TESTS) -m "not slow"

test-wheel: $(TEST)  ## build the package, install it, and run all tests on it
	rm -rf build/wheel && mkdir -p build/wheel
	$(PIP) wheel --no-deps --wheel-dir build/wheel .
	$(BIN)/python -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip --disable-pip-version-check -qq install --no-deps \
		build/wheel/*.whl
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> "$$(build/wheel/venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dependencies.pth"
	build/wheel/venv/bin/python -c "import veduta; assert '/build/wheel/' in veduta.__file__"
	build/wheel/venv/bin/python -m $(TESTS)

test-setup: $(TEST)  ## only set up what the tests need

lint: $(LINT)  ## ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

attack: $(TEST)  ## try to break each promise of docs/reliability.md; SEED=2 makes other attacks
	$(BIN)/python -m attack --seed $(SEED) --docs docs/reliability.md

bench: $(BENCH)  ## measure speed and memory against other tools
	$(BIN)/python -m benchmarks

results: $(TEST)  ## measure accuracy on the labelled sets in DATA=../shared/data
	$(BIN)/python -m benchmarks.methods --data $(DATA) --docs docs/results.md
	$(BIN)/python -m benchmarks.accuracy --data $(DATA) --docs docs/results.md
	$(BIN)/python -m benchmarks.recognition --data $(DATA) --docs docs/results.md
	$(BIN)/python -m benchmarks.strangers --data $(DATA) --docs docs/results.md
	$(BIN)/python -m benchmarks.turned --data $(DATA) --docs docs/results.md
	$(BIN)/python -m benchmarks.copies --data $(DATA) --docs docs/results.md
	$(BIN)/python -m benchmarks.copy_detection --data $(DATA) --docs docs/results.md
	$(BIN)/python -m benchmarks.groups --data $(DATA) --docs docs/results.md
	$(BIN)/python -m benchmarks.cleaning --data $(DATA) --docs docs/results.md
	$(BIN)/python -m benchmarks.piles --data $(DATA) --docs docs/results.md
	$(BIN)/python -m benchmarks.networks --data $(DATA) --docs docs/results.md
	$(BIN)/python -m benchmarks.embedding --data $(DATA) --docs docs/results.md
	$(BIN)/python -m benchmarks.reports --data $(DATA) --docs docs/reports
	$(BIN)/python -m benchmarks.explanations --data $(DATA) --docs docs/explanations.md
	$(BIN)/python -m benchmarks.ablation --data $(DATA) --docs docs/ablation.md
	$(BIN)/python -m benchmarks.eight_bits --data $(DATA) --docs docs/ablation.md
	$(BIN)/python -m benchmarks.eight_bit_keypoints --data $(DATA) --docs docs/ablation.md
	$(BIN)/python -m benchmarks.reranking --data $(DATA) --docs docs/reranking.md
	$(BIN)/python -m benchmarks.scene_kinds --data $(DATA) --docs docs/reranking.md
	$(BIN)/python -m benchmarks.probabilities --data $(DATA) --docs docs/reranking.md
	$(BIN)/python -m benchmarks.keypoint_counts --data $(DATA) --docs docs/reranking.md
	$(BIN)/python -m benchmarks.keypoint_bytes --data $(DATA) --docs docs/reranking.md
	$(BIN)/python -m benchmarks.shortcuts --data $(DATA) --docs docs/reranking.md
	$(BIN)/python -m benchmarks.verification_variants --data $(DATA) --docs docs/reranking.md
	$(BIN)/python -m benchmarks.shared_overlays --data $(DATA) --docs docs/reranking.md
	$(BIN)/python -m benchmarks.stamps --data $(DATA) --docs docs/reranking.md
	$(BIN)/python -m benchmarks.regions --data $(DATA) --docs docs/regions.md

docs: $(DOCS)  ## write the pages of the Python API to docs/site
	@$(BIN)/python -c "$$WRITE_DOCS"
	@echo "Open docs/site/index.html"

constraints: $(MADE)  ## resolve all dependencies anew and write constraints.txt
	rm -rf build/constraints && $(BIN)/python -m venv build/constraints
	build/constraints/bin/python -m pip -qq install \
		--editable '.[dev,openvino,formats,hub,parity,train,bench,docs]'
	{ sed -n '/^#/p' constraints.txt; \
	  build/constraints/bin/python -m pip freeze --exclude-editable | sed 's/+.*//' \
	    | LC_ALL=C sort --ignore-case; \
	} > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/constraints

clean:  ## remove .venv, the demo and everything else that was made here
	rm -rf $(VENV) $(DEMO) .results build dist docs/site .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@test -n "$(PYTHON)" || { echo "Veduta needs Python 3.11 or newer: install it, or name it with" \
		"make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(CORE): $(INPUTS) | $(MADE)
	@echo "Installing veduta into $(VENV), once: about a minute, 1 GB on disk."
	@$(INSTALL) --editable '.[web]'
	@touch $@

$(LINT): $(INPUTS) | $(MADE)
	@echo "Installing the checks into $(VENV), once."
	@$(INSTALL) --editable '.[dev]'
	@touch $@ $(CORE)

$(TEST): $(INPUTS) | $(MADE)
	@echo "Installing what the tests need into $(VENV), once: some minutes, 7.1 GB on disk."
	@$(INSTALL) --no-compile --editable '.[dev,openvino,formats,hub,parity,train]'
	@$(INSTALL) --no-compile --no-deps $(YARDSTICKS)
	@touch $@ $(LINT) $(CORE)

$(BENCH): $(INPUTS) | $(TEST)
	@echo "Installing the tools to compare with into $(VENV), once."
	@$(INSTALL) --editable '.[bench]'
	@touch $@

$(DOCS): $(INPUTS) | $(MADE)
	@$(INSTALL) --editable '.[docs]'
	@touch $@ $(CORE)

# The photos of the demo are those that scikit-image ships; nothing of it is installed or run.
$(SAMPLES): constraints.txt | $(MADE)
	@echo "Fetching the sample photos, once."
	@$(PIP) install --no-deps --no-compile --upgrade --constraint constraints.txt \
		--target $(DEMO)/samples scikit-image
	@touch $@
