# Measuring. `make bench REFERENCE=/path/to/go/epp` measures another picker in the same runs.
BENCH_OUT ?= target/bench

.PHONY: bench
bench: tools ## the short form of every measurement, in under ten minutes; reports in target/bench
	$(CARGO) build --release --bins
	python3 tools/bench.py --out "$(BENCH_OUT)" --envoy "$(ENVOY_BIN)" $(if $(REFERENCE),--reference "$(REFERENCE)")
	$(CARGO) bench --bench prefix_index --bench scheduling_cycle -- --quick
