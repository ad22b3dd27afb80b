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
# The build with librbd (docs/ceph.md): its answers against the command's, and the
# part of the driver's conformance that is made of its calls.
if command -v "${CC:-gcc}" >/dev/null && [ -e /usr/include/rbd/librbd.h ]; then
  CGO_ENABLED=1 go test -count=1 -timeout 15m -tags "${CEPH_TAGS:-ceph,pacific}" \
    -run 'TestLibrary|TestOnCeph/Driver/(Snapshot|Capability)' ./internal/driver/rbd
elif [ -n "${KVOL_REQUIRE_TOOLS:-}" ]; then
  echo "gcc and librbd-dev are missing; test/setup.sh installs them" >&2
  exit 1
else
  echo "SKIPPED: the build with librbd (needs gcc, librados-dev and librbd-dev)" >&2
fi
test/fuzz.sh "${FUZZTIME:-3000x}"
