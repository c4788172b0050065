#!/usr/bin/env bash
# Prints the path of a redis-server, unpacking Debian's into .tools/ if there is none.
# REDIS_SERVER, if set, names the binary to use.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -n "${REDIS_SERVER:-}" ]; then
  echo "$REDIS_SERVER"
  exit 0
fi
if command -v redis-server; then
  exit 0
fi
DIR=$PWD/.tools/redis
BIN=$DIR/redis-server
if [ ! -x "$BIN" ]; then
  echo "unpacking Debian's Redis into .tools/" >&2
  command -v apt-get >/dev/null || {
    echo "there is no redis-server and no apt-get: install Redis 7 or later" >&2
    exit 1
  }
  rm -rf "$DIR"
  mkdir -p "$DIR/packages"
  # The server's binary, under another name, and what it links that not every machine has.
  fetch() { (cd "$DIR/packages" && apt-get download -qq redis-tools libjemalloc2 liblzf1 libatomic1 >&2); }
  # A fresh machine does not know yet what there is to download.
  fetch || { apt-get update -qq >&2 && fetch; } || {
    echo "Debian's redis-tools cannot be downloaded: install Redis 7 or later, or SKIP=redis" >&2
    exit 1
  }
  for package in "$DIR"/packages/*.deb; do
    dpkg -x "$package" "$DIR/root"
  done
  printf '#!/bin/sh\nexport LD_LIBRARY_PATH="%s"\nexec -a redis-server %s/root/usr/bin/redis-check-rdb "$@"\n' \
    "$(echo "$DIR"/root/usr/lib/*-linux-gnu)" "$DIR" | sed 's|^#!/bin/sh|#!/usr/bin/env bash|' >"$BIN"
  chmod +x "$BIN"
fi
echo "$BIN"
