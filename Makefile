# Two commands: `make run` shows what Doorstep does, `make test` proves it. They see to what is
# missing on a Debian machine, and say so before.

# Tools that are unpacked, not installed, and those that Debian keeps off a user's PATH.
export PATH := $(CURDIR)/target/tools/bin:$(PATH):/usr/sbin

.PHONY: run
run: build-tools
	@[ -e target/demo/doorstep ] || echo "doorstep: building, the first time about 4 minutes on two free cores, 2 GB of memory and 1.3 GB in target/"
	cargo run --profile demo --bin doorstep -- run --demo

# The unit tests run a second time as they are optimised for a release: compilers err, too.
OPTIMISED = opt-level=3 codegen-units=4 debug-assertions=false overflow-checks=false
.PHONY: test
test: test-tools
	@[ -e target/debug/doorstep ] || echo "doorstep: building, the first time about 15 minutes on two free cores, 4 GB of memory and 8 GB in target/"
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test
	cargo test --lib $(OPTIMISED:%=--config profile.dev.package.doorstep.%)

# 200,000 mixed requests, with marks that must stay their visitor's (`make test` makes 4,000): minutes.
.PHONY: marks
marks: test-tools
	DOORSTEP_MARKS=$${DOORSTEP_MARKS:-200000} cargo test --test e2e nobody_gets_what_is_anothers -- --nocapture

# Both commands on Debian systems made for it (as root, half an hour each): what a newcomer's machine has.
.PHONY: fresh-machine
fresh-machine:
	tests/fresh-machine bookworm trixie

.PHONY: bench
bench: build-tools
	cargo bench

# Origin, bare Pingora and Doorstep side by side, then durable events; see benches/load.
.PHONY: load
load: test-tools
	@tests/tools load
	benches/load/run
	benches/load/events 10 0

.PHONY: build-tools
build-tools:
	@tests/tools build

.PHONY: test-tools
test-tools:
	@tests/tools test
