# Two commands on a fresh machine: `make demo` runs the pipeline on phantoms, `make test` the tests, `make test-all` all of them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
WORKERS ?= $(shell nproc)
# Memory is kept and used again, not given back to the system after every tensor: training is a quarter faster (glibc's
# defaults cost half a million page faults a step).
PROCESS := MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184 PYTHONPATH=. $(VENV)/bin/python
# One thread a process where the work is spread over processes, else one a core.
RUN := OMP_NUM_THREADS=1 $(PROCESS)
ALONE := OMP_NUM_THREADS=$(WORKERS) $(PROCESS)
DEMO ?= demo
DEMO_SERIES ?= 48
BENCH ?= bench
# Real scans for the report at the end of the demo, where they are at hand.
REAL_SCANS ?= $(wildcard ../shared/dicom/ct_tilt_gap ../shared/dicom/enhanced_mr)

.PHONY: install demo test test-all lint bench clean

install: $(VENV)/installed

$(VENV)/installed: requirements.txt pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -r requirements.txt
	$(VENV)/bin/python -m pip install -q -e .[test]
	$(VENV)/bin/python -m pip check
	$(VENV)/bin/python -c "import albumentations, cv2, torchvision; print('cv2', cv2.__version__, 'works')"
	touch $@

demo: install
	$(RUN) make_phantoms.py --out $(DEMO) --n_series $(DEMO_SERIES) --seed 0 --balanced true --workers $(WORKERS)
	$(RUN) preprocess_data.py --data_dir $(DEMO) --workers $(WORKERS)
	$(RUN) create_folds.py --data_dir $(DEMO) --folds 2
	$(RUN) scripts/contact_sheet.py --data_dir $(DEMO) --out $(DEMO)/phantoms.png
	$(RUN) train_stage1.py --data_dir $(DEMO) --model_dir $(DEMO)/model --config configs/stage1/demo.yaml --folds 2 --resume
	$(ALONE) eval_stage1.py --data_dir $(DEMO) --model_dir $(DEMO)/model --folds 2
	$(ALONE) extract_features.py --data_dir $(DEMO) --model_dir $(DEMO)/model --folds 2 --slice_spacing_mm 3 \
		--views original
	$(RUN) train_stage2.py --data_dir $(DEMO) --model_dir $(DEMO)/model --config configs/stage2/demo.yaml --folds 2 --resume
	$(RUN) eval_stage2.py --data_dir $(DEMO) --model_dir $(DEMO)/model --folds 2 --temperature
	$(RUN) eval_stage2.py --data_dir $(DEMO) --model_dir $(DEMO)/model --folds 2 --header_modality
	$(ALONE) eval_end_to_end.py --data_dir $(DEMO) --model_dir $(DEMO)/model --folds 2 --limit 12
	$(RUN) scripts/summary.py --data_dir $(DEMO) --model_dir $(DEMO)/model --folds 2
	$(ALONE) eval_end_to_end.py --data_dir $(DEMO) --folds 2 --bundle model/bundle
	$(RUN) -m volume3d.build_manifest --data_dir $(DEMO) --workers $(WORKERS)
	$(RUN) -m volume3d.preprocess --data_dir $(DEMO) --config configs/volume3d/volumes.yaml --workers $(WORKERS)
	$(RUN) -m volume3d.train --data_dir $(DEMO) --model_dir $(DEMO)/model --config configs/volume3d/demo.yaml --folds 2 \
		--weights pretrained --limit 16 --resume
	$(ALONE) -m volume3d.eval --data_dir $(DEMO) --model_dir $(DEMO)/model --folds 2 --weights pretrained
	$(ALONE) eval_end_to_end.py --model_dir $(DEMO)/model --folds 2 --export $(DEMO)/bundle
	$(RUN) make_phantoms.py --out $(DEMO)/test --n_series 3 --seed 1000 --balanced true --workers $(WORKERS)
	$(ALONE) predict.py $(DEMO)/test/series $(REAL_SCANS) --out $(DEMO)/report
	$(ALONE) -m volume3d.predict $(DEMO)/test/series --weights pretrained --out $(DEMO)/volume3d.csv
	@echo "Look at $(DEMO)/phantoms.png, and at summary.md, roc.png and series.png in $(DEMO)/model/*/"
	@echo "Open $(DEMO)/report/index.html in a browser: what the models say of three heads that nothing was trained on"

test: lint
	$(RUN) -m pytest -m "not slow"

test-all: lint
	$(RUN) -m pytest

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

bench: install
	$(RUN) benchmarks/preprocess.py --workers $(WORKERS)
	$(RUN) benchmarks/end_to_end.py --workers 1
	$(RUN) make_phantoms.py --out $(BENCH) --n_series 12 --seed 0 --balanced true --workers $(WORKERS)
	$(RUN) preprocess_data.py --data_dir $(BENCH) --workers $(WORKERS)
	$(RUN) create_folds.py --data_dir $(BENCH) --folds 2
	$(RUN) benchmarks/storage.py --data_dir $(BENCH)
	$(RUN) benchmarks/floors.py --data_dir $(BENCH) --folds 2 --rounds 3

clean:
	rm -rf $(DEMO) $(BENCH) build .pytest_cache .ruff_cache
