# The jobs are in fededge/host: `python3.11 -m fededge.host JOB` does the same without make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)

.PHONY: run fleet test test-slow bench notebook setup lock

run fleet test test-slow bench notebook setup lock:
	@$(PYTHON) -m fededge.host $@
