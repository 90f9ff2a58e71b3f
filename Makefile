# Two commands: `make run` and `make test`. Everything else is a part of one of them.

CARGO   ?= cargo
# `make run PROFILE=dev` builds faster and runs slower.
PROFILE ?= release
BIN_DIR := $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

.PHONY: help run test build check fmt clippy doc deny unit demo mysql bench faults freezes images clean-data

help:
	@echo "make run         build, then run the whole suite on this machine (Ctrl-C ends it)"
	@echo "make test        everything CI runs, against real etcd, MariaDB, SMTP and, where there is one, Docker"
	@echo "make check       only format, lints, documentation, licences and, where there is a database, advisories"
	@echo "make unit        only the tests, without the Docker demo"
	@echo "make demo        only the Docker demo, as a test"
	@echo "make mysql       only the tests of databases, against the demo's MySQL instead of MariaDB, where its image is"
	@echo "make bench       what a request costs, beside nginx and HAProxy; needs two quiet cores, eight minutes"
	@echo "make faults      the fault table at full length: half of capacity, outages of a minute; a quarter of an hour"
	@echo "make freezes     etcd's leader frozen thirty times: how many keys it deletes, for how long; eight minutes"
	@echo "make images      the base images, on a machine that reaches no image registry"
	@echo "make clean-data  forget what 'make run' stored under data/"

run: build
	$(BIN_DIR)/muster up $(ARGS)

# One selection for every build: cargo unites the features of what is built together, and with another selection it would
# compile the same crates once more. (`bench` asks for no feature that the others do not.)
PROGRAMS = --workspace --exclude bench --bins --locked

build:
	@sh crates/muster/prerequisites.sh run
	$(CARGO) build $(PROGRAMS) --profile $(PROFILE)

test: prerequisites check unit demo mysql

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
	@CARGO='$(CARGO)' sh crates/muster/advisories.sh

unit:
	$(CARGO) nextest run --workspace --locked --no-fail-fast
	$(CARGO) test --workspace --doc --locked

demo:
	docker/test-compose

mysql:
	@CARGO='$(CARGO)' crates/testkit/on-mysql

# Says what is missing (`bench --install` gets it). More arguments: make bench ARGS=--quick
bench:
	$(CARGO) build --workspace --bins --locked --release
	$(BIN_DIR)/bench $(ARGS)

# The table is shown also when a row falls short, and kept in FAULTS_TABLE.
FAULTS_TABLE = $(abspath $(dir $(BIN_DIR)))/faults.md
faults: prerequisites
	$(CARGO) build $(PROGRAMS) --release
	@echo '| fault | requests | failed | replayed | p50, p99, max | seen | |' > $(FAULTS_TABLE)
	@echo '|---|---|---|---|---|---|---|' >> $(FAULTS_TABLE)
	@FAULTS=full FAULTS_TABLE=$(FAULTS_TABLE) $(CARGO) nextest run --locked --release -p e2e --profile faults \
		-E 'test(faults_) - test(faults_under_load)' $(ARGS); status=$$?; echo; cat $(FAULTS_TABLE); exit $$status

# ETCD_BIN is the etcd to be tried, FREEZES how often.
FREEZES = 30
freezes: prerequisites
	$(CARGO) build $(PROGRAMS) --release
	$(CARGO) build --locked --release -p e2e --examples
	ETCD_BIN=$(ETCD_BIN) FREEZES=$(FREEZES) $(dir $(BIN_DIR))release/examples/freezes $(ARGS)

images:
	docker/offline/images build

clean-data:
	rm -rf data
