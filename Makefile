# Everything here works on a fresh machine with Python 3.11+, pip and make; `make test` also wants a C compiler and
# installs RabbitMQ and valgrind (as root on Debian) or says what to install.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
BARE   := .bare
ROWS   ?= 4000
BROKER ?= embedded
SEEDS  ?= 200
SECONDS ?= 60
ROUNDS ?= 20
# Whole systems and everything else are tested side by side.
WHOLE  := tests/attacks tests/audit tests/broker tests/chaos tests/endurance tests/simulation
# Rooms whose numbers come from another back end where there is no kernel; the others never see one.
CALCULATING := tests/kernel tests/paillier tests/alignment tests/learning tests/bench/test_paillier_bench.py tests/privacy \
    $(addprefix tests/services/test_,back_ends.py command_line.py examples.py generalised_models.py inference_stage.py \
    job_machines.py local.py preparation.py same_model.py several_classes.py several_providers.py warm_start.py)
# Modules are compiled when they are first imported: most of what lies in the wheels never is.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check --quiet install --no-compile

# Not empty when the kernel is not there although it could be: `make setup` tries again.
UNBUILT := $(shell [ -n "$$WARREN_NO_COMPILER" ] || ls kernel/_native* >/dev/null 2>&1 || ! command -v $${CC:-cc} >/dev/null 2>&1 || echo unbuilt)

.PHONY: unbuilt setup setup-dev demo test test-suite test-rooms test-whole test-no-compiler sanitize timing-check check format diagrams bench sim chaos soak fuzz lock clean

setup: $(VENV)/.run        ## what is needed to run; with a C compiler, the fast kernel too
setup-dev: $(VENV)/.dev    ## and to test

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.run: requirements.lock pyproject.toml hatch_build.py kernel/build_native.py $(wildcard kernel/src/*) $(UNBUILT) | $(VENV)/bin/python
	$(INSTALL) --only-binary :all: -r requirements.lock
	$(INSTALL) --only-binary :all: --no-deps $$(grep -E '^(cffi|editables|hatchling|packaging|pathspec|pluggy|pycparser|setuptools|tomlkit|trove-classifiers)==' requirements-dev.lock)
	$(INSTALL) --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(INSTALL) --only-binary :all: -r requirements-dev.lock
	touch $@

demo: setup                ## the main job on real data: make demo [ROWS=all] [BROKER=rabbitmq]
	$(BIN)/warren demo --rows $(ROWS) --broker $(BROKER) --out out/demo-$(BROKER)

test: check                ## linters, types, layers, and every test on a private RabbitMQ, with the kernel and without
	$(MAKE) --jobs 2 --output-sync=target test-rooms test-whole test-no-compiler sanitize timing-check

test-suite: setup-dev      ## every test, one after the other
	$(BIN)/python -m pytest

test-whole: setup-dev      ## whole systems
	$(BIN)/python -m pytest $(WHOLE)

test-rooms: setup-dev      ## everything else
	$(BIN)/python -m pytest $(WHOLE:%=--ignore=%)

test-no-compiler: setup-dev  ## what calculates, in an unpacked source archive, installed where no compiler is found
	rm -rf $(BARE)
	$(BIN)/python -m hatchling build -t sdist -d $(BARE)
	tar -xzf $(BARE)/*.tar.gz -C $(BARE) --strip-components=1
	WARREN_NO_COMPILER=1 $(MAKE) -C $(BARE) setup-dev
	cd $(BARE) && WARREN_NO_COMPILER=1 $(BIN)/python -m pytest $(CALCULATING)

sanitize: setup-dev        ## the kernel's tests on a build that stops at a wrong address or undefined behaviour
	$(BIN)/python -m kernel.build_native --sanitize address,undefined --out .sanitize
	WARREN_KERNEL_BUILD=$(CURDIR)/.sanitize ASAN_OPTIONS=detect_leaks=0 \
	    LD_PRELOAD="$$($(CC) -print-file-name=libasan.so)" \
	    $(BIN)/python -m pytest -m kernel --capture sys --timeout 600 tests/kernel tests/paillier tests/alignment

timing-check: setup-dev    ## no branch and no address of the kernel depends on a secret: memcheck
	$(BIN)/python -m tests.kernel.timing

check: setup-dev           ## linters, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup-dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

diagrams: setup            ## docs/states.md and docs/specification.md from schemas and transition tables
	$(BIN)/python -m protocol.diagram > docs/states.md
	$(BIN)/python -m protocol.specification > docs/specification.md

bench: setup               ## figures of docs/performance.md: whole data sets, no tests
	$(BIN)/warren bench paillier
	$(BIN)/warren bench align
	$(BIN)/warren bench train --rows all

sim: setup-dev             ## whole parties on virtual time under everything that can befall them: make sim [SEEDS=1000]
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)

chaos: setup-dev           ## real processes, broker, lines and disks that fail in every stage: make chaos [ROUNDS=20]
	$(BIN)/python -m tests.chaos --rounds $(ROUNDS)

soak: setup-dev            ## the outages of the tests at full length (60 s and 120 s)
	$(BIN)/python -m tests.endurance.soak

fuzz: setup-dev $(VENV)/.fuzz  ## hostile input, guided by coverage: make fuzz [SECONDS=600] [TARGET="codec tables"]
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(TARGET:%=--target %)

# Not among what `setup-dev` installs: there are wheels for Linux on x86-64 alone, and no test needs it.
$(VENV)/.fuzz: requirements-fuzz.lock $(VENV)/.dev
	$(INSTALL) --only-binary :all: -r requirements-fuzz.lock
	touch $@

lock:
	rm -rf .lock && $(PYTHON) -m venv .lock
	.lock/bin/python -m pip install --quiet --only-binary :all: $$($(PYTHON) -c "import tomllib; print(*tomllib.load(open('pyproject.toml','rb'))['project']['dependencies'])")
	.lock/bin/python -m pip freeze | LC_ALL=C sort -f > requirements.lock
	.lock/bin/python -m pip install --quiet --only-binary :all: $$($(PYTHON) -c "import tomllib; print(*tomllib.load(open('pyproject.toml','rb'))['dependency-groups']['dev'])")
	.lock/bin/python -m pip freeze --all | grep -v '^pip==' | LC_ALL=C sort -f > requirements-dev.lock
	.lock/bin/python -m pip install --quiet --only-binary :all: $$($(PYTHON) -c "import tomllib; print(*tomllib.load(open('pyproject.toml','rb'))['dependency-groups']['fuzz'])")
	.lock/bin/python -m pip freeze | grep '^atheris==' > requirements-fuzz.lock
	rm -rf .lock

clean:
	rm -rf $(VENV) $(BARE) .sanitize .fuzz kernel/_native* kernel/_build.json out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
