# KServe's tutorial as a whole on this machine. tools/tutorial/README.md says what is real in it.

KSERVE_VERSIONS := 0.16.0 0.20.0

.PHONY: tutorial
tutorial: tutorial-tools kube-apiserver etcd kubectl ## KServe's tutorial, whole, with KServe's controller and a real Envoy (root)
	$(CARGO) build --bin epp --bin epp-sim
	python3 -B tools/tutorial --envoy "$(ENVOY_BIN)"

.PHONY: tutorial-tools
tutorial-tools: $(KSERVE_VERSIONS:%=$(KUBE_TOOLS)/kserve-%/done)

# A minute and a half each, on two cores; a version that is pinned in its go.mod.
$(KUBE_TOOLS)/kserve-%/done: tools/kserve/build.sh tools/kserve/%/go.mod tools/kserve/%/go.sum | kubectl
	tools/kserve/build.sh $* $(@D) $(KUBE_BIN)/kubectl
