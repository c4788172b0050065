#!/bin/sh
# Builds KServe's controller of LLMInferenceServices from its Go module, and puts the objects that
# KServe's installation applies beside it, with the CRDs of the gateways of its time.
#
# usage: build.sh VERSION FOLDER KUBECTL
set -eu
version=$1 out=$(realpath -m "$2") kubectl=$(realpath -s "$3")
cd "$(dirname "$0")/$version"
mkdir -p "$out"
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$out/llmisvc" github.com/kserve/kserve/cmd/llmisvc
config=$(go list -m -f '{{.Dir}}' github.com/kserve/kserve)/config
"$kubectl" kustomize "$config/crd/full/llmisvc" >"$out/crds.yaml"
"$kubectl" kustomize "$config/llmisvc" >"$out/objects.yaml"
"$kubectl" kustomize "$config/llmisvcconfig" >"$out/presets.yaml"
install -m 644 "$config/configmap/inferenceservice.yaml" "$out/configmap.yaml"
# What the model's fetcher is configured by, since 0.18.
: >"$out/storage.yaml"
if [ -d "$config/crd/full/clusterstoragecontainer" ]; then
    "$kubectl" kustomize "$config/crd/full/clusterstoragecontainer" >>"$out/crds.yaml"
    "$kubectl" kustomize "$config/storagecontainers" >"$out/storage.yaml"
fi

case $version in
0.16.*) gateway_api=v1.2.1 envoy_gateway=v1.5.0 generated=gateway-helm/crds/generated ;;
*) gateway_api=v1.5.1 envoy_gateway=v1.8.0 generated=gateway-crds-helm/templates/generated ;;
esac

# module@version, then files within it
collect() {
    module=$1
    shift
    # From here the module is one of its own, not one of KServe's dependencies.
    dir=$(cd / && go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p')
    test -n "$dir" || { echo "kserve: $module cannot be had" >&2; return 1; }
    for file in "$@"; do
        printf -- '---\n' >>"$out/gateways.yaml"
        # The chart that they are from can leave them out.
        sed '/^{{/d' "$dir/$file" >>"$out/gateways.yaml"
    done
}

: >"$out/gateways.yaml"
at=config/crd/standard/gateway.networking.k8s.io
collect sigs.k8s.io/gateway-api@$gateway_api ${at}_gatewayclasses.yaml ${at}_gateways.yaml ${at}_httproutes.yaml
collect github.com/envoyproxy/gateway@$envoy_gateway \
    charts/$generated/gateway.envoyproxy.io_backendtrafficpolicies.yaml
touch "$out/done"
