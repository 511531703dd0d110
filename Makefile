# make demo   installs what is needed into .venv and runs the demonstration
# make test   the same, then the tests, the linter and the type checker
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==$(shell sed -n 's/^torch==//p' constraints.txt)

.PHONY: demo test lint slow notebooks pocket clean

demo: $(VENV)/.installed
	$(BIN)/nashward demo

test: $(VENV)/.installed lint
	$(BIN)/python -m pytest

slow: $(VENV)/.installed
	$(BIN)/python -m pytest --slow

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy src tests

notebooks: $(VENV)/.installed
	$(BIN)/python -m tests.test_notebooks

pocket: $(VENV)/.installed
	$(BIN)/python -m nashward.llm.pocket.make --out llm/pocket

# Without a GPU the CPU build of torch comes first: from a configured package source that has it, else through uv,
# which knows where PyTorch keeps it, else the default build (gigabytes of CUDA packages on Linux).
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	command -v nvidia-smi >/dev/null 2>&1 \
		|| $(BIN)/pip install --quiet "$(TORCH)+cpu" 2>/dev/null \
		|| { $(BIN)/pip install --quiet uv && $(BIN)/uv pip install --python $(BIN)/python --torch-backend=cpu "$(TORCH)"; } \
		|| $(BIN)/pip install --quiet "$(TORCH)"
	PYTHONWARNINGS=ignore $(BIN)/pip install --quiet --constraint constraints.txt --editable ".[llm,dev]"
	touch $@

clean:
	rm -rf $(VENV) build demo *.egg-info src/*.egg-info
