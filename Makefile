# tensorpow: the two commands are `make run` and `make test`; `make help` lists the rest.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run server llama model python test lint doc bare test-rust test-ffi test-ffi-python \
  test-python test-llama test-plugin test-ui test-contract contract test-vllm test-kernel \
  bench-instructions bench-llama soak fuzz-check fmt clean

CARGO ?= cargo
PYTHON ?= python3
BIN = $(or $(CARGO_TARGET_DIR),target)/release
WHEELS = $(abspath $(or $(CARGO_TARGET_DIR),target)/wheels)
# One feature set for lints, documentation and tests, so that they share what they build.
ALL = --workspace --features tensorpow-ffi-c/cxx
# What a run takes beside the defaults, for example ARGS='--prompt "What is a tick?"'.
ARGS ?=
# Everything CI runs, in this order.
PARTS = lint doc bare test-rust bench-instructions fuzz-check test-ffi test-ffi-python test-plugin \
  test-python test-contract test-ui test-llama test-vllm
# MODE=broker: the worker mines for a development broker, which also gives it the prompt.
MODE ?=
MODE_FLAG = $(if $(MODE),$(if $(filter broker,$(MODE)),--broker,$(error MODE=$(MODE): there is only MODE=broker)))
# Parts of `make test` to leave out, for example SKIP=llama or SKIP="llama vllm".
SKIP ?=
# The vLLM that `make test-vllm` runs: 0.32.0, 0.19.1 or 0.16.0.
VLLM ?= 0.32.0

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

run: server ## A real prompt through a real model: reply, share, verified proof
	@engine="$$(llama-patch/build)" && model="$$(llama-patch/model)" && \
	  exec "$(BIN)/tensorpow" quickstart --llama-server "$$engine" --model "$$model" \
	  $(MODE_FLAG) $(ARGS)

# Optimised as a whole: a request crosses some thirty crates. The libraries are built as Cargo.toml says.
server: export CARGO_PROFILE_RELEASE_LTO = fat
server: export CARGO_PROFILE_RELEASE_CODEGEN_UNITS = 1
server: ## Build the proxy and its command line
	$(CARGO) build --release -p tensorpow-server

llama: ## Build the patched llama-server (cached by pins)
	llama-patch/build

model: ## Fetch the small real model (cached, checksum verified)
	llama-patch/model

python: ## Build the Python wheels: the package and the vLLM plugin
	rm -f $(WHEELS)/tensorpow*.whl
	$(PYTHON) -m pip wheel --quiet --no-deps --config-settings=build-args="--compatibility pypi" \
	  -w $(WHEELS) ./ffi-python
	$(PYTHON) -m pip wheel --quiet --no-deps -w $(WHEELS) ./vllm-patch

test: $(PARTS) ## Everything CI runs
	@echo "make test: all parts passed$(if $(SKIP), (left out by request: $(SKIP)))"

lint: ## Formatting and lints of every language
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(ALL) --all-targets -- -D warnings
	.ci/lint-scripts

doc: ## API documentation, without warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(ALL) --no-deps

bare: ## The core without std, with and without an allocator
	$(CARGO) check -p tensorpow-core --lib --no-default-features
	$(CARGO) check -p tensorpow-core --lib --no-default-features --features alloc
	$(CARGO) check -p tensorpow-core --lib --no-default-features --features archive

test-rust: ## Unit, conformance and integration tests
	$(CARGO) test $(ALL)

ifneq ($(filter instructions,$(SKIP)),)
bench-instructions:
	@echo "SKIPPED: bench-instructions (SKIP=$(SKIP))"
else
bench-instructions: ## What a decode step costs in instructions, held to 5 % (needs valgrind)
	benches/instructions
endif

fuzz-check: ## The fuzz targets compile
	$(CARGO) check --manifest-path fuzz/Cargo.toml

# A part that SKIP names is printed as skipped.
ifneq ($(filter ffi,$(SKIP)),)
test-ffi:
	@echo "SKIPPED: test-ffi (SKIP=$(SKIP))"
else
test-ffi: ## The C and C++ examples, linked in every way
	ffi-c/tests/examples.sh
endif

test-ffi-python: python ## The Python package from its wheel, in a clean environment
	PYTHON="$(PYTHON)" ffi-python/tests/run.sh $(WHEELS)/tensorpow-*.whl

test-plugin: python ## The vLLM plugin's step without vLLM, from the wheels
	PYTHON="$(PYTHON)" vllm-patch/tests/unit/run.sh $(WHEELS)/tensorpow-*.whl $(WHEELS)/tensorpow_vllm-*.whl

ifneq ($(filter ui,$(SKIP)),)
test-ui:
	@echo "SKIPPED: test-ui (SKIP=$(SKIP))"
else
test-ui: ## The dashboard in a headless Chromium
	$(CARGO) test $(ALL) --test ui
endif

test-python: ## Unit tests of the build tool
	cd llama-patch/tests && $(PYTHON) -m unittest -v unit_build unit_header

ifneq ($(filter llama,$(SKIP)),)
test-llama:
	@echo "SKIPPED: test-llama (SKIP=$(SKIP))"
else
test-llama: server ## The patched llama-server against the stock one, alone and behind the proxy
	$(CARGO) build --release -p tensorpow-ffi-c
	llama-patch/build --stock
	llama-patch/model
	$(PYTHON) llama-patch/tests/test_stub.py
	$(PYTHON) llama-patch/tests/test_hooks.py
	$(PYTHON) llama-patch/tests/end_to_end.py
endif

test-contract: ## What the plugin relies on in vLLM, over all releases (a committed snapshot)
	$(PYTHON) vllm-patch/contract/test_contract.py
	$(PYTHON) vllm-patch/environment/test_environment.py

contract: ## Read every vLLM release anew (fetches 3 GB, keeps none)
	vllm-patch/contract/refresh

ifneq ($(filter vllm,$(SKIP)),)
test-vllm:
	@echo "SKIPPED: test-vllm (SKIP=$(SKIP))"
else
test-vllm: python ## A stock vLLM on the CPU, with the plugin and without
	TENSORPOW_WHEELS=$(WHEELS) VLLM_TEST_VERSION=$(VLLM) $(PYTHON) vllm-patch/tests/run
endif

test-kernel: ## The plugin's GPU kernel, in Triton's interpreter (no GPU needed)
	$(PYTHON) vllm-patch/tests/run-kernel

bench-llama: ## Tokens per second of llama-server: unpatched, patched, mining
	llama-patch/build --stock && llama-patch/build && llama-patch/model
	$(PYTHON) llama-patch/bench $(ARGS)

soak: server ## Users and backfill together for ten minutes, on a real engine
	$(CARGO) build --release -p tensorpow-ffi-c
	llama-patch/build && llama-patch/model
	$(PYTHON) llama-patch/tests/soak.py $(ARGS)

fmt: ## Format the Rust code
	$(CARGO) fmt --all

clean: ## Remove build results (not the cache of llama.cpp and the model)
	$(CARGO) clean
