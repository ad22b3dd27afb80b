#!/usr/bin/env bash
# Runs every fuzz target in the tree, each for a number of inputs (3000x, the
# default) or a time (5s). A number is what the tests use: a run that ends by
# time now and then fails with "context deadline exceeded" when its end meets
# an input under way.
set -euo pipefail
cd "$(dirname "$0")/.."
amount=${1:-3000x}
count=0
while IFS=: read -r file target; do
  go test -run '^$' -fuzz "^${target}\$" -fuzztime "$amount" "./$(dirname "$file")"
  count=$((count + 1))
done < <(
  git grep -n -oE '^func Fuzz[A-Za-z0-9_]+' -- '*_test.go' | sed -E 's/^([^:]+):[0-9]+:func (Fuzz.*)$/\1:\2/')
[ "$count" -gt 0 ] || { echo "no fuzz target found" >&2; exit 1; }
echo "fuzzed $count targets with $amount each"
