#!/usr/bin/env bash
# simile-test: timeout 300
# A run changes its ranks, its batch, its length, its rate and its data in mid-way: the same
# bits on any ranks, learning rate and position as computed by hand, and everything that was
# not accepted is refused with what to type.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
data_set train 200 12
data_set other 104 12
cat >job.yaml <<'YAML'
run: unset
data: {train: train.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.0625}
batch: 16
block: 4
optimizer: {name: sgd, lr: 0.2, scale: linear, weight_decay: 0}
schedule: {epochs: 4, warmup_epochs: 1}
augment: {preset: digits}
log: {every_steps: 1}
checkpoint: {keep: 100}
YAML
same() { [ "$(weights "$1")" = "$(weights "$2")" ] || fail "$2: the weights are not those of $1"; }
# go P RUN words...: as `simile pretrain job.yaml run=RUN words` on P ranks, one alone
go() {
    local p=$1 run=$2
    shift 2
    if [ "$p" = 1 ]; then "$simile" pretrain job.yaml run="$run" "$@"; else ranks "$p" "$simile" pretrain job.yaml run="$run" "$@"; fi
}
# by_hand RUN FIRST T LENGTH WARMUP PEAK: the metrics from step FIRST on have the rates of a
# cosine that stands at T of LENGTH then, and every step of the run is there once
by_hand() {
    /usr/bin/python3 - "$@" <<'PY'
import json, math, sys
run, first, t, length, warmup, peak = sys.argv[1], int(sys.argv[2]), *map(float, sys.argv[3:])
lines = [json.loads(l) for l in open(run + "/metrics.jsonl")]
assert [m["step"] for m in lines] == list(range(1, len(lines) + 1)), [m["step"] for m in lines]
assert len(lines) == first - 1 + math.ceil(length - t), (len(lines), first, length, t)
for m in lines[first - 1:]:
    part = (t - warmup) / (length - warmup)
    lr = peak * ((t + 1) / warmup if t < warmup else (1 + math.cos(math.pi * part)) / 2)
    assert abs(m["lr"] - lr) < 1e-12, (run, m["step"], m["lr"], lr)
    t += 1
PY
}

# ---- 1 -> 4 -> 2 -> 3 ranks ----
expect 0 "" go 1 calm
at calm 48
expect 75 "chain/checkpoints/step-000000007.h5" go 1 chain --stop-after 7
expect 75 "chain/checkpoints/step-000000007.h5" go 4 chain --stop-after 20
expect 75 "" go 4 chain --stop-after 20
at chain 20
expect 75 "/checkpoints/step-" go 2 chain --stop-after 31
expect 0 "" go 3 chain
at chain 48
same calm chain
by_hand chain 1 0 48 12 0.0125

# ---- the batch, doubled in the middle of epoch 1 (12 steps each, 48 of 200 images done) ----
expect 75 "" go 2 twice --stop-after 15
at twice 15
cp -r twice other-ranks
cp twice/config.yaml before.yaml
expect 78 "--accept batch " go 1 twice batch=32
grep -q "^  batch  *16  *32$" out.txt || { cat out.txt; fail "the values do not stand side by side"; }
cmp twice/config.yaml before.yaml || fail "a refused start changed config.yaml"
expect 75 "batch 16 -> 32 at step 15, learning rate 0.0125 -> 0.025" \
    go 1 twice batch=32 --accept batch --trace-hash --stop-after 16
expect 0 "" go 1 twice batch=32 --trace-hash
at twice 32
grep -q "^batch: 32$" twice/config.yaml || fail "config.yaml has the old batch"
expect 78 "--accept batch " go 1 twice
expect 0 "" go 2 other-ranks batch=32 --accept batch
at other-ranks 32
same twice other-ranks
# 6 steps an epoch now: one epoch and 32 images are 7 steps of 24
by_hand twice 16 7 24 6 0.025
/usr/bin/python3 - <<'PY'
import json, h5py, numpy as np
lines = [json.loads(l) for l in open("twice/metrics.jsonl")]
for m in lines:
    steps = m["step"] - 8 if m["step"] > 15 else m["step"]       # of the batch at that time
    batch, per_epoch = (32, 6) if m["step"] > 15 else (16, 12)
    want = steps // per_epoch + steps % per_epoch * batch / 200
    assert abs(m["epoch"] - want) < 1e-12, (m["step"], m["epoch"], want)
a, b = (h5py.File("twice/checkpoints/step-%09d.h5" % s) for s in (15, 16))
names = []
a["optimizer/momentum"].visititems(lambda n, x: names.append(n) if isinstance(x, h5py.Dataset) else None)
square = 0
for n in names:
    v15, v16 = (f["optimizer/momentum/" + n][()].astype("f8") for f in (a, b))
    w15, w16 = (f["weights/" + n][()].astype("f8") for f in (a, b))
    assert np.allclose(w15 - w16, lines[15]["lr"] * v16, rtol=1e-3, atol=2e-7), n
    square += ((v16 - 0.9 * v15) ** 2).sum()
