#!/usr/bin/env bash
# simile-test: timeout 600
# A run that changes its ranks, batch, length, learning rate or data has the same bits on any
# number of ranks; learning rate and position equal an independent calculation.  A change that
# was not accepted is refused, and the message gives the option to add.
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
# pretrain P RUN [arguments]: on P ranks; one rank is started without mpirun
pretrain() {
    local p=$1 run=$2
    shift 2
    if [ "$p" = 1 ]; then "$simile" pretrain job.yaml run="$run" "$@"; else ranks "$p" "$simile" pretrain job.yaml run="$run" "$@"; fi
}
# expect_schedule RUN FIRST T LENGTH WARMUP PEAK: from step FIRST on, the learning rates are those
# of a cosine schedule at position T of LENGTH; the metrics have every step of the run once
expect_schedule() {
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
expect 0 "" pretrain 1 reference
expect_step reference 48
expect 75 "chain/checkpoints/step-000000007.h5" pretrain 1 chain --stop-after 7
expect 75 "chain/checkpoints/step-000000007.h5" pretrain 4 chain --stop-after 20
expect 75 "" pretrain 4 chain --stop-after 20
expect_step chain 20
expect 75 "/checkpoints/step-" pretrain 2 chain --stop-after 31
expect 0 "" pretrain 3 chain
expect_step chain 48
same_weights reference chain
expect_schedule chain 1 0 48 12 0.0125

# ---- the batch is doubled in epoch 1 (12 steps per epoch, 48 of 200 images are done) ----
expect 75 "" pretrain 2 twice --stop-after 15
expect_step twice 15
cp -r twice other-ranks
cp twice/config.yaml before.yaml
expect 78 "--accept batch " pretrain 1 twice batch=32
expect_lines 1 "^  batch +16 +32$"
cmp twice/config.yaml before.yaml || fail "a refused start changed config.yaml"
expect 75 "batch 16 -> 32 at step 15, peak learning rate 0.0125 -> 0.025" \
    pretrain 1 twice batch=32 --accept batch --trace-hash --stop-after 16
expect 0 "" pretrain 1 twice batch=32 --trace-hash
expect_step twice 32
expect_lines 1 "^batch: 32$" twice/config.yaml
expect 78 "--accept batch " pretrain 1 twice
expect 0 "" pretrain 2 other-ranks batch=32 --accept batch
expect_step other-ranks 32
same_weights twice other-ranks
# 6 steps per epoch after the change: one epoch and 32 images are 7 of 24 steps
expect_schedule twice 16 7 24 6 0.025
/usr/bin/python3 - <<'PY'
import json, h5py, numpy as np
lines = [json.loads(l) for l in open("twice/metrics.jsonl")]
for m in lines:
    steps = m["step"] - 8 if m["step"] > 15 else m["step"]       # in units of the current batch
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
# the images are those of a run with this batch from the start, from image 32 of epoch 1 on
expect 75 "" pretrain 1 fresh batch=32 --trace-hash --stop-after 9
for pair in "8 16" "9 17"; do
    # shellcheck disable=SC2086
    set -- $pair
    [ "$(awk -v s="$1" '$1 == s && $2 == "input" { print $3 }' fresh/trace-hash.txt)" = \
      "$(awk -v s="$2" '$1 == s && $2 == "input" { print $3 }' twice/trace-hash.txt)" ] || fail "step $2 saw other images"
done
expect 0 "batch 16 -> 32" "$simile" inspect twice
# a smaller batch continues at the same image; a batch that does not fit starts the next epoch
expect 75 "batch 32 -> 8 at step 16, peak learning rate 0.025 -> 0.00625" pretrain 1 half --resume twice/checkpoints/step-000000016.h5 batch=8 --accept batch --stop-after 17
expect_lines 0 "image 64 -> " # 64 images are whole batches of 8
expect 75 "" pretrain 1 late --stop-after 11
expect 75 "epoch 0 image 176 -> epoch 1 image 0" pretrain 1 late batch=104 --accept batch --stop-after 11

# ---- a length in steps: 20 steps of 16 images are 10 steps of 32 ----
expect 75 "" pretrain 1 steps schedule.steps=20 schedule.warmup_steps=4 --stop-after 8
expect 75 "" pretrain 2 steps schedule.steps=20 schedule.warmup_steps=4 batch=32 --accept batch --stop-after 10
expect_step steps 10
expect 0 "" pretrain 1 steps schedule.steps=20 schedule.warmup_steps=4 batch=32
expect_step steps 14
expect_schedule steps 9 4 10 2 0.025
expect 0 "" pretrain 1 steps schedule.steps=30 schedule.warmup_steps=4 batch=32 --accept schedule.steps
expect_step steps 19
expect_schedule steps 15 10 15 2 0.025
expect 78 "schedule.steps  " pretrain 1 steps schedule.warmup_steps=4 batch=32 --accept schedule.steps

# ---- the length, of a completed run too ----
expect 78 "--accept schedule.epochs " pretrain 1 reference schedule.epochs=5
expect 75 "schedule.epochs 4 -> 5 at step 48" pretrain 1 reference schedule.epochs=5 --accept schedule.epochs --stop-after 50
expect 0 "" pretrain 3 reference schedule.epochs=5
expect_step reference 60
expect_schedule reference 49 48 60 12 0.0125
expect 0 "" pretrain 2 chain schedule.epochs=5 --accept batch,schedule.epochs
expect_step chain 60
same_weights reference chain
expect 78 "--accept batch,schedule.epochs " pretrain 1 chain schedule.epochs=6 batch=32 --accept batch

# ---- rates are printed before they are used; a rise is a warning ----
# expect_rates RUN WARNINGS: in out.txt, the rates of the line "accepted" are those of metrics.jsonl of
# the step done before and of the next step; there are so many warnings about a rise to the latter
expect_rates() {
    /usr/bin/python3 - "$@" <<'PY'
import json, re, sys
rate = {m["step"]: m["lr"] for m in map(json.loads, open(sys.argv[1] + "/metrics.jsonl"))}
text = open("out.txt").read()
(line,) = re.findall(r"^(?:\S+Z )?accepted .*", text, re.M)
found = re.findall(r"([0-9.e-]+) at step (\d+)(?=, [0-9]|;|$)", line.split("; learning rate ")[1])
assert len(found) == 2 and int(found[1][1]) == int(found[0][1]) + 1, line
for value, step in found:
    assert abs(float(value) - rate[int(step)]) <= 0.006 * rate[int(step)], (line, rate[int(step)])
warnings = re.findall(r"warning:.*learning rate.* to ([0-9.e-]+) at step", text)
assert warnings == [found[1][0]] * int(sys.argv[2]), (line, warnings)
PY
}
expect 0 "" pretrain 1 longer schedule.epochs=2
expect 0 "" pretrain 1 longer schedule.epochs=4 --accept schedule.epochs
expect_rates longer 1
expect 75 "" pretrain 1 middle schedule.steps=20 --stop-after 15
cp -r middle shorter && cp -r middle bigger && cp -r middle lower
expect 0 "" pretrain 1 middle schedule.steps=40 --accept schedule.steps
expect_rates middle 1
expect 0 "" pretrain 1 shorter schedule.steps=17 --accept schedule.steps
expect_rates shorter 0
expect 0 "" pretrain 2 bigger schedule.steps=20 batch=32 --accept batch
expect_rates bigger 1
expect 0 "" pretrain 1 lower schedule.steps=20 optimizer.lr=0.1 --accept optimizer.lr
expect_rates lower 0
expect 75 "" pretrain 1 warm schedule.steps=40 --stop-after 3 # the rate of a warm-up rises anyway
expect 75 "" pretrain 1 warm schedule.steps=41 --accept schedule.steps --stop-after 5
expect_rates warm 0
expect 0 "" pretrain 1 constant schedule.steps=14 schedule.shape=constant
expect 0 "" pretrain 1 constant schedule.steps=16 schedule.shape=constant --accept schedule.steps
expect_rates constant 0
# m of MoCo v3: 1 - (1 - 0.99) (1 + cos(pi t / T)) / 2 at t/T = 5/6, then 6/12
expect 0 "" pretrain 1 moco method="{name: mocov3, momentum: 0.99}" schedule.steps=6 schedule.warmup_epochs=0 optimizer.scale=none
expect 75 "; momentum of the encoder of the keys 0.99933, then 0.995" pretrain 1 moco \
    method="{name: mocov3, momentum: 0.99}" schedule.steps=12 schedule.warmup_epochs=0 optimizer.scale=none --accept schedule.steps --stop-after 7
expect 0 "learning rate" "$simile" inspect longer # the history has it too

# ---- learning rate and data ----
expect 75 "optimizer.lr 0.2 -> 0.4 at step 7, peak learning rate 0.0125 -> 0.025" \
    pretrain 1 rate --resume chain/checkpoints/step-000000007.h5 optimizer.lr=0.4 --accept optimizer.lr --stop-after 8
expect 65 "--accept data " pretrain 1 twice batch=32 data.train=other.h5
expect 75 "epoch 1 image 64 -> epoch 1 image 0" \
    pretrain 2 data --resume twice/checkpoints/step-000000016.h5 batch=32 data.train=other.h5 --accept data --stop-after 17
expect 0 "" pretrain 1 data batch=32 data.train=other.h5
expect_step data 25

# ---- refused ----
expect 64 '"seed"' pretrain 1 twice --accept batch,seed
expect_lines 1 "--accept.*\"seed\""
expect 64 " batch?" ranks 2 "$simile" pretrain job.yaml --accept bach
expect_lines 1 "--accept.*\"bach\".* batch\?"
expect 64 " schedule.epochs?" pretrain 1 twice --accept epochs
expect_lines 1 "--accept.*\"epochs\".* schedule\.epochs\?"
expect 78 "seed" pretrain 1 twice seed=3
expect_lines 1 "^  seed +0 +3$"
expect 78 "schedule.steps" pretrain 1 twice batch=32 schedule.steps=99 --accept schedule.steps # another unit

# ---- a length below the present position is refused; of the present position, it completes the run ----
length() { pretrain "$@" schedule.warmup_epochs=0; }
files() { find "$1" -type f ! -name log.txt -exec md5sum {} + | sort; }
expect 75 "" length 1 length schedule.steps=20 --stop-after 8
before=$(files length)
expect_match 78 "schedule\.steps: 5 .*step 8.*--resume" length 1 length schedule.steps=5 --accept schedule.steps
expect_match 78 "schedule\.steps: 5 .*step 8" length 1 length schedule.steps=5 --accept schedule.steps --resume length/checkpoints/step-000000008.h5
expect_match 0 "accepted schedule\.steps 20 -> 8" length 2 length schedule.steps=8 --accept schedule.steps
expect_lines 1 "completed: step 8 of 8"
[ "$(files length)" = "$before" ] || fail "a start without steps changed the run"
expect 75 "" length 1 length schedule.steps=20 batch=32 --accept batch --stop-after 10 # 8 steps of 16, 2 of 32
expect_match 78 "schedule\.steps: 11 .* 16, 12 .step 10" length 1 length schedule.steps=11 batch=32 --accept schedule.steps
expect_match 0 "completed: step 10 of 10" length 1 length schedule.steps=12 batch=32 --accept schedule.steps
expect 75 "" length 1 epochs schedule.epochs=3 --stop-after 18 # 12 steps per epoch
expect_match 78 "schedule\.epochs: 1 .* 1\.5 .step 18" length 1 epochs schedule.epochs=1 --accept schedule.epochs
expect 0 "schedule.epochs 3 -> 2 at step 18" length 1 epochs schedule.epochs=2 --accept schedule.epochs
expect 78 "seed" pretrain 1 twice batch=32 seed=3 --accept batch
expect_lines 1 "^  seed +0 +3$"
# ranks with different builds: the message of rank 1 has both, and rank 0's second
/usr/bin/python3 - <<'PY'
import os
with open(os.environ["SIMILE"], "rb") as f: program = f.read()
assert program.count(b"), gcc-compatible ") == 1
with open("another", "wb") as f: f.write(program.replace(b"), gcc-compatible ", b"), GCC-compatible "))
os.chmod("another", 0o755)
PY
expect 78 "rank 1 on " "${mpiexec[@]}" -np 1 "$simile" pretrain job.yaml run=mixed : -np 1 ./another pretrain job.yaml run=mixed
expect_lines 1 "\), GCC-compatible .*\), gcc-compatible "
[ ! -e mixed ] || fail "the refused run has a directory"
echo ok
