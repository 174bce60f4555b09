# make demo | test | lab | bench | lint | space: each sets up what it needs, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile
# Compile to bytecode on all cores (pip uses one). Without it the first start takes twice as long,
# and so does every start where PYTHONDONTWRITEBYTECODE is set. A file that fails does not matter.
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
SETUP_FILES := pyproject.toml constraints.txt

export GRADIO_ANALYTICS_ENABLED := False
# No test may reach for the hub, and no test gains from a second thread.
TEST_ENV := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.PHONY: demo test lab bench lint results sizes screenshot space clean

demo: $(VENV)/.demo
	$(BIN)/python -m app

test: $(VENV)/.dev
	$(TEST_ENV) $(BIN)/python -m pytest

lab: $(VENV)/.demo
	$(BIN)/jupyter lab tutorials/00_start_here.ipynb

bench: $(VENV)/.dev
	$(TEST_ENV) $(BIN)/python -m tests.bench

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tutorials/build.py --check

# The tables of results. A sweep that was killed continues where it stopped; one that is complete
# runs nothing.
results: $(VENV)/.dev
	for plan in arcs sets beta paper; do \
	  $(BIN)/adadpo-mini sweep $$plan --out data/results/$$plan.csv || exit 1; done
	for kind in arcs sets beta; do \
	  $(BIN)/adadpo-mini table $$kind data/results/$$kind.csv --into data/results/$$kind.md || exit 1; done
	for kind in claims findings; do \
	  $(BIN)/adadpo-mini table $$kind data/results/paper.csv --into data/results/$$kind.md || exit 1; done
	$(BIN)/adadpo-mini losses --into data/results/losses.md
	$(BIN)/python -m tests.bench.tables data/results/bench.json --into data/results/speed.md
	$(BIN)/python -m tests.bench.doctor_score --into data/results/doctor.md
	$(BIN)/python -m tests.bench.readme

sizes: $(VENV)/.dev
	$(BIN)/python -m tests.bench.sizes

screenshot: $(VENV)/.dev
	$(TEST_ENV) $(BIN)/python -m tests.browser.screenshot

# A folder to upload as a Hugging Face Space; its README says how.
space: $(VENV)/.demo
	$(BIN)/python -m adadpo_mini.cli.space build/space

clean:
	rm -rf $(VENV) build/space

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "adadpo_mini needs Python 3.11 or newer; try: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.python $(SETUP_FILES)
	$(PIP) -c constraints.txt -e .
	$(COMPILE)
	@touch $@

$(VENV)/.dev: $(VENV)/.python $(SETUP_FILES)
	$(PIP) -c constraints.txt -e ".[dev,trl,lora]"
	$(COMPILE)
	@touch $@ $(VENV)/.demo
