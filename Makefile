# Two commands on a fresh machine: `make demo` runs the pipeline on phantoms, `make test` the tests.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
# One thread a process: the work is spread over processes.
RUN := OMP_NUM_THREADS=1 PYTHONPATH=. $(VENV)/bin/python
WORKERS ?= $(shell nproc)
DEMO ?= demo
DEMO_SERIES ?= 24

.PHONY: install demo test bench clean

install: $(VENV)/installed

$(VENV)/installed: requirements.txt pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -r requirements.txt
	$(VENV)/bin/python -m pip install -q -e .[test]
	$(VENV)/bin/python -m pip check
	$(VENV)/bin/python -c "import albumentations, cv2, torchvision; print('cv2', cv2.__version__, 'works')"
	touch $@

demo: install
	$(RUN) make_phantoms.py --out $(DEMO) --n_series $(DEMO_SERIES) --seed 0 --workers $(WORKERS)
	$(RUN) preprocess_data.py --data_dir $(DEMO) --slices false --workers $(WORKERS)
	$(RUN) create_folds.py --data_dir $(DEMO)
	$(RUN) scripts/figures.py --data_dir $(DEMO) --out $(DEMO)
	@echo "Look at $(DEMO)/phantoms.png"

test: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(RUN) -m pytest

bench: install
	$(RUN) benchmarks/preprocess.py --workers $(WORKERS)

clean:
	rm -rf $(DEMO) .pytest_cache .ruff_cache
