# make run            the dashboard on port 8501 (PORT=8600 make run for another)
# make test           a test of every claim, on all cores
# make check          format, lint and types
# make test-full      what is slow: many seeds, full data, repeated browser journeys
# make test-hours     the tests that take hours
# make test-portable  the numeric tests as other machines compute them
#                     (EMULATIONS="one-thread unlike" for some of these machines)
# make bench          all benchmarks
# make docs           the documents as a site, in .veil/site
PORT ?= 8501
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One worker a core. A file stays with one worker, and its fixtures are built once.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.PHONY: run test check test-full test-hours test-portable bench docs clean

run: $(VENV)/.installed
	$(BIN)/streamlit run app.py --server.port $(PORT)

test: $(VENV)/.installed-test
	$(PYTEST)

check: $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test-full: $(VENV)/.installed-test
	$(PYTEST) -m full

test-hours: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m hours

test-portable: $(VENV)/.installed-test
	$(BIN)/python -m tests.portable $(EMULATIONS)

bench: $(VENV)/.installed-test
	for script in $(filter-out bench/golden.py,$(wildcard bench/[a-z]*.py)); do $(BIN)/python -m bench.$$(basename $$script .py) || exit 1; done

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
	touch $@

$(VENV)/.installed-test: requirements-test.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt -c constraints.txt
	touch $@

$(VENV)/.installed-docs: requirements-docs.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	touch $@

clean:
	rm -rf $(VENV)
