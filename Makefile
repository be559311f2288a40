# Two commands: `make quickstart` (train, track, score, look) and `make test` (lint, types, tests).
.DEFAULT_GOAL := help
.PHONY: .votenv lock outdated help install quickstart dashboard test test-slow test-gpu bench bench-gpu lint format clean docs
PYTHON ?= python3
PY := .venv/bin/python
STAMP := .venv/.installed
QUICK := runs/quickstart
EVALUATE := $(PY) -m seqtrack_lit.cli.evaluate 'baseline=[static,kcf,csrt]'
LOCK := $(PY) -m uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 -q \
  --no-header --no-annotate

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

# The versions of requirements.lock; where they cannot be had (another index, another system), the newest that fit. uv is
# fast; where it cannot be had, plain pip does the same (its last line repairs cv2/, see pyproject.toml). Compiled at once,
# as pip does: a command starts in 6 s instead of 15 where Python may not write bytecode.
$(STAMP): pyproject.toml requirements.lock
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install -q --disable-pip-version-check uv \
	  && { $(PY) -m uv pip install -q --compile-bytecode --python $(PY) --require-hashes -r requirements.lock \
	       && $(PY) -m uv pip install -q --python $(PY) --no-deps -e . \
	       || { echo "requirements.lock cannot be used here (see above): the newest versions that fit instead"; \
	            $(PY) -m uv pip install -q --compile-bytecode --python $(PY) -e '.[dev]'; }; } \
	  || { $(PY) -m pip install -q -e '.[dev]' && $(PY) -m pip uninstall -q -y opencv-python-headless \
	       && $(PY) -m pip install -q --force-reinstall --no-deps opencv-contrib-python-headless; }
	@touch $@

install: $(STAMP)  ## make .venv with everything in it

quickstart: $(STAMP)  ## train a tiny tracker on generated videos, track, score, write a report (minutes, CPU is enough)
# What needs no training is tracked beside it, or after it if that failed.
	@mkdir -p $(QUICK); \
	OMP_NUM_THREADS=1 nice $(EVALUATE) checkpoint=small out=$(QUICK)/results media=false > $(QUICK)/beside.log 2>&1 & beside=$$!; \
	$(PY) -m seqtrack_lit.cli.train experiment=quickstart resume=auto || { kill $$beside; exit 1; }; \
	wait $$beside || $(EVALUATE) checkpoint=small out=$(QUICK)/results media=false
	$(EVALUATE) run=$(QUICK)
	$(PY) -m seqtrack_lit.cli.report run=$(QUICK)
	@echo "Look next at $(QUICK)/report/index.html (open it in a browser)."

docs: $(STAMP)  ## the documentation as a site: open site/index.html
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict -q

dashboard: $(STAMP)  ## a dashboard of all runs with logger=wandb: saved online with a key, else written as JSON
	$(PY) -m seqtrack_lit.cli.dashboard

lint: $(STAMP)  ## ruff, mypy --strict, import contracts
	.venv/bin/ruff check src tests experiments
	.venv/bin/ruff format --check src tests experiments
	.venv/bin/mypy
	.venv/bin/lint-imports

test: $(STAMP)  ## lint, types and the tests that take seconds, in two processes; lint beside them
	@$(MAKE) -s lint > .venv/.lint 2>&1 & lint=$$!; $(PY) -m pytest -q -n 2 --dist loadfile; tests=$$?; \
	wait $$lint; linted=$$?; cat .venv/.lint; test $$tests = 0 && test $$linted = 0
	@echo "All green. Look next at README.md; the long tests are 'make test-slow'."

# The VOT toolkit needs other versions of OpenCV and numpy, and newer toolkits cannot run VOT2020. Where it cannot be had,
# its test is skipped. --no-config: the overrides of pyproject.toml would leave out its OpenCV. The tracker's side takes
# vot-trax alone, from the folder tracker/.
.votenv: $(STAMP)
	-test -d .votenv/tracker/trax || { python3 -m venv .votenv \
	  && $(PY) -m uv pip install -q --no-config --python .votenv/bin/python vot-toolkit==0.7.4 attributee==0.1.9 vot-trax==4.0.2 \
	  && $(PY) -m uv pip install -q --python $(PY) --no-deps --target .votenv/tracker vot-trax==4.0.2 six; }

test-slow: $(STAMP) .votenv  ## the tests that take minutes: kill and resume, several processes, full-size index
	$(PY) -m pytest -q -m slow
	@echo "All green. Look next at experiments/."

test-gpu: $(STAMP)  ## the tests that need a CUDA device
	$(PY) -m pytest -q -m gpu

bench: $(STAMP)  ## is tracking slower than it was? one CPU thread, compared with the stored file (3 minutes)
	$(PY) experiments/tab1_profile/bench_cpu.py

bench-gpu: $(STAMP)  ## frames and training samples a second of the four models on the GPU at hand (8 minutes)
	$(PY) experiments/tab1_profile/bench_gpu.py

lock: $(STAMP)  ## write requirements.lock anew: the newest versions that fit
	$(LOCK) --generate-hashes --upgrade -o requirements.lock

outdated: $(STAMP)  ## which dependencies have moved on since requirements.lock (< locked, > newest)
	@grep -oE '^[^ ]+==[^ ;]+' requirements.lock > .venv/.locked
	@$(LOCK) > .venv/.newest && grep -oE '^[^ ]+==[^ ;]+' .venv/.newest | diff .venv/.locked - \
	  && echo "requirements.lock is up to date" || echo "Dependencies have moved on, or cannot be asked for; 'make lock' takes the newest."

format: $(STAMP)  ## let ruff mend what it can
	.venv/bin/ruff check --fix src tests experiments; .venv/bin/ruff format src tests experiments

clean:  ## remove caches, not runs
	rm -rf site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist
