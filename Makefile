# make demo   set up, then ask the default model about example scenes of all three sensors
# make test   set up, then run all tests
# make check  set up, then what CI runs: style and tests
# make bench  set up, then all benchmarks in one table; ARGS="asking startup --quick" for some of them, with less work
# make clean  remove .venv and everything that was made

.PHONY: help demo test check bench format clean
help:
	@sed -n 's/^# //p' Makefile

demo:
	@./setup.sh demo
	@.venv/bin/earthgpt demo

test:
	@./setup.sh dev
	@.venv/bin/python -m pytest -n auto --dist loadfile

check:
	@./setup.sh dev
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/python -m pytest -n auto --dist loadfile

bench:
	@./setup.sh dev
	@.venv/bin/python benchmarks/run.py $(ARGS)

format:
	@.venv/bin/ruff check --fix .
	@.venv/bin/ruff format .

clean:
	rm -rf .venv outputs runs build dist site .cache .pytest_cache .ruff_cache .hypothesis
