#!/usr/bin/env bash
# simile-test: timeout 600
# kNN during training changes no bit, is the same on 1, 2 and 3 ranks, and equals `evaluate knn` of
# the same step; a resumed run reports each evaluation once.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
digits train 144 16
data_set test 50 16
# five of six labels are wrong, because an accuracy of 100 % would hide errors
/usr/bin/python3 - <<'PY'
import struct
raw = bytearray(open("train-labels-idx1-ubyte", "rb").read())
for i in range(144):
    if i % 6:
        raw[8 + i] = (raw[8 + i] * 7 + i) % 10
open("noisy-labels-idx1-ubyte", "wb").write(raw)
open("noisy-images-idx3-ubyte", "wb").write(open("train-images-idx3-ubyte", "rb").read())
PY
"$simile" prepare noisy-images-idx3-ubyte --out noisy.h5 2>log.txt
cat >job.yaml <<'YAML'
run: unset
data: {train: noisy.h5, test: test.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.125}
batch: 48
block: 8
schedule: {epochs: 5}
augment: {preset: digits}
log: {every_steps: 4}
checkpoint: {every_steps: 3, keep: 20}
evaluate: {k: 20, temperature: 0.2}
YAML
results() { grep knn_top1 "$1/metrics.jsonl" | sed 's/,"elapsed_s".*//; s/$/}/'; }
expect 0 "" "$simile" pretrain job.yaml run=without --trace-hash
expect_lines 0 knn without/metrics.jsonl
on="evaluate.knn_every_epochs=2"
for n in 1 2 3; do
    expect 0 "" ranks $n "$simile" pretrain job.yaml run="with$n" $on --trace-hash
    cmp without/trace-hash.txt "with$n/trace-hash.txt" || fail "kNN changes the training"
    same_weights without "with$n"
    results "with$n" >"results$n"
    cmp results1 "results$n" || fail "the accuracy differs on $n ranks"
done
[ "$(grep -o '"step":[0-9]*' results1 | tr '\n' ' ')" = '"step":6 "step":12 ' ] || { cat results1; fail "not evaluated at epochs 2 and 4"; }
for step in 6 12; do
    "$simile" evaluate knn "with1/checkpoints/step-$(printf %09d $step).h5" --train noisy.h5 --test test.h5 --k 20 --temperature 0.2 --json >knn.json
    /usr/bin/python3 - $step <<'PY' || fail "evaluate knn differs at step $step"
import json, sys
want = json.load(open("knn.json"))
got, = [r for r in map(json.loads, open("results1")) if r["step"] == int(sys.argv[1])]
assert (got["knn_top1"], got["knn_top5"]) == (want["top1"], want["top5"]), (got, want)
assert 0.05 < got["knn_top1"] < 0.99, got
PY
done
# stopped at an evaluation, and one step later
expect 75 "" ranks 2 "$simile" pretrain job.yaml run=often $on --stop-after 6
expect 75 "" "$simile" pretrain job.yaml run=often $on --stop-after 7
rm often/checkpoints/step-000000007.h5
expect 0 "" ranks 3 "$simile" pretrain job.yaml run=often $on
results often | cmp - results1 || fail "a resumed run repeats or loses an evaluation"
same_weights without often
# the keys of kNN may change at every start
expect 75 "" "$simile" pretrain job.yaml run=free $on --stop-after 4
expect 0 "" "$simile" pretrain job.yaml run=free
# kNN needs a training set and a test set with labels, and plan checks this too
sed 's/, test: test.h5//' job.yaml >no-test.yaml
rm train-labels-idx1-ubyte
"$simile" prepare train-images-idx3-ubyte --out unlabelled.h5 2>log.txt
for command in "pretrain job.yaml run=bad" "plan job.yaml"; do
    expect_match 78 "data\.test" "$simile" ${command/job/no-test} $on
    expect_match 66 "absent\.h5" "$simile" $command $on data.test=absent.h5
    expect_match 78 "unlabelled\.h5.*data\.test" "$simile" $command $on data.test=unlabelled.h5
    expect_match 78 "unlabelled\.h5.*data\.train" "$simile" $command $on data.train=unlabelled.h5
done
[ ! -e bad ] || fail "a refused job has a run directory"
expect 0 "evaluate.knn_every_epochs" "$simile" plan --keys
echo ok
