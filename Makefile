# On a fresh machine, run `make demo` or `make test`. Each first creates the environment in ./.venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
NIIVUE := 0.69.0

.PHONY: demo test interop-nnunet check docs format coverage setup niivue dist notebooks fuzz kill soak audit clean help

help:            ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: $(READY)  ## create the virtual environment with the pinned versions

$(READY): pyproject.toml constraints.txt interop.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "maesil needs Python 3.11 or newer; run: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/interop --requirement interop.txt
	@touch $@

demo: $(READY)   ## pre-train on a real CT and report scores (10 to 15 minutes on 2 cores)
	$(BIN)/maesil demo $(ARGS)

test: $(READY)   ## run the tests
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal -q $(ARGS)

coverage: $(READY) ## run the tests and print the lines that none of them reaches
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal --cov --cov-report=term-missing:skip-covered -q $(ARGS)

check: $(READY)  ## run ruff, mypy --strict, and the checks of import layers and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

docs: $(READY)   ## build the documentation into ./site; every warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

dist:            ## build wheel and sdist into dist/, and try each in an environment of its own
	PYTHON=$(PYTHON) recipes/dist.sh

notebooks: $(READY) ## run the notebooks and keep their outputs (about 15 minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt '.[notebook]'
	cd notebooks && export PYTHONWARNINGS=ignore && for book in pretrain_and_look embed_and_find_similar finetune_with_few_labels; do ../$(BIN)/jupyter execute --inplace $$book.ipynb; done
fuzz: $(READY)   ## damage 2,000 headers at random and read the files
	PYTHONPATH=tests $(BIN)/python -m foreign.fuzz --runs 2000 $(ARGS)

kill: $(READY)   ## kill commands 100 times at random times: each must end as if undisturbed (hours)
	$(BIN)/python tests/kill_loop.py $(ARGS)

soak: $(READY)   ## train 10,000 steps of demo: memory must stay flat within 2 % (hours)
	$(BIN)/python tests/soak.py $(ARGS)

audit: $(READY)  ## compare the pinned versions with the database of known vulnerabilities (needs pypi.org)
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	$(BIN)/python recipes/audit.py constraints.txt $(VENV)/audit/bin/pip-audit

format: $(READY) ## fix and format the code with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

niivue:          ## fetch the viewer's built file again from npm, and check it
	cd src/maesil/view/niivue && npm pack --silent @niivue/niivue@$(NIIVUE) \
	&& tar -xzf niivue-niivue-$(NIIVUE).tgz --strip-components=2 package/dist/niivue.umd.js \
	&& rm niivue-niivue-$(NIIVUE).tgz && sha256sum --check SHA256SUMS

interop-nnunet: $(READY) ## install nnU-Net beside the environment, and train it with an exported encoder (two to five minutes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/interop-nnunet --requirement interop-nnunet.txt
	$(BIN)/python -m pytest -q tests/export/test_nnunet.py

clean:           ## remove the environment and caches
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
