#!/usr/bin/env bash
# simile-test: timeout 1500 labels long
# The quickstart in a new clone: the kNN accuracy of the trained encoder is at least 5 points above
# that of the untrained encoder.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
git clone -q "$SIMILE_SOURCE" "$scratch/simile"
bash "$scratch/simile/jobs/quickstart" | tee "$scratch/out.txt"
grep -o 'top-1 [0-9.]*' "$scratch/out.txt" | awk '{v[NR] = $2} END {
    printf "untrained %.2f, trained %.2f\n", v[1], v[2]; exit !(v[2] >= v[1] + 5)}'
