#!/usr/bin/env bash
# Sourced by test_learning*.sh: a few epochs on 5,000 real images raise the kNN accuracy on 1,000
# test images well above that of the untrained encoder.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
images=$SIMILE_SHARED/data/cifar10/bin-small
[ -d "$images" ] || { echo "skipped: no $images"; exit 77; }
"$simile" prepare "$images" --out train.h5 2>log.txt
"$simile" prepare "$images" --split test --out test.h5 2>log.txt
cat >job.yaml <<'YAML'
run: unset
data: {train: train.h5, test: test.h5}
method: {name: simclr}
encoder: {width: 0.125, projector: {bn: true}}
batch: 128
optimizer: {lr: 0.15}
schedule: {epochs: 3, warmup_epochs: 0.5}
augment: {preset: simclr-cifar}
YAML
top1() { # top1 RUN_OR_CHECKPOINT: kNN accuracy in hundredths of a percent
    "$simile" evaluate knn "$1" --train train.h5 --test test.h5 --json 2>log.txt |
        /usr/bin/python3 -c 'import json, sys; print(round(1e4 * json.load(sys.stdin)["top1"]))'
}
# expect_gain POINTS METHOD key=value...: percentage points above the untrained encoder
expect_gain() {
    local points=$1 method=$2 before after
    shift 2
    expect 0 "" ranks 2 "$simile" pretrain job.yaml "run=$method" "method.name=$method" "$@"
    before=$(top1 "$method/checkpoints/step-000000000.h5") after=$(top1 "$method")
    echo "$method: $before -> $after (hundredths of a percent)"
    [ $((after - before)) -ge $((100 * points)) ] || fail "$method gained less than $points points"
}
