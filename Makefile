# Two commands: `make run` shows what Doorstep does, `make test` proves it. They install what is
# missing on a Debian machine, and say so before.

APT = sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	$$sudo apt-get update -qq && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends
NPM = target/npm

.PHONY: run
run: build-tools
	cargo run --release -- run --demo

.PHONY: test
test: build-tools test-tools $(NPM)/installed
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test

# 200,000 mixed requests, with marks that must stay their visitor's (`make test` makes 4,000): minutes.
.PHONY: marks
marks: build-tools test-tools $(NPM)/installed
	DOORSTEP_MARKS=$${DOORSTEP_MARKS:-200000} cargo test --test e2e nobody_gets_what_is_anothers -- --nocapture

.PHONY: bench
bench: build-tools
	cargo bench

# Origin, bare Pingora and Doorstep side by side, then durable events; see benches/load.
.PHONY: load
load: build-tools test-tools
	benches/load/run
	benches/load/events 10 0

# zlib-ng, which Pingora compresses with, is built with cmake and a C compiler.
.PHONY: build-tools
build-tools:
	@command -v cmake >/dev/null && command -v cc >/dev/null || { \
		echo "installing cmake and a C compiler with apt-get"; \
		$(APT) cmake gcc libc6-dev; }

# Real parts for the tests. Debian starts nginx and redis-server when it installs them; the tests
# start their own, so these are kept from it.
.PHONY: test-tools
test-tools:
	@missing=; \
	for pair in nginx:nginx redis-server:redis-server prometheus:prometheus chromium:chromium \
		node:nodejs npm:npm wrk:wrk systemd-analyze:systemd; do \
		command -v "$${pair%%:*}" >/dev/null || PATH=$$PATH:/usr/sbin command -v "$${pair%%:*}" >/dev/null \
			|| missing="$$missing $${pair##*:}"; \
	done; \
	[ -z "$$missing" ] || { \
		echo "installing$$missing with apt-get, for the tests"; \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		[ -e /usr/sbin/policy-rc.d ] || { \
			printf '#!/bin/sh\nexit 101\n' | $$sudo tee /usr/sbin/policy-rc.d >/dev/null; \
			$$sudo chmod +x /usr/sbin/policy-rc.d; made=1; }; \
		{ $(APT) $$missing; }; status=$$?; \
		[ -z "$$made" ] || $$sudo rm -f /usr/sbin/policy-rc.d; \
		exit $$status; }

# The real SDK and the driver of the browser, in the versions of the lock file.
$(NPM)/installed: tests/e2e/browser/package-lock.json
	@echo "installing the SDK and the browser's driver with npm, below $(NPM)"
	@mkdir -p $(NPM) && cp tests/e2e/browser/package.json tests/e2e/browser/package-lock.json $(NPM)/
	@cd $(NPM) && npm ci --no-audit --no-fund --ignore-scripts --silent
	@touch $@
