# Each target does all its set-up in .venv, from Python 3.11 (or later) and make alone. A second run takes seconds.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

# uv reads neither pip's environment nor its configuration: hand over the folder of local wheels, if there is one.
INSTALL = UV_FIND_LINKS="$${PIP_FIND_LINKS:-$$($(BIN)/pip config get global.find-links 2>/dev/null || true)}" \
	$(BIN)/uv pip install --quiet --python $(BIN)/python

.PHONY: demo test chaos clean

demo: $(VENV)/.render  ## render the bundled portrait and speech to ./out/
	$(BIN)/ifmdm demo --out out

test: $(VENV)/.dev  ## run the tests, two parts at a time: many of them wait
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder

chaos: $(VENV)/.dev  ## seeded kills and faults under datasets, trainings and render jobs; writes docs/chaos*.log
	$(BIN)/python -m tests.crash.schedules --seeds 0:20 --log docs/chaos.log
	$(BIN)/python -m tests.crash.training_schedules --seeds 0:12 --log docs/chaos-training.log
	$(BIN)/python -m tests.crash.jobs.schedules --seeds 0:2000 --log docs/chaos-jobs.log
	$(BIN)/python -m tests.crash.jobs.mutations --log docs/chaos-jobs-mutations.log
	$(BIN)/python -m tests.crash.job_processes all --log docs/chaos-job-processes.log

clean:  ## remove the environment and everything made by these targets
	rm -rf $(VENV) out .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ifmdm needs Python 3.11 or later: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.render: pyproject.toml $(BIN)/uv
	$(INSTALL) -e '.[render]'
	touch $@

$(VENV)/.dev: pyproject.toml $(BIN)/uv
	$(INSTALL) -e '.[render,cluster,studio,dev]'
	touch $@ $(VENV)/.render
