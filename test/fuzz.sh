#!/usr/bin/env bash
# Runs every fuzz target in the tree for a time each (first argument, 5s).
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-5s}
count=0
while IFS=: read -r file target; do
  go test -run '^$' -fuzz "^${target}\$" -fuzztime "$time" "./$(dirname "$file")"
  count=$((count + 1))
done < <(
  git grep -n -oE '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' | sed -E 's/^([^:]+):[0-9]+:func (Fuzz.*)$/\1:\2/')
[ "$count" -gt 0 ] || { echo "no fuzz target found" >&2; exit 1; }
echo "fuzzed $count targets for $time each"
