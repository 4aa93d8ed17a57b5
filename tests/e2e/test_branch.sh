#!/usr/bin/env bash
# simile-test: timeout 600
# A run that returns to an older checkpoint with another batch stays on the new branch, whenever
# it is killed or requeued.  The abandoned checkpoints are kept, and a run that returns to them
# ends with the weights of the old branch.
. "$SIMILE_SOURCE/tests/e2e/common.sh"
data_set train 96 8
slow_writes
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
expect_metrics() { # expect_metrics RUN LAST: the metrics have the steps 1 to LAST once each
    [ "$(metric_steps "$1")" = "$(seq "$2")" ] || fail "$1: metrics.jsonl has gaps or duplicates"
}
expect_files() { # expect_files DIRECTORY NAME...
    [ "$(ls "$1")" = "$(printf '%s\n' "${@:2}")" ] || fail "$1 contains $(ls "$1")"
}
pretrain() { "$simile" pretrain job.yaml run="$1" "${@:2}"; }
# kill_at RUN STEPS STEP [arguments]: starts the run, which pauses after STEPS steps, and kills it
# after the log line of STEP
kill_at() {
    SLOW_MS=600000 SLOW_AFTER=$2 LD_PRELOAD=$scratch/slow.so "$simile" pretrain job.yaml run="$1" "${@:4}" >log.txt 2>&1 &
    local pid=$!
    wait_until grep -q "^step $3/" log.txt
    kill -KILL $pid || fail "$1 ended before it was killed"
    wait $pid 2>/dev/null || true
}
double=(batch=32 --accept batch)

# the reference runs: the old branch to its end, and the new branch from step 20
expect 75 "" pretrain old --stop-after 20
cp -r old new
cp -r old chain
expect 0 "" pretrain old
expect_step old 60
expect 0 "" pretrain new "${double[@]}"
expect_step new 40

# back from step 40 to step 20; killed before the new branch has saved a checkpoint
expect 75 "" pretrain chain --stop-after 40
kill_at chain 2 22 --resume chain/checkpoints/step-000000020.h5 "${double[@]}" checkpoint.every_steps=0
expect_lines 1+ "\b20\b.*chain/abandoned-1" log.txt
expect_files chain/checkpoints step-000000000.h5 step-000000010.h5 step-000000020.h5
expect_files chain/abandoned-1 metrics.jsonl step-000000030.h5 step-000000040.h5
expect_metrics chain/abandoned-1 40
expect 75 "chain/checkpoints/step-000000020.h5" pretrain chain "${double[@]}" --stop-after 34
expect 0 "" pretrain chain batch=32
expect_step chain 40
same_weights new chain
expect_metrics chain 40

# back to the old branch, whose schedule is unchanged, with another stop
expect 75 "chain/abandoned-2" pretrain chain --resume chain/abandoned-1/step-000000040.h5 --stop-after 45
[ -e chain/abandoned-2/step-000000040.h5 ] || fail "the last checkpoint of the new branch was not kept"
expect 0 "" ranks 2 "$simile" pretrain job.yaml run=chain
expect_step chain 60
same_weights old chain
expect_metrics chain 60
expect_step chain/abandoned-2/step-000000040.h5 40

# a requeued job ignores --resume FILE, which its first start has done; a new job does not
from=old/checkpoints/step-000000020.h5
export SLURM_JOB_ID=77
SLURM_RESTART_COUNT=0 expect 75 "$from" pretrain queued --resume $from --stop-after 27
[ -e queued/checkpoints/step-000000020.h5 ] || fail "a checkpoint of another run was not saved at once"
SLURM_RESTART_COUNT=1 expect 75 "queued/checkpoints/step-000000027.h5" pretrain queued --resume $from --stop-after 30
expect_lines 1 "requeued.*--resume"
export SLURM_JOB_ID=78
SLURM_RESTART_COUNT=1 expect 0 "$from" pretrain queued --resume $from
same_weights old queued
SLURM_RESTART_COUNT=0 expect 75 "" pretrain never --resume never --stop-after 5
SLURM_RESTART_COUNT=0 expect 73 "--resume never" pretrain never --resume never
SLURM_RESTART_COUNT=1 expect 75 "never/checkpoints/step-000000005.h5" pretrain never --resume never --stop-after 7
unset SLURM_JOB_ID

# a checkpoint that is no step of the run is refused, and nothing changes: of another run with the same
# job; of a copy of the run that went on; a later step of the run that this one was started from
files() { find "$1" -type f ! -name log.txt -exec md5sum {} + | sort; }
refuse() { # refuse RUN FILE
    local before
    before=$(files "$1")
    expect_match 73 "$2.* $1[ ,].*run=.*--init" pretrain "$1" --resume "$2"
    [ "$(files "$1")" = "$before" ] || fail "a refused start changed $1"
}
expect 75 "" pretrain stranger --stop-after 20
refuse stranger old/checkpoints/step-000000020.h5
refuse old stranger/checkpoints/step-000000020.h5
cp -r stranger twin
expect 75 "" pretrain stranger --stop-after 40
refuse twin stranger/checkpoints/step-000000030.h5
expect 75 "" pretrain started --resume stranger/checkpoints/step-000000010.h5 --stop-after 12
refuse started stranger/checkpoints/step-000000020.h5
expect 73 "" ranks 2 "$simile" pretrain job.yaml run=started --resume stranger/checkpoints/step-000000020.h5
# of this run: a backup copy, also after segments.json was lost, and any step of an abandoned branch
cp -r stranger backup
expect 75 "stranger/abandoned-1" pretrain stranger --resume backup/checkpoints/step-000000030.h5 --stop-after 32
rm stranger/segments.json
expect 75 "" pretrain stranger --resume backup/checkpoints/step-000000010.h5 --stop-after 12
expect 75 "" pretrain stranger --resume stranger/abandoned-1/step-000000040.h5 --stop-after 42
# a run without checkpoints
mkdir -p bare/checkpoints
expect 75 "" pretrain bare --resume old/checkpoints/step-000000020.h5 --stop-after 22
echo ok
