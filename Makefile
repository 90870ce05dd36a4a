# One verb per job. `make run` needs Python 3.11 or newer with venv, and make; the rest installs what it needs.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
PY := $(VENV)/bin/python
# lxml and xmlsec must come as wheels: built here they would not share one libxml2.
PIP := $(PY) -m pip install --disable-pip-version-check --require-hashes --only-binary lxml,xmlsec

.DEFAULT_GOAL := help
.PHONY: help run test smoke bench check lock
.SUFFIXES:

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' Makefile

run: $(VENV)/.server ## the server and three example apps with the demo company, on this machine only
	@exec $(PY) -m examples.run $(if $(PORTS),--ports $(PORTS))

test: $(VENV)/.dev ## the whole suite: SQLite, PostgreSQL, slapd and Chromium
	@tests/setup.sh
	@$(PY) -m pytest

smoke: $(VENV)/.dev ## the main job end to end against a private instance, as outside clients do it
	@tests/setup.sh
	@$(PY) -m tests.smoke

bench: $(VENV)/.dev ## the figures, one JSON line each; ONLY=prefix runs those whose names start so
	@tests/setup.sh
	@$(PY) -m benchmarks $(ONLY)

check: $(VENV)/.dev ## lint, format, types and the house rules
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) -m pytest -q -n 0 tests/unit/test_house.py

lock: $(VENV)/.dev ## write both lock files anew from pyproject.toml
	CUSTOM_COMPILE_COMMAND="make lock" $(VENV)/bin/pip-compile -o requirements.txt pyproject.toml
	CUSTOM_COMPILE_COMMAND="make lock" $(VENV)/bin/pip-compile --extra dev -c requirements.txt \
		-o tests/requirements-dev.txt pyproject.toml

$(PY):
	@test -n "$(PYTHON)" || { echo "Tessera needs Python 3.11 or newer with venv; none was found." >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)."
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.server: requirements.txt | $(PY)
	@echo "Installing the server's packages into $(VENV), each checked against its hash (a minute, once)."
	@$(PIP) --only-binary :all: -r requirements.txt  # all come as wheels: no compiler is needed
	@touch $@

$(VENV)/.dev: tests/requirements-dev.txt | $(VENV)/.server
	@echo "Installing the test packages into $(VENV) (once)."
	@$(PIP) -q -r tests/requirements-dev.txt
	@touch $@
