#!/usr/bin/env bash
# Prints the path of chromedriver, installing it with Chromium from Debian's packages if there is
# none. CHROMEDRIVER, if set, names the one to use.
set -euo pipefail

driver=${CHROMEDRIVER:-$(command -v chromedriver || true)}
if [ -z "$driver" ] && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  echo "installing Chromium" >&2
  { apt-get update && apt-get install -y --no-install-recommends chromium chromium-driver; } >&2
  driver=$(command -v chromedriver || true)
fi
if [ -z "$driver" ]; then
  echo "no chromedriver: install Chromium and its driver (Debian: chromium, chromium-driver)," \
    "or SKIP=browser" >&2
  exit 1
fi
echo "$driver"
