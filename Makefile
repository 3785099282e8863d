# `make up` runs a lab, `make test` passes the tests. Both work in a fresh clone; what they need is installed by
# `make packages`, with sudo where that is needed.

SHELL := /bin/bash
CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto
PREFIX ?= $(HOME)/.local

.PHONY: rust install up test test-pod packages test-packages build lint doc deny bench bench-kernel bench-rootfs bench-controller fuzz clean help

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

up: packages rust ## run a lab in this terminal; Ctrl-C ends it (UP="--cpus 2 --disk 8G" passes flags on)
	$(CARGO) build --release --locked --bin dozlab
	target/release/dozlab up $(UP)

test: test-packages rust ## everything that is tested, in a real VM and a real browser too
	./scripts/test

test-pod: test-packages build ## the lab pod of both profiles under podman, from container images built here; as root
	./scripts/packages pod
	images/containers/build
	target/release/dozlab editor install
	tests/pod/with-podman tests/pod/pod_test.py

lint: ## format, clippy, licences, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked
	$(MAKE) deny

deny: ## licences, bans and sources of what is linked in
	command -v cargo-deny >/dev/null || $(CARGO) install --locked --debug cargo-deny
	$(CARGO) deny --locked check licenses bans sources

fuzz: packages ## run each fuzz target for FUZZ_SECONDS (60), four at a time (FUZZ="tar layers" chooses)
	./scripts/fuzz $(FUZZ)

bench: test-packages ## start-up by stage, beside a plain boot of the same kernel and image (RUNS=5)
	$(CARGO) build --release --locked --bin dozlab
	./scripts/bench-start

bench-kernel: test-packages build ## Debian's kernel beside the slim one, which is built where it is not there (RUNS=5)
	./scripts/bench-kernel

bench-rootfs: test-packages ## preparing disks of three images, beside curl, e2fsck and resize2fs (RUNS=5); as root
	$(CARGO) build --release --locked --bin dozlab
	./scripts/bench-rootfs

bench-controller: test-packages ## many sessions on a real API server, beside a client that writes blind (SESSIONS=500)
	./scripts/kube-apiserver build
	SESSIONS=$(or $(SESSIONS),500) $(CARGO) bench --package dozlab-controller --bench sessions

build: rust ## the binary, target/release/dozlab
	$(CARGO) build --release --locked --bin dozlab

install: build ## put the binary on your PATH (PREFIX=~/.local)
	install -D -m 755 target/release/dozlab $(DESTDIR)$(PREFIX)/bin/dozlab

# The version is Cargo's to check: it is in Cargo.toml.
rust:
	@command -v $(CARGO) >/dev/null || { echo "Rust is not installed: https://rustup.rs has it; Debian's is too old" >&2; exit 1; }

packages: ## install the Debian packages that a lab needs
	@./scripts/packages lab

test-packages: ## install the Debian packages that the tests need
	@./scripts/packages lab test

clean: ## remove what was built
	$(CARGO) clean
