#!/usr/bin/env bash
# simile-test: timeout 600
# The same job has the same bits on 1, 2, 3 and 4 ranks, with 1 and 2 threads, with the vector kernels
# of this machine, and when stopped and resumed.  The `portable` kernels are compared with themselves.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
data_set train 200 12
cat >job.yaml <<'YAML'
run: unset
data: {train: train.h5}
method: {name: simclr, temperature: 0.2}
encoder: {arch: resnet18, width: 0.125, projector: {bn: true}}
batch: 32
block: 4
optimizer: {name: lars, lr: 0.3}
schedule: {epochs: 2, warmup_epochs: 0.5}
augment: {preset: simclr}
log: {every_steps: 3}
checkpoint: {keep: 100}
YAML
hashes() { # hashes RUN: the hash trace and the metrics without times
    cat "$1/trace-hash.txt"
    tail -c 65536 "$1/metrics.jsonl" | sed 's/"data_percent".*//'
}
compare() { diff <(hashes "$1") <(hashes "$2") >diff.txt || { head -5 diff.txt >&2; fail "$2 differs from $1"; }; }
train() { # train RANKS RUN [key=value ...]
    expect 0 "" ranks "$1" "$simile" pretrain job.yaml run="$2" --trace-hash "${@:3}"
}
for bn in "batchnorm.group=0" "batchnorm.group=4" "batchnorm.group=2 batchnorm.views=joint" "batchnorm.group=16"; do
    name=$(echo "$bn" | tr -c 'a-z0-9' '-')
    # shellcheck disable=SC2086 # a list of settings
    for p in 1 2 3 4; do
        train "$p" "$name-$p" $bn
        compare "$name-1" "$name-$p"
    done
    expect_lines 12 grad "$name-1/trace-hash.txt" # one per step
done
# threads, kernels
OMP_NUM_THREADS=2 train 1 threads
compare batchnorm-group-0--1 threads
for k in v3 v4 neon; do
    if SIMILE_KERNELS=$k "$simile" --version 2>/dev/null | grep "kernels *$k" >/dev/null; then
        train 2 "$k" kernels="$k"
        compare batchnorm-group-0--1 "$k"
    fi
done
for p in 1 3; do
    train "$p" "portable-$p" kernels=portable
done
compare portable-1 portable-3
# stopped, and resumed on other numbers of ranks
p=1
for stop in 1 2 5 7 11; do
    expect 75 "" ranks "$p" "$simile" pretrain job.yaml run=stopped --trace-hash --stop-after "$stop"
    p=$((p % 4 + 1))
done
expect 75 "" ranks 2 "$simile" pretrain job.yaml run=stopped --trace-hash --stop-after 3
expect 0 "" ranks 2 "$simile" pretrain job.yaml run=stopped --trace-hash --stop-after 99
compare batchnorm-group-0--1 stopped
expect 0 "" ranks 2 "$simile" pretrain job.yaml run=stopped
echo "all hash traces are equal"
