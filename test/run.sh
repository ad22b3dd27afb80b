#!/usr/bin/env bash
# Everything that must hold. Tools that are missing make a test skip, loudly;
# where CI is set, or they could have been installed, they make it fail.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${CI:-}" = true ] || { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }; then
  export KVOL_REQUIRE_TOOLS=1
fi
test/lint.sh
go test -count=1 -timeout 45m ./... # not from the cache: some tests build and run the program
test/fuzz.sh "${FUZZTIME:-3000x}"
