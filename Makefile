# Everything works from a fresh clone with python3 (3.11 or newer) alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test test-slow check docs protos bench clean

help:
	@echo "make demo    set up .venv, pull real weights, classify, finetune, export"
	@echo "make test    set up .venv, run every check, and every test but the slow ones"
	@echo "make test-slow  the tests that take minutes, which make test leaves out"
	@echo "make check   ruff, mypy, import-linter: seconds"
	@echo "make bench   ratios, side by side: a table and a JSON line each"
	@echo "make docs    write the pages and stubs that are made from the code"
	@echo "make protos  compile protos/*.proto into the package after a change"

PLUGINS := $(wildcard plugins/*)

$(STAMP): pyproject.toml constraints.txt $(PLUGINS:%=%/pyproject.toml)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -c constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet -c constraints.txt --editable . $(PLUGINS:%=--editable %) --group dev
	@touch $@

demo: $(STAMP)
	$(BIN)/torrefy demo

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest -n 2

test-slow: $(STAMP)
	$(BIN)/python -m pytest -n 2 -m slow

# Each exits with 1 beyond its limit; all run, then the worst code counts.
bench: $(STAMP)
	@code=0; for name in $(patsubst benchmarks/%.py,%,$(filter-out %/harness.py %/nets.py %/classics.py %/corpus_nets.py,$(wildcard benchmarks/*.py))); do \
		$(BIN)/python benchmarks/$$name.py || code=1; \
	done; exit $$code

docs: $(STAMP)
	$(BIN)/python docs/make_hooks.py
	$(BIN)/python docs/make_lint.py
	$(BIN)/python docs/make_stubs.py

protos: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -Iprotos --descriptor_set_out=src/torrefy/schema/schema.binpb caffe.proto torrefy.proto

clean:
	rm -rf $(VENV) build dist
