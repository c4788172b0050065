#!/bin/sh
# Collects the CRDs that our manifests are checked against from the Go modules their projects
# publish: the schemas are theirs, so what the API server accepts in a test it accepts elsewhere.
#
# usage: kube-crds.sh FOLDER
set -eu
out=$1
mkdir -p "$out"

# module@version, then files within it
collect() {
    module=$1
    shift
    dir=$(go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
    test -n "$dir" || { echo "kube-crds: $module cannot be had" >&2; return 1; }
    for file in "$@"; do
        install -m 644 "$dir/$file" "$out/$(basename "$file")"
    done
}

collect sigs.k8s.io/gateway-api@v1.3.0 \
    config/crd/standard/gateway.networking.k8s.io_gatewayclasses.yaml \
    config/crd/standard/gateway.networking.k8s.io_gateways.yaml \
    config/crd/standard/gateway.networking.k8s.io_httproutes.yaml
collect github.com/kserve/kserve@v0.16.0 \
    config/crd/full/llmisvc/serving.kserve.io_llminferenceserviceconfigs.yaml \
    config/crd/full/llmisvc/serving.kserve.io_llminferenceservices.yaml
collect github.com/envoyproxy/gateway@v1.5.0 \
    charts/gateway-helm/crds/generated/gateway.envoyproxy.io_backendtrafficpolicies.yaml
collect github.com/prometheus-operator/prometheus-operator@v0.85.0 \
    example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml
