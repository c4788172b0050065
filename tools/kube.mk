# A Kubernetes API server, helm and the CRDs of our neighbours, for the tests of discovery and of
# the manifests. All are built or unpacked into .tools/kube, once; nothing runs until a test starts
# it. KUBEBUILDER_ASSETS (a folder with etcd and kube-apiserver) is used instead where it is set.

KUBE_TOOLS := .tools/kube
KUBE_BIN := $(KUBE_TOOLS)/bin
HELM_VERSION := v3.18.6

ifeq ($(call skips,kubernetes),)
tools: kube-tools
endif

.PHONY: kube-tools
kube-tools: ## a Kubernetes API server, helm, kubectl and CRDs, for the tests that want them
	@command -v go >/dev/null || test -x $(KUBE_BIN)/helm || { \
		echo "kube-tools: no go on this machine to build an API server with;" \
			"install Go 1.25 or later, or say SKIP=kubernetes"; exit 1; }
	@$(MAKE) --no-print-directory -k kube-apiserver etcd kubectl helm kube-crds || { \
		echo "kube-tools: see above for what could not be had; SKIP=kubernetes does without"; exit 1; }

.PHONY: kube-apiserver etcd kubectl helm kube-crds
ifdef KUBEBUILDER_ASSETS
kube-apiserver etcd:
else
kube-apiserver: $(KUBE_BIN)/kube-apiserver
etcd: $(KUBE_BIN)/etcd
endif
kubectl: $(KUBE_BIN)/kubectl
helm: $(KUBE_BIN)/helm
kube-crds: $(KUBE_TOOLS)/crds/done

# About three minutes on two cores. The version is pinned in go.mod; the linker flags tell it to
# clients and to the server's own feature gates.
$(KUBE_BIN)/kube-apiserver: tools/kube-apiserver/main.go tools/kube-apiserver/go.mod tools/kube-apiserver/go.sum
	@mkdir -p $(@D)
	cd tools/kube-apiserver && \
	version=$$(go list -m -f '{{.Version}}' k8s.io/kubernetes) && \
	minor=$$(echo $$version | cut -d. -f2) && \
	at=k8s.io/component-base/version && \
	CGO_ENABLED=0 go build -trimpath -o ../../$@ \
		-ldflags "-s -w -X $$at.gitVersion=$$version -X $$at.gitMajor=1 -X $$at.gitMinor=$$minor" .

# The one on the machine, or Debian's package unpacked without installing it.
$(KUBE_BIN)/etcd:
	@mkdir -p $(@D)
	@if command -v etcd >/dev/null; then ln -sf "$$(command -v etcd)" $@; \
	elif command -v apt-get >/dev/null; then \
		cd $(KUBE_TOOLS) && \
		{ apt-get download etcd-server || { apt-get update && apt-get download etcd-server; }; } && \
		dpkg -x etcd-server_*.deb etcd && cp etcd/usr/bin/etcd bin/etcd && rm -r etcd etcd-server_*.deb; \
	else echo "kube-tools: install etcd, or name a folder with it in KUBEBUILDER_ASSETS"; exit 1; fi

$(KUBE_BIN)/kubectl:
	@mkdir -p $(@D)
	@if command -v kubectl >/dev/null; then ln -sf "$$(command -v kubectl)" $@; \
	else echo "kube-tools: install kubectl 1.27 or later"; exit 1; fi

$(KUBE_BIN)/helm:
	@mkdir -p $(@D)
	GOBIN=$(abspath $(@D)) CGO_ENABLED=0 go install -ldflags "-s -w" helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)

$(KUBE_TOOLS)/crds/done: tools/kube-crds.sh
	tools/kube-crds.sh $(@D)
	touch $@
