# One word per chore. The first of them sets everything up: a virtual environment in .venv, pinned by constraints.txt.
#
#   make demo     see the whole loop run against a simulated provider, without a key or a network
#   make test     the fast tests
#   make check    ruff, mypy and the house rules
#   make heavy    the tests that need minutes or real processes
#   make bench    measure; the figures land in benchmarks/results/
#   make clean    remove what the chores made
#
# Needs Python 3.12 or newer; name one with `make PYTHON=/path/to/python …` if none is found by itself.

PYTHON ?=
comma := ,
VENV := .venv
BIN := $(VENV)/bin
CANDIDATES := $(PYTHON) python3.12 python3.13 python3.14 python3
EXPORTED := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: demo test check heavy bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/apprentice demo
	@echo "the command lies at $(BIN)/apprentice; 'source $(BIN)/activate' puts it on the path"

test: $(VENV)/.dev
	$(EXPORTED) $(BIN)/pytest -m "not heavy"

heavy: $(VENV)/.heavy
	.ci/vllm.sh $(BIN)/python
	.ci/llama.sh $(BIN)/python
	.ci/recipes.sh $(BIN)/python
	$(EXPORTED) $(BIN)/pytest -m heavy

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy -p benchmarks
	$(BIN)/pytest tests/test_tidy.py

bench: $(VENV)/.dev
	$(EXPORTED) $(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .venv-vllm .cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis benchmarks/results/tmp
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------- setting up

$(VENV)/.python:
	@for candidate in $(CANDIDATES); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then \
	    echo "making $(VENV) with $$("$$candidate" --version) ($$candidate)"; \
	    "$$candidate" -m venv $(VENV) && touch $@ && exit 0; \
	    echo "$$candidate cannot make a virtual environment; install its venv module, or name another: make PYTHON=…" >&2; \
	    exit 1; \
	  fi; \
	done; \
	echo "no Python 3.12 or newer was found (tried: $(CANDIDATES)); install one, or name it: make PYTHON=/path/to/python3.12" >&2; \
	exit 1

# uv is faster; where it cannot be had or cannot reach the index, pip does the same.
define install
@echo "installing $(1)"
@$(BIN)/python -m pip install --quiet uv 2>/dev/null || echo "uv cannot be installed; pip does it"
@{ test -x $(BIN)/uv && $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '$(1)'; } \
  || $(BIN)/python -m pip install --quiet -c constraints.txt -e '$(1)'
endef

$(VENV)/.demo: $(VENV)/.python pyproject.toml constraints.txt
	$(call install,.[embedded])
	@touch $@

$(VENV)/.dev: $(VENV)/.python pyproject.toml constraints.txt
	$(call install,.[dev])
	@touch $(VENV)/.demo $@

$(VENV)/.heavy: $(VENV)/.dev
	$(call install,.[dev$(comma)heavy])
	@touch $@
