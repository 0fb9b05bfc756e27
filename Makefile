# make quickstart   install, train a GRU and an attention model, write runs/quickstart/report.html
# make test         install, run all tests but those that need a GPU or many minutes
# make test-slow    the latter: faults, restarts, several processes; and the numerics as users compile them
# make reference    write docs/reference.md and the table of names in README.md, from the constructors
# make gpu-check    what runs and how fast it is on the accelerator of a Python that has JAX for it; installs nothing:
#                   make gpu-check PYTHON=/path/to/python DIR=runs/gpu-check
# make services     install and start PostgreSQL, SLURM and Ray on this machine (Debian, as root); make services-stop
# make test-services  sweeps, executors and recipes on those of them that run

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: install quickstart test test-slow services services-stop test-services gpu-check reference lint format clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "seqjax needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[data,eval,slurm,sweep,test,text]'
	touch $@

quickstart: $(STAMP)
	$(BIN)/seqjax train --config experiments/quickstart.py:gru --workdir runs/quickstart/gru
	$(BIN)/seqjax train --config experiments/quickstart.py:attention --workdir runs/quickstart/attention
	$(BIN)/seqjax evaluate --workdir runs/quickstart/gru --split test
	$(BIN)/seqjax evaluate --workdir runs/quickstart/attention --split test
	$(BIN)/seqjax generate --workdir runs/quickstart/gru
	$(BIN)/seqjax generate --workdir runs/quickstart/attention
	$(BIN)/seqjax report runs/quickstart/gru runs/quickstart/attention --out runs/quickstart

test: $(STAMP)
	$(BIN)/python -m pytest -n auto --dist loadgroup --no-loadscope-reorder

test-slow: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ray]'
	$(BIN)/python -m pytest -n 2 --dist loadgroup --durations=15 -m 'slow and not gpu'
	SEQJAX_TESTS=optimised $(BIN)/python -m pytest -n 2 --dist loadgroup tests/ops

reference: $(STAMP)
	$(BIN)/python docs/reference.py

gpu-check: DIR := runs/gpu-check
gpu-check:
	$(PYTHON) -m benchmarks.gpu_check --out $(DIR)

services: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[postgres,ray]'
	tests/services/services.sh start

services-stop:
	tests/services/services.sh stop

test-services: $(STAMP)
	$(BIN)/python -m pytest -n 0 -rs --durations=15 -m services tests/services

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV)
