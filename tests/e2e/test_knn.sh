#!/usr/bin/env bash
# simile-test: timeout 120
# kNN while training: changes no bit, is the same on 1, 2 and 3 ranks and what `evaluate
# knn` says of the same step, and a resumed run has each line once.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
digits train 144 16
digits test 50 16
"$simile" prepare train-images-idx3-ubyte --out train.h5 2>log.txt
"$simile" prepare test-images-idx3-ubyte --out test.h5 2>log.txt
# five wrong labels in six: a perfect score would hide errors
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
results() { grep knn_top1 "$1/metrics.jsonl"; }
expect 0 "" "$simile" pretrain job.yaml run=without --trace-hash
grep -q knn without/metrics.jsonl && fail "kNN, though it is off"
on="evaluate.knn_every_epochs=2"
for n in 1 2 3; do
    expect 0 "" ranks $n "$simile" pretrain job.yaml run="with$n" $on --trace-hash
    cmp without/trace-hash.txt "with$n/trace-hash.txt" || fail "kNN changes the training"
    [ "$(weights without)" = "$(weights "with$n")" ] || fail "kNN changes the weights"
    results "with$n" >"results$n"
    cmp results1 "results$n" || fail "another accuracy on $n ranks"
done
[ "$(grep -o '"step":[0-9]*' results1 | tr '\n' ' ')" = '"step":6 "step":12 ' ] || { cat results1; fail "not at epochs 2 and 4"; }
for step in 6 12; do
    "$simile" evaluate knn "with1/checkpoints/step-$(printf %09d $step).h5" --train noisy.h5 --test test.h5 --k 20 --temperature 0.2 --json >said.json
    /usr/bin/python3 - $step <<'PY' || fail "evaluate knn says something else of step $step"
import json, sys
said = json.load(open("said.json"))
mine, = [r for r in map(json.loads, open("results1")) if r["step"] == int(sys.argv[1])]
assert (mine["knn_top1"], mine["knn_top5"]) == (said["top1"], said["top5"]), (mine, said)
assert 0.05 < mine["knn_top1"] < 0.99, mine
PY
done
# stopped right at a result, and again behind it; then kNN is switched off: a free key
expect 75 "" ranks 2 "$simile" pretrain job.yaml run=often $on --stop-after 6
expect 75 "" "$simile" pretrain job.yaml run=often $on --stop-after 7
rm often/checkpoints/step-000000007.h5
expect 0 "" ranks 3 "$simile" pretrain job.yaml run=often $on
results often | cmp - results1 || fail "a resumed run doubles or loses a result"
[ "$(weights without)" = "$(weights often)" ] || fail "stops change the weights"
expect 75 "" "$simile" pretrain job.yaml run=free $on --stop-after 4
expect 0 "" "$simile" pretrain job.yaml run=free
# what it needs: both sets, both labelled; plan says the same
sed 's/, test: test.h5//' job.yaml >lone.yaml
for command in "pretrain job.yaml run=bad" "plan job.yaml"; do
    expect 78 "data.test" "$simile" ${command/job/lone} $on
    expect 66 "absent.h5" "$simile" $command $on data.test=absent.h5
    rm -f train-labels-idx1-ubyte
    [ -e bare.h5 ] || "$simile" prepare train-images-idx3-ubyte --out bare.h5 2>log.txt
    expect 78 "data.test" "$simile" $command $on data.test=bare.h5
    expect 78 "data.train" "$simile" $command $on data.train=bare.h5
done
[ ! -e bad ] || fail "a refused job left a run directory"
expect 0 "evaluate.knn_every_epochs" "$simile" plan --keys
echo ok
