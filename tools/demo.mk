# Demos beside the main one.
.PHONY: demo-pd
demo-pd: ## prompts and answers on different workers: simulated ones, epp and Envoy on this machine
	$(CARGO) build --bin epp --bin epp-sim
	@trap : INT; python3 tools/demo_pd.py --envoy "$(ENVOY_BIN)"
