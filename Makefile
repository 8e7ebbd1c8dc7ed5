# Two commands do everything on a machine that has Python 3.11 or newer and nothing else.
PYTHON ?= python3
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: train test lint clean

train: .venv/.demo  ## data -> text encoder -> joint training -> full-catalogue evaluation -> report
	.venv/bin/python scripts/train.py $(ARGS)

test: .venv/.dev lint  ## every test, on real data too
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadfile $(ARGS)

lint: .venv/.dev  ## style, types and the floors that imports may cross
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

# torch first: with nothing installed, a range in another package would take the newest and largest build.
.venv/.torch: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "seasonrec needs Python 3.11 or newer: make PYTHON=python3.12")'
	test -d .venv || $(PYTHON) -m venv .venv
	$(PIP) $$(grep '^torch==' constraints.txt)
	touch $@

.venv/.demo: .venv/.torch pyproject.toml
	$(PIP) -e '.[demo]'
	touch $@

.venv/.dev: .venv/.torch pyproject.toml
	$(PIP) -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage* htmlcov
