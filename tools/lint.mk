# What is checked without running anything.

# Sets of features that build what they name: the library and the programs, tests included where
# nothing is switched off.
FEATURE_SETS := kubernetes sim bench

.PHONY: lint
lint: ## formatting, clippy with warnings as errors for every feature set, licences
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --no-default-features -- -D warnings
	set -e; for features in $(FEATURE_SETS); do \
		$(CARGO) clippy --no-default-features --features $$features -- -D warnings; \
	done
	@$(MAKE) --no-print-directory deny

# cargo-deny takes longer to build than all of the tests, so it is not installed by itself. Its
# advisories need a database from the network: `cargo deny check` without arguments runs them too.
.PHONY: deny
deny: ## licences, sources and banned crates of the dependencies, where cargo-deny is installed
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --offline check --hide-inclusion-graph licenses bans sources; \
	else \
		echo "lint: licences are not checked, there is no cargo-deny (cargo install --locked cargo-deny)"; \
	fi

.PHONY: image-check
image-check: ## builds the binary as the image's Dockerfile does, without a container engine
	tools/image_check.sh