assert abs(square ** 0.5 / lines[15]["gradient_norm"] - 1) < 1e-4, "the optimizer's state was not kept"
assert h5py.File("twice/checkpoints/step-000000032.h5")["optimizer/updates"][()] == 32
PY
# the images are those of a run with this batch from the start, at image 32 of epoch 1
expect 75 "" go 1 fresh batch=32 --trace-hash --stop-after 9
for pair in "8 16" "9 17"; do
    # shellcheck disable=SC2086
    set -- $pair
    [ "$(awk -v s="$1" '$1 == s && $2 == "input" { print $3 }' fresh/trace-hash.txt)" = \
      "$(awk -v s="$2" '$1 == s && $2 == "input" { print $3 }' twice/trace-hash.txt)" ] || fail "step $2 saw other images"
done
expect 0 "batch 16 -> 32" "$simile" inspect twice
# a smaller batch goes on at the same image; one near the epoch's end begins the next epoch
expect 75 "batch 32 -> 8 at step 16, learning rate 0.025 -> 0.00625" go 1 half --resume twice/checkpoints/step-000000016.h5 batch=8 --accept batch --stop-after 17
grep -q "image 64 -> " out.txt && { cat out.txt; fail "64 images are whole batches of 8"; }
expect 75 "" go 1 late --stop-after 11
expect 75 "epoch 0 image 176 -> epoch 1 image 0" go 1 late batch=104 --accept batch --stop-after 11

# ---- a run measured in steps: 20 of 16 images are 10 of 32 ----
expect 75 "" go 1 steps schedule.steps=20 schedule.warmup_steps=4 --stop-after 8
expect 75 "" go 2 steps schedule.steps=20 schedule.warmup_steps=4 batch=32 --accept batch --stop-after 10
at steps 10
expect 0 "" go 1 steps schedule.steps=20 schedule.warmup_steps=4 batch=32
at steps 14
by_hand steps 9 4 10 2 0.025
expect 0 "" go 1 steps schedule.steps=30 schedule.warmup_steps=4 batch=32 --accept schedule.steps
at steps 19
by_hand steps 15 10 15 2 0.025
expect 78 "schedule.steps  " go 1 steps schedule.warmup_steps=4 batch=32 --accept schedule.steps

# ---- the length, of a completed run too ----
expect 78 "--accept schedule.epochs " go 1 calm schedule.epochs=5
expect 75 "schedule.epochs 4 -> 5 at step 48" go 1 calm schedule.epochs=5 --accept schedule.epochs --stop-after 50
expect 0 "" go 3 calm schedule.epochs=5
at calm 60
by_hand calm 49 48 60 12 0.0125
expect 0 "" go 2 chain schedule.epochs=5 --accept batch,schedule.epochs
at chain 60
same calm chain
expect 78 "--accept batch,schedule.epochs " go 1 chain schedule.epochs=6 batch=32 --accept batch

# ---- rate and data ----
expect 75 "optimizer.lr 0.2 -> 0.4 at step 7, learning rate 0.0125 -> 0.025" \
    go 1 rate --resume chain/checkpoints/step-000000007.h5 optimizer.lr=0.4 --accept optimizer.lr --stop-after 8
expect 65 "--accept data " go 1 twice batch=32 data.train=other.h5
expect 75 "epoch 1 image 64 -> epoch 1 image 0" \
    go 2 data --resume twice/checkpoints/step-000000016.h5 batch=32 data.train=other.h5 --accept data --stop-after 17
expect 0 "" go 1 data batch=32 data.train=other.h5
at data 25

# ---- what is refused ----
expect 64 '"seed"; did you mean' go 1 twice --accept batch,seed
expect 64 "did you mean batch?" ranks 2 "$simile" pretrain job.yaml --accept bach
expect 64 "did you mean schedule.epochs?" go 1 twice --accept epochs
expect 78 "seed" go 1 twice seed=3
expect 78 "schedule.steps" go 1 twice batch=32 schedule.steps=99 --accept schedule.steps # another unit
expect 78 "seed" go 1 twice batch=32 seed=3 --accept batch
grep -q "^  seed  *0  *3$" out.txt || { cat out.txt; fail "seed's values do not stand side by side"; }
# ranks of different builds
/usr/bin/python3 - <<'PY'
import os
with open(os.environ["SIMILE"], "rb") as f: program = f.read()
assert program.count(b"), gcc-compatible ") == 1
with open("another", "wb") as f: f.write(program.replace(b"), gcc-compatible ", b"), GCC-compatible "))
os.chmod("another", 0o755)
PY
expect 78 "" mpirun --oversubscribe --bind-to none -np 1 "$simile" pretrain job.yaml run=mixed : -np 1 ./another pretrain job.yaml run=mixed
[ ! -e mixed ] || fail "a run directory without a run"
echo ok
