# Start with `make help`, which lists the targets. A machine needs only git and make beforehand.
#
#   LIBTORCH=2     build and test with LibTorch 2.10.0, which is fetched
#   INSTALL=no     install no packages, because the machine has them
#   CMAKE_FLAGS=   more for cmake, as -DCMAKE_PREFIX_PATH=/opt/libtorch

LIBTORCH ?= 1
INSTALL ?= yes
PREFIX ?= /usr/local
DIGIT ?= 2
SEED ?= 0
CMAKE_FLAGS ?=
LIBTORCH2_DIR ?= $(CURDIR)/build/libtorch-2.10.0
export LIBTORCH2_DIR
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell nproc)

PRESET := $(if $(filter 2,$(LIBTORCH)),libtorch2,release)
BUILD := build/$(PRESET)
LOWRANK := $(BUILD)/cli/lowrank

# $(call prepare,PRESET,PURPOSES): installs the missing packages for these purposes, then
# configures. Each step does nothing if it was done before; ninja itself runs cmake again when a
# CMake file changes.
define prepare
@$(if $(filter yes,$(INSTALL)),scripts/install-dependencies.sh build $(2) \
  $(if $(filter libtorch2 lint,$(1)),libtorch2))
@$(MAKE) --no-print-directory build/$(1)/build.ninja
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help build mnist test-build test asan tsan lint-prepare lint format bench bench-full test-interop test-report docs install clean

help: ## List what make can do
	@echo 'lowrank: low-rank adaptation (LoRA) and factorization (SVD) for C++ on LibTorch'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | \
	  while IFS='|' read -r goal text; do printf '  make %-14s %s\n' "$$goal" "$$text"; done
	@echo
	@sed -n 's/^#   \([A-Z_]*=\)/  make ... \1/p' Makefile

build: ## Build the command and the library
	$(call prepare,$(PRESET))
	@cmake --build $(BUILD) --target lowrank_command

mnist: ## From nothing to the notebook's results (DIGIT=2 SEED=0)
	$(call prepare,$(PRESET),data)
	@cmake --build $(BUILD) --target lowrank_command
	@scripts/fetch-mnist.sh $(LOWRANK)
	@mkdir -p run
	$(LOWRANK) mnist --digit $(DIGIT) --seed $(SEED) --out run/mnist --force

test-build:
	$(call prepare,$(PRESET),data test)
	@cmake --build $(BUILD)

test: test-build ## From nothing: run all tests, use the installed package
	@scripts/fetch-mnist.sh $(LOWRANK)
	@scripts/run_tests.sh $(BUILD)/tests/lowrank_tests
	@scripts/check_package.sh $(BUILD)

asan: ## Run the tests with the sanitizers for addresses and UB
	$(call prepare,asan,data test)
	@cmake --build build/asan --target lowrank_command lowrank_tests
	@scripts/fetch-mnist.sh build/asan/cli/lowrank
	@UBSAN_OPTIONS=print_stacktrace=1 scripts/run_tests.sh build/asan/tests/lowrank_tests

# LibTorch is not instrumented, and the sanitizer cannot see its locks. So what LibTorch does to
# memory is left out; what our own code does is checked.
tsan: ## Exchange adapters under running threads, sanitized
	$(call prepare,tsan,test)
	@cmake --build build/tsan --target lowrank_thread_tests
	@TSAN_OPTIONS="ignore_noninstrumented_modules=1 $$TSAN_OPTIONS" LOWRANK_HOT_SWAP_SECONDS=60 \
	  build/tsan/tests/lowrank_thread_tests

lint-prepare:
	$(call prepare,lint,lint)

lint: lint-prepare ## Check format, folders, code (clang, clang-tidy), scripts
	@scripts/lint.sh build/lint

format: ## Format the code in place
	@$(if $(filter yes,$(INSTALL)),scripts/install-dependencies.sh lint)
	@scripts/lint.sh --format

bench: ## Compare with PyTorch and PEFT, and with the targets
	$(call prepare,$(PRESET),data bench)
	@cmake $(BUILD) -DLOWRANK_BUILD_BENCH=ON > $(BUILD)/bench.log
	@cmake --build $(BUILD) --target lowrank_command training_bench linear_bench adapters_bench \
	  merge_bench memory_bench weights_bench
	@scripts/fetch-mnist.sh $(LOWRANK)
	@bench/run.sh $(BUILD)

bench-full: ## Measure steps/s by batch, rank, width, threads; draw them
	$(call prepare,$(PRESET),bench bench-full)
	@cmake $(BUILD) -DLOWRANK_BUILD_BENCH=ON > $(BUILD)/bench.log
	@cmake --build $(BUILD) --target training_bench
	@bench/run.sh --full $(BUILD)

test-interop: ## Let PEFT and lowrank read each other's files
	$(call prepare,$(PRESET),data interop)
	@cmake --build $(BUILD) --target lowrank_command lowrank_adapter_driver
	@tests/reference/run.sh $(LOWRANK) $(BUILD)/tests/lowrank_adapter_driver

test-report: ## Open reports in headless Chromium, as a reader does
	$(call prepare,$(PRESET),data browser)
	@cmake --build $(BUILD) --target lowrank_command
	@scripts/fetch-mnist.sh $(LOWRANK)
	@rm -rf build/pages
	@python3 tests/browser/check_pages.py $(LOWRANK) build/pages

docs: ## Build the guides and the reference as one site
	@$(if $(filter yes,$(INSTALL)),scripts/install-dependencies.sh docs)
	@mkdir -p build/docs
	@doxygen docs/Doxyfile
	@echo 'Open build/docs/html/index.html.'

install: build ## Install command, library, headers below PREFIX
	@DESTDIR=$(DESTDIR) cmake --install $(BUILD) --prefix $(PREFIX)

clean: ## Delete what was built; what was downloaded stays
	rm -rf run $(filter-out build/libtorch-%,$(wildcard build/*))

build/%/build.ninja: CMakePresets.json
	@$(if $(filter libtorch2 lint,$*),scripts/libtorch2.sh)
	@cmake --preset $* $(CMAKE_FLAGS) \
	  $(if $(filter libtorch2 lint,$*),-DCMAKE_PREFIX_PATH=$(LIBTORCH2_DIR)/torch)
	@touch $@
