# make run    executes the notebook on the embedded sample, into out/
# make test   passes the tests
# Both make .venv first where it is missing, with PYTHON, which must be 3.11 or newer. On Linux
# without a GPU, TORCH_INDEX=https://download.pytorch.org/whl/cpu spares two gigabytes of CUDA.

PYTHON ?= python3
TORCH_INDEX ?=
BIN = .venv/bin
READY = .venv/.ready
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check
OLD = error: Python 3.11 or newer is needed; say which, as in: make run PYTHON=python3.12
PYTEST = $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: run test test-rest test-all slow lint check notebook bench clean

run: $(READY)
	$(BIN)/python run_notebook.py

# Model, data, training, generation, evaluation, the notebook's first cells.
test: $(READY)
	$(PYTEST)

# What make test leaves out: extensions, grading, killed runs, benchmarks, downloads.
test-rest: $(READY)
	$(PYTEST) --rest

test-all: $(READY)
	$(PYTEST) --all

# The tests that take minutes, too.
slow: $(READY)
	$(BIN)/python -m pytest --all --slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# What is here, what is missing, and the fix.
check: $(READY)
	$(BIN)/python -m gpt2 check

# Execute the notebooks and save their outputs in the repository.
notebook: $(READY)
	$(BIN)/python run_notebook.py --in-place
	$(BIN)/python run_notebook.py extended_tasks.ipynb --in-place

# The tokenizer's files go into gpt2/, so that transformers finds "gpt2" here without a network.
$(READY): requirements.txt requirements-dev.txt constraints.txt pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and '$(OLD)')"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),$(INSTALL) --no-deps torch -c constraints.txt --index-url $(TORCH_INDEX))
	$(INSTALL) -r requirements.txt -r requirements-dev.txt -c constraints.txt
	$(INSTALL) --no-deps --no-build-isolation -e .
	$(BIN)/python -c "from gpt2.tokenizer import install_tokenizer_files; install_tokenizer_files()"
	touch $@

# Us beside our peers; ARGS="finetuning --xnli FOLDER", say. Half an hour for all.
bench: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf out build *.egg-info .pytest_cache .ruff_cache .hypothesis
