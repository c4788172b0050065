#!/usr/bin/env bash
# Builds epp as deploy/Dockerfile does, from a copy of the files it copies, where there is no
# container engine to do it. With Rust's musl target (`rustup target add x86_64-unknown-linux-musl`)
# the binary is the image's, static; without it, it is this machine's.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

# COPY SOURCE... PLACE: the sources lie at the same place in the build.
grep '^COPY ' deploy/Dockerfile | grep -v -- '--from' | while read -r _ paths; do
  for path in ${paths% *}; do
    cp -r "$path" "$context/"
  done
done
build=$(grep -o 'cargo build .*' deploy/Dockerfile | sed 's/ *\\$//')
export CARGO_PROFILE_RELEASE_STRIP=debuginfo CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/image
musl=$(uname -m)-unknown-linux-musl
binary=$CARGO_TARGET_DIR/release/epp
if [ -d "$(rustc --print sysroot)/lib/rustlib/$musl" ]; then
  build="$build --target $musl"
  binary=$CARGO_TARGET_DIR/$musl/release/epp
else
  echo "no $musl on this machine: built for the machine instead, so not static" >&2
fi
echo "$build" >&2
(cd "$context" && $build)
"$binary" --version
"$binary" check "$root/config/recommended.yaml"
ls -l "$binary"
