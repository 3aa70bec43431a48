# The commands people type. `make demo` and `make test` need root for network namespaces; run them with sudo or as root.

CARGO ?= cargo

.PHONY: help build demo test lint bench clean

help:
	@echo "make demo   build, and walk through a two-node mesh on this machine (root)"
	@echo "make test   every test; the end-to-end ones need root"
	@echo "make lint   formatting, clippy, dependencies, documentation"
	@echo "make bench  tunnel throughput and latency beside plain TCP and plain TLS"

build:
	@scripts/prepare build
	$(CARGO) build --workspace --locked

demo:
	@scripts/prepare run
	$(CARGO) build --workspace --locked
	@scripts/demo

test:
	@scripts/prepare run
	$(CARGO) build --workspace --locked
	@scripts/test

lint:
	@scripts/prepare build
	@scripts/lint

bench:
	@scripts/prepare build
	$(CARGO) bench --locked -p benches

clean:
	$(CARGO) clean
