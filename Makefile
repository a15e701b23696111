# The two commands of the README are `make demo` and `make test`; `make check` is what CI runs.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
COMPILE = .lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

.PHONY: demo test test-assets check fmt bench lock wheel clean
.DELETE_ON_ERROR:

demo: $(READY)          ## the whole story on this machine, with real Envoys
	$(BIN)/meshca demo

test: $(READY)          ## everything, end-to-end tests included
	$(BIN)/pytest

test-assets: $(READY)   ## kube-apiserver and etcd for the end-to-end tests, into a cache outside the tree
	$(BIN)/python -m tests.assets

check: $(READY)         ## what CI runs before the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fmt: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)         ## measure, print the table, and say what to write into docs/benchmarks.md
	$(BIN)/python -m benchmarks

lock:                   ## resolve again: every version and hash, for developers and for the image
	$(PYTHON) -m venv .lock && .lock/bin/pip install --quiet uv
	$(COMPILE) --extra demo --extra pkcs11 --group dev pyproject.toml --output-file requirements.lock
	$(COMPILE) --no-annotate --constraints requirements.lock pyproject.toml \
		--output-file deploy/requirements.lock
	echo hatchling | $(COMPILE) --no-annotate --constraints requirements.lock - \
		--output-file deploy/build.lock
	rm -rf .lock

wheel: $(READY)
	$(BIN)/python -m hatchling build --target wheel

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("meshca needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV) dist build
