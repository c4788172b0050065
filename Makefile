# The commands of this repository. `make help` lists them.
CARGO ?= cargo
ENVOY_BIN = $$(./tools/envoy.sh)
REDIS_BIN = $$(./tools/redis.sh)
RATELIMIT_BIN = $$(./tools/ratelimit.sh)

# What to do without, by name: `SKIP=envoy,kubernetes make test`. Without it a missing Envoy or API
# server is an error: tests that did not run must not look like tests that passed.
SKIP ?=
export SKIP
comma := ,
skips = $(filter $(1),$(subst $(comma), ,$(SKIP)))
unknown_skips := $(filter-out envoy kubernetes redis ratelimit browser,$(subst $(comma), ,$(SKIP)))
$(if $(unknown_skips),$(error SKIP names $(unknown_skips); it knows envoy, kubernetes, redis, ratelimit and browser))

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'

.PHONY: demo
demo: ## simulated workers, epp and Envoy on this machine, with real requests through them
	$(CARGO) build --bin epp --bin epp-sim
	@# Ctrl-C is how it ends: the shell is not to pass it on as an error.
	@trap : INT; python3 tools/demo.py --envoy "$(ENVOY_BIN)"

.PHONY: test
test: tools lint test-rust test-docs ## everything a change has to pass; SKIP=envoy,kubernetes does without

.PHONY: tools
tools: ## installs what the tests need into .tools/
ifeq ($(call skips,envoy),)
	@./tools/envoy.sh >/dev/null
endif
ifeq ($(call skips,redis),)
	@./tools/redis.sh >/dev/null
endif
ifeq ($(call skips,ratelimit),)
	@./tools/ratelimit.sh >/dev/null
endif
ifeq ($(call skips,browser),)
	@./tools/chromium.sh >/dev/null
endif

.PHONY: test-rust
test-rust: tools ## unit, property, integration and end-to-end tests
	CI=true $(if $(call skips,envoy),,ENVOY="$(ENVOY_BIN)") $(if $(call skips,redis),,REDIS_SERVER="$(REDIS_BIN)") $(if $(call skips,ratelimit),,RATELIMIT="$(RATELIMIT_BIN)") $(CARGO) test --lib --bins --tests

.PHONY: test-docs
test-docs: ## the examples in the documentation
	$(CARGO) test --doc
	# The maps of the rooms link to their private files on purpose.
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --no-deps --document-private-items

.PHONY: clean-tools
clean-tools: ## forgets what was installed into .tools/
	rm -rf .tools

-include tools/*.mk
