#!/usr/bin/env bash
# simile-test: timeout 200
# A run goes back to an older checkpoint, with another batch: from then on it is on the new
# course, whenever it is killed or requeued, and the old one waits in a folder of its own, from
# which it can be gone on with, to the same bits.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
digits train 96 8
"$simile" prepare train-images-idx3-ubyte --out train.h5 2>log.txt
cat >job.yaml <<'YAML'
run: unset
data: {train: train.h5}
method: {name: simclr, temperature: 0.2}
encoder: {width: 0.0625}
batch: 16
block: 4
schedule: {steps: 60}
augment: {preset: digits}
log: {every_steps: 1}
checkpoint: {every_steps: 10, keep: 100}
YAML
cc -O1 -shared -fPIC -o slow.so "$SIMILE_SOURCE/tests/slurm/slow.c" -ldl
same() { [ "$(weights "$1")" = "$(weights "$2")" ] || fail "$2: the weights are not those of $1"; }
whole() { # whole RUN LAST: its metrics have each step up to there once
    [ "$(sed -E 's/.*"step":([0-9]+).*/\1/' "$1/metrics.jsonl")" = "$(seq "$2")" ] || fail "$1: metrics have gaps or doubles"
}
go() { "$simile" pretrain job.yaml run="$1" "${@:2}"; }
kill_at() { # kill_at RUN STEP words...: in mid-run, after the line of that step
    SLOW_MS=50 LD_PRELOAD=$scratch/slow.so "$simile" pretrain job.yaml run="$1" "${@:3}" >log.txt 2>&1 &
    local pid=$!
    for _ in $(seq 1000); do
        grep -q "^step $2/" log.txt && break
        sleep 0.01
    done
    kill -KILL $pid || fail "$1 ended before it was killed"
    wait $pid 2>/dev/null || true
}
double=(batch=32 --accept batch)

# undisturbed: the old course to its end, and the new one from step 20 of a run that stood there
expect 75 "" go old --stop-after 20
cp -r old new
cp -r old fresh
cp -r old chain
expect 0 "completed: step 60 of 60" go old
expect 0 "completed: step 40 of 40" go new "${double[@]}"

# back to step 20 from step 40; killed before the new course has saved anything
expect 75 "" go chain --stop-after 40
kill_at chain 22 --resume chain/checkpoints/step-000000020.h5 "${double[@]}" checkpoint.every_steps=0
grep -q "step 20 moved to chain/abandoned-1" log.txt || { cat log.txt; fail "not told what was left"; }
[ "$(ls chain/checkpoints)" = "$(printf 'step-%09d.h5\n' 0 10 20)" ] || fail "in checkpoints/: $(ls chain/checkpoints)"
[ "$(ls chain/abandoned-1)" = "$(printf '%s\n' metrics.jsonl step-000000030.h5 step-000000040.h5)" ] || fail "aside: $(ls chain/abandoned-1)"
whole chain/abandoned-1 40
expect 75 "resumed from chain/checkpoints/step-000000020.h5" go chain "${double[@]}" --stop-after 34
expect 0 "completed: step 40 of 40" go chain batch=32
same new chain
whole chain 40

# and to the old course again: its schedule stands where it was, over one more stop
expect 75 "step 40 moved to chain/abandoned-2" go chain --resume chain/abandoned-1/step-000000040.h5 --stop-after 45
[ -e chain/abandoned-2/step-000000040.h5 ] || fail "the new course's end is not there"
expect 0 "completed: step 60 of 60" ranks 2 "$simile" pretrain job.yaml run=chain
same old chain
whole chain 60
expect 0 "step         40" "$simile" inspect chain/abandoned-2/step-000000040.h5

# in a requeued job --resume FILE was done by its first start; in a new job it is done again
export SLURM_JOB_ID=77
SLURM_RESTART_COUNT=0 expect 75 "from old/checkpoints/step-000000020.h5" go queued --resume old/checkpoints/step-000000020.h5 --stop-after 27
[ -e queued/checkpoints/step-000000020.h5 ] || fail "a checkpoint from elsewhere is not saved at once"
SLURM_RESTART_COUNT=1 expect 75 "resumed from queued/checkpoints/step-000000027.h5" go queued --resume old/checkpoints/step-000000020.h5 --stop-after 30
grep -q "requeued: " out.txt || { cat out.txt; fail "not told why"; }
export SLURM_JOB_ID=78
SLURM_RESTART_COUNT=1 expect 0 "from old/checkpoints/step-000000020.h5" go queued --resume old/checkpoints/step-000000020.h5
same old queued
SLURM_RESTART_COUNT=0 expect 75 "" go never --resume never --stop-after 5
SLURM_RESTART_COUNT=0 expect 73 "--resume never was given" go never --resume never
SLURM_RESTART_COUNT=1 expect 75 "resumed from never/checkpoints/step-000000005.h5" go never --resume never --stop-after 7
echo ok
