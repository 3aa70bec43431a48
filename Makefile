# The commands people type. `make demo` and `make test` need root for network namespaces; run them with sudo or as root.

CARGO ?= cargo

.PHONY: help build demo test lint bench bench-scale mutants clean

help:
	@echo "make demo   build, and walk through a two-node mesh on this machine (root)"
	@echo "make test   every test; the end-to-end ones need root"
	@echo "make lint   formatting, clippy, dependencies, the Helm chart, documentation"
	@echo "make bench  throughput, latency, decisions and compilation, beside what to compare them with"
	@echo "make bench-scale  a control plane under 100 000 pods with 1 000 proxies, beside a tenth of that"
	@echo "make mutants  whether a test notices each small change of the policy engine (hours; needs cargo-mutants)"

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
	@scripts/prepare lint
	@scripts/lint

bench:
	@scripts/prepare build
	$(CARGO) bench --locked -p benches

bench-scale:
	@scripts/prepare build
	$(CARGO) run --profile bench --locked -p benches --bin bench-scale

mutants:
	@scripts/prepare build
	$(CARGO) mutants -p mesh -p compile -p objects

clean:
	$(CARGO) clean
