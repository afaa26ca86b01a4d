# Each target does all its set-up in .venv, from Python 3.11 (or later) and make alone. A second run takes seconds.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

# uv reads neither pip's environment nor its configuration: hand over the folder of local wheels, if there is one.
INSTALL = UV_FIND_LINKS="$${PIP_FIND_LINKS:-$$($(BIN)/pip config get global.find-links 2>/dev/null || true)}" \
	$(BIN)/uv pip install --quiet --python $(BIN)/python

.PHONY: demo test chaos clean

demo: $(VENV)/.demo  ## everything up on this machine, two bundled jobs rendered; ./ifmdm-local/ keeps it; ends with .venv/bin/ifmdm down
	$(BIN)/ifmdm demo

test: $(VENV)/.dev  ## run the tests, two parts at a time: many of them wait
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder

chaos: $(VENV)/.dev  ## seeded kills and faults under datasets, trainings and render jobs; writes docs/chaos*.log
	$(BIN)/python -m tests.crash.schedules --seeds 0:20 --log docs/chaos.log
	$(BIN)/python -m tests.crash.training_schedules --seeds 0:12 --log docs/chaos-training.log
	$(BIN)/python -m tests.crash.jobs.schedules --seeds 0:2000 --log docs/chaos-jobs.log
	$(BIN)/python -m tests.crash.jobs.mutations --log docs/chaos-jobs-mutations.log
	$(BIN)/python -m tests.crash.job_processes all --log docs/chaos-job-processes.log
	$(BIN)/python -m tests.crash.stack_cycles --cycles 20 --demo --log docs/chaos-stack.log
	$(BIN)/python -m tests.cluster.hosts.cuts --seeds 0:3 --log docs/chaos-hosts.log

clean:  ## end the demo and remove the environment; the demo's data stay (ifmdm down --data removes them)
	! test -x $(BIN)/ifmdm || $(BIN)/ifmdm down
	rm -rf $(VENV) out .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ifmdm needs Python 3.11 or later: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.demo: pyproject.toml $(BIN)/uv
	@begin=$$(date +%s); $(INSTALL) -e '.[render,cluster,studio]' && \
	echo "installed in $$(( $$(date +%s) - begin )) s, $$(du -sh $(VENV) | cut -f 1) in $(VENV)"
	touch $@

$(VENV)/.dev: pyproject.toml $(BIN)/uv
	$(INSTALL) -e '.[render,cluster,studio,dev]'
	touch $@ $(VENV)/.demo
