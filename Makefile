# Two commands: `make run` and `make test`. Everything else is a part of one of them.

CARGO   ?= cargo
# `make run PROFILE=dev` builds faster and runs slower.
PROFILE ?= release
BIN_DIR := $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

.PHONY: help run test build check fmt clippy doc deny unit demo images clean-data

help:
	@echo "make run         build, then run the whole suite on this machine (Ctrl-C ends it)"
	@echo "make test        everything CI runs, against real etcd, MariaDB, SMTP and, where there is one, Docker"
	@echo "make check       only format, lints, documentation and licences"
	@echo "make unit        only the tests, without the Docker demo"
	@echo "make demo        only the Docker demo, as a test"
	@echo "make images      the base images, on a machine that reaches no image registry"
	@echo "make clean-data  forget what 'make run' stored under data/"

run: build
	$(BIN_DIR)/muster up $(ARGS)

build:
	@sh crates/muster/prerequisites.sh run
	$(CARGO) build --workspace --bins --locked --profile $(PROFILE)

test: prerequisites check unit demo

.PHONY: prerequisites
prerequisites:
	@sh crates/muster/prerequisites.sh test

check: fmt clippy doc deny

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --document-private-items

deny:
	$(CARGO) fetch --locked --quiet
	$(CARGO) deny --offline --locked check bans licenses sources

unit:
	$(CARGO) nextest run --workspace --locked --no-fail-fast
	$(CARGO) test --workspace --doc --locked

demo:
	docker/test-compose

images:
	docker/offline/images build

clean-data:
	rm -rf data
