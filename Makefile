# Two commands on a fresh checkout: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: venv run test lint docs bench bench-ci bench-power clean

venv: $(STAMP)

# The stamp is older than any of its inputs only when something must be installed again.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]' --group dev
	touch $@

run: venv
	$(BIN)/devbench run matmul mlp cnn data_parallel --quick --label quick --report report.html

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# The pages that are made from the code; tests compare them with it.
docs: venv
	$(BIN)/python -m devbench.doctor.pages docs/doctor
	$(BIN)/python -m tests.suites.page

bench: venv
	$(BIN)/python -m tests.bench

# Hours: how often harnesses cry wolf, on the same steps. MINUTES=60 bounds it.
bench-power: venv
	$(BIN)/python -m tests.bench.power --minutes $(or $(MINUTES),600)

# Every built-in suite on every device as ordinary pytest-benchmark files, one framework a process.
bench-ci: venv
	$(BIN)/python -m pytest suites --benchmark-only --devbench-framework torch --benchmark-json bench-torch.json
	$(BIN)/python -m pytest suites --benchmark-only --devbench-framework tensorflow --benchmark-json bench-tensorflow.json

clean:
	rm -rf $(VENV) dist build
