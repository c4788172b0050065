#!/usr/bin/env bash
# Prints the path of envoyproxy/ratelimit, building it from its Go module into .tools/ if need be.
# RATELIMIT, if set, names the binary to use.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -n "${RATELIMIT:-}" ]; then
  echo "$RATELIMIT"
  exit 0
fi
BIN=$PWD/.tools/ratelimit/ratelimit
if [ ! -x "$BIN" ] || [ tools/ratelimit/go.mod -nt "$BIN" ]; then
  command -v go >/dev/null || {
    echo "there is no go to build envoyproxy/ratelimit with: install it, or SKIP=ratelimit" >&2
    exit 1
  }
  echo "building envoyproxy/ratelimit into .tools/" >&2
  (cd tools/ratelimit && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$BIN" \
    github.com/envoyproxy/ratelimit/src/service_cmd >&2)
fi
echo "$BIN"
