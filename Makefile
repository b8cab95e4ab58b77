# Two commands on a fresh machine: `make demo` runs the pipeline on phantoms, `make test` the tests.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
RUN := OMP_NUM_THREADS=1 $(VENV)/bin/python
DEMO ?= demo

.PHONY: install demo test bench clean

install: $(VENV)/installed

$(VENV)/installed: requirements.txt pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -r requirements.txt
	$(VENV)/bin/python -m pip install -q -e .[test]
	$(VENV)/bin/python -m pip check
	$(VENV)/bin/python -c "import cv2, torchvision, albumentations; print('cv2', cv2.__version__)"
	touch $@
