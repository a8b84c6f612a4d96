# Says what it installs before it does.
.PHONY: test

test: build-tools
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo test

.PHONY: build-tools
# zlib-ng, which Pingora compresses with, is built with cmake and a C compiler.
build-tools:
	@command -v cmake >/dev/null && command -v cc >/dev/null || { \
		echo "installing cmake and a C compiler with apt-get"; \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		$$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends cmake gcc libc6-dev; }
