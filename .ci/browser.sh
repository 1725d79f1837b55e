#!/usr/bin/env bash
# A Chromium for the tests of pages, where there is none: Debian's package, when this user may install it.
#
# Without one those tests are skipped and say so; that is no failure of this script.
set -euo pipefail

for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then
    echo "found $(command -v "$name")"
    exit 0
  fi
done
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
  echo "no Chromium, and no way to install one here: tests of pages will be skipped"
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends chromium >/dev/null
command -v chromium
