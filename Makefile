# make demo   installs what is needed into .venv and runs the demonstration
# make test   the linters, the type checker and the tests; make slow also runs the long tests
# make gpu    measures a machine with a CUDA card, with the packages that are there; writes docs/gpu.json
# make release-check   builds wheel and sdist, and tries both in an empty environment; of other Pythons too with
#                      PYTHONS="python3.11 python3.12 python3.13"
# make docs   the pages of docs/ and the reference, in build/docs; a warning is an error
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==$(shell sed -n 's/^torch==//p' constraints.txt)

.PHONY: demo test lint slow mutants notebooks docs pocket gpu release-check clean

demo: $(VENV)/.installed
	$(BIN)/nashward demo

test: $(VENV)/.installed lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

slow: $(VENV)/.installed
	$(BIN)/python -m pytest --slow -n auto --maxprocesses 4 --dist worksteal

mutants: $(VENV)/.installed
	$(BIN)/python -m tools.mutants

gpu:
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) benchmarks/gpu.py

release-check: $(VENV)/.installed
	$(BIN)/pip install --quiet build twine
	for version in 3.12 3.13; do $(BIN)/mypy --python-version $$version src || exit 1; done
	$(BIN)/python -m tools.release $(addprefix --python ,$(PYTHONS))

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy src tests tools

notebooks: $(VENV)/.installed
	$(BIN)/python -m tests.test_notebooks

docs: $(VENV)/.documented
	rm -rf build/docs
	$(BIN)/python -m sphinx --quiet --fail-on-warning --fresh-env docs build/docs

# The settings are for a network that is trained from its base up; the folds are not kept, so that it stays small.
pocket: $(VENV)/.installed
	rm -rf build/pocket && mkdir -p build/pocket
	$(BIN)/python -m nashward.llm.pocket.make --out build/pocket
	OMP_NUM_THREADS=1 $(BIN)/nashward fit-oracle --pairs build/pocket/votes.jsonl --base build/pocket/pairrm-base \
		--kind pairrm --train all --folds 2 --epochs 1 --learning-rate 2e-3 --device cpu --no-ensemble --half \
		--near-duplicates 0 --length-matched 0 --style-swapped 0 --out build/pocket/pairrm
	rm -rf llm/pocket/policy llm/pocket/pairrm
	cp -r build/pocket/policy build/pocket/pairrm llm/pocket/
	$(BIN)/python -m nashward.llm.pocket.measure

# Without a GPU the CPU build of torch comes first: from a configured package source that has it, else through uv,
# which knows where PyTorch keeps it, else the default build (gigabytes of CUDA packages on Linux).
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	command -v nvidia-smi >/dev/null 2>&1 \
		|| $(BIN)/pip install --quiet "$(TORCH)+cpu" 2>/dev/null \
		|| { $(BIN)/pip install --quiet uv && $(BIN)/uv pip install --python $(BIN)/python --torch-backend=cpu "$(TORCH)"; } \
		|| $(BIN)/pip install --quiet "$(TORCH)"
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --constraint constraints.txt --editable ".[llm,accelerator,dev]"
	touch $@

$(VENV)/.documented: $(VENV)/.installed
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) build demo *.egg-info src/*.egg-info
