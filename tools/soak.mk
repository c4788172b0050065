# The robustness tests at length. Hours, not minutes: `make soak SOAK=100` is an afternoon on two
# cores.

# How many times the usual: cases of each property test, and rounds of the tests over sockets.
SOAK ?= 20
# Seconds for each fuzz target.
FUZZ_SECONDS ?= $(shell expr $(SOAK) \* 30)

.PHONY: soak
soak: soak-properties soak-sockets soak-reload soak-fuzz ## robustness tests at length: SOAK=20 times the usual

.PHONY: soak-properties
soak-properties:
	PROPTEST_CASES=$$(expr $(SOAK) \* 256) $(CARGO) test --lib
	PROPTEST_CASES=$$(expr $(SOAK) \* 256) $(CARGO) test --test wire_messages

# What sockets, signals and timing decide is another run every time. With all threads busy at once
# the timing differs most.
.PHONY: soak-sockets
soak-sockets: tools
	set -e; for round in $$(seq $(SOAK)); do \
		echo "round $$round of $(SOAK)"; \
		CI=true $(if $(call skips,envoy),,ENVOY="$(ENVOY_BIN)") $(CARGO) test -q --test gateway \
			--test exchanges --test message_orders --test lifecycle --test server --test datalayer; \
	done

.PHONY: soak-reload
soak-reload: ## a thousand configurations, one after the other, under load
	$(CARGO) test --test reload -- --ignored --nocapture

.PHONY: soak-fuzz
soak-fuzz:
	@if $(CARGO) +nightly fuzz --version >/dev/null 2>&1; then \
		set -e; for target in $$($(CARGO) +nightly fuzz list); do \
			$(CARGO) +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS); \
		done; \
	else \
		echo "soak: parsers are not fuzzed, there is no nightly cargo-fuzz (cargo install cargo-fuzz)"; \
	fi
