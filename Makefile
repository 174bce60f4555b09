# make demo | test | lab | bench | lint: each sets up what it needs once, and nothing twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile
# Byte-compiled on all cores, where pip uses one. Without it the first start takes twice as long,
# and so does every start where PYTHONDONTWRITEBYTECODE is set. What does not compile is no matter.
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
SETUP_FILES := pyproject.toml constraints.txt

export GRADIO_ANALYTICS_ENABLED := False
# These stand in the way of nothing that is asked for; without them a test may reach for the hub.
TEST_ENV := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.PHONY: demo test lab bench lint results screenshot clean

demo: $(VENV)/.demo
	$(BIN)/python -m app

test: $(VENV)/.dev
	$(TEST_ENV) $(BIN)/python -m pytest

lab: $(VENV)/.lab
	$(BIN)/python tutorials/build.py
	$(BIN)/jupyter lab tutorials/00_start_here.ipynb

bench: $(VENV)/.dev
	$(TEST_ENV) $(BIN)/python -m tests.bench

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tutorials/build.py --check

# The tables in the README; a killed sweep goes on where it stopped, a finished one runs nothing.
results: $(VENV)/.dev
	$(BIN)/adadpo-mini sweep sets --out data/results/sets.csv
	$(BIN)/adadpo-mini sweep paper --out data/results/paper.csv
	$(BIN)/adadpo-mini table sets data/results/sets.csv --into README.md
	$(BIN)/adadpo-mini table claims data/results/paper.csv --into README.md
	$(BIN)/adadpo-mini losses --into README.md
	$(BIN)/python -m tests.bench.tables data/results/bench.json --into README.md

screenshot: $(VENV)/.dev
	$(TEST_ENV) $(BIN)/python -m tests.browser.screenshot

clean:
	rm -rf $(VENV)

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "adadpo_mini needs Python 3.11 or newer; try: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.python $(SETUP_FILES)
	$(PIP) -c constraints.txt -e ".[app]"
	$(COMPILE)
	@touch $@

$(VENV)/.lab: $(VENV)/.python $(SETUP_FILES)
	$(PIP) -c constraints.txt -e ".[notebooks]"
	$(COMPILE)
	@touch $@

$(VENV)/.dev: $(VENV)/.python $(SETUP_FILES)
	$(PIP) -c constraints.txt -e ".[app,notebooks,dev,stats,trl,lora]"
	$(COMPILE)
	@touch $@ $(VENV)/.demo $(VENV)/.lab
