# `make help` lists what can be done. Everything but help and clean sets up what it needs first.
SHELL := /bin/bash
PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin
export PATH

PYTHON := .venv/bin/python
LAB := $(PYTHON) -m tests.lab.enter --
CARGO := cargo
MANIFEST := --manifest-path dataplane/Cargo.toml --locked
# Seconds for each fuzz target, and for the soak run.
FUZZ_SECONDS ?= 30
SOAK_SECONDS ?= 1800
# Extra arguments for pytest: make test PYTEST="-k roaming"
PYTEST ?=
# Runners side by side, each with a lab of its own; most scenarios wait more than they work.
RUNNERS ?= 2
# Extra arguments for the benchmark: make bench BENCH=--quick
BENCH ?=

.PHONY: help setup demo test lint bench fuzz soak lock clean

help:            ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

setup:           ## everything into .venv; starts nothing
	@scripts/setup

demo: setup      ## gateway, intranet and a real client in a network of their own: what Lockgate does
	@$(LAB) $(PYTHON) -m tests.lab.demo

test: setup      ## all tests: Rust, then Python and the real peers inside the lab
	$(CARGO) test $(MANIFEST) --workspace --quiet
	$(LAB) $(PYTHON) -m pytest --numprocesses $(RUNNERS) --dist loadfile $(PYTEST)

lint: setup      ## formatting, types and lints, as CI checks them
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/mypy --strict -p lockgate.protocol -p lockgate.model -p lockgate.policy
	$(CARGO) fmt --manifest-path dataplane/Cargo.toml --all --check
	$(CARGO) clippy $(MANIFEST) --workspace --all-targets --quiet -- -D warnings

bench: setup     ## measures tunnels and sign-ins against raw veth, wireguard-go, openvpn, ocserv
	@scripts/system-packages bench
	@scripts/bench-peers
	.venv/bin/pip --disable-pip-version-check --quiet install --require-hashes -r requirements/bench.txt
	$(CARGO) build $(MANIFEST) --release --quiet --package lockgate-load
	$(LAB) $(PYTHON) -m tests.bench $(BENCH)

fuzz: setup      ## every parser of outside bytes for FUZZ_SECONDS (30) each
	.venv/bin/pip --disable-pip-version-check --quiet install --require-hashes -r requirements/fuzz.txt
	dataplane/fuzz/run.sh $(FUZZ_SECONDS)
	$(PYTHON) -m tests.fuzz.run $(FUZZ_SECONDS)

soak: setup      ## traffic, roaming and restarts for SOAK_SECONDS (1800)
	$(LAB) $(PYTHON) -m tests.lab.soak $(SOAK_SECONDS)

lock: setup      ## requirements/*.txt from pyproject.toml (UPGRADE=1 takes newer versions)
	scripts/lock

clean:           ## removes what the other targets made
	rm -rf .venv .setup build dist dataplane/target src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
