# make run    executes the notebook on the embedded sample, into out/
# make test   passes the tests
# Both make .venv first where it is missing.

PYTHON ?= python3
BIN = .venv/bin
READY = .venv/.ready

.PHONY: run test slow lint check notebook bench clean

run: $(READY)
	$(BIN)/python run_notebook.py

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The slow tests, too.
slow: $(READY)
	$(BIN)/python -m pytest --slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# What is here, what is missing, and the command that mends it.
check: $(READY)
	$(BIN)/python -m gpt2.environment

# Execute the notebook and keep its outputs in the repository.
notebook: $(READY)
	$(BIN)/python run_notebook.py --in-place

$(READY): requirements.txt constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	touch $@

# Us beside our peers; ARGS="finetuning --xnli FOLDER", say. Half an hour for all.
bench: $(READY)
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf out .pytest_cache .ruff_cache .hypothesis
