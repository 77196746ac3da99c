# The commands of this repository. `make demo` and `make test` install what they need and say what.
#
# As another user than root the parts that start Dovecot run through sudo: Dovecot separates privileges.

SHELL := /bin/bash
ifeq ($(shell id -u),0)
AS_ROOT :=
RUNNER := $(CURDIR)/scripts/at-test-clock
else
AS_ROOT := sudo --preserve-env env PATH="$$PATH" HOME="$$HOME"
RUNNER := sudo --preserve-env env PATH=$(PATH) HOME=$(HOME) $(CURDIR)/scripts/at-test-clock
endif
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := $(RUNNER)
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER := $(RUNNER)

MODULE_DIR ?= $(shell . /usr/lib/dovecot/dovecot-config 2>/dev/null && echo $$dovecot_moduledir)
PLUGIN := lib22_push_notification_kafka_plugin.so

.PHONY: help check check-server demo test soak fuzz bench lint lint-code build install deb deps-build deps-run deps-test

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

# What needs neither root nor network, no Dovecot, Kafka or PostgreSQL: the workspace's default members. The server without Kafka
# needs no more, but its tests would make it longer than the five minutes that a first run should take.
PURE := env -u CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER -u CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER DOVECAST_TESTS=pure
check: ## while changing something: format, lints, and the tests that need nothing but Rust and a C compiler
	cargo fmt --check
	cargo clippy --all-targets -- --deny warnings
	$(PURE) cargo test

check-server: ## the same for the server, without Kafka
	cargo clippy --package dovecast-server --no-default-features --all-targets -- --deny warnings
	$(PURE) cargo test --package dovecast-server --no-default-features

demo: deps-run ## a Dovecot, `dovecast serve`, a mail, and its events as they arrive (DEMO=keep: keep it running)
	@cargo run --quiet --package dovecast-testkit --features demo --bin dovecast-demo

# What is installed above is there: a case that does without is a failure.
test soak: export DOVECAST_TESTS := all
test: deps-test ## all tests, on real Dovecots and real brokers (TESTS=: only these; DOVECAST_TEST_CLOCK=2030-06-01: as if it were that day)
	$(if $(TESTS),cargo test $(TESTS),scripts/test)

export SOAK_ROUNDS ?= 3
soak: deps-test deps-build ## the long tests of faults in full length, all others again and again (SOAK_ROUNDS=3), some at another day, every case on every Dovecot, the packages as they are released, fuzz
	scripts/soak

export FUZZ_SECONDS ?= 60
fuzz: deps-build ## what reads bytes from outside, tried with any bytes (FUZZ_SECONDS=60: each so long; TARGETS: only these)
	scripts/fuzz --seconds $(FUZZ_SECONDS) $(TARGETS)

bench: deps-run ## the figures of docs/benchmarks.md (BENCH_OPTIONS=--quick: only that everything runs)
	cargo bench --package dovecast-benches --bench render
	cargo bench --package dovecast-benches --bench log -- $(BENCH_OPTIONS)
	cargo bench --package dovecast-benches --bench dispatch -- $(BENCH_OPTIONS)
	cargo bench --package dovecast-benches --bench store -- $(BENCH_OPTIONS)
	cargo bench --package dovecast-drivers --bench push -- $(BENCH_OPTIONS)
	cargo run --release --package dovecast-benches -- $(BENCH_OPTIONS)
	cargo run --release --package dovecast-benches -- --dovecot 2.4 $(BENCH_OPTIONS)

lint: lint-code ## what a change has to pass besides the tests
	@cargo machete --version >/dev/null 2>&1 || { echo "installing cargo-machete (dependencies that nothing uses)"; cargo install --locked cargo-machete; }
	cargo machete
	cargo deny check

lint-code:
	cargo fmt --check
	cargo clippy --workspace --features dovecast-testkit/demo --all-targets -- --deny warnings
	@# What is built without a feature, each for itself: features of several packages are taken together.
	cargo clippy --package dovecast-server --no-default-features -- --deny warnings
	cargo clippy --package dovecast-dovecot-plugin --no-default-features -- --deny warnings
	cargo clippy --package dovecast-mail-push -- --deny warnings
	@# Whoever reads these docs changes the code: private items are in them, so links to those lead somewhere.
	RUSTDOCFLAGS="--deny warnings --allow rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items

build: ## the plugin as operators get it, in target/release
	cargo build --release --package dovecast-dovecot-plugin

install: build ## put the plugin into Dovecot's module directory
	@test -n "$(MODULE_DIR)" || { echo "no Dovecot found: install dovecot-dev, or set MODULE_DIR" >&2; exit 1; }
	install -d "$(DESTDIR)$(MODULE_DIR)"
	@# By rename: a plain copy over a file that mail processes have loaded crashes them.
	install -m 0644 target/release/libpush_notification_kafka_plugin.so "$(DESTDIR)$(MODULE_DIR)/.$(PLUGIN).new"
	mv -f "$(DESTDIR)$(MODULE_DIR)/.$(PLUGIN).new" "$(DESTDIR)$(MODULE_DIR)/$(PLUGIN)"

deb: deps-build ## the Debian packages, in target/debian: the plugin for the installed Dovecot (DOVECOT_SYSROOT: for another), the server
	packaging/build-deb
	packaging/build-deb --relay-only
	packaging/build-deb-server

deps-build:
	@scripts/install-dependencies build

deps-run:
	@scripts/install-dependencies run

deps-test:
	@scripts/install-dependencies test
