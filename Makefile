# The targets that README.md names. `make demo` needs the runtime alone; `make test` installs everything.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SHELL := /bin/bash

.PHONY: help demo test test-slow test-arm lint docs web arm wheel clean

help:
	@echo "make demo       install the runtime, estimate the age on a sample picture"
	@echo "make test       install everything, check style and types, run the tests"
	@echo "make test-slow  the tests that take minutes"
	@echo "make test-arm   the tests on emulated arm64 processors (some minutes; needs Debian or Ubuntu's qemu-user-static)"
	@echo "make docs       write the generated parts of the documents, build the site into site/"
	@echo "make web        install onnxruntime-web, for the test in JavaScript (needs Node and npm)"
	@echo "make arm        make a folder with Python for arm64, for make test-arm (needs Debian)"
	@echo "make wheel      build the wheel into dist/"
	@echo "make clean      remove the environment and what was built"

demo: $(VENV)/.runtime
	@echo "== estimating the age on samples/astronaut.jpg"
	$(BIN)/ageinfer samples/astronaut.jpg --output demo-output/astronaut.jpg --jsonl demo-output/astronaut.jsonl
	@echo "== the record:"
	@cat demo-output/astronaut.jsonl
	@echo "== annotated picture: demo-output/astronaut.jpg"
	@echo "== record (JSONL):    demo-output/astronaut.jsonl"

test: lint
	@echo "== tests"
	$(BIN)/pytest -m "not slow and not arm64" --numprocesses auto --dist loadfile

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow

test-arm: $(VENV)/.dev arm
	@command -v qemu-aarch64-static >/dev/null || apt-get install --yes --no-install-recommends qemu-user-static \
		|| { echo "QEMU is needed; on Debian or Ubuntu: apt-get install qemu-user-static"; exit 1; }
	AGEINFER_ARM64=$(VENV)/arm64 $(BIN)/pytest -m arm64

lint: $(VENV)/.dev
	@echo "== style and types"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.dev
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict
	@echo "== the site: site/index.html"

web: $(VENV)/web/.installed

$(VENV)/web/.installed: | $(VENV)/bin/pip
	@echo "== installing onnxruntime-web"
	@mkdir -p $(@D)
	cd $(@D) && npm install --silent --no-audit --no-fund --no-save onnxruntime-web@^1.20
	@touch $@

arm: $(VENV)/arm64

$(VENV)/arm64: | $(VENV)/.dev
	@echo "== making a folder with Python for arm64 (400 MB)"
	$(BIN)/python benchmarks/arm64_root.py $@

wheel: $(VENV)/.dev
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist demo-output site

$(VENV)/bin/pip:
	@echo "== creating a Python environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "on Debian: apt-get install python3-venv"; exit 1; }

$(VENV)/.runtime: pyproject.toml | $(VENV)/bin/pip
	@echo "== installing the runtime (NumPy, OpenCV, ONNX Runtime)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/pip
	@echo "== installing the runtime, PyTorch and the tools for tests (some minutes, about 6 GB)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.runtime
