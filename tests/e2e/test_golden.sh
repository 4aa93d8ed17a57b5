#!/usr/bin/env bash
# simile-test: timeout 600
# This program reads the files of every version in tests/golden (written by tests/golden/make) with
# the same weights hash, features and kNN accuracy; a stopped run ends with the same weights.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
if "$simile" --version | grep -q '^kernels *portable'; then
    echo "skipped: the golden files hold results of the AVX2 and AVX-512 kernels"
    exit 77
fi
expect_hash() { # expect_hash RUN KEY: the weights hash of RUN is KEY of hashes.json
    local want
    want=$(grep -o "\"$2\": \"[^\"]*\"" hashes.json | cut -d'"' -f4)
    [ -n "$want" ] || fail "$version: hashes.json has no $2"
    [ "$(weights_hash "$1")" = "\"weights_hash\":\"$want\"" ] || fail "$version: weights_hash of $1 is $(weights_hash "$1"), expected $want"
}
check_embedding() {
    "$simile" embed run --data train.h5 --out features-now.h5 >log.txt 2>&1 || { cat log.txt; fail "$version: embed"; }
    /usr/bin/python3 - <<'PY' || fail "$version: embed differs from features.h5"
import h5py, numpy as np
want, got = h5py.File("features.h5"), h5py.File("features-now.h5")
assert set(want) <= set(got), (set(want), set(got))
for name in ("features", "projections", "labels"):
    assert want[name].shape == got[name].shape, name
    error = np.abs(want[name][:].astype("f8") - got[name][:]).max()
    assert error <= 1e-6, f"{name}: largest difference {error}"
PY
}
check_knn() {
    "$simile" evaluate knn run --train train.h5 --test test.h5 --k 7 --json >knn-now.json
    /usr/bin/python3 - <<'PY' || fail "$version: evaluate knn differs from knn.json"
import json
want, got = json.load(open("knn.json")), json.load(open("knn-now.json"))
differing = {key: (value, got.get(key)) for key, value in want.items() if got.get(key) != value}
assert not differing, f"key: (expected, found) {differing}"
PY
}
check_metrics() { # check_metrics RUN: the metrics are those of a run without a stop
    if [ ! -e metrics.jsonl ]; then # version 0.1.0
        [ "$(metric_steps "$1")" = "$(seq 14)" ]
        return
    fi
    /usr/bin/python3 - metrics.jsonl "$1/metrics.jsonl" <<'PY'
import json, sys
want, got = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
assert [w["step"] for w in want] == [g["step"] for g in got]
for w, g in zip(want, got):
    for key in w.keys() - {"data_percent", "gradient_sum_percent", "images_per_s", "elapsed_s", "time"}:  # the others do not depend on time
        assert g.get(key) == w[key], (w["step"], key, w[key], g.get(key))
PY
}
check_resume() { # check_resume RANKS
    cp -r run "resumed$1"
    expect 0 "step-000000008.h5" ranks "$1" "$simile" pretrain job.yaml run="resumed$1"
    expect_hash "resumed$1" end
    check_metrics "resumed$1" || fail "$version, $1 ranks: metrics.jsonl has the steps $(metric_steps "resumed$1")"
    "$simile" inspect "resumed$1" --json | grep -q '"to_step":14' || fail "$version, $1 ranks: no segment up to step 14"
}
found=0
for from in "$SIMILE_SOURCE"/tests/golden/*/; do
    version=$(basename "$from")
    cp -r "$from" "$scratch/$version"
    cd "$scratch/$version"
    xz -d run/checkpoints/*.xz
    expect_hash run stopped
    check_embedding
    check_knn
    check_resume 1
    check_resume 2
    found=$((found + 1))
done
[ "$found" -gt 0 ] || fail "tests/golden contains no version"
echo "ok: $found versions"
