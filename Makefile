# The two jobs are `make book` and `make test`; each sets up .venv by itself.
# PYTHON=/path/to/python chooses the interpreter the environment is made from.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := book
.PHONY: book test chapter serve audit pdf lite linkcheck bench recorded kernels seconds lint clean help

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	&& { echo $$p; break; }; done)
# One thread per process: notebooks and tests run side by side.
export OMP_NUM_THREADS := 1

book: $(VENV)/.installed ## execute what changed and build the site in _build/html
	$(BIN)/collapse-book build

test: $(VENV)/.installed ## notebook hygiene, unit tests, every notebook in the smoke scenario
	$(BIN)/collapse-book check
	$(BIN)/python -m pytest -n logical
	$(BIN)/collapse-book build --scenario smoke

chapter: $(VENV)/.installed ## execute one chapter: make chapter NAME=gaussian ARGS="-p n_samples 50"
	@test -n "$(NAME)" || { echo "say which: make chapter NAME=gaussian" >&2; exit 2; }
	$(BIN)/collapse-book run $(NAME) $(ARGS)

serve: $(VENV)/.installed ## after make book: show the site to this machine only; PORT=8000
	@test -d _build/html || { echo "there is no site yet: make book" >&2; exit 2; }
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(or $(PORT),8000)

audit: $(VENV)/.browser ## after make book: every page in Chromium: requests, errors, accessibility
	$(BIN)/python -m pytest tests/audit_site.py tests/test_machine.py $(ARGS)

pdf: $(VENV)/.browser ## after make book: print the site to one PDF with Chromium, and link it
	$(BIN)/collapse-book pdf

lite: $(VENV)/.lite ## after make book: add the chapters that run in a browser (JupyterLite)
	$(BIN)/collapse-book lite

linkcheck: $(VENV)/.installed ## after make book: ask every external link (needs a network)
	@test -f _build/sphinx/config.yml || { echo "there is no site yet: make book" >&2; exit 2; }
	$(BIN)/jupyter-book build book --builder linkcheck --config _build/sphinx/config.yml \
		--path-output _build/linkcheck

bench: $(VENV)/.installed ## time the simulators; ARGS=--record keeps the tables for the book
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m pytest benchmarks -rP --benchmark-disable-gc $(ARGS)

recorded: $(VENV)/.installed ## repeat the recorded runs on real data; RUN=digits MINUTES=40 DATA=folder
	$(BIN)/python benchmarks/recorded.py $(RUN) --minutes $(or $(MINUTES),40) $(if $(DATA),--data "$(DATA)")

kernels: $(VENV)/.installed ## chapters with the numerical kernels of older processors: does a verdict change?
	$(BIN)/python benchmarks/kernels.py $(ARGS)

seconds: ## after make book: record how long chapters take, so that a fresh clone starts with the longest
	cp _build/executed/seconds.json recorded/seconds.json

lint: $(VENV)/.installed ## style of the code, and of the notebooks' code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean: ## remove everything that can be made again, the environment included
	rm -rf $(VENV) _build book/notebooks book/generated book/_vendor

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or say make PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python -m venv failed: on Debian and Ubuntu install python3-venv" >&2; exit 2; }
	@echo "installing into $(VENV); only the first time takes long"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

$(VENV)/.browser: $(VENV)/.installed
	@echo "installing the driver of the browser into $(VENV); Chromium itself has to be there"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[audit,pdf]'
	@touch $@

$(VENV)/.lite: $(VENV)/.installed
	@echo "installing JupyterLite into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[lite]'
	@touch $@
