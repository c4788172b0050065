# What is checked without running anything.

# Sets of features that build what they name: the library and the programs, tests included where
# nothing is switched off.
FEATURE_SETS := server kubernetes sim bench

# The core decides; it must not come to need a runtime, a server, TLS, Kubernetes or a command line.
NOT_IN_CORE := tokio tonic hyper rustls kube clap

.PHONY: lint
lint: ## formatting, clippy with warnings as errors for every feature set, licences
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --no-default-features -- -D warnings
	set -e; for features in $(FEATURE_SETS); do \
		$(CARGO) clippy --no-default-features --features $$features -- -D warnings; \
	done
	@$(MAKE) --no-print-directory core-alone
	@$(MAKE) --no-print-directory deny

.PHONY: core-alone
core-alone: ## what the core depends on
	@for crate in $(NOT_IN_CORE); do \
		if $(CARGO) tree --no-default-features -e normal --prefix none | grep -q "^$$crate v"; then \
			echo "lint: the core depends on $$crate (cargo tree --no-default-features -i $$crate)"; \
			exit 1; \
		fi; \
	done

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
