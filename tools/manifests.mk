# The chart's Envoy is written once, in its template; the overlays have copies of what it renders.

.PHONY: manifests
manifests: $(KUBE_BIN)/helm ## writes the Envoy configurations of the kustomize overlays anew
	python3 tools/overlay_envoy.py --helm $(KUBE_BIN)/helm
