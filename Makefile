# Development tasks. `make help` lists them.

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= torch,onnx,rtx,train,cuda-build,dev
DEMO ?= demo
JOBS ?= $(shell nproc)

# Nobody waits for CUDA kernels to edit Python; `make -B venv CUDA=AUTO` builds them all the same.
CUDA ?= OFF

# Two test processes share the machine: without this each would start a thread per core for torch.
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --durations 20 --durations-min 10

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NATIVE_SOURCES := $(shell find plugins benchmarks -name '*.cpp' -o -name '*.c' -o -name '*.cu' -o -name '*.h' -o -name '*.hpp')
LIBRARY_SOURCES := $(shell find cmake plugins -type f -not -path 'plugins/tests/*' -not -path 'plugins/examples/*')
PYTHON_SOURCES := $(wildcard serpent export cli tests examples benchmarks)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo test test-slow soak test-native test-aarch64 test-cuda-build gpu-check lint format clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP) ## Make the virtual environment and install the project into it, editable

# Editable: Python edits act at once; a change of the native sources or of the requirements installs again.
$(STAMP): pyproject.toml constraints.txt CMakeLists.txt plugins/tests/tensorrt/CMakeLists.txt $(LIBRARY_SOURCES)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (the first time this downloads torch and takes minutes)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt \
		--config-settings=cmake.define.SERPENT_CUDA=$(CUDA) -e '.[$(EXTRAS)]'
	@# For its protobuf alone; what it would bring along is older than what the project uses.
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps tritonclient==2.73.0
	@touch $@

demo: $(STAMP) ## Degrade a photograph, export a network, restore the photograph with it
	@mkdir -p $(DEMO)
	$(BIN)/python examples/photograph.py $(DEMO)/photograph.png
	$(BIN)/serpent-degrade $(DEMO)/photograph.png $(DEMO)/degraded.png --task deblur --overwrite
	$(BIN)/serpent-export --variant B --task deblur --res 256 --out $(DEMO) --overwrite
	$(BIN)/serpent-infer $(DEMO)/serpent-b-256-fp32.onnx $(DEMO)/degraded.png -o $(DEMO)/restored.png \
		--reference $(DEMO)/photograph.png --report $(DEMO)/index.html --overwrite
	@echo
	@echo "  photograph        $(DEMO)/photograph.png"
	@echo "  degraded          $(DEMO)/degraded.png (Gaussian blur, sigma 3 pixels, and noise, sigma 0.05)"
	@echo "  network, ONNX     $(DEMO)/serpent-b-256-fp32.onnx"
	@echo "  network, TensorRT $(DEMO)/serpent-b-256-fp32.plan (needs an NVIDIA RTX GPU)"
	@echo "  manifest          $(DEMO)/serpent-b-256-fp32.json"
	@echo "  result            $(DEMO)/restored.png"
	@echo "  all side by side  $(DEMO)/index.html (open it in a browser; it loads nothing from the network)"

test: $(STAMP) ## Run all tests but the slow ones
	$(PYTEST) -m "not slow"

test-slow: $(STAMP) ## Run the slow tests
	$(PYTEST) -m slow --scale 0.2

soak: $(STAMP) ## Run the reliability tests in full: tens of minutes
	$(PYTEST) tests/reliability --scale 1 --figures benchmarks/results/soak-$$(date -u +%F).json

test-native: $(STAMP) ## Build the native library with plain CMake and run its C tests
	@# The system's CMake if there is one, as in the tests: what they compile alike, ccache then keeps.
	PATH="$$PATH:$(abspath $(BIN))" cmake -S . -B build -DSERPENT_CUDA=OFF -DSERPENT_TESTS=ON -DCMAKE_COMPILE_WARNING_AS_ERROR=ON
	PATH="$$PATH:$(abspath $(BIN))" cmake --build build --parallel $(JOBS)
	PATH="$$PATH:$(abspath $(BIN))" $(BIN)/python -m pytest tests/test_native_build.py --native-build build

test-aarch64: export PATH := $(abspath $(BIN)):$(PATH)
test-aarch64: ## Cross-compile the native library for 64-bit ARM and run its C tests under emulation
	@for program in cmake aarch64-linux-gnu-g++ qemu-aarch64; do command -v $$program >/dev/null || { \
		echo "error: $$program is missing; apt-get install cmake g++-aarch64-linux-gnu qemu-user" >&2; exit 1; }; done
	cmake -S . -B build/aarch64 --toolchain cmake/aarch64.cmake -DSERPENT_CUDA=OFF -DSERPENT_TESTS=ON \
		-DCMAKE_COMPILE_WARNING_AS_ERROR=ON
	cmake --build build/aarch64 --parallel $(JOBS)
	ctest --test-dir build/aarch64 --no-tests=error --output-on-failure

test-cuda-build: $(STAMP) ## Compile the CUDA kernels for all architectures and check the result; needs no GPU
	PATH="$(abspath $(BIN)):$$PATH" cmake -S . -B build/cuda -DSERPENT_CUDA=AUTO -DCMAKE_COMPILE_WARNING_AS_ERROR=ON \
		-DPython3_EXECUTABLE="$(abspath $(BIN))/python"
	PATH="$(abspath $(BIN)):$$PATH" cmake --build build/cuda --parallel $(JOBS)
	$(BIN)/python -m pytest tests/test_cuda_build.py tests/test_cuda_ptx.py --cuda-build build/cuda

gpu-check: ## On a machine with an NVIDIA GPU: build for it, test, benchmark; needs only cmake, nvcc, python3, torch, pytest
	$(PYTHON) benchmarks/gpu_check.py

lint: $(STAMP) ## Check formatting, style, types and the import rules
	$(BIN)/ruff format --check $(PYTHON_SOURCES)
	$(BIN)/ruff check $(PYTHON_SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(NATIVE_SOURCES)

format: $(STAMP) ## Format all sources in place
	$(BIN)/ruff format $(PYTHON_SOURCES)
	$(BIN)/ruff check --fix $(PYTHON_SOURCES)
	$(BIN)/clang-format -i $(NATIVE_SOURCES)

clean: ## Remove everything that these targets made
	rm -rf $(VENV) build dist $(DEMO) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
