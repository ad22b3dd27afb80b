#!/usr/bin/env bash
# Prints the table of ratios; docs/benchmarks.md keeps the last one.
set -euo pipefail
cd "$(dirname "$0")/.."
go run ./test/bench -kvol ./kvol "$@"
